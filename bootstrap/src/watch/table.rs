//! The targets' state as a table for people.

use comfy_table::{Cell, Color};
use jiff::Timestamp;

use crate::services::table::{Look, ago, coloured, plain, trimmed};
use crate::watch::client::{State, Target};

/// The table of targets, headed by how the platform is.
pub fn targets(state: &State, now: Timestamp, look: Look) -> String {
    let mut table = plain(look);
    table.set_header(["TARGET", "STATE", "REQUIRED", "LATENCY", "SINCE", "REASON"]);
    for target in &state.targets {
        table.add_row([
            Cell::new(&target.name),
            coloured(&target.health, colour(&target.health), look),
            Cell::new(if target.required { "yes" } else { "no" }),
            Cell::new(latency(target)),
            Cell::new(ago(target.since, now)),
            Cell::new(reason(target)),
        ]);
    }
    format!("platform: {}\n{}", state.health, trimmed(&table))
}

fn latency(target: &Target) -> String {
    match target.latency_ms {
        Some(ms) => format!("{ms:.1} ms"),
        None => "-".to_owned(),
    }
}

fn reason(target: &Target) -> String {
    match (target.reason.as_str(), target.advice.as_str()) {
        ("ok", _) => "-".to_owned(),
        (reason, "") => format!("{reason}: {}", target.message),
        (reason, advice) => format!("{reason}: {} ({advice})", target.message),
    }
}

fn colour(health: &str) -> Color {
    match health {
        "up" => Color::Green,
        "degraded" => Color::Yellow,
        "down" => Color::Red,
        _ => Color::DarkGrey,
    }
}

#[cfg(test)]
mod tests {
    use super::targets;
    use crate::services::table::Look;
    use crate::watch::client::State;
    use jiff::{SignedDuration, Timestamp};

    #[test]
    fn a_line_for_each_target() -> anyhow::Result<()> {
        let state: State = serde_json::from_str(
            r#"{"health":"down","seq":3,"targets":[
                {"name":"postgresql","kind":"postgresql","required":true,"health":"up","reason":"ok",
                 "message":"","since":"1970-01-01T00:00:00Z","latency_ms":0.42,"facts":{"connections":3}},
                {"name":"minio","kind":"minio","required":true,"health":"down","reason":"refused",
                 "message":"nobody listens on 127.0.0.1:9000","advice":"start it",
                 "since":"1970-01-01T00:01:00Z","latency_ms":null}]}"#,
        )?;
        let now = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(90);
        insta::assert_snapshot!(targets(&state, now, Look::default()));
        Ok(())
    }
}
