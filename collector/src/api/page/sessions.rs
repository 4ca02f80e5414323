//! Who is logged in at the proxy: a section that opens when it is asked for, by links, so that it works
//! without a script too. Must not know who holds sessions, nor how they are ended.

use std::collections::HashMap;

use comind_model::session::{By, Listed, Seen};
use comind_model::timestamp::Timestamp;
use maud::{Markup, html};

use super::{format, moment, name, text};
use crate::access::right::Right;

/// So many are shown; another order shows others.
pub const SHOWN: usize = 200;
/// Longer names are cut.
const NAME: usize = 64;

/// What the page says about sessions.
#[derive(Debug)]
pub struct Sessions {
    /// Where they are held.
    pub place: String,
    /// How many there are.
    pub open: usize,
    /// What whoever asks may do.
    pub right: Right,
    /// Those that are shown, where they are asked for and may be seen.
    pub shown: Option<(By, Listed)>,
}

/// The order that a page's query asks for; nothing where it asks for no sessions.
pub fn wanted(query: Option<&str>) -> Option<By> {
    let mut pairs = url::form_urlencoded::parse(query?.as_bytes());
    let (_, by) = pairs.find(|(key, _)| key == "sessions")?;
    Some(By::of(&by).unwrap_or_default())
}

/// Rows that the section adds to the page.
pub(super) fn rows(sessions: Option<&Sessions>) -> usize {
    let shown = sessions.and_then(|sessions| sessions.shown.as_ref());
    shown.map_or(0, |(_, listed)| listed.first.len())
}

/// The section; nothing where nobody can log in.
pub(super) fn section(sessions: Option<&Sessions>, now: Timestamp) -> Markup {
    let Some(sessions) = sessions else {
        return html! {};
    };
    html! {
        section class="sessions" id="sessions" aria-labelledby="sessions-name" {
            h2 id="sessions-name" tabindex="-1" {
                "Sessions " span class="number" { (format::count(sessions.open as f64)) }
            }
            @match (&sessions.shown, sessions.right) {
                (_, Right::Glance) => {
                    p class="small" {
                        "Who is logged in is told to those who log in here themselves ("
                        code { "api.users" } "), and on the machine itself."
                    }
                }
                (None, _) => { p { a href="?sessions=since#sessions" data-view { "Show who is logged in" } } }
                (Some((by, listed)), right) => { (shown(sessions, *by, listed, right, now)) }
            }
        }
    }
}

fn shown(sessions: &Sessions, by: By, listed: &Listed, right: Right, now: Timestamp) -> Markup {
    let mut of_user: HashMap<&str, usize> = HashMap::new();
    for one in &listed.first {
        *of_user.entry(&one.user).or_default() += 1;
    }
    let left_out = listed.open.saturating_sub(listed.first.len());
    html! {
        nav class="orders" aria-label="Order of sessions" {
            @for one in By::ALL {
                a href=(format!("?sessions={}#sessions", one.as_str())) data-view
                    aria-current=[(one == by).then_some("true")] { (word(one)) }
            }
            a class="hide" href="?" data-view { "hide" }
        }
        @if listed.first.is_empty() { p class="small" { "Nobody is logged in." } } @else {
            table {
                thead { tr {
                    th scope="col" { "User" } th scope="col" { "For" } th scope="col" { "From" }
                    th scope="col" { "Since" } th scope="col" { "Heard" }
                    th scope="col" class="figure" { "Live" }
                    th scope="col" class="figure" { "Requests" }
                    th scope="col" class="figure" { "Bytes" }
                    @if right == Right::Change { th scope="col" { span class="unseen" { "End" } } }
                } }
                tbody {
                    @for one in &listed.first {
                        @let several = left_out > 0 || of_user.get(&*one.user).is_some_and(|count| *count > 1);
                        (row(one, right, several, now))
                    }
                }
            }
        }
        @if left_out > 0 {
            p class="more" {
                "and " (format::plural(left_out, "other")) "; another order shows others, and "
                code { "comind-ops sessions list" } " all of them"
            }
        }
        p class="small" {
            "Held in memory by " bdi { (text::clip(&sessions.place, NAME)) }
            "; another replica of the proxy holds its own, and shows them on its own page."
        }
    }
}

fn word(by: By) -> &'static str {
    match by {
        By::Since => "newest",
        By::Until => "next to end",
        By::Heard => "last heard",
        By::User => "user",
        By::Host => "host",
        By::Client => "from",
        By::Live => "live",
        By::Requests => "requests",
        By::Bytes => "bytes",
    }
}

