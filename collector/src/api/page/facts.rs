//! What the last looks learned, as a short list: units from the ends of the names
//! (`_bytes`, `_seconds`, …), limits beside their use, labelled facts as a table.
//! Must not know which facts any kind of service has.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use comind_model::fact::{FactValue, Facts, split_label};
use comind_model::timestamp::Timestamp;
use maud::{Markup, html};

use super::{format, text};

/// Where long values may wrap; not within a number.
const MAY_WRAP_BEHIND: [char; 5] = ['-', '_', '/', ':', '@'];
/// How many facts stand open on a tile; the others unfold.
const OPEN: usize = 6;
/// How many rows a table of labelled facts has at most.
const ROWS: usize = 12;

/// The facts of one target.
pub(super) fn list(facts: &Facts, now: Timestamp) -> Markup {
    let rows = rows(facts, now);
    let tables = tables(facts, now);
    let (open, folded) = rows.split_at(rows.len().min(OPEN));
    html! {
        @if !open.is_empty() { dl class="facts" { @for row in open { (row.markup()) } } }
        @for table in &tables { (table.markup()) }
        @if !folded.is_empty() {
            details {
                summary { (folded.len()) " more" }
                dl class="facts" { @for row in folded { (row.markup()) } }
            }
        }
    }
}

/// One fact: its words, its value, and how much of its limit is used.
#[derive(Debug, PartialEq)]
struct Row {
    label: String,
    value: String,
    share: Option<f64>,
}

impl Row {
    fn markup(&self) -> Markup {
        html! {
            div {
                dt { (self.label) }
                dd {
                    bdi { @for part in self.value.split_inclusive(MAY_WRAP_BEHIND) { (part) wbr; } }
                    @if let Some(share) = self.share { (bar(share)) }
                }
            }
        }
    }
}

fn bar(share: f64) -> Markup {
    let share = share.clamp(0.0, 1.0);
    let class = if share >= 0.9 { "bar full" } else { "bar" };
    html! {
        svg class=(class) viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true" {
            rect class="whole" width="100" height="4" {}
            rect width=(format!("{:.0}", share * 100.0)) height="4" {}
        }
    }
}

fn rows(facts: &Facts, now: Timestamp) -> Vec<Row> {
    let limits: BTreeSet<String> = facts
        .iter()
        .filter_map(|(name, _)| limit_of(facts, name))
        .map(|(name, _)| name)
        .collect();
    facts
        .iter()
        .filter(|(name, _)| split_label(name).1.is_none() && !limits.contains(*name))
        .map(|(name, value)| row(facts, name, value, now))
        .collect()
}

fn row(facts: &Facts, name: &str, value: &FactValue, now: Timestamp) -> Row {
    let shown = shown(name, value, now);
    match (value, limit_of(facts, name)) {
        (FactValue::Number(used), Some((limit_name, limit))) => Row {
            label: label(name),
            value: format!("{shown} of {}", number(&limit_name, limit, now)),
            share: Some(used / limit),
        },
        _ => Row {
            label: label(name),
            value: shown,
            share: None,
        },
    }
}

/// The fact which is the limit of this one: `connections_max` of `connections`,
/// `memory_max_bytes` of `memory_used_bytes`.
fn limit_of(facts: &Facts, name: &str) -> Option<(String, f64)> {
    let (stem, unit) = split_unit(name);
    let thing = stem.strip_suffix("_used").unwrap_or(stem);
    let thing = thing.strip_prefix("connected_").unwrap_or(thing);
    let candidates = [
        format!("{thing}_max{unit}"),
        format!("max_{thing}{unit}"),
        format!("{thing}_limit{unit}"),
        format!("{thing}_total{unit}"),
    ];
    candidates
        .into_iter()
        .filter(|candidate| candidate != name)
        .find_map(|candidate| match facts.get(&candidate) {
            Some(FactValue::Number(limit)) if *limit > 0.0 => Some((candidate, *limit)),
            _ => None,
        })
}

fn is_limit(name: &str) -> bool {
    let stem = split_unit(name).0;
    stem.ends_with("_max") || stem.ends_with("_limit") || stem.starts_with("max_")
}

