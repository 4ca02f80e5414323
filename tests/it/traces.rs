//! Traces by OTLP: what is delivered, and that a collector of them which is out harms nobody.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use comind_peers::redis::Redis;
use comind_peers::wait::wait_for;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

use crate::receiver::{Posted, Receiver};
use crate::serve::{BRISK, LATER, Serve, config};

async fn start(receiver: &Receiver, redis: &Redis) -> Result<Serve> {
    let item = format!("name: cache, kind: redis, url: \"{}\"", redis.url());
    let endpoint = format!("http://{}", receiver.addr());
    let environment = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
        ("COMIND_LOG", "info"),
    ];
    Serve::start_in(&config(BRISK, &[item]), &environment).await
}

/// What was posted, read with the protocol's own definition.
fn decoded(posted: &Posted) -> Result<ExportTraceServiceRequest> {
    let kind = posted.headers.get("content-type");
    ensure!(
        kind.is_some_and(|kind| kind == "application/x-protobuf"),
        "{kind:?}"
    );
    Ok(ExportTraceServiceRequest::decode(posted.bytes.clone())?)
}

fn spans(told: &ExportTraceServiceRequest) -> impl Iterator<Item = &Span> {
    let scopes = told
        .resource_spans
        .iter()
        .flat_map(|told| &told.scope_spans);
    scopes.flat_map(|scope| &scope.spans)
}

fn attribute<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a str> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        any_value::Value::StringValue(text) => Some(text),
        _ => None,
    }
}

fn named<'a>(spans: &[&'a Span], name: &str, wanted: &[(&str, &str)]) -> Result<&'a Span> {
    let fits = |span: &&&Span| {
        let has = |(key, value): &(&str, &str)| attribute(&span.attributes, key) == Some(value);
        span.name == name && wanted.iter().all(has)
    };
    let found = spans.iter().find(fits);
    let names = || {
        let tell = |span: &&Span| {
            let reason = attribute(&span.attributes, "reason");
            (span.name.clone(), reason.map(str::to_owned))
        };
        spans.iter().map(tell).collect::<BTreeSet<_>>()
    };
    found
        .copied()
        .with_context(|| format!("no {name} with {wanted:?} in {:?}", names()))
}

#[tokio::test(flavor = "multi_thread")]
async fn looks_and_requests_are_spans() -> Result<()> {
    let receiver = Receiver::start().await?;
    let mut redis = Redis::builder().password("fathom").start().await?;
    let serve = start(&receiver, &redis).await?;
    serve.until_up("cache").await?;
    redis.kill()?;
    serve.until_is("cache", "down", "refused").await?;
    let waited = wait_for("the spans", LATER, async || {
        let posted = receiver.posted();
        let told = posted.iter().map(decoded).collect::<Result<Vec<_>>>()?;
        ensure!(
            !format!("{told:?}").contains("fathom"),
            "a password is in the spans"
        );
        let spans: Vec<_> = told.iter().flat_map(spans).collect();
        let look = named(
            &spans,
            "look",
            &[("target", "cache"), ("reason", "refused")],
        )?;
        ensure!(
            look.trace_id.len() == 16 && look.span_id.len() == 8,
            "{look:?}"
        );
        ensure!(
            look.end_time_unix_nano >= look.start_time_unix_nano,
            "{look:?}"
        );
        named(
            &spans,
            "deep look",
            &[("target", "cache"), ("reason", "ok")],
        )?;
        named(&spans, "/api/v1/state", &[])?;
        for resource in told.iter().flat_map(|told| &told.resource_spans) {
            let resource = resource.resource.as_ref().context("spans of nobody")?;
            let service = attribute(&resource.attributes, "service.name");
            ensure!(service == Some("comind-ops"), "{resource:?}");
        }
        Ok(())
    });
    waited.await.map_err(|error| serve.blame(error))?;
    // Spans are no part of the log.
    ensure!(!serve.log()?.contains("deep look"), "{}", serve.log()?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_of_traces_that_is_out_harms_nobody() -> Result<()> {
    let receiver = Receiver::start().await?;
    receiver.refuse(true);
    let redis = Redis::start().await?;
    let mut serve = start(&receiver, &redis).await?;
    serve.until_up("cache").await?;
    let waited = wait_for("a refused delivery", LATER, async || {
        ensure!(receiver.refused() > 0, "none so far");
        Ok(())
    });
    waited.await.map_err(|error| serve.blame(error))?;
    serve.until_looked("cache", 3).await?;
    receiver.refuse(false);
    receiver.until(1, LATER).await?;
    serve.stop()
}

/// A request through the proxy is a span with the ids that its upstream was told, below the span
/// of whoever asked.
#[tokio::test(flavor = "multi_thread")]
async fn requests_through_the_proxy_are_spans_of_their_traces() -> Result<()> {
    let receiver = Receiver::start().await?;
    let web = crate::web::Web::start(None).await?;
    let port = comind_peers::port::Port::free()?;
    let config = format!(
        "api: {{ listen: LISTEN }}\ndata_dir: DATA\nproxy:\n  listen: {}\n  routes:\n    - {{ host: \"*\", name: shop, upstream: \"http://{}\" }}\n",
        port.addr(),
        web.addr()
    );
    let endpoint = format!("http://{}", receiver.addr());
    let environment = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
    ];
    let serve = Serve::start_in(&config, &environment).await?;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    // The second trace is not wanted by whoever began it.
    let mut wanted = 0;
    for flags in ["01", "00", "01"] {
        let request = http::Request::get("/a?token=fathom")
            .header("host", "a")
            .header(
                "traceparent",
                format!("00-{trace}-00f067aa0ba902b7-{flags}"),
            );
        comind_peers::http::send(port.addr(), request.body(Default::default())?).await?;
        if flags == "00" {
            continue;
        }
        wanted += 1;
        let told = web.asked()["traceparent"].to_str()?.to_owned();
        let waited = wait_for("the span", LATER, async || {
            let posted = receiver.posted();
            let told_of = posted.iter().map(decoded).collect::<Result<Vec<_>>>()?;
            ensure!(
                !format!("{told_of:?}").contains("fathom"),
                "a query is in the spans"
            );
            let spans = told_of
                .iter()
                .flat_map(spans)
                .filter(|span| span.name == "GET shop");
            let spans: Vec<_> = spans.collect();
            ensure!(spans.len() == wanted, "{} spans", spans.len());
            let hex = |bytes: &[u8]| {
                bytes
                    .iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect::<String>()
            };
            let is_it = |span: &&&Span| told == format!("00-{trace}-{}-01", hex(&span.span_id));
            let span = spans
                .iter()
                .find(is_it)
                .with_context(|| format!("no {told} in {spans:?}"))?;
            ensure!(hex(&span.trace_id) == trace, "{span:?}");
            ensure!(hex(&span.parent_span_id) == "00f067aa0ba902b7", "{span:?}");
            ensure!(
                attribute(&span.attributes, "url.path") == Some("/a"),
                "{span:?}"
            );
            Ok(())
        });
        waited.await.map_err(|error| serve.blame(error))?;
    }
    Ok(())
}
