//! How late looks start: the prober's own honesty. Must not know targets.

use std::time::Duration;

use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Measures how much later than planned looks start.
#[derive(Clone, Debug)]
pub struct ScheduleMeter {
    delay: Histogram,
}

impl Default for ScheduleMeter {
    fn default() -> Self {
        let bounds = [
            0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
        ];
        Self {
            delay: Histogram::new(bounds),
        }
    }
}

impl ScheduleMeter {
    /// A look started this much later than planned.
    pub fn late(&self, by: Duration) {
        self.delay.observe(by.as_secs_f64());
    }

    /// Exports it.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "comind_probe_schedule_delay_seconds",
            "How much later than planned looks start",
            self.delay.clone(),
        );
    }
}
