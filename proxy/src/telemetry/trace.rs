//! Requests as spans, where the program has a provider of traces. The ids were given to the
//! upstream with the request, before anybody knew how it would end; so the span that tells of it
//! must bear them, and not ones that the SDK draws. Must not know where spans go.
//! Source of the attributes: opentelemetry.io/docs/specs/semconv/http/http-spans.

use std::cell::Cell;
use std::time::SystemTime;

use opentelemetry::global::BoxedTracer;
use opentelemetry::trace::{
    Span as _, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags, TraceId,
    TraceState, Tracer as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator};

use super::log::Line;

thread_local! {
    /// What the next span of this thread is called.
    static NEXT: Cell<Option<(TraceId, SpanId)>> = const { Cell::new(None) };
}

/// Gives spans of the proxy their ids, and all others random ones.
#[derive(Debug, Default)]
pub struct Ids(RandomIdGenerator);

impl IdGenerator for Ids {
    fn new_trace_id(&self) -> TraceId {
        NEXT.get()
            .map_or_else(|| self.0.new_trace_id(), |(trace, _)| trace)
    }

    fn new_span_id(&self) -> SpanId {
        NEXT.get()
            .map_or_else(|| self.0.new_span_id(), |(_, span)| span)
    }
}

/// What a `traceparent` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Parent {
    trace: TraceId,
    span: SpanId,
    sampled: bool,
}

fn parse(value: Option<&http::HeaderValue>) -> Option<Parent> {
    let text = value?.to_str().ok()?;
    let mut parts = text.split('-').skip(1);
    Some(Parent {
        trace: TraceId::from_hex(parts.next()?)
            .ok()
            .filter(|id| *id != TraceId::INVALID)?,
        span: SpanId::from_hex(parts.next()?)
            .ok()
            .filter(|id| *id != SpanId::INVALID)?,
        sampled: u8::from_str_radix(parts.next()?, 16).ok()? & 1 == 1,
    })
}

/// Tells of a request that has just ended, unless whoever began its trace does not want it.
pub fn tell(tracer: &BoxedTracer, line: &Line) {
    let Some(own) = parse(line.trace.as_ref()).filter(|own| own.sampled) else {
        return;
    };
    let parent = parse(line.asked.parent.as_ref()).filter(|parent| parent.trace == own.trace);
    let context = match parent {
        Some(parent) => {
            let of = SpanContext::new(
                parent.trace,
                parent.span,
                TraceFlags::SAMPLED,
                true,
                TraceState::default(),
            );
            Context::new().with_remote_span_context(of)
        }
        None => Context::new(),
    };
    let end = SystemTime::now();
    let name = format!("{} {}", line.asked.method, line.route);
    let builder = tracer
        .span_builder(name)
        .with_kind(SpanKind::Server)
        .with_start_time(end - line.took)
        .with_attributes(attributes(line));
    NEXT.set(Some((own.trace, own.span)));
    let mut span = tracer.build_with_context(builder, &context);
    NEXT.set(None);
    if line.status >= 500 {
        span.set_status(Status::error(line.fault.unwrap_or("error")));
    }
    span.end_with_timestamp(end);
}

fn attributes(line: &Line) -> Vec<KeyValue> {
    let mut all = vec![
        KeyValue::new("http.request.method", line.asked.method.to_string()),
        KeyValue::new("url.path", line.asked.uri.path().to_owned()),
        KeyValue::new("http.route", line.route.to_string()),
        KeyValue::new("http.response.status_code", i64::from(line.status)),
        KeyValue::new("client.address", line.client.to_string()),
        KeyValue::new(
            "http.request.body.size",
            i64::try_from(line.received).unwrap_or(i64::MAX),
        ),
        KeyValue::new(
            "http.response.body.size",
            i64::try_from(line.sent).unwrap_or(i64::MAX),
        ),
    ];
    if let Some(endpoint) = &line.endpoint {
        all.push(KeyValue::new(
            "comind.upstream",
            format!("{}:{}", endpoint.host, endpoint.port),
        ));
    }
    if let Some(fault) = line.fault {
        all.push(KeyValue::new("error.type", fault));
    }
    all
}
