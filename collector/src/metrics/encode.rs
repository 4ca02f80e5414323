//! Which of the three text and binary forms a scraper gets, and the making of it.
//! Must not know what is exported.
//!
//! Sources: OpenMetrics 1.0 (`application/openmetrics-text`), Prometheus exposition formats
//! (`text/plain; version=0.0.4` and delimited protobuf, which alone carries native histograms).

use prometheus_client::encoding::{prometheus_protobuf, text};
use prometheus_client::registry::Registry;

/// A form of the exposition.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Format {
    /// Prometheus text 0.0.4: what one gets who asks for nothing.
    Text,
    /// OpenMetrics text 1.0.0.
    OpenMetrics,
    /// Delimited protobuf, with native histograms.
    Protobuf,
}

impl Format {
    /// The header `Content-Type`.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }

    /// The form that the header `Accept` likes best; text where it names none of them.
    pub fn negotiate(accept: &str) -> Self {
        let mut best = (Self::Text, 0.0);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let Some(format) = Self::of(parts.next().unwrap_or_default(), range) else {
                continue;
            };
            let quality = parts
                .find_map(|parameter| parameter.strip_prefix("q="))
                .map_or(1.0, |q| q.parse::<f64>().unwrap_or(0.0));
            if quality > best.1 {
                best = (format, quality);
            }
        }
        best.0
    }

    fn of(media: &str, range: &str) -> Option<Self> {
        match media {
            "application/vnd.google.protobuf"
                if range.contains("io.prometheus.client.MetricFamily")
                    && range.contains("delimited") =>
            {
                Some(Self::Protobuf)
            }
            "application/openmetrics-text" => Some(Self::OpenMetrics),
            "text/plain" | "text/*" | "*/*" => Some(Self::Text),
            _ => None,
        }
    }

    /// Everything in `registry`, in this form.
    ///
    /// # Errors
    /// When a metric cannot be put into this form: a defect of that metric.
    pub fn encode(self, registry: &Registry) -> Result<Vec<u8>, String> {
        let failed =
            |error: &dyn std::fmt::Display| format!("failed to encode the metrics: {error}");
        match self {
            Self::Protobuf => {
                prometheus_protobuf::encode_to_vec(registry).map_err(|error| failed(&error))
            }
            Self::OpenMetrics => {
                let mut out = String::with_capacity(1 << 16);
                text::encode(&mut out, registry).map_err(|error| failed(&error))?;
                Ok(out.into_bytes())
            }
            Self::Text => {
                let mut out = ClassicText::default();
                text::encode_registry(&mut out, registry).map_err(|error| failed(&error))?;
                Ok(out.done.into_bytes())
            }
        }
    }
}

/// Turns OpenMetrics comment lines into those of text 0.0.4, where a counter's family carries
/// `_total` in its name and there are no units. Sample lines pass through as they come.
#[derive(Default)]
struct ClassicText {
    done: String,
    comment: String,
    help: Option<String>,
    in_comment: bool,
    line_open: bool,
}

impl std::fmt::Write for ClassicText {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        // The encoder writes tokens, so that a comment line always starts with a token of its own.
        if !self.line_open && text.starts_with('#') {
            self.in_comment = true;
        }
        if !self.in_comment {
            self.done.push_str(text);
        } else {
            self.comment.push_str(text);
        }
        self.line_open = !text.ends_with('\n');
        if self.in_comment && !self.line_open {
            self.in_comment = false;
            let line = std::mem::take(&mut self.comment);
            self.comment_line(&line);
        }
        Ok(())
    }
}

impl ClassicText {
    fn comment_line(&mut self, line: &str) {
        if let Some(help) = line.strip_prefix("# HELP ") {
            self.help = Some(help.to_owned());
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let counter = kind.trim_end().ends_with(" counter");
            let suffix = if counter { "_total" } else { "" };
            for (word, rest) in [("HELP", self.help.take()), ("TYPE", Some(kind.to_owned()))] {
                if let Some((name, tail)) = rest.as_deref().and_then(|rest| rest.split_once(' ')) {
                    self.done
                        .push_str(&format!("# {word} {name}{suffix} {tail}"));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::gauge::Gauge;

    #[test]
    fn a_scraper_gets_what_it_likes_best() {
        let prometheus = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,\
             application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        assert_eq!(Format::negotiate(prometheus), Format::Protobuf);
        assert_eq!(
            Format::negotiate("application/openmetrics-text"),
            Format::OpenMetrics
        );
        assert_eq!(Format::negotiate("text/html,*/*;q=0.8"), Format::Text);
        assert_eq!(Format::negotiate(""), Format::Text);
        assert_eq!(
            Format::negotiate("application/openmetrics-text;q=0"),
            Format::Text
        );
        assert_eq!(
            Format::negotiate("application/openmetrics-text;q=no, ;;,"),
            Format::Text
        );
    }

    #[test]
    fn text_names_counters_as_prometheus_does() {
        let mut registry = Registry::default();
        let looks: Counter = Counter::default();
        registry.register("looks", "Looks made", looks);
        registry.register("open", "Open things", Gauge::<i64>::default());
        let text = String::from_utf8(Format::Text.encode(&registry).unwrap()).unwrap();
        let wanted = "# HELP looks_total Looks made.\n# TYPE looks_total counter\nlooks_total 0\n\
                      # HELP open Open things.\n# TYPE open gauge\nopen 0\n";
        assert_eq!(text, wanted);
    }
}
