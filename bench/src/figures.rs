//! Samples to figures. Must not know what was measured.

use std::time::Duration;

/// Measured values of one thing.
#[derive(Debug, Default, Clone)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    /// One more, in any unit.
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// One more, in milliseconds.
    pub(crate) fn push_ms(&mut self, value: Duration) {
        self.push(value.as_secs_f64() * 1e3);
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The value that this share of the samples (0 to 1) does not exceed; nearest rank.
    pub(crate) fn quantile(&self, share: f64) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (share * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.saturating_sub(1)).copied()
    }

    /// The middle one.
    pub(crate) fn p50(&self) -> Option<f64> {
        self.quantile(0.5)
    }

    /// What 99 of 100 do not exceed.
    pub(crate) fn p99(&self) -> Option<f64> {
        self.quantile(0.99)
    }

    /// The largest.
    pub(crate) fn max(&self) -> Option<f64> {
        self.quantile(1.0)
    }
}

/// A figure for a table cell, or a dash where there is none.
pub(crate) fn cell(figure: Option<f64>) -> String {
    match figure {
        None => "–".to_owned(),
        Some(value) if value.abs() >= 100.0 => format!("{value:.0}"),
        Some(value) if value.abs() >= 1.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.3}"),
    }
}

/// `theirs / ours` for a table cell.
pub(crate) fn ratio(theirs: Option<f64>, ours: Option<f64>) -> String {
    match (theirs, ours) {
        (Some(theirs), Some(ours)) if ours > 0.0 => format!("{:.1} ×", theirs / ours),
        _ => "–".to_owned(),
    }
}

/// A table that prints alike on a terminal and in a file.
#[expect(
    clippy::print_stdout,
    reason = "printing figures is what a bench is for"
)]
pub(crate) fn print(title: &str, header: &[&str], rows: &[Vec<String>]) {
    let mut table = comfy_table::Table::new();
    table
        .load_preset(comfy_table::presets::UTF8_FULL_CONDENSED)
        .set_header(header);
    for row in rows {
        table.add_row(row);
    }
    println!("\n{title}\n{table}");
}

/// A line of progress or of explanation.
#[expect(
    clippy::print_stdout,
    reason = "printing figures is what a bench is for"
)]
pub(crate) fn say(line: &str) {
    println!("{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_samples() {
        let mut samples = Samples::default();
        (1..=30)
            .rev()
            .for_each(|value| samples.push(f64::from(value)));
        assert_eq!(samples.p50(), Some(15.0));
        assert_eq!(samples.p99(), Some(30.0));
        assert_eq!(Samples::default().max(), None);
    }
}
