//! Whether the clock can be right: certificates are made and judged by it.

use std::path::Path;
use std::time::Duration;

use futures_util::FutureExt as _;
use jiff::Timestamp;

use crate::cluster::host::command::run;
use crate::doctor::check::Check;
use crate::doctor::finding::{Finding, Level};
use crate::event::now;

const NAME: &str = "clock";

pub(super) const CHECK: Check = Check {
    name: NAME,
    look: |_| look().map(|finding| Ok(vec![finding])).boxed(),
    mend: None,
};

/// systemd answers at once or is not there.
const LIMIT: Duration = Duration::from_secs(2);

/// The beginning of 2026, in seconds since 1970: this program is younger.
const BORN: i64 = 1_767_225_600;

async fn look() -> Finding {
    judge(now(), synchronised().await)
}

/// What the kernel says by way of systemd; nothing where nobody can be asked.
async fn synchronised() -> Option<bool> {
    let asked = run(
        "timedatectl",
        ["show", "--property=NTPSynchronized", "--value"],
    );
    match tokio::time::timeout(LIMIT, asked).await {
        Ok(Ok(text)) => understood(&text),
        _ => Path::new("/run/systemd/timesync/synchronized")
            .exists()
            .then_some(true),
    }
}

fn understood(text: &str) -> Option<bool> {
    match text.trim() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

fn judge(now: Timestamp, synchronised: Option<bool>) -> Finding {
    if now.as_second() < BORN {
        return Finding::new(
            NAME,
            Level::Problem,
            format!("the clock says {now}, which is past: no certificate will be valid"),
            "set it: timedatectl set-ntp true, or date -s",
        );
    }
    match synchronised {
        Some(true) => Finding::ok(NAME, "it is synchronised"),
        None => Finding::ok(
            NAME,
            "it may be right; nobody here says whether it is synchronised",
        ),
        Some(false) => Finding::new(
            NAME,
            Level::Note,
            "it is not synchronised, and will drift",
            "timedatectl set-ntp true (apt-get install systemd-timesyncd, or chrony)",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::{judge, understood};
    use crate::doctor::finding::Level;
    use jiff::Timestamp;

    fn level(now: &str, synchronised: Option<bool>) -> Level {
        let now: Timestamp = now.parse().expect("a time");
        judge(now, synchronised).level
    }

    #[test]
    fn a_clock_before_this_program_is_a_problem() {
        assert_eq!(level("2025-12-31T23:59:59Z", Some(true)), Level::Problem);
        assert_eq!(level("2026-01-01T00:00:00Z", Some(true)), Level::Ok);
    }

    #[test]
    fn drifting_is_a_note_and_not_knowing_is_none() {
        let later = "2030-01-01T00:00:00Z";
        assert_eq!(level(later, understood("no\n")), Level::Note);
        assert_eq!(level(later, understood("yes\n")), Level::Ok);
        assert_eq!(level(later, understood("")), Level::Ok);
    }
}
