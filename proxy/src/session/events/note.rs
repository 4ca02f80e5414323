//! What an Event says of a session, in words. Names come from strangers: they are cut, cleaned and
//! quoted, so that none can look like something else. Holds no secret, as the audit log holds none. Pure.

use std::net::IpAddr;

use comind_model::login::Why;

use crate::audit::entry::{Entry, Session};

/// The API server takes a kilobyte.
const LONGEST: usize = 1000;
/// Characters of a user's name, and of other names.
const USER: usize = 64;
const NAME: usize = 48;

/// One Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Something to look at.
    pub warning: bool,
    /// Why it is told, as people filter for it.
    pub reason: &'static str,
    /// What was done.
    pub action: &'static str,
    /// The sentence.
    pub text: String,
}

/// A session or a refusal by itself.
pub fn of(entry: &Entry) -> Note {
    match entry {
        Entry::Begins(session) => Note {
            warning: false,
            reason: "SessionBegan",
            action: "Login",
            text: clipped(began(session)),
        },
        Entry::Ends {
            session,
            why,
            by,
            requests,
            ..
        } => Note {
            warning: false,
            reason: "SessionEnded",
            action: "Logout",
            text: clipped(ended(session, *why, by.as_deref(), *requests)),
        },
        Entry::Refused {
            login,
            route,
            host,
            client,
            user,
            reason,
        } => {
            let whose = match user {
                Some(user) => format!("{} was not let in", quoted(user, USER)),
                None => "Somebody was not let in".to_owned(),
            };
            let place = place(host, route, *client);
            Note {
                warning: true,
                reason: "LoginRefused",
                action: "Login",
                text: clipped(format!("{whose} by login {login} {place}: {reason}")),
            }
        }
    }
}

fn began(session: &Session) -> String {
    format!(
        "{} logged in by {} {}; session {}, until {:.0} at the latest",
        quoted(&session.user, USER),
        session.login,
        place(&session.host, &session.route, session.client),
        session.id,
        session.until,
    )
}

fn ended(session: &Session, why: Why, by: Option<&str>, requests: u64) -> String {
    let by = by.map_or(String::new(), |by| format!(" by {}", quoted(by, NAME)));
    format!(
        "The session of {} at {} ended: {}{by}; session {}, {requests} requests",
        quoted(&session.user, USER),
        quoted(&session.host, NAME),
        why.as_str(),
        session.id,
    )
}

fn place(host: &str, route: &str, client: IpAddr) -> String {
    format!(
        "at {} (route {}) from {client}",
        quoted(host, NAME),
        quoted(route, NAME)
    )
}

/// More of a kind that has been told.
pub fn more(of: &Note, count: u64, login: &str, why: &str) -> Note {
    let text = match of.reason {
        "LoginRefused" => {
            format!("{count} more were not let in by login {login}: {why}; the audit log has each")
        }
        _ => format!("{count} more sessions of login {login} ended: {why}; the audit log has each"),
    };
    Note {
        text: clipped(text),
        ..of.clone()
    }
}

/// What there was no room for.
pub fn untold(count: u64) -> Note {
    Note {
        warning: true,
        reason: "SessionsNotTold",
        action: "Login",
        text: format!(
            "{count} beginnings, ends and refusals more than are told; the audit log has each"
        ),
    }
}

/// A name between quotes that it cannot end itself.
fn quoted(name: &str, limit: usize) -> String {
    let clean = |letter: char| match letter {
        '"' => '\'',
        letter if letter.is_control() || turns(letter) => '\u{fffd}',
        letter => letter,
    };
    let mut letters = name.chars();
    let mut shown: String = letters.by_ref().take(limit).map(clean).collect();
    if letters.next().is_some() {
        shown.pop();
        shown.push('…');
    }
    format!("\"{shown}\"")
}

/// What is not seen, and what makes text run another way or onto another line.
fn turns(letter: char) -> bool {
    matches!(letter,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

fn clipped(mut text: String) -> String {
    if text.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or(0));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use proptest::prelude::*;

    fn session(user: &str, host: &str) -> Box<Session> {
        Box::new(Session {
            id: "00ff".into(),
            user: user.into(),
            login: "staff".into(),
            route: "grafana".into(),
            host: host.into(),
            client: [192, 0, 2, 7].into(),
            since: Timestamp::UNIX_EPOCH,
            until: Timestamp::UNIX_EPOCH,
        })
    }

    fn refused(user: Option<&str>) -> Entry {
        Entry::Refused {
            login: "staff".into(),
            route: "grafana".into(),
            host: "g.test".into(),
            client: [192, 0, 2, 7].into(),
            user: user.map(Into::into),
            reason: "wrong",
        }
    }

    #[test]
    fn they_say_who_where_and_why() {
        let said = of(&Entry::Begins(session("ada", "g.test"))).text;
        assert_eq!(
            said,
            "\"ada\" logged in by staff at \"g.test\" (route \"grafana\") from 192.0.2.7; session 00ff, \
             until 1970-01-01T00:00:00Z at the latest"
        );
        let ends = Entry::Ends {
            session: session("ada", "g.test"),
            why: Why::Revoked,
            by: Some("the API, root".into()),
            requests: 7,
            received: 0,
            sent: 0,
        };
        assert_eq!(
            of(&ends).text,
            "The session of \"ada\" at \"g.test\" ended: revoked by \"the API, root\"; session 00ff, 7 requests"
        );
        let said = of(&refused(None));
        assert!(
            said.warning && said.text.ends_with("192.0.2.7: wrong"),
            "{said:?}"
        );
        assert!(
            more(&said, 41, "staff", "wrong")
                .text
                .starts_with("41 more were not let in")
        );
    }

    #[test]
    fn no_name_can_look_like_something_else() {
        let name = "eve\" logged in by root\u{202e}\n\u{0}\u{1b}[2J\u{200b}";
        let said = of(&refused(Some(name))).text;
        assert!(said.starts_with("\"eve' logged in by root"), "{said}");
        assert!(
            !said
                .chars()
                .any(|letter| letter.is_control() || turns(letter)),
            "{said:?}"
        );
    }

    proptest! {
        #[test]
        fn whatever_the_names_the_api_server_takes_it(user in ".{0,9000}", host in ".{0,900}") {
            let ends = Entry::Ends {
                session: session(&user, &host), why: Why::Revoked, by: Some(user.as_str().into()),
                requests: u64::MAX, received: 0, sent: 0,
            };
            for entry in [Entry::Begins(session(&user, &host)), ends, refused(Some(&user))] {
                let said = of(&entry).text;
                prop_assert!(said.len() <= LONGEST, "{}", said.len());
                prop_assert!(!said.chars().any(|letter| letter.is_control() || turns(letter)));
            }
        }
    }
}
