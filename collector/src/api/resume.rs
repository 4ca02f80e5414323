//! Where an event stream goes on: the header `Last-Event-ID` against what is remembered. Pure.

use std::sync::Arc;

use comind_model::event::Event;
use comind_model::snapshot::Snapshot;

/// The number in `Last-Event-ID`; anything else is as good as none.
pub fn parse(header: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(header).ok()?.trim();
    // `parse` alone would take a leading plus.
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())?
}

/// The events after `last`, if they are all still remembered. `None`: start with a snapshot.
pub fn missed(snapshot: &Snapshot, last: u64) -> Option<Vec<Arc<Event>>> {
    if last > snapshot.seq {
        return None;
    }
    let missed = snapshot.timeline.iter().filter(|event| event.seq > last);
    let missed: Vec<_> = missed.cloned().collect();
    let wanted = snapshot.seq - last;
    (missed.len() as u64 == wanted).then_some(missed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use comind_model::health::Health;
    use comind_model::reason::Reason;
    use comind_model::timestamp::Timestamp;

    fn snapshot(seqs: std::ops::RangeInclusive<u64>) -> Snapshot {
        let event = |seq| {
            Arc::new(Event {
                seq,
                at: Timestamp::default(),
                target: "a".into(),
                from: Health::Up,
                to: Health::Down,
                reason: Reason::Refused,
                message: String::new(),
                hint: None,
                detected_ms: 0.0,
            })
        };
        let mut snapshot = Snapshot::empty(Timestamp::default());
        snapshot.seq = *seqs.end();
        snapshot.timeline = seqs.map(event).collect();
        snapshot
    }

    #[test]
    fn only_plain_numbers_resume() {
        assert_eq!(parse(b"42"), Some(42));
        assert_eq!(parse(b" 7 "), Some(7));
        for bad in [
            &b""[..],
            b"-1",
            b"+1",
            b"1.0",
            b"99999999999999999999999",
            b"\xff\xfe",
            b"1 2",
        ] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn resumes_only_when_nothing_is_lost() {
        let snapshot = snapshot(10..=12);
        let seqs = |last| {
            missed(&snapshot, last).map(|events| events.iter().map(|e| e.seq).collect::<Vec<_>>())
        };
        assert_eq!(seqs(12), Some(vec![]));
        assert_eq!(seqs(10), Some(vec![11, 12]));
        assert_eq!(seqs(9), Some(vec![10, 11, 12]));
        assert_eq!(seqs(8), None);
        assert_eq!(seqs(13), None);
    }
}
