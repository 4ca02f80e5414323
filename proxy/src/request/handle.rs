//! What becomes of one request: refused, redirected, answered here, or passed on.

use std::convert::Infallible;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use comind_model::login::Demand;
use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, HeaderValue, LOCATION, SET_COOKIE,
    STRICT_TRANSPORT_SECURITY, USER_AGENT,
};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Bytes, Incoming};

use super::body::{ReplyBody, RequestBody};
use super::class::Class;
use super::flight::{Asked, Flight, Told};
use super::forward::{Call, forward};
use super::identity::{self, TRACEPARENT, Trace};
use super::problem::{Problem, Who};
use super::strict::{self, Refusal, split_port};
use super::{hop, rewrite};
use crate::login::door::{self, Guest, Turned};
use crate::login::gate::Gate;
use crate::login::{cookie, kubernetes, local, pages, told};
use crate::route::compile::{Compiled, Doing, Plan};
use crate::route::door::Found;
use crate::route::table::merged;
use crate::serve::connection::Conn;
use crate::serve::worker::{Current, Worker};

/// A form of our own pages is no longer, in bytes.
const FORM: usize = 16 * 1024;

/// An answer.
pub type Reply = Response<ReplyBody>;

/// Handles a request. Always answers: what fails becomes an answer that says so.
pub async fn handle(
    worker: Rc<Worker>,
    conn: Rc<Conn>,
    request: Request<Incoming>,
) -> Result<Reply, Infallible> {
    let began = Instant::now();
    let suspicions = conn.control.pulse.request_begins();
    let current = worker.current();
    let (mut head, body) = request.into_parts();
    let client = conn.identity.client(&head.headers, &current.terms.trusted);
    let flight = Box::new(Flight {
        worker: worker.clone(),
        pulse: conn.control.pulse.clone(),
        client,
        session: None,
        meter: worker.shared.stray.clone(),
        began,
        status: 499,
        sent: 0,
        whole: false,
        fault: None,
        endpoint: None,
        told: Told::default(),
        trace: None,
        asked: (current.terms.log.is_some() || worker.shared.tracer.is_some())
            .then(|| asked(&head)),
    });
    flight.meter.begins();
    let going = Going {
        worker: &worker,
        conn: &conn,
        current: &current,
        flight,
    };
    Ok(going.answer(&mut head, body, suspicions).await)
}

fn asked(head: &Parts) -> Asked {
    Asked {
        method: head.method.clone(),
        uri: head.uri.clone(),
        version: head.version,
        host: head.headers.get(HOST).cloned().or_else(|| authority(head)),
        agent: head.headers.get(USER_AGENT).cloned(),
        parent: head.headers.get(TRACEPARENT).cloned(),
    }
}

fn authority(head: &Parts) -> Option<HeaderValue> {
    let authority = head.uri.authority()?;
    HeaderValue::from_str(authority.as_str()).ok()
}

/// A request under way.
struct Going<'a> {
    worker: &'a Rc<Worker>,
    conn: &'a Rc<Conn>,
    current: &'a Current,
    flight: Box<Flight>,
}

