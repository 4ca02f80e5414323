//! The series of the past: uptime, budgets, and how the file fares. Read from the report, which is
//! worked out elsewhere: a scrape asks the file nothing.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::history::keeper::History;
use crate::history::report::Record;

/// Encodes the newest report.
#[derive(Debug)]
pub struct HistoryCollector(pub History);

type Encoded = Result<(), std::fmt::Error>;

impl Collector for HistoryCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Encoded {
        let report = self.0.report.borrow().clone();
        let records: Vec<_> = report
            .records
            .iter()
            .map(|(name, record)| (&**name, record))
            .collect();
        let help = "Share of the known time in which the target worked, without maintenance";
        windows(
            &mut encoder,
            "comind_target_uptime_ratio",
            help,
            &records,
            |record| record.uptime.to_vec(),
        )?;
        let help =
            "How many times faster than allowed the error budget is used; 1 uses it up at its end";
        windows(
            &mut encoder,
            "comind_slo_burn_rate",
            help,
            &records,
            |record| record.burn.map(|burn| burn.to_vec()).unwrap_or_default(),
        )?;
        let help = "What is left of the error budget of 30 days, 1 to 0 and below";
        let name = "comind_slo_error_budget_remaining_ratio";
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (target, record) in &records {
            if let Some(left) = record.budget_left {
                ConstGauge::new(left).encode(family.encode_family(&[("target", *target)])?)?;
            }
        }
        drop(family);
        let kept = report.trouble.is_none() && self.0.file.is_some();
        for (name, help, value) in [
            (
                "comind_history_kept",
                "1 while the history is written",
                f64::from(u8::from(kept)),
            ),
            (
                "comind_history_size_bytes",
                "What the history's file holds",
                report.size as f64,
            ),
        ] {
            let family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(family)?;
        }
        for (name, help, value) in [
            (
                "comind_history_lost",
                "Transitions that could not be kept",
                report.lost,
            ),
            (
                "comind_history_set_aside",
                "Damaged files that made way for a new one",
                report.set_aside,
            ),
        ] {
            let family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(value).encode(family)?;
        }
        Ok(())
    }
}

fn windows(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    records: &[(&str, &Record)],
    of: impl Fn(&Record) -> Vec<(&'static str, Option<f64>)>,
) -> Encoded {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (target, record) in records {
        for (window, value) in of(record) {
            if let Some(value) = value {
                let labels = [("target", *target), ("window", window)];
                ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
            }
        }
    }
    Ok(())
}
