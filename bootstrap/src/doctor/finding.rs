//! What a check has found: a level, a sentence, and what to do. Pure.

use serde::Serialize;

/// How a finding is to be read; the worst is the greatest.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Worth knowing.
    Note,
    /// It may go wrong.
    Warning,
    /// It will go wrong.
    Problem,
}

impl Level {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }

    /// Of what is left of something: less than `warning`, less than `problem`.
    pub(super) fn of_rest(left: u64, warning: u64, problem: u64) -> Self {
        if left < problem {
            Self::Problem
        } else if left < warning {
            Self::Warning
        } else {
            Self::Ok
        }
    }
}

/// One finding.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Finding {
    /// Whose it is.
    pub check: &'static str,
    /// How to read it.
    pub level: Level,
    /// What is so.
    pub says: String,
    /// What to do; nothing only where all is as it should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl Finding {
    /// All is as it should be.
    pub(super) fn ok(check: &'static str, says: impl Into<String>) -> Self {
        Self::new(check, Level::Ok, says, "")
    }

    /// A finding; `fix` counts unless all is as it should be.
    pub(super) fn new(
        check: &'static str,
        level: Level,
        says: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self {
            check,
            level,
            says: says.into(),
            fix: (level != Level::Ok).then(|| fix.into()),
        }
    }
}

/// Whether nothing is in the way.
pub fn well(findings: &[Finding]) -> bool {
    findings.iter().all(|one| one.level < Level::Problem)
}

/// How many there are of what is not as it should be.
pub fn summary(findings: &[Finding]) -> String {
    let count = |level: Level| {
        let word = level.word();
        match findings.iter().filter(|one| one.level == level).count() {
            0 => format!("no {word}"),
            1 => format!("1 {word}"),
            many => format!("{many} {word}s"),
        }
    };
    [Level::Problem, Level::Warning, Level::Note]
        .map(count)
        .join(", ")
}

/// An amount of bytes for people.
pub(super) fn gib(bytes: u64) -> String {
    const GIB: u128 = 1 << 30;
    let tenths = u128::from(bytes) * 10 / GIB;
    format!("{}.{} GiB", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::{Finding, Level, gib, summary, well};

    #[test]
    fn only_a_problem_is_in_the_way_and_all_are_counted() {
        let mut all = vec![
            Finding::ok("a", "fine"),
            Finding::new("b", Level::Warning, "scarce", "get more"),
            Finding::new("c", Level::Warning, "scarce", "get more"),
            Finding::new("d", Level::Note, "so it is", "leave it"),
        ];
        assert!(well(&all));
        assert_eq!(summary(&all), "no problem, 2 warnings, 1 note");
        all.push(Finding::new("e", Level::Problem, "none", "get some"));
        assert!(!well(&all));
        assert_eq!(summary(&all), "1 problem, 2 warnings, 1 note");
    }

    #[test]
    fn there_is_something_to_do_unless_all_is_well() {
        assert_eq!(Finding::ok("a", "fine").fix, None);
        let scarce = Finding::new("a", Level::Note, "scarce", "get more");
        assert_eq!(scarce.fix.as_deref(), Some("get more"));
    }

    #[test]
    fn limits_are_the_first_good_values() {
        let of = |left| Level::of_rest(left, 5, 1);
        assert_eq!(
            [0, 1, 4, 5].map(of),
            [Level::Problem, Level::Warning, Level::Warning, Level::Ok]
        );
    }

    #[test]
    fn amounts_are_cut_and_not_rounded_up() {
        assert_eq!(gib(0), "0.0 GiB");
        assert_eq!(gib((1 << 30) - 1), "0.9 GiB");
        assert_eq!(gib(3 << 29), "1.5 GiB");
        assert_eq!(gib(u64::MAX), "17179869183.9 GiB");
    }
}
