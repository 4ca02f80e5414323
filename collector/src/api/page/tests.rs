//! The page as a whole, over sample snapshots.

use super::samples::{self, FILLING, Fate, NOW, REFUSED, Sample};
use super::*;

fn page(snapshot: &Snapshot) -> String {
    let html = render(snapshot, &Beside::default(), NOW, "0.1.0 (abc)").into_string();
    html.replace("\u{a0}", " ")
}

fn all() -> Vec<(&'static str, Snapshot)> {
    vec![
        (
            "up",
            samples::platform(Fate::Up, Fate::Up, Fate::Up, Fate::Up),
        ),
        (
            "down",
            samples::platform(REFUSED, Fate::Up, FILLING, Fate::Up),
        ),
        (
            "degraded",
            samples::platform(Fate::Up, Fate::Up, REFUSED, Fate::Up),
        ),
        (
            "unknown",
            samples::platform(
                Fate::NeverSeen,
                Fate::NeverSeen,
                Fate::NeverSeen,
                Fate::Silent,
            ),
        ),
        ("starting", Snapshot::empty(NOW)),
        ("empty", Sample::new().done()),
        ("hostile", samples::hostile()),
        ("many", samples::many(1000)),
        ("some", samples::many(40)),
    ]
}

#[test]
fn nothing_is_inline_and_nothing_comes_from_elsewhere() {
    for (name, snapshot) in all() {
        let html = page(&snapshot);
        for word in [
            " style=",
            "<style",
            "javascript:alert(1)\"",
            "src=\"http",
            "href=\"http",
            "href=\"//",
            " onclick",
        ] {
            assert!(!html.contains(word), "{name} has {word}");
        }
        // The only scripts are those by address.
        assert_eq!(html.matches("<script").count(), 2, "{name}");
        for script in ["page.js", "sessions.js"] {
            let by_address = format!("<script src=\"assets/{script}?v=");
            assert_eq!(html.matches(&by_address).count(), 1, "{name}");
        }
    }
}

#[test]
fn names_and_messages_are_text() {
    let html = page(&samples::hostile());
    for tag in [
        "<img",
        "onload=\"",
        "</title><script",
        "<style",
        "</li><script",
    ] {
        assert!(!html.contains(tag), "{tag} went through");
    }
    assert!(
        html.contains("&lt;script&gt;alert('message')&lt;/script&gt;"),
        "the message is gone"
    );
    assert!(
        !html.contains('\u{1b}') && !html.contains('\u{0}'),
        "control characters went through"
    );
}

#[test]
fn a_health_has_its_word_and_its_shape_and_its_advice() {
    let html = page(&samples::platform(
        REFUSED,
        Fate::Up,
        FILLING,
        Fate::NeverSeen,
    ));
    for part in [
        "<title>(!) 1 down – comind-ops</title>",
        "The platform is </span>Down</h1>",
        "<p class=\"word\">Down</p>",
        "<p class=\"word\">Degraded</p>",
        "<p class=\"word\">Unknown</p>",
        "<p class=\"word\">Up</p>",
        "<use href=\"#down\">",
        "<use href=\"#degraded\">",
        "<use href=\"#unknown\">",
        "<use href=\"#up\">",
        "connect to 127.0.0.1:5432: connection refused",
        "Start the server, or correct host and port in <code>url</code>.",
        "last hour: down 12 s",
        "seen 3.24 ms after: connection closed",
        "Latency of the last 60 looks",
        "12 of 100",
    ] {
        // A target that is down shows no facts, so its limit is not looked for there.
        if part != "12 of 100" {
            assert!(html.contains(part), "{part} is missing");
        }
    }
    assert!(page(&samples::platform(Fate::Up, Fate::Up, Fate::Up, Fate::Up)).contains("12 of 100"));
}

#[test]
fn titles_say_the_worst_first() {
    let title = |snapshot: &Snapshot| overall::title(snapshot);
    let of = |fate| {
        Sample::new()
            .with("a", "tcp", true, fate, 9)
            .with("b", "tcp", false, Fate::Up, 9)
            .done()
    };
    assert_eq!(title(&of(Fate::Up)), "All up – comind-ops");
    assert_eq!(title(&of(REFUSED)), "(!) 1 down – comind-ops");
    assert_eq!(title(&of(FILLING)), "(~) 1 degraded – comind-ops");
    assert_eq!(title(&of(Fate::Silent)), "(?) 1 unknown – comind-ops");
    assert_eq!(title(&Snapshot::empty(NOW)), "(?) starting – comind-ops");
    assert_eq!(
        title(&Sample::new().done()),
        "(?) nothing watched – comind-ops"
    );
}

#[test]
fn tiles_keep_their_places() {
    let order = |snapshot: &Snapshot| -> Vec<String> {
        let html = live(snapshot, &Beside::default(), NOW).into_string();
        html.split("data-name=\"")
            .skip(1)
            .map(|part| part[..part.find('"').unwrap()].to_owned())
            .collect()
    };
    let well = order(&samples::platform(Fate::Up, Fate::Up, Fate::Up, Fate::Up));
    assert_eq!(
        well,
        ["postgresql", "minio", "redis", "elasticmq", "grafana"]
    );
    assert_eq!(
        well,
        order(&samples::platform(Fate::Up, REFUSED, FILLING, REFUSED))
    );
}

#[test]
fn every_id_is_there_once() {
    for (name, snapshot) in all() {
        let html = page(&snapshot);
        let mut ids: Vec<_> = html
            .split(" id=\"")
            .skip(1)
            .map(|part| &part[..part.find('"').unwrap()])
            .collect();
        ids.sort_unstable();
        let number = ids.len();
        ids.dedup();
        assert_eq!(ids.len(), number, "{name} has an id twice");
    }
}

#[test]
fn a_thousand_targets_stay_small() {
    let size = live(&samples::many(1000), &Beside::default(), NOW)
        .into_string()
        .len();
    assert!(size < 500_000, "{size} bytes");
}

#[test]
fn an_empty_config_says_what_to_do() {
    let starting = page(&Snapshot::empty(NOW));
    assert!(starting.contains("Starting") && !starting.contains("Nothing is watched yet"));
    let html = page(&Sample::new().done());
    assert!(html.contains("Nothing is watched yet") && html.contains("targets:"));
    assert!(
        html.contains("data-health=\"unknown\""),
        "nothing watched is not up"
    );
}

#[test]
fn the_live_part_is_as_it_was_agreed() {
    // Another tag on each line, so that a change shows as a line and not as a page.
    let html = live(
        &samples::platform(REFUSED, Fate::Up, FILLING, Fate::Up),
        &Beside::default(),
        NOW,
    )
    .into_string();
    let lines = html
        .replace("><", ">\n<")
        .replace(&format!("{VERSION:016x}"), "VERSION");
    insta::assert_snapshot!(lines);
}