/// Parts the unit (with its underscore) from the end of a fact's name.
fn split_unit(name: &str) -> (&str, &str) {
    const UNITS: [&str; 5] = [
        "_timestamp_seconds",
        "_seconds",
        "_bytes",
        "_ratio",
        "_total",
    ];
    UNITS
        .iter()
        .find_map(|unit| name.strip_suffix(unit).map(|stem| (stem, *unit)))
        .unwrap_or((name, ""))
}

fn label(name: &str) -> String {
    text::words(split_unit(name).0)
}

fn shown(name: &str, value: &FactValue, now: Timestamp) -> String {
    match value {
        FactValue::Flag(true) => "yes".to_owned(),
        FactValue::Flag(false) => "no".to_owned(),
        FactValue::Text(words) => text::clip(words, 80),
        FactValue::Number(figure) => number(name, *figure, now),
    }
}

fn number(name: &str, figure: f64, now: Timestamp) -> String {
    let seconds = |length: f64| Duration::try_from_secs_f64(length).ok();
    match split_unit(name).1 {
        _ if figure == 0.0 && is_limit(name) => "no limit".to_owned(),
        "_bytes" => format::bytes(figure),
        "_ratio" => format::percent(figure),
        "_seconds" => seconds(figure).map_or_else(|| format::count(figure) + " s", format::delay),
        "_timestamp_seconds" => {
            let ahead = figure - now.as_seconds();
            match seconds(ahead.abs()).map(format::span) {
                Some(span) if ahead >= 0.0 => format!("in {span}"),
                Some(span) => format!("{span} ago"),
                None => format::count(figure),
            }
        }
        _ => format::count(figure),
    }
}

/// Facts that share a label's key: one row for each label, one column for each fact.
struct Table {
    key: String,
    columns: Vec<String>,
    rows: Vec<(String, Vec<String>)>,
    left_out: usize,
}

impl Table {
    fn markup(&self) -> Markup {
        html! {
            table class="facts" {
                thead {
                    tr {
                        th scope="col" { (text::words(&self.key)) }
                        @for column in &self.columns {
                            th scope="col" { (label(without_shared_word(column, &self.columns))) }
                        }
                    }
                }
                tbody {
                    @for (name, cells) in &self.rows {
                        tr {
                            th scope="row" { bdi { (name) } }
                            @for cell in cells { td { (cell) } }
                        }
                    }
                }
            }
            @if self.left_out > 0 { p class="small" { "and " (self.left_out) " more" } }
        }
    }
}

fn tables(facts: &Facts, now: Timestamp) -> Vec<Table> {
    let mut keys: BTreeMap<&str, BTreeMap<&str, BTreeMap<&str, String>>> = BTreeMap::new();
    for (name, value) in facts.iter() {
        if let (base, Some((key, part))) = split_label(name) {
            let parts = keys.entry(key).or_default();
            parts
                .entry(part)
                .or_default()
                .insert(base, shown(base, value, now));
        }
    }
    keys.into_iter()
        .map(|(key, parts)| table(key, &parts))
        .collect()
}

fn table(key: &str, parts: &BTreeMap<&str, BTreeMap<&str, String>>) -> Table {
    let columns: BTreeSet<&str> = parts
        .values()
        .flat_map(|cells| cells.keys().copied())
        .collect();
    let rows = parts
        .iter()
        .take(ROWS)
        .map(|(part, cells)| {
            let cells = columns
                .iter()
                .map(|c| cells.get(c).cloned().unwrap_or_default());
            (text::clip(part, 80), cells.collect())
        })
        .collect();
    Table {
        key: key.to_owned(),
        rows,
        left_out: parts.len().saturating_sub(ROWS),
        columns: columns.into_iter().map(str::to_owned).collect(),
    }
}

