//! Words and sentences for the page, without markup. Must not know HTML.

use comind_model::event::Event;
use comind_model::health::Health;

use super::format;

/// A word of the API (`connection_closed`) as people write it.
pub(super) fn words(name: &str) -> String {
    name.replace('_', " ")
}

/// A health as it begins a sentence.
pub(super) const fn capital(health: Health) -> &'static str {
    match health {
        Health::Up => "Up",
        Health::Degraded => "Degraded",
        Health::Down => "Down",
        Health::Unknown => "Unknown",
    }
}

/// At most `limit` characters; what is longer ends in an ellipsis. Control characters,
/// which could break a line or turn its direction, become spaces.
pub(super) fn clip(text: &str, limit: usize) -> String {
    let visible = |c: char| if c.is_control() { ' ' } else { c };
    let mut shown: String = text.chars().take(limit).map(visible).collect();
    if text.chars().nth(limit).is_some() {
        shown.pop();
        shown.push('…');
    }
    shown
}

/// How fast a transition was seen, and counted from what.
pub(super) fn detected(event: &Event) -> String {
    let length = format::from_ms(event.detected_ms);
    let (delay, lasted) = (format::delay(length), format::lasted(length));
    match (&event.hint, event.from, event.to) {
        (_, Health::Down, Health::Up | Health::Degraded) => format!("out for {lasted}"),
        (_, _, Health::Unknown) => format!("silent for {lasted}"),
        (Some(hint), ..) => format!("seen {delay} after: {}", clip(&words(hint), 40)),
        (None, Health::Unknown, _) => format!("known after {delay}"),
        (None, ..) => format!("seen within {delay}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use comind_model::reason::Reason;
    use comind_model::timestamp::Timestamp;

    fn event(from: Health, to: Health, hint: Option<&str>) -> Event {
        Event {
            seq: 1,
            at: Timestamp::default(),
            target: "redis".into(),
            from,
            to,
            reason: Reason::Refused,
            message: String::new(),
            hint: hint.map(str::to_owned),
            detected_ms: 3.2,
        }
    }

    #[test]
    fn the_delay_says_from_what_it_counts() {
        use Health::{Degraded, Down, Unknown, Up};
        let closed = Some("connection_closed");
        let cases = [
            (
                event(Up, Down, closed),
                "seen 3.20 ms after: connection closed",
            ),
            (event(Up, Down, None), "seen within 3.20 ms"),
            (event(Down, Up, closed), "out for 3.20 ms"),
            (event(Down, Degraded, None), "out for 3.20 ms"),
            (event(Unknown, Up, None), "known after 3.20 ms"),
            (event(Up, Unknown, None), "silent for 3.20 ms"),
        ];
        for (event, text) in cases {
            assert_eq!(detected(&event).replace("\u{a0}", " "), text);
        }
    }

    #[test]
    fn long_texts_end_in_an_ellipsis() {
        assert_eq!(clip("abc", 3), "abc");
        assert_eq!(clip("abcd", 3), "ab…");
        assert_eq!(clip("ä\u{0}\nb", 9), "ä  b");
    }
}
