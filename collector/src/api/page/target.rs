//! The page of one target: how it is, its last 90 days, uptime and budget, how long its looks took,
//! its outages. A document without a script: a picture of one moment. Must not know the file.

use std::sync::Arc;
use std::time::Duration;

use comind_model::state::State;
use comind_model::timestamp::Timestamp;
use maud::{DOCTYPE, Markup, html};

use super::{facts, format, moment, name, shape, text};
use crate::history::file::Latency;
use crate::history::query::{Day, Told};
use crate::history::report::Record;

/// A message longer than this is cut; the API has it whole.
const MESSAGE: usize = 400;
/// Height and width of a day's bar in the picture's units.
const BAR: (usize, usize) = (40, 8);
/// Height and width of the latency chart in its units.
const CHART: (u32, u32) = (120, 720);

/// What is shown of a target.
pub struct View {
    /// How it is.
    pub state: Arc<State>,
    /// How it did.
    pub record: Option<Record>,
    /// Its last days, oldest first.
    pub days: Vec<Day>,
    /// Its outages, newest first.
    pub outages: Vec<Told>,
    /// How long its looks took, oldest first, and the time that is shown.
    pub latencies: Vec<(Timestamp, Latency)>,
    /// Why some of it is missing.
    pub trouble: Option<String>,
}

/// The document. `base` leads from its address to the root, such as `../`.
pub fn document(view: &View, base: &str, now: Timestamp) -> Markup {
    let state = &view.state;
    let (target, standing) = (state.target(), state.standing());
    let short = text::clip(&target.name, 80);
    let title = format!("{short} is {} – comind-ops", standing.health);
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                (super::head(&title, standing.health, base))
                meta http-equiv="refresh" content="30";
            }
            body class="one" {
                (super::shapes())
                header class="bar" {
                    p class="brand" { a href=(base) { "comind" span { "-ops" } } }
                    p class="link" { "Picture of " (format::clock(now, now)) " UTC" }
                }
                main {
                    section class=(format!("overall {}", standing.health)) aria-labelledby="name" {
                        (shape(standing.health))
                        div class="says" {
                            h1 id="name" { (name(&target.name, 120)) " is " (standing.health) }
                            p {
                                (target.kind) ", " @if target.required { "required" } @else { "optional" }
                                ", " (standing.health) " since " (moment(standing.since, &format::clock(standing.since, now)))
                                " (" (format::span(now.since(standing.since))) ")"
                            }
                            @if !standing.message.is_empty() {
                                p { b { (text::words(standing.reason.as_str())) } ": " bdi { (text::clip(&standing.message, MESSAGE)) } }
                                p { (standing.reason.advice()) }
                            }
                        }
                    }
                    @if let Some(trouble) = &view.trouble { p role="alert" { (text::clip(trouble, MESSAGE)) } }
                    @if let Some(record) = &view.record { (figures(record)) }
                    (days(&view.days))
                    (chart(&view.latencies, now))
                    (outages(&view.outages, now))
                    section aria-labelledby="facts" { h2 id="facts" { "Facts" } (facts::list(&state.facts(), now)) }
                }
            }
        }
    }
}

fn percent(share: f64) -> String {
    crate::api::badge::percent(share)
}

fn figures(record: &Record) -> Markup {
    html! {
        section aria-labelledby="uptime" {
            h2 id="uptime" { "Uptime" }
            dl class="uptimes" {
                @for (window, share) in &record.uptime {
                    div { dt { (window) } dd { @match share { Some(share) => (percent(*share)), None => "–" } } }
                }
                @if let Some(left) = record.budget_left {
                    div { dt { "Error budget left (30 d)" } dd { (format!("{:.1} %", left * 100.0)) } }
                }
                @for (window, rate) in record.burn.iter().flatten() {
                    @if let Some(rate) = rate.filter(|rate| *rate > 0.0) {
                        div { dt { "Burn rate " (window) } dd { (format!("{rate:.1} ×")) } }
                    }
                }
            }
            p class="small" { "Good time as a share of the known; maintenance does not count, and what nobody saw is neither good nor bad." }
        }
    }
}

/// A bar a day. Its height is the share of good time, so that nobody has to tell colours apart.
fn days(days: &[Day]) -> Markup {
    let (height, width) = BAR;
    let known = days.iter().filter(|day| day.uptime.is_some()).count();
    html! {
        @if !days.is_empty() {
            section aria-labelledby="days" {
                h2 id="days" { "Last " (days.len()) " days " span class="number" { (known) " known" } }
                svg class="days" viewBox=(format!("0 0 {} {height}", days.len() * width)) role="img" aria-label=(words(days)) {
                    @for (place, day) in days.iter().enumerate() {
                        @let (class, tall) = bar(day);
                        rect class=(class) x=(place * width) y=(height - tall) width=(width - 2) height=(tall) {
                            title { (told(day)) }
                        }
                    }
                }
            }
        }
    }
}

