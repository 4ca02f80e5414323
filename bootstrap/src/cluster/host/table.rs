//! A cluster's programs or nodes as a table for people.

use comfy_table::{Cell, Color};
use jiff::Timestamp;

use crate::cluster::kind::Row;
use crate::services::table::{Look, ago_or_none, coloured, first_line, plain, trimmed};

/// The table.
pub fn components(rows: &[Row], now: Timestamp, look: Look) -> String {
    let mut table = plain(look);
    table.set_header([
        "COMPONENT",
        "STATE",
        "PROCESS",
        "SINCE",
        "RESTARTS",
        "REASON",
    ]);
    for row in rows {
        let colour = match row.state {
            "running" => Color::Green,
            "restarting" => Color::Yellow,
            _ => Color::Red,
        };
        table.add_row([
            Cell::new(&row.component),
            coloured(row.state, colour, look),
            Cell::new(
                row.pid
                    .map_or_else(|| "-".to_owned(), |pid| format!("pid {pid}")),
            ),
            Cell::new(ago_or_none(row.since, now)),
            Cell::new(row.restarts),
            Cell::new(first_line(row.reason.as_deref())),
        ]);
    }
    trimmed(&table)
}