/// A column's name without the first word that it shares with another: `messages_` needs no
/// saying in each of three columns.
fn without_shared_word<'a>(column: &'a str, columns: &[String]) -> &'a str {
    let Some(end) = column.find('_') else {
        return column;
    };
    let word = &column[..=end];
    let sharing = columns
        .iter()
        .filter(|other| other.starts_with(word))
        .count();
    if sharing > 1 {
        &column[end + 1..]
    } else {
        column
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at() -> Timestamp {
        Timestamp::from_micros(1_795_400_000_000_000)
    }

    fn pairs(facts: &Facts) -> Vec<(String, String)> {
        rows(facts, at())
            .into_iter()
            .map(|row| (row.label, row.value.replace('\u{a0}', " ")))
            .collect()
    }

    #[test]
    fn units_come_from_the_ends_of_the_names() {
        let mut facts = Facts::default();
        facts.set("database_size_bytes", 1536.0);
        facts.set("uptime_seconds", 7200.0);
        facts.set(
            "certificate_expiry_timestamp_seconds",
            at().as_seconds() + 86_400.0,
        );
        facts.set("read_only", false);
        facts.set("hit_ratio", 0.5);
        facts.set("evicted_keys_total", 12_345.0);
        let shown = pairs(&facts);
        let expected = [
            ("certificate expiry", "in 1 d"),
            ("database size", "1.5 KiB"),
            ("evicted keys", "12,345"),
            ("hit", "50 %"),
            ("read only", "no"),
            ("uptime", "2 h"),
        ];
        let shown: Vec<_> = shown
            .iter()
            .map(|(l, v)| (l.as_str(), v.as_str()))
            .collect();
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_limit_stands_beside_its_use() {
        let mut facts = Facts::default();
        facts.set("connections", 12.0);
        facts.set("connections_max", 100.0);
        facts.set("memory_used_bytes", 1024.0);
        facts.set("memory_max_bytes", 2048.0);
        let rows = rows(&facts, at());
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0].value, "12 of 100");
        assert_eq!(rows[0].share, Some(0.12));
        assert_eq!(rows[1].value, "1.0\u{a0}KiB of 2.0\u{a0}KiB");
    }

    #[test]
    fn a_limit_of_zero_means_none() {
        let mut facts = Facts::default();
        facts.set("memory_used_bytes", 1024.0);
        facts.set("memory_max_bytes", 0.0);
        let shown = pairs(&facts);
        let limit = ("memory max".to_owned(), "no limit".to_owned());
        assert_eq!(shown[0], limit);
        assert_eq!(shown.len(), 2);
    }

    #[test]
    fn labelled_facts_make_a_table() {
        let mut facts = Facts::default();
        for queue in ["jobs", "mail"] {
            facts.set_labelled("messages_visible", "queue", queue, 3.0);
            facts.set_labelled("messages_in_flight", "queue", queue, 1.0);
        }
        facts.set_labelled("messages_visible", "queue", "odd", 9.0);
        facts.set_labelled("dead_letters", "queue", "odd", 2.0);
        let tables = tables(&facts, at());
        assert_eq!(tables.len(), 1);
        assert_eq!(
            tables[0].rows[2],
            (
                "odd".to_owned(),
                vec!["2".to_owned(), String::new(), "9".to_owned()]
            )
        );
        let html = tables[0].markup().into_string();
        for column in ["dead letters", "in flight", "visible"] {
            assert!(
                html.contains(&format!("<th scope=\"col\">{column}</th>")),
                "{html}"
            );
        }
    }

    #[test]
    fn many_facts_fold_and_many_labels_end() {
        let mut facts = Facts::default();
        for index in 0..40 {
            facts.set(&format!("fact{index:02}"), f64::from(index));
            facts.set_labelled("size_bytes", "bucket", &format!("b{index:02}"), 1.0);
        }
        let html = list(&facts, at()).into_string();
        assert!(
            html.contains("34 more") && html.contains("and 28 more"),
            "{html}"
        );
    }

    #[test]
    fn hostile_facts_are_text() {
        let mut facts = Facts::default();
        facts.set("<b>", "<script>alert(1)</script>");
        facts.set_labelled("<i>", "<u>", "<s>", f64::NAN);
        let html = list(&facts, at()).into_string();
        for tag in ["<b>", "<script", "<i>", "<u>", "<s>"] {
            assert!(!html.contains(tag), "{html}");
        }
    }
}
