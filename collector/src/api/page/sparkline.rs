//! A row of latencies as a small picture: an SVG drawn by attributes, with its words.
//! Must not know targets or states.

use std::fmt::Write as _;
use std::time::Duration;

use comind_model::state::LATENCIES;
use maud::{Markup, html};

use super::format;

/// Width of one step from look to look, in units of the picture.
const STEP: usize = 4;
/// Height of the picture in its own units.
const HEIGHT: u32 = 40;

/// The latencies (µs, oldest first) as a line over an area, newest at the right edge. The
/// base line is zero, so that a steady target draws a steady line.
pub(super) fn picture(latencies: &[u32]) -> Markup {
    let shown = &latencies[latencies.len().saturating_sub(LATENCIES)..];
    if shown.len() < 2 {
        return html! {};
    }
    let width = (LATENCIES - 1) * STEP;
    let view = format!("0 0 {width} {HEIGHT}");
    let line = line(shown);
    let start = (LATENCIES - shown.len()) * STEP;
    let area = format!("{line}V{HEIGHT}H{start}z");
    html! {
        svg class="spark" viewBox=(view) preserveAspectRatio="none" role="img" aria-label=(words(shown)) {
            path class="area" d=(area) {}
            path class="line" d=(line) {}
        }
    }
}

/// What the picture shows, for those who do not see it.
pub(super) fn words(latencies: &[u32]) -> String {
    let mut sorted = latencies.to_vec();
    sorted.sort_unstable();
    match (sorted.first(), sorted.last()) {
        (Some(least), Some(most)) => format!(
            "Latency of the last {} looks: {} to {}, median {}",
            latencies.len(),
            delay(*least),
            delay(*most),
            delay(sorted[sorted.len() / 2]),
        ),
        _ => "No latency yet".to_owned(),
    }
}

fn delay(micros: u32) -> String {
    format::delay(Duration::from_micros(u64::from(micros)))
}

/// Whole units and steps from point to point keep the path at some five bytes a look.
fn line(latencies: &[u32]) -> String {
    // A fifth of air above the highest look.
    let top = latencies
        .iter()
        .max()
        .map_or(1, |most| u64::from(*most) * 5 / 4)
        .max(1);
    let level = |micros: u32| {
        let height = u64::from(micros) * u64::from(HEIGHT) / top;
        i64::from(HEIGHT) - i64::try_from(height).unwrap_or(i64::from(HEIGHT))
    };
    let mut path = String::new();
    let mut before = None;
    for (index, micros) in latencies.iter().enumerate() {
        let y = level(*micros);
        // Writing to a String cannot fail.
        let _ = match before {
            None => write!(
                path,
                "M{} {y}",
                (LATENCIES - latencies.len() + index) * STEP
            ),
            Some(last) => write!(path, "l{STEP} {}", y - last),
        };
        before = Some(y);
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_drawn_of_less_than_two_looks() {
        assert_eq!(picture(&[]).into_string(), "");
        assert_eq!(picture(&[7]).into_string(), "");
    }

    #[test]
    fn the_newest_look_stands_at_the_right_edge() {
        assert_eq!(line(&[100, 100, 50]), "M228 8l4 0l4 16");
        assert_eq!(line(&[0, 0]), "M232 40l4 0");
        assert_eq!(line(&[u32::MAX, 0]), "M232 8l4 32");
    }

    #[test]
    fn the_picture_has_words() {
        let drawn = picture(&[210, 250, 1_400])
            .into_string()
            .replace('\u{a0}', " ");
        assert!(
            drawn.contains("Latency of the last 3 looks: 0.21 ms to 1.40 ms, median 0.25 ms"),
            "{drawn}"
        );
        assert_eq!(words(&[]), "No latency yet");
    }

    #[test]
    fn a_full_row_stays_small() {
        let row: Vec<u32> = (0..200).map(|i| 100 + (i * 7919) % 5000).collect();
        assert!(picture(&row).into_string().len() < 1200);
    }
}
