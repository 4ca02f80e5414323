//! What a scrape of 1,000 targets takes, in each form of the exposition, and how large it is.
//! Timed by the one who asks, a new connection each time, as Prometheus sees it.

use std::time::Instant;

use anyhow::{Result, ensure};
use comind_peers::http;
use hyper::Request;

use crate::backend::Backend;
use crate::figures::{self, Samples, cell, say};
use crate::subject::Subject;

const TARGETS: usize = 1000;
const SCRAPES: usize = 50;

/// Name and `Accept` of each form.
const FORMS: [(&str, &str); 3] = [
    ("text", "text/plain;version=0.0.4"),
    ("OpenMetrics", "application/openmetrics-text;version=1.0.0"),
    (
        "protobuf",
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
    ),
];

/// Runs it and prints.
pub(crate) async fn run() -> Result<()> {
    say(&format!(
        "{TARGETS} targets, {SCRAPES} scrapes in each form"
    ));
    let backend = Backend::start().await?;
    let targets: Vec<_> = (0..TARGETS)
        .map(|n| {
            let url = format!("http://{}/t/{n}", backend.address);
            format!("{{ name: t{n}, kind: http, url: \"{url}\", interval: 5s, timeout: 1s }}")
        })
        .collect();
    let subject = Subject::start(&targets).await?;
    let mut rows = Vec::new();
    for (form, accept) in FORMS {
        let mut times = Samples::default();
        let mut size = 0;
        for _ in 0..SCRAPES {
            let request = Request::get("/metrics").header("accept", accept);
            let asked = Instant::now();
            let answer = http::send(subject.address(), request.body(Default::default())?).await?;
            times.push_ms(asked.elapsed());
            ensure!(answer.status().is_success(), "answered {}", answer.status());
            size = answer.body().len();
        }
        rows.push(vec![
            form.to_owned(),
            cell(times.p50()),
            cell(times.p99()),
            cell(times.max()),
            format!("{:.0}", size as f64 / 1024.0),
        ]);
    }
    figures::print(
        "Scrape of 1,000 targets, in ms",
        &["form", "p50", "p99", "max", "KiB"],
        &rows,
    );
    Ok(())
}
