//! Grafana's dashboards as they lie in the repository: their panels, what those ask Prometheus for,
//! and which metrics that names. Pure; must not know what is true of them.

use anyhow::{Context, Result};
use serde_json::Value;

/// The dashboards.
pub(super) const BOARDS: [(&str, &str); 2] = [
    (
        "overview",
        include_str!("../../../dashboards/grafana/overview.json"),
    ),
    (
        "proxy",
        include_str!("../../../dashboards/grafana/proxy.json"),
    ),
];
/// Words of PromQL that group series; what is in the brackets after them are labels.
const GROUPING: [&str; 6] = [
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
];
/// Words of PromQL between its parts.
const BETWEEN: [&str; 5] = ["and", "or", "unless", "offset", "bool"];

/// One question of a panel.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// The dashboard's and the panel's name.
    pub(super) board: &'static str,
    pub(super) panel: String,
    /// As it is written, with Grafana's variables.
    pub(super) expression: String,
}

impl Asked {
    /// For a Prometheus that scrapes every second, with everything chosen.
    pub(super) fn filled(&self, variables: &[String]) -> String {
        let times = self.expression.replace("$__rate_interval", "30s");
        let times = times.replace("$__range", "1h");
        variables.iter().fold(times, |text, variable| {
            text.replace(&format!("${variable}"), ".*")
        })
    }
}

/// A dashboard as it is written.
pub(super) fn read(text: &str) -> Result<Value> {
    serde_json::from_str(text).context("it is no JSON")
}

/// Its panels, rows too.
pub(super) fn panels(board: &Value) -> Result<&Vec<Value>> {
    board["panels"].as_array().context("it has no panels")
}

/// The names of what can be chosen at its top, but for the Prometheus.
pub(super) fn variables(board: &Value) -> Vec<String> {
    let all = board["templating"]["list"].as_array().into_iter().flatten();
    let chosen = all.filter(|one| one["type"] == "query");
    chosen
        .filter_map(|one| one["name"].as_str())
        .map(ToOwned::to_owned)
        .collect()
}

/// What its panels ask.
pub(super) fn questions(name: &'static str, board: &Value) -> Result<Vec<Asked>> {
    let mut all = Vec::new();
    for panel in panels(board)? {
        let title = panel["title"].as_str().context("a panel has no title")?;
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str();
            let expression = expression.with_context(|| format!("{title}: asks nothing"))?;
            all.push(Asked {
                board: name,
                panel: title.to_owned(),
                expression: expression.to_owned(),
            });
        }
    }
    Ok(all)
}

/// The metrics that an expression names.
pub(super) fn metrics(expression: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut rest = expression;
    while let Some(first) = rest.chars().next() {
        let length = word(rest);
        let (begin, after) = match first {
            '{' => (0, past(rest, '}')),
            '[' => (0, past(rest, ']')),
            '"' => (0, past(&rest[1..], '"') + 1),
            _ if length > 0 => (length, length),
            _ => (0, first.len_utf8()),
        };
        let (name, behind) = (&rest[..begin], &rest[after..]);
        let next = behind.trim_start();
        let brackets = next.starts_with('(');
        // `sum by (a) (…)` is as much a call as `sum(…)`.
        let called = brackets || ["by", "without"].contains(&&next[..word(next)]);
        let grouping = GROUPING.contains(&name);
        rest = match grouping && brackets {
            true => &behind[past(behind, ')')..],
            false => behind,
        };
        let number = name.starts_with(|first: char| first.is_ascii_digit());
        if !name.is_empty() && !called && !number && !grouping && !BETWEEN.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// How many bytes of a name, or of a number, this begins with.
fn word(text: &str) -> usize {
    text.find(|one: char| !(one.is_ascii_alphanumeric() || one == '_' || one == ':' || one == '.'))
        .unwrap_or(text.len())
}

/// Where it goes on behind the next `end` that is not in a string.
fn past(text: &str, end: char) -> usize {
    let mut quoted = false;
    for (at, one) in text.char_indices() {
        match one {
            _ if one == end && !quoted => return at + one.len_utf8(),
            '"' => quoted = !quoted,
            _ => {}
        }
    }
    text.len()
}

#[test]
fn metrics_are_told_from_what_else_is_in_an_expression() {
    let expression = r#"histogram_quantile(0.99, sum by (le, a) (rate(x_bucket{a=~"by }.*",b="c"}[5m]))) or 3 * max(y == 1) / on (instance) group_left (b) z unless w offset 10m"#;
    assert_eq!(
        metrics(expression),
        ["x_bucket", "y", "z", "w"],
        "{expression}"
    );
    assert_eq!(metrics("time() - a_b > 86400 or vector(0)"), ["a_b"]);
}
