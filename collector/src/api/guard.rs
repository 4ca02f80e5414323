//! What every request passes before its route: the gate; and what every answer gets after it: a
//! count and headers. Must not know how the gate decides.

use std::net::{IpAddr, Ipv4Addr};

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body::Body as _;
use tracing::Instrument as _;

use crate::access::gate::{Gate, Refusal};
use crate::access::right::{Asker, Right};
use crate::api::Api;
use crate::api::problem::Problem;
use crate::traces;

/// Who asks; the server puts it on each request.
#[derive(Clone, Copy, Debug)]
pub struct Client(pub IpAddr);

/// The largest body that a request may bear, in bytes.
pub const BODY_LIMIT: usize = 64 << 10;

/// The middleware.
pub async fn guard(State(api): State<Api>, request: Request, next: Next) -> Response {
    let gate = api.gate.borrow().clone();
    let path = request.extensions().get::<MatchedPath>().cloned();
    let path = path.as_ref().map_or("other", MatchedPath::as_str);
    let client = request.extensions().get::<Client>().copied();
    let Client(client) = client.unwrap_or(Client(Ipv4Addr::UNSPECIFIED.into()));
    let admitted = gate.admit(client, path, request.headers()).await;
    let mut response = match admitted {
        Err(refusal) => {
            api.access.refused(refusal.as_str());
            refuse(refusal, &gate)
        }
        Ok(_) if request.body().size_hint().lower() > BODY_LIMIT as u64 => {
            let error = "the request's body is too large";
            let advice = "send 64 KiB or less";
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, error, advice).into_response()
        }
        Ok(entered) => {
            let (head, body) = request.into_parts();
            let asker = Asker::of(entered, gate.keeps_out(), client, &head);
            let mut request = Request::from_parts(head, body);
            request.extensions_mut().insert(asker);
            let span = tracing::trace_span!(
                target: traces::TARGET,
                "request",
                otel.kind = "server",
                otel.name = path,
                http.request.method = request.method().as_str(),
            );
            next.run(request).instrument(span).await
        }
    };
    for (name, value) in gate.headers() {
        response.headers_mut().insert(name, value);
    }
    api.access.answered(path, response.status().as_u16());
    response
}

/// Strangers must not be able to silence alerts or to end sessions, nor a page of another site by the
/// browser of somebody who may.
pub fn may_not_change(asker: &Asker) -> Option<Response> {
    let (error, advice) = match asker {
        Asker { misled: true, .. } => (
            "a page of another site has asked for this",
            "ask from a page of this host, or without a browser",
        ),
        Asker {
            right: Right::Change,
            ..
        } => return None,
        Asker {
            right: Right::Look, ..
        } => (
            "this login may look and change nothing",
            "use another one, or take its name out of `api.read_only`",
        ),
        Asker {
            right: Right::Glance,
            ..
        } => (
            "without a login this is for clients on this machine only",
            "set `api.users` or `api.tokens`, or ask from the machine itself",
        ),
    };
    Some(Problem::new(StatusCode::FORBIDDEN, error, advice).into_response())
}

fn refuse(refusal: Refusal, gate: &Gate) -> Response {
    let (status, error, advice) = match refusal {
        Refusal::Missing => (
            StatusCode::UNAUTHORIZED,
            "this is not told without login",
            "send `Authorization: Basic` or `Bearer` with what `api.users` or `api.tokens` names",
        ),
        Refusal::Malformed => (
            StatusCode::UNAUTHORIZED,
            "the `Authorization` of the request cannot be read",
            "send one, of the form `Basic BASE64(NAME:PASSWORD)` or `Bearer TOKEN`",
        ),
        Refusal::Wrong => (
            StatusCode::UNAUTHORIZED,
            "the name, the password or the token is wrong",
            "check it against `api.users` and `api.tokens` of the config",
        ),
        Refusal::TooOften(_) => (
            StatusCode::TOO_MANY_REQUESTS,
            "this client asks too often",
            "ask less often, or raise `api.rate_limit`",
        ),
        Refusal::WrongTooOften(_) => (
            StatusCode::TOO_MANY_REQUESTS,
            "this client was wrong too often",
            "check its password or token, and ask again after `Retry-After`",
        ),
        Refusal::Busy => (
            StatusCode::SERVICE_UNAVAILABLE,
            "too many passwords are being checked",
            "ask again after `Retry-After`",
        ),
    };
    let mut response = Problem::new(status, error, advice).into_response();
    let headers = response.headers_mut();
    if status == StatusCode::UNAUTHORIZED {
        for challenge in gate.challenges() {
            headers.append(header::WWW_AUTHENTICATE, challenge);
        }
    }
    let wait = match refusal {
        Refusal::TooOften(wait) | Refusal::WrongTooOften(wait) => Some(wait.as_secs() + 1),
        Refusal::Busy => Some(1),
        _ => None,
    };
    if let Some(wait) = wait {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(wait));
    }
    response
}
