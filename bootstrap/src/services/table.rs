//! The services' rows as a table for people.

use comfy_table::{Cell, Color, ContentArrangement, Table, presets};
use jiff::Timestamp;

use crate::services::status::{Condition, Row};

/// How a table is to look.
#[derive(Clone, Copy, Debug, Default)]
pub struct Look {
    /// With colours.
    pub colour: bool,
    /// Not wider than this; as wide as need be where there is no terminal.
    pub width: Option<u16>,
}

/// The table of services.
pub fn services(rows: &[Row], now: Timestamp, look: Look) -> String {
    let mut table = plain(look);
    table.set_header([
        "SERVICE", "STATE", "REQUIRED", "RUNTIME", "PROCESS", "ADDRESS", "SINCE", "RESTARTS",
        "REASON",
    ]);
    for row in rows {
        let process = match (&row.container, row.pid) {
            (Some(container), _) => container.clone(),
            (None, Some(pid)) => format!("pid {pid}"),
            (None, None) => "-".to_owned(),
        };
        table.add_row([
            Cell::new(row.service.name()),
            coloured(row.condition.word(), colour(row.condition), look),
            Cell::new(if row.required { "yes" } else { "no" }),
            Cell::new(&row.runtime),
            Cell::new(process),
            Cell::new(&row.url),
            Cell::new(ago_or_none(row.since, now)),
            Cell::new(row.restarts),
            Cell::new(first_line(row.reason.as_deref())),
        ]);
    }
    trimmed(&table)
}

/// As [`ago`]; a dash where nothing is known.
pub fn ago_or_none(since: Option<Timestamp>, now: Timestamp) -> String {
    since.map_or_else(|| "-".to_owned(), |since| ago(since, now))
}

/// As much of a text as fits into a cell; a dash where there is none.
pub fn first_line(text: Option<&str>) -> &str {
    text.and_then(|text| text.lines().next()).unwrap_or("-")
}

/// A table without lines, as wide as `look` allows.
pub fn plain(look: Look) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    match look.width {
        Some(width) => {
            table.set_content_arrangement(ContentArrangement::Dynamic);
            table.set_width(width);
        }
        None => {
            table.set_content_arrangement(ContentArrangement::Disabled);
        }
    }
    if look.colour {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    table
}

/// A cell with a colour where colours are wanted.
pub fn coloured(text: &str, colour: Color, look: Look) -> Cell {
    let cell = Cell::new(text);
    if look.colour { cell.fg(colour) } else { cell }
}

/// The table's text without blanks at the ends of lines.
pub fn trimmed(table: &Table) -> String {
    table
        .lines()
        .map(|line| format!("{}\n", line.trim_end()))
        .collect()
}

fn colour(condition: Condition) -> Color {
    match condition {
        Condition::Ready => Color::Green,
        Condition::Restarting => Color::Yellow,
        Condition::Unready | Condition::Blocked => Color::Red,
        Condition::Stopped | Condition::Absent | Condition::Disabled => Color::DarkGrey,
    }
}

/// How long ago, in at most two units.
pub fn ago(since: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(since).as_secs().max(0);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86400 => format!("{}h {}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d {}h", seconds / 86400, seconds % 86400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::{Look, ago, services};
    use crate::services::catalog::Service;
    use crate::services::status::{Condition, Row};
    use jiff::{SignedDuration, Timestamp};

    fn row(service: Service, condition: Condition) -> Row {
        Row {
            service,
            required: service.required(),
            condition,
            runtime: "host".into(),
            pid: Some(4711),
            container: None,
            url: "http://127.0.0.1:1".into(),
            ports: vec![1],
            since: Some(Timestamp::UNIX_EPOCH),
            restarts: 0,
            reason: None,
        }
    }

    #[test]
    fn the_table_says_all_in_a_line_each() {
        let mut restarting = row(Service::Redis, Condition::Restarting);
        restarting.pid = None;
        restarting.restarts = 3;
        restarting.reason = Some("killed by signal 9\nand more".into());
        let mut contained = row(Service::Minio, Condition::Unready);
        contained.container = Some("comind-ops-minio".into());
        let rows = [
            row(Service::Postgresql, Condition::Ready),
            contained,
            restarting,
        ];
        let now = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(75);
        insta::assert_snapshot!(services(&rows, now, Look::default()));
    }

    #[test]
    fn times_have_two_units_at_most() {
        let after = |seconds| {
            let now = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds);
            ago(Timestamp::UNIX_EPOCH, now)
        };
        assert_eq!(after(-5), "0s");
        assert_eq!(after(59), "59s");
        assert_eq!(after(3599), "59m 59s");
        assert_eq!(after(7260), "2h 1m");
        assert_eq!(after(90_000), "1d 1h");
    }
}