impl Going<'_> {
    async fn answer(mut self, head: &mut Parts, body: Incoming, suspicions: (bool, bool)) -> Reply {
        if let Err(refusal) = admit(head, suspicions) {
            return self.refuse(head, refusal);
        }
        let host = match head.headers.get(HOST) {
            Some(host) => host.to_str().unwrap_or_default(),
            None => head
                .uri
                .authority()
                .map_or("", |authority| authority.as_str()),
        };
        let path = merged(head.uri.path());
        if let Some(gate) = &self.current.terms.gate
            && let Some(page) = path.strip_prefix(local::PATHS)
        {
            return Box::pin(self.own_page(gate, page, host, head, body)).await;
        }
        let table = &self.current.table;
        let route = match table.find(host, &path, &head.headers) {
            Some(route) => Some(route),
            None => match table.doors.find(self.conn.way(), host, &path, head) {
                Found::Route(route) => Some(route),
                Found::Nothing => None,
                Found::Misdirected => {
                    let text = format!("this connection was begun for another host than {host}");
                    let status = StatusCode::MISDIRECTED_REQUEST;
                    return self.fail(head, status, Who::Client, "misdirected", text);
                }
            },
        };
        let Some(route) = route else {
            let text = format!("no route is for {host}{path}");
            return self.fail(head, StatusCode::NOT_FOUND, Who::Proxy, "no_route", text);
        };
        self.flight.count_at(&route.meter);
        if let Some(problem) = self.forbid(route, head) {
            return self.problem(head, &problem);
        }
        if route.https_only && !self.conn.identity.secure {
            let to = self.https(host, head);
            return self.redirect(head, StatusCode::PERMANENT_REDIRECT, &to);
        }
        let guest = match &route.demand {
            None => None,
            Some(demand) => match Box::pin(self.admit(demand, &route.meter.name, host, head)).await
            {
                Ok(guest) => Some(guest),
                Err(turned) => return self.turn_away(head, &turned),
            },
        };
        self.flight.session = guest.as_ref().map(|guest| guest.session.clone());
        let secure = self.conn.identity.secure;
        let draw = |below| self.worker.random() as u64 % below;
        let guarded = self.current.terms.gate.is_some();
        let mut reply = match route.doing.drawn(draw) {
            Doing::Forward(plan) => self.pass_on(route, plan, head, body, guest).await,
            Doing::Redirect { to, status } => {
                let asked = head.uri.path_and_query().map_or("/", |path| path.as_str());
                let to = to.replace("$path", asked);
                self.redirect(head, *status, &to)
            }
            Doing::Respond { status, body } => self.say(head, *status, body),
            Doing::Move(elsewhere) => {
                let status = StatusCode::from_u16(elsewhere.status).unwrap_or(StatusCode::FOUND);
                match rewrite::elsewhere(elsewhere, secure, host, &head.uri, &route.path) {
                    Some(to) => self.redirect(head, status, &to),
                    None => self.none_drawn(head, route),
                }
            }
            // All weights are 0.
            Doing::Split(..) => self.none_drawn(head, route),
        };
        if guarded {
            cookie::forbid(reply.headers_mut());
        }
        if let Some(hsts) = &route.hsts
            && secure
        {
            reply
                .headers_mut()
                .insert(STRICT_TRANSPORT_SECURITY, hsts.clone());
        }
        reply
    }

    fn none_drawn(self, head: &Parts, route: &Compiled) -> Reply {
        let text = format!("{}: nothing serves this", route.meter.name);
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        self.fail(head, status, Who::Proxy, "no_backend", text)
    }

    /// One of our own pages, below `/.comind/`.
    async fn own_page(
        self,
        gate: &Arc<Gate>,
        page: &str,
        host: &str,
        head: &Parts,
        body: Incoming,
    ) -> Reply {
        if let Some(problem) = self.too_often() {
            return self.problem(head, &problem);
        }
        // A login counts for the route that it leads to.
        let wanted = pages::wanted(head.uri.query().unwrap_or_default());
        let path = wanted.split('?').next().unwrap_or("/");
        let route = self.current.table.find(host, path, &head.headers);
        if route.is_some_and(|route| route.https_only) && !self.conn.identity.secure {
            let to = self.https(host, head);
            return self.redirect(head, StatusCode::PERMANENT_REDIRECT, &to);
        }
        let name = route.map_or(&self.worker.shared.stray.name, |route| &route.meter.name);
        let Some(form) = self.form(head, body).await else {
            let text = "a form of ours is short, and sent at once".to_owned();
            return self.fail(head, StatusCode::BAD_REQUEST, Who::Client, "no_form", text);
        };
        let turned = pages::answer(gate, page, &form, &self.asked(name, host, head)).await;
        self.turn_away(head, &turned)
    }

    /// What a form of our own pages brings; empty where none can.
    async fn form(&self, head: &Parts, body: Incoming) -> Option<Bytes> {
        if head.method != Method::POST || !kubernetes::is_form(&head.headers) {
            return Some(Bytes::new());
        }
        let whole = Limited::new(body, FORM).collect();
        let whole = tokio::time::timeout(self.current.terms.patience.body, whole).await;
        Some(whole.ok()?.ok()?.to_bytes())
    }

    async fn admit(
        &self,
        demand: &Demand,
        route: &Arc<str>,
        host: &str,
        head: &Parts,
    ) -> Result<Guest, Turned> {
        match &self.current.terms.gate {
            Some(gate) => door::admit(gate, demand, &self.asked(route, host, head)).await,
            None => Err(Turned::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "no_login",
                "the route asks for a login, and there is none",
            )),
        }
    }

    fn asked<'a>(&'a self, route: &'a Arc<str>, host: &'a str, head: &'a Parts) -> door::Asked<'a> {
        let identity = &self.conn.identity;
        door::Asked {
            headers: &head.headers,
            method: &head.method,
            target: head.uri.path_and_query().map_or("/", |path| path.as_str()),
            host,
            secure: identity.is_secure(&head.headers),
            client: self.flight.client,
            route,
            certificate: self.conn.shown.get(),
        }
    }

    /// Answers in place of what was asked for.
    fn turn_away(self, head: &Parts, turned: &Turned) -> Reply {
        let status = turned.status;
        // A page of ours says by itself what is wrong.
        let page = turned.headers.iter().any(|(name, _)| *name == CONTENT_TYPE);
        let mut reply = match !page && (status.is_client_error() || status.is_server_error()) {
            true => {
                let who = match status.is_client_error() {
                    true => Who::Client,
                    false => Who::Proxy,
                };
                self.fail(head, status, who, turned.what, turned.text.clone())
            }
            false => self.say(head, status, &turned.text),
        };
        for (name, value) in &turned.headers {
            match *name == SET_COOKIE {
                true => drop(reply.headers_mut().append(name, value.clone())),
                false => drop(reply.headers_mut().insert(name, value.clone())),
            }
        }
        reply
    }

    fn too_often(&self) -> Option<Problem> {
        let client = self.flight.client;
        let rate = self.current.terms.rate.as_ref()?;
        if rate.allows(client) {
            return None;
        }
        let text = format!("{client} asks too often");
        let status = StatusCode::TOO_MANY_REQUESTS;
        Some(Problem {
            retry_after: Some(1),
            ..problem(status, Who::Client, "too_many_requests", text)
        })
    }

    /// What the client may not.
    fn forbid(&self, route: &Compiled, head: &Parts) -> Option<Problem> {
        let client: IpAddr = self.flight.client;
        if !route.allow.is_empty() && !route.allow.iter().any(|range| range.holds(client)) {
            let text = format!("{client} is not among those that may ask here");
            return Some(problem(
                StatusCode::FORBIDDEN,
                Who::Client,
                "not_allowed",
                text,
            ));
        }
        if let Some(problem) = self.too_often() {
            return Some(problem);
        }
        let limit = self.body_limit(route)?;
        let length = head
            .headers
            .get(CONTENT_LENGTH)?
            .to_str()
            .ok()?
            .parse::<u64>()
            .ok()?;
        (length > limit).then(|| too_large(limit))
    }

    fn body_limit(&self, route: &Compiled) -> Option<u64> {
        route.body_limit.or(self.current.terms.limits.body_bytes)
    }

    fn https(&self, host: &str, head: &Parts) -> String {
        let (name, _) = split_port(host);
        let port = match self.current.terms.tls_port {
            Some(443) | None => String::new(),
            Some(port) => format!(":{port}"),
        };
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        format!("https://{name}{port}{path}")
    }

    async fn pass_on(
        mut self,
        route: &Compiled,
        plan: &Plan,
        head: &mut Parts,
        body: Incoming,
        guest: Option<Guest>,
    ) -> Reply {
        let upgrade = head.extensions.remove::<hyper::upgrade::OnUpgrade>();
        let wish = match hop::strip_request(&mut head.headers) {
            // An upgrade to HTTP/2 would carry requests past all that is checked here.
            Ok(wish) => wish.filter(|wish| head.version == Version::HTTP_11 && !is_h2c(wish)),
            Err(refusal) => return self.refuse(head, refusal),
        };
        let path = match &plan.whole_path {
            Some(path) => rewrite::whole(&head.uri, path),
            None => rewrite::path(&head.uri, &route.path, plan.path.as_deref()),
        };
        let Some(path) = path else {
            let text = "the route's rewrite makes no path of this one".to_owned();
            return self.fail(head, StatusCode::BAD_REQUEST, Who::Proxy, "rewrite", text);
        };
        // We ask for the body ourselves.
        head.headers.remove(EXPECT);
        let host = head.headers.get(HOST).cloned().or_else(|| authority(head));
        let trace = Trace {
            random: self.worker.random(),
            span: self.worker.random() as u64,
        };
        let trace = self
            .conn
            .identity
            .write(&mut head.headers, host.as_ref(), trace);
        // Who asks is said by us or by nobody.
        let names = &self.current.terms.names;
        told::strip(&mut head.headers, names);
        cookie::strip(&mut head.headers);
        if let (Some(guest), Some(demand)) = (guest, &route.demand) {
            guest.tell(&mut head.headers, &demand.tell);
        }
        self.flight.trace = Some(trace);
        let class = Class::of_request(&head.headers, wish.is_some());
        let body = match http_body::Body::is_end_stream(&body) {
            true => RequestBody::empty(),
            false => {
                let limit = self.body_limit(route);
                self.flight.told = Told::of_body();
                RequestBody::streamed(
                    body,
                    self.current.terms.patience.body,
                    limit,
                    self.flight.told.clone(),
                    names.clone(),
                )
            }
        };
        for name in &plan.request_remove {
            head.headers.remove(name);
        }
        for (name, value) in &plan.request_set {
            head.headers.insert(name, value.clone());
        }
        for (name, value) in &plan.request_add {
            head.headers.append(name, value.clone());
        }
        let host = plan.host.clone().or(host);
        let call = Call {
            worker: self.worker,
            conn: self.conn,
            plan,
            meter: &route.meter,
            class,
            host,
            path,
            wish,
            upgrade,
            body_limit: self.body_limit(route),
        };
        let asked_headers = wants_own_answer(head);
        match forward(call, head, body, self.flight).await {
            Ok(reply) => reply,
            Err((flight, failed)) => {
                self.flight = flight;
                self.problem_for(&asked_headers, &failed, false)
            }
        }
    }

    fn refuse(self, head: &Parts, refusal: Refusal) -> Reply {
        self.worker.shared.meter.refused(refusal.as_str());
        let problem = problem(
            refusal.status(),
            Who::Client,
            refusal.as_str(),
            refusal.advice().to_owned(),
        );
        let http1 = head.version < Version::HTTP_2;
        let mut reply = self.problem(head, &problem);
        if http1 {
            // What follows on such a connection may be anything.
            reply
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        reply
    }

    fn fail(
        self,
        head: &Parts,
        status: StatusCode,
        who: Who,
        what: &'static str,
        text: String,
    ) -> Reply {
        self.problem(head, &problem(status, who, what, text))
    }

    fn problem(self, head: &Parts, problem: &Problem) -> Reply {
        self.problem_for(
            &wants_own_answer(head),
            problem,
            head.method == Method::HEAD,
        )
    }

    fn problem_for(mut self, asked: &http::HeaderMap, problem: &Problem, silent: bool) -> Reply {
        let id = self
            .flight
            .trace
            .as_ref()
            .and_then(|trace| trace.to_str().ok())
            .and_then(|trace| trace.get(3..35))
            .unwrap_or("-");
        let (head, text) = problem.answer(asked, id);
        self.flight.fault = self.flight.fault.or(Some(problem.what));
        self.flight.status = problem.status.as_u16();
        let length = text.len();
        let body = if silent { String::new() } else { text };
        let mut reply = head.map(|()| ReplyBody::whole(body, self.flight));
        let headers = reply.headers_mut();
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        if silent {
            // Programs that go by the type would read a body that does not come.
            headers.remove(CONTENT_TYPE);
        }
        reply
    }

    fn redirect(self, head: &Parts, status: StatusCode, to: &str) -> Reply {
        let Ok(to) = HeaderValue::from_str(to) else {
            let text = "the redirect's target cannot stand in a header".to_owned();
            return self.fail(head, StatusCode::BAD_REQUEST, Who::Client, "redirect", text);
        };
        let mut reply = self.say(head, status, "");
        reply.headers_mut().insert(LOCATION, to);
        reply
    }

    fn say(mut self, head: &Parts, status: StatusCode, text: &str) -> Reply {
        self.flight.status = status.as_u16();
        let body = if head.method == Method::HEAD {
            ""
        } else {
            text
        };
        let body = ReplyBody::whole(body.to_owned(), self.flight);
        let mut reply = Response::new(body);
        *reply.status_mut() = status;
        let headers = reply.headers_mut();
        headers.insert(CONTENT_LENGTH, HeaderValue::from(text.len()));
        if !text.is_empty() {
            headers.insert(
                CONTENT_TYPE,
                HeaderValue::from_static("text/plain; charset=utf-8"),
            );
        }
        reply
    }
}

