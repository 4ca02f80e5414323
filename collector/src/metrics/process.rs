//! The process's own figures under the names that every Prometheus client uses.
//! Source of the names: prometheus.io, "Writing client libraries", process metrics.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Reads `/proc/self` at each scrape.
#[derive(Debug)]
pub struct ProcessCollector {
    start_seconds: f64,
}

impl ProcessCollector {
    /// Remembers when the process started.
    pub fn new() -> Self {
        Self {
            start_seconds: start_seconds().unwrap_or(0.0),
        }
    }
}

impl Default for ProcessCollector {
    fn default() -> Self {
        Self::new()
    }
}

fn start_seconds() -> Option<f64> {
    let stat = procfs::process::Process::myself().ok()?.stat().ok()?;
    let boot = procfs::boot_time_secs().ok()?;
    Some(boot as f64 + stat.starttime as f64 / procfs::ticks_per_second() as f64)
}

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        // A /proc that cannot be read costs these figures, not the scrape.
        let Ok(me) = procfs::process::Process::myself() else {
            return Ok(());
        };
        let mut gauge = |name: &str, help: &str, value: f64| {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
        };
        if let Ok(stat) = me.stat() {
            gauge(
                "process_resident_memory_bytes",
                "Resident memory",
                stat.rss as f64 * procfs::page_size() as f64,
            )?;
            gauge(
                "process_virtual_memory_bytes",
                "Virtual memory",
                stat.vsize as f64,
            )?;
            gauge("process_threads", "Threads", stat.num_threads as f64)?;
        }
        if let Ok(open) = me.fd_count() {
            gauge("process_open_fds", "Open file descriptors", open as f64)?;
        }
        if let Ok(limits) = me.limits()
            && let procfs::process::LimitValue::Value(most) = limits.max_open_files.soft_limit
        {
            gauge(
                "process_max_fds",
                "Most file descriptors that may be open",
                most as f64,
            )?;
        }
        gauge(
            "process_start_time_seconds",
            "When the process started",
            self.start_seconds,
        )?;
        if let Ok(stat) = me.stat() {
            let ticks = (stat.utime + stat.stime) as f64;
            let seconds = ConstCounter::new(ticks / procfs::ticks_per_second() as f64);
            let name = "process_cpu_seconds";
            seconds.encode(encoder.encode_descriptor(
                name,
                "CPU time used",
                None,
                seconds.metric_type(),
            )?)?;
        }
        Ok(())
    }
}
