//! The series of our own tasks. Must not know the tasks.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use tokio::time::Instant;

use crate::vitals::Vitals;

/// Says how they are.
#[derive(Debug)]
pub struct VitalsCollector(pub Vitals);

impl Collector for VitalsCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let all = self.0.all(Instant::now());
        let help = "1 while the task gives its signs of life";
        let mut family =
            encoder.encode_descriptor("comind_task_up", help, None, MetricType::Gauge)?;
        for vital in &all {
            let labels = [("task", vital.task)];
            let well = i64::from(vital.problem.is_none());
            ConstGauge::new(well).encode(family.encode_family(&labels)?)?;
        }
        let help = "How often such a task ended badly and was started again";
        let mut family =
            encoder.encode_descriptor("comind_task_restarts", help, None, MetricType::Counter)?;
        for vital in &all {
            let labels = [("task", vital.task)];
            ConstCounter::new(vital.restarts).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
