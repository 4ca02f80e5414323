//! Logging of the long-running commands, to standard error as text or JSON; and traces, where the
//! environment asks for them.

use std::io::IsTerminal as _;

use clap::ValueEnum;
use comind_collector::traces;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, Registry};

/// The form of a log line.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Sets logging up; `COMIND_LOG` says what is logged, such as `debug` or `comind_collector=trace`.
/// Spans go to `provider`, if there is one.
pub(crate) fn init(format: Format, provider: Option<&SdkTracerProvider>) {
    let filter = EnvFilter::try_from_env("COMIND_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(colour);
    let lines = match format {
        Format::Text => lines.with_filter(filter).boxed(),
        Format::Json => lines.json().flatten_event(true).with_filter(filter).boxed(),
    };
    let spans = provider.map(|provider| {
        let only = Targets::new().with_target(traces::TARGET, tracing::Level::TRACE);
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("comind-ops"))
            // Its `target` is the library's word for where a span is written, ours is whom it
            // asks: a reader takes the first and would never see ours.
            .with_target(false)
            .with_location(false)
            .with_threads(false)
            .with_filter(only)
    });
    Registry::default().with(lines).with(spans).init();
}