fn bar(day: &Day) -> (&'static str, usize) {
    let (height, _) = BAR;
    match day.uptime {
        None => ("unknown", 4),
        Some(1.0) => ("up", height),
        // Small outages must be seen: the last hundredth of the time is half of the height.
        Some(share) if share >= 0.99 => {
            let lost = (1.0 - share) / 0.01 * height as f64 / 2.0;
            ("degraded", height - (lost.ceil() as usize).max(4))
        }
        Some(share) => ("down", ((share * height as f64 / 2.0) as usize).max(6)),
    }
}

fn told(day: &Day) -> String {
    let date = day.start.to_string();
    let date = date.split('T').next().unwrap_or_default();
    match day.uptime {
        None => format!("{date}: nothing is known"),
        Some(1.0) => format!("{date}: no outage"),
        Some(share) => format!(
            "{date}: {}, down for {}",
            percent(share),
            format::span(day.down)
        ),
    }
}

fn words(days: &[Day]) -> String {
    let bad: Vec<_> = days
        .iter()
        .rev()
        .filter(|day| !day.down.is_zero())
        .take(5)
        .map(told)
        .collect();
    match bad.is_empty() {
        true => "No outage on any of these days".to_owned(),
        false => bad.join("; "),
    }
}

/// The last day, minute by minute: half of the looks, and 95 of 100.
fn chart(latencies: &[(Timestamp, Latency)], now: Timestamp) -> Markup {
    const DAY: Duration = Duration::from_secs(86_400);
    if latencies.len() < 2 {
        return html! {};
    }
    let (height, width) = CHART;
    let top = latencies
        .iter()
        .map(|(_, latency)| latency.p95)
        .max()
        .unwrap_or(1)
        .max(1);
    let from = latencies[0].0.max(now - DAY);
    let long = now.since(from).as_secs_f64().max(1.0);
    let point = |at: Timestamp, micros: u32| {
        let x = at.since(from).as_secs_f64() / long * f64::from(width);
        let y = f64::from(height) * (1.0 - f64::from(micros) / f64::from(top) * 0.9);
        format!("{x:.1},{y:.1}")
    };
    let line = |of: fn(&Latency) -> u32| {
        let points = latencies
            .iter()
            .map(|(at, latency)| point(*at, of(latency)));
        points.collect::<Vec<_>>().join(" ")
    };
    let longest = Duration::from_micros(u64::from(top));
    let label = format!(
        "How long looks took over the last {}: 95 of 100 at most {}",
        format::span(now.since(from)),
        format::delay(longest)
    );
    html! {
        section aria-labelledby="latency" {
            h2 id="latency" { "Latency " span class="number" { "p50, p95; top " (format::delay(longest)) } }
            svg class="chart" viewBox=(format!("0 0 {width} {height}")) preserveAspectRatio="none" role="img" aria-label=(label) {
                polyline class="p95" points=(line(|latency| latency.p95)) {}
                polyline class="p50" points=(line(|latency| latency.p50)) {}
            }
        }
    }
}

fn outages(all: &[Told], now: Timestamp) -> Markup {
    html! {
        section aria-labelledby="outages" {
            h2 id="outages" { "Outages " span class="number" { (all.len()) } }
            @if all.is_empty() { p class="small" { "None is remembered." } } @else {
                table {
                    thead { tr { th scope="col" { "Began" } th scope="col" { "Lasted" } th scope="col" { "Why" } } }
                    tbody {
                        @for told in all {
                            tr {
                                td { (moment(told.outage.start, &format::clock(told.outage.start, now))) }
                                td { (format::span(Duration::from_secs_f64(told.duration_seconds.max(0.0)))) @if told.outage.end.is_none() { " so far" } }
                                td { b { (text::words(told.outage.reason.as_str())) } " " bdi { (text::clip(&told.outage.message, MESSAGE)) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(uptime: Option<f64>, down: u64) -> Day {
        Day {
            start: Timestamp::from_micros(1_795_392_000_000_000),
            uptime,
            down: Duration::from_secs(down),
        }
    }

    #[test]
    fn a_worse_day_has_a_lower_bar_and_words() {
        let shares = [1.0, 0.9999, 0.995, 0.9, 0.2];
        let heights: Vec<_> = shares
            .iter()
            .map(|share| bar(&day(Some(*share), 9)).1)
            .collect();
        assert!(heights.is_sorted_by(|a, b| a > b), "{heights:?}");
        assert_eq!(bar(&day(None, 0)).0, "unknown");
        assert!(words(&[day(Some(0.9), 8640), day(None, 0)]).starts_with("2026-11-23: 90.00 %"));
        assert_eq!(words(&[day(None, 0)]), "No outage on any of these days");
    }
}
