//! Findings as a table for people.

use comfy_table::{Cell, Color};

use crate::doctor::finding::{Finding, Level};
use crate::services::table::{Look, coloured, plain, trimmed};

/// The table; what to do stands below what was found.
pub fn findings(all: &[Finding], look: Look) -> String {
    let mut table = plain(look);
    table.set_header(["CHECK", "LEVEL", "FINDING"]);
    for one in all {
        let text = match &one.fix {
            Some(fix) => format!("{}\n→ {fix}", one.says),
            None => one.says.clone(),
        };
        table.add_row([
            Cell::new(one.check),
            coloured(one.level.word(), colour(one.level), look),
            Cell::new(text),
        ]);
    }
    trimmed(&table)
}

fn colour(level: Level) -> Color {
    match level {
        Level::Ok => Color::Green,
        Level::Note => Color::Cyan,
        Level::Warning => Color::Yellow,
        Level::Problem => Color::Red,
    }
}

#[cfg(test)]
mod tests {
    use super::findings;
    use crate::doctor::finding::{Finding, Level};
    use crate::services::table::Look;

    #[test]
    fn what_to_do_stands_below_what_was_found() {
        let all = [
            Finding::ok("clock", "it goes right"),
            Finding::new("tools", Level::Problem, "etcd is missing", "make it"),
        ];
        let text = findings(&all, Look::default());
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let lines: Vec<String> = text.lines().map(words).collect();
        assert_eq!(
            lines,
            [
                "CHECK LEVEL FINDING",
                "clock ok it goes right",
                "tools problem etcd is missing",
                "→ make it",
            ]
        );
    }
}