fn row(one: &Seen, right: Right, several: bool, now: Timestamp) -> Markup {
    let (user, host) = (text::clip(&one.user, NAME), text::clip(&one.host, NAME));
    let bytes = |count: u64| format::bytes(count as f64);
    html! {
        tr id=(format!("s{}", one.id)) data-session=(one.id) data-user=(user) data-host=(host) data-live=(one.live) {
            th scope="row" data-label="User" {
                b { (name(&one.user, NAME)) }
                span class="under" { (name(&one.login, NAME)) " · " (one.means) }
            }
            td data-label="For" {
                span { (name(&one.host, NAME)) }
                span class="under" { (name(&one.route, NAME)) }
            }
            td data-label="From" { (name(&one.client.to_string(), NAME)) }
            td data-label="Since" {
                span { (moment(one.since, &format::clock(one.since, now))) }
                span class="under" { "until " (moment(one.until, &format::clock(one.until, now))) }
            }
            td data-label="Heard" { (format::span(now.since(one.heard))) " ago" }
            td class="figure" data-label="Live" { (one.live) }
            td class="figure" data-label="Requests" { (format::count(one.requests as f64)) }
            td class="figure" data-label="Bytes" {
                span { (bytes(one.received)) " in" }
                span class="under" { (bytes(one.sent)) " out" }
            }
            @if right == Right::Change {
                td class="acts" {
                    button type="button" data-end="one" aria-label=(format!("End the session of {user} at {host}")) { "End" }
                    @if several {
                        button type="button" data-end="all" aria-label=(format!("End all sessions of {user}")) {
                            "End all of this user"
                        }
                    }
                }
            }
        }
    }
}

/// Asks before anything ends. The page's script fills and shows it.
pub(super) fn question() -> Markup {
    html! {
        dialog id="ask" aria-labelledby="ask-what" aria-describedby="ask-more" {
            h2 id="ask-what" { "End " span id="ask-whose" {} " of " bdi id="ask-user" {} "?" }
            p id="ask-more" {}
            p class="acts" {
                button type="button" id="ask-no" { "Keep" }
                button type="button" id="ask-yes" class="strong" { "End" }
            }
        }
        p id="done" role="status" {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(user: &str, id: &str) -> Seen {
        Seen {
            id: id.into(),
            user: user.into(),
            login: "staff".into(),
            means: "oidc",
            route: "grafana".into(),
            host: "grafana.test".into(),
            client: [192, 0, 2, 7].into(),
            since: Timestamp::from_micros(1_795_400_000_000_000),
            until: Timestamp::from_micros(1_795_443_200_000_000),
            heard: Timestamp::from_micros(1_795_400_060_000_000),
            requests: 1234,
            received: 2048,
            sent: 5 << 20,
            live: 2,
        }
    }

    fn html(users: &[&str], open: usize, right: Right) -> String {
        let ids = ["a1", "a2", "a3"];
        let first = users.iter().zip(ids).map(|(user, id)| seen(user, id));
        let listed = Listed {
            open,
            first: first.collect(),
        };
        let sessions = Sessions {
            place: "pod-0".to_owned(),
            open,
            right,
            shown: Some((By::User, listed)),
        };
        let now = Timestamp::from_micros(1_795_400_090_000_000);
        section(Some(&sessions), now).into_string()
    }

    #[test]
    fn a_session_says_who_where_since_when_and_how_much() {
        let said = html(&["ada"], 1, Right::Change).replace("<wbr>", "");
        for word in [
            "ada",
            "staff",
            "oidc",
            "grafana.test",
            "192.0.2.7",
            "30\u{a0}s ago",
            "1,234",
            "2.0\u{a0}KiB in",
            "5.0\u{a0}MiB out",
            "data-end=\"one\"",
            "aria-current=\"true\">user",
        ] {
            assert!(said.contains(word), "no {word}: {said}");
        }
        assert!(!said.contains("data-end=\"all\"") && !said.contains("and 0"));
    }

    #[test]
    fn who_may_only_look_gets_no_button_and_a_stranger_no_name() {
        let said = html(&["ada", "ada"], 2, Right::Look);
        assert!(said.contains("ada") && !said.contains("<button"), "{said}");
        let said = html(&["ada"], 1, Right::Glance);
        assert!(
            !said.contains("ada") && said.contains("api.users"),
            "{said}"
        );
        assert!(section(None, Timestamp::default()).into_string().is_empty());
    }

    #[test]
    fn all_of_a_user_can_end_where_there_are_or_may_be_several() {
        let all = |users: &[&str], open| {
            html(users, open, Right::Change)
                .matches("data-end=\"all\"")
                .count()
        };
        assert_eq!(all(&["ada", "bob", "ada"], 3), 2);
        assert_eq!(all(&["ada", "bob"], 7), 2);
        assert!(html(&["ada"], 1235, Right::Change).contains("and 1,234 others"));
    }

    #[test]
    fn hostile_names_stay_text_and_short() {
        let long = "x".repeat(10 << 10);
        let names = [
            "<script>alert(1)</script>\" onclick=\"x",
            "a\u{202e}\u{0}\u{1b}[2J\nb",
            &long,
        ];
        let said = html(&names, 3, Right::Change);
        assert!(
            !said.contains("<script") && !said.contains("\" onclick"),
            "{said}"
        );
        assert!(!said.chars().any(char::is_control), "{said:?}");
        assert!(said.len() < 9000, "{}", said.len());
    }

    #[test]
    fn the_query_says_the_order() {
        assert_eq!(wanted(None), None);
        assert_eq!(wanted(Some("a=b")), None);
        assert_eq!(wanted(Some("sessions")), Some(By::Since));
        assert_eq!(wanted(Some("a&sessions=bytes")), Some(By::Bytes));
        assert_eq!(wanted(Some("sessions=%ff<x>")), Some(By::Since));
    }
}
