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
