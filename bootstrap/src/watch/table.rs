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

/// The same without the parts of targets that are well: one line says how many they are.
pub fn brief(state: &State, now: Timestamp, look: Look) -> String {
    let is_part = |target: &Target| {
        let whole = target.name.split_once('/').map(|(whole, _)| whole);
        whole.is_some_and(|whole| state.targets.iter().any(|one| one.name == whole))
    };
    let (parts, shown): (Vec<Target>, Vec<Target>) = state
        .targets
        .iter()
        .cloned()
        .partition(|target| target.health == "up" && is_part(target));
    let shown = State {
        health: state.health.clone(),
        targets: shown,
    };
    let rest = match parts.len() {
        0 => String::new(),
        count => format!(" and {count} parts of them, all up\n"),
    };
    format!("{}{rest}", targets(&shown, now, look))
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
    use super::{brief, targets};
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

    #[test]
    fn parts_that_are_well_are_counted() -> anyhow::Result<()> {
        let target = |name: &str, health: &str| {
            serde_json::json!({ "name": name, "kind": "argocd", "required": false, "health": health,
                "reason": "ok", "message": "", "since": "1970-01-01T00:00:00Z", "latency_ms": null })
        };
        let state: State = serde_json::from_value(
            serde_json::json!({ "health": "degraded", "targets": [
            target("argocd", "up"), target("argocd/a", "up"), target("argocd/b", "down"), target("x/y", "up"),
        ] }),
        )?;
        let text = brief(&state, Timestamp::UNIX_EPOCH, Look::default());
        assert!(!text.contains("argocd/a") && text.contains("argocd/b") && text.contains("x/y"));
        assert!(text.ends_with(" and 1 parts of them, all up\n"), "{text}");
        Ok(())
    }
}