fn admit(head: &Parts, (both_lengths, bare_line_feed): (bool, bool)) -> Result<(), Refusal> {
    if both_lengths {
        return Err(Refusal::AmbiguousLength);
    }
    if bare_line_feed {
        return Err(Refusal::BareLineFeed);
    }
    if identity::passes(&head.headers) >= identity::MOST_PASSES {
        return Err(Refusal::Loop);
    }
    strict::check(head)
}

fn is_h2c(wish: &HeaderValue) -> bool {
    wish.to_str().map_or(true, |wish| {
        wish.split(',').any(|protocol| {
            let protocol = protocol.trim();
            protocol.eq_ignore_ascii_case("h2c") || protocol.eq_ignore_ascii_case("h2")
        })
    })
}

fn problem(status: StatusCode, who: Who, what: &'static str, text: String) -> Problem {
    Problem {
        status,
        who,
        what,
        text,
        retry_after: None,
    }
}

pub(super) fn too_large(limit: u64) -> Problem {
    let text = format!("the request's body is larger than {limit} bytes");
    problem(
        StatusCode::PAYLOAD_TOO_LARGE,
        Who::Client,
        "body_too_large",
        text,
    )
}

/// What an answer of ours depends on.
fn wants_own_answer(head: &Parts) -> http::HeaderMap {
    let mut asked = http::HeaderMap::new();
    if let Some(accept) = head.headers.get(http::header::ACCEPT) {
        asked.insert(http::header::ACCEPT, accept.clone());
    }
    asked
}

impl Flight {
    /// It belongs to this route.
    fn count_at(&mut self, meter: &Arc<crate::telemetry::meter::RouteMeter>) {
        self.meter.moved_to(meter);
        self.meter = meter.clone();
    }
}
