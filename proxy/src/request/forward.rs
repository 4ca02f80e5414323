//! Passes a request on, tries again where that is safe, and hands the answer back.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{CONNECTION, HOST, HeaderName, HeaderValue, UPGRADE};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use super::body::{Held, ReplyBody, RequestBody};
use super::class::{self, Class};
use super::flight::Flight;
use super::handle::{Reply, too_large};
use super::hop;
use super::problem::{Problem, Who};
use super::upgrade::{self, Ends};
use crate::endpoint::{self, Endpoint};
use crate::route::compile::Plan;
use crate::serve::connection::Conn;
use crate::serve::worker::Worker;
use crate::telemetry::meter::RouteMeter;
use crate::tunnel::refusal::chain;
use crate::upstream::dial::Manner;
use crate::upstream::failure::Failure;
use crate::upstream::pool::{Leased, Want};

/// At most so many are asked for one request.
const ATTEMPTS: u32 = 3;

/// Who sends it, and is trusted or on this machine, is told how its request went.
const DEBUG: HeaderName = HeaderName::from_static("x-comind-debug");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
const SHOWN_UPSTREAM: HeaderName = HeaderName::from_static("x-comind-upstream");
const SHOWN_ROUTE: HeaderName = HeaderName::from_static("x-comind-route");

/// A request, apart from its head and body.
pub struct Call<'a> {
    /// Whose.
    pub worker: &'a Rc<Worker>,
    /// From where.
    pub conn: &'a Rc<Conn>,
    /// How it is passed on.
    pub plan: &'a Plan,
    /// Where it is counted.
    pub meter: &'a Arc<RouteMeter>,
    /// What kind of stream it begins.
    pub class: Class,
    /// `Host` for the upstream.
    pub host: Option<HeaderValue>,
    /// Path and query for the upstream.
    pub path: PathAndQuery,
    /// What it wants to become.
    pub wish: Option<HeaderValue>,
    /// The client's side of that.
    pub upgrade: Option<OnUpgrade>,
    /// The largest body, in bytes.
    pub body_limit: Option<u64>,
}

/// An answer with where it came from.
struct Answer {
    response: Response<Incoming>,
    held: Option<Held>,
    endpoint: Arc<Endpoint>,
    /// From the beginning to a connection, and to the head of the answer.
    connected: Duration,
    answered: Duration,
}

/// A failure, and whether head and body are there to be sent again.
type Failed = (Failure, bool);

/// Passes it on.
///
/// # Errors
/// What to tell the client, with its flight.
pub async fn forward(
    mut call: Call<'_>,
    head: &mut Parts,
    body: RequestBody,
    mut flight: Box<Flight>,
) -> Result<Reply, (Box<Flight>, Problem)> {
    // Where things are is nobody's business but ours.
    let ours = call.conn.identity.trusted || call.conn.identity.peer.ip().is_loopback();
    let debug = ours && head.headers.contains_key(DEBUG);
    let total = call.plan.timeouts.total.filter(|_| !call.class.is_stream());
    let asked = {
        let mut asking = std::pin::pin!(call.ask(head, body, &flight));
        let limited = async {
            match total {
                Some(limit) => {
                    let asked = tokio::time::timeout(limit, asking.as_mut()).await;
                    asked.unwrap_or(Err(Failure::Total(limit)))
                }
                None => asking.await,
            }
        };
        match &flight.session {
            Some(session) => tokio::select! {
                asked = limited => asked,
                () = session.end.cancelled() => Err(Failure::SessionEnded),
            },
            None => limited.await,
        }
    };
    match asked {
        Ok(answer) => {
            flight.endpoint = Some(answer.endpoint.clone());
            call.hand_back(answer, flight, debug)
        }
        Err(failure) => {
            let problem = call.problem(&failure, &flight);
            Err((flight, problem))
        }
    }
}

impl Call<'_> {
    async fn ask(
        &self,
        head: &mut Parts,
        mut body: RequestBody,
        flight: &Flight,
    ) -> Result<Answer, Failure> {
        self.plan.budget.request();
        // A body that is on its way cannot be sent twice, and neither should what changes things.
        let safe = body.is_none() && is_safe(&head.method);
        let (mut but, mut fresh) = (None, false);
        for attempt in 1.. {
            let Some(endpoint) = self.choose(but) else {
                return Err(Failure::NoEndpoint(self.plan.lack.clone()));
            };
            endpoint.begins();
            let counted = InFlight(Some(&endpoint));
            // Only where there is more than one way: apart, since few requests need it.
            let led = self.plan.tiers && endpoint.pod.is_none() && safe && attempt < ATTEMPTS;
            let tried = match led {
                true => Box::pin(self.unless_left(&endpoint, fresh, head, flight)).await,
                false => {
                    self.once(&endpoint, (fresh, safe), head, &mut body, flight)
                        .await
                }
            };
            let (failure, again) = match tried {
                Ok(answer) => {
                    // The flight takes over.
                    counted.handed_over();
                    return Ok(answer);
                }
                Err(failed) => failed,
            };
            drop(counted);
            // Where the client's own body broke off, that is no fault of the upstream: else any
            // client could have an endpoint set aside.
            if flight.told.fault().is_some() {
                return Err(failure);
            }
            self.note(&endpoint, &failure);
            let worth = again && failure.is_worth_another() && attempt < ATTEMPTS;
            if !(worth && self.plan.budget.retry()) {
                return Err(failure);
            }
            self.meter.retries();
            // Where the connection was an old one, the endpoint may be well.
            fresh = true;
            but = (self.plan.endpoints.len() > 1).then_some(endpoint.id);
        }
        Err(Failure::NoEndpoint(None))
    }

    fn choose(&self, but: Option<u64>) -> Option<Arc<Endpoint>> {
        let now = self.worker.shared.clock.millis();
        let draw = |below| self.worker.random() as u64 % below;
        endpoint::choose(&self.plan.endpoints, but, now, draw).cloned()
    }

    fn manner(&self, endpoint: &Endpoint) -> &Manner {
        match endpoint.plain {
            true => &self.plan.plain,
            false => &self.plan.manner,
        }
    }

    fn note(&self, endpoint: &Endpoint, failure: &Failure) {
        self.meter.upstream_failed(failure.as_str());
        if failure.blames_endpoint() && endpoint.failed(self.worker.shared.clock.millis()) {
            let place = format!("{}:{}", endpoint.host, endpoint.port);
            tracing::warn!(
                route = &*self.meter.name,
                endpoint = place,
                "set aside after failures in a row: {failure}"
            );
        }
    }

    /// One try at the end of a way to which there is another one. Whoever waits there goes on by that as soon
    /// as this one is left, or says itself that nobody is behind it.
    async fn unless_left(
        &self,
        endpoint: &Arc<Endpoint>,
        fresh: bool,
        head: &mut Parts,
        flight: &Flight,
    ) -> Result<Answer, Failed> {
        let kept = head.clone();
        let mut body = RequestBody::empty();
        let tried = tokio::select! {
            biased;
            tried = self.once(endpoint, (fresh, true), head, &mut body, flight) => Some(tried),
            () = endpoint.until_left() => None,
        };
        let failure = match tried {
            Some(Ok(answer)) if cannot(answer.response.status()) => {
                Failure::Answered(answer.response.status())
            }
            Some(tried) => return tried,
            None => Failure::Left,
        };
        *head = kept;
        Err((failure, true))
    }

    /// One try at one endpoint. Where it fails, head and body are put back if they can be sent again.
    async fn once(
        &self,
        endpoint: &Arc<Endpoint>,
        (fresh, safe): (bool, bool),
        head: &mut Parts,
        body: &mut RequestBody,
        flight: &Flight,
    ) -> Result<Answer, Failed> {
        let begun = Instant::now();
        let want = Want {
            upgrade: self.wish.is_some(),
            grpc: head.version == Version::HTTP_2 && class::is_grpc(&head.headers),
            fresh,
            connect: self.plan.timeouts.connect,
        };
        let client = (self.conn.identity.peer, self.conn.identity.local);
        let leased = self
            .worker
            .pool
            .get(endpoint, self.manner(endpoint), client, want)
            .await;
        let (leased, rested) = leased.map_err(|failure| (failure, true))?;
        let connected = begun.elapsed();
        // A copy costs, and pays where another try may go better: on a connection that may just
        // have been closed, or elsewhere.
        let spare =
            (safe && (rested || self.plan.endpoints.len() > 1)).then(|| Box::new(head.clone()));
        let streams = !body.is_none();
        let (sent, held) = match leased {
            Leased::Http1(mut sender, lease) => {
                let sending =
                    sender.try_send_request(self.for_http1(taken(head), body.take(), endpoint));
                (
                    self.wait(sending, streams, flight).await,
                    Some(Held { sender, lease }),
                )
            }
            Leased::Http2(mut sender) => {
                let sending =
                    sender.try_send_request(self.for_http2(taken(head), body.take(), endpoint));
                (self.wait(sending, streams, flight).await, None)
            }
        };
        let response = match sent {
            Ok(response) => response,
            Err(late) => {
                let (failure, unsent) = of_late(late);
                let again = match (unsent, spare) {
                    (Some((parts, rest)), _) => {
                        (*head, *body) = (parts, rest);
                        true
                    }
                    (None, Some(parts)) => {
                        *head = *parts;
                        true
                    }
                    (None, None) => false,
                };
                return Err((failure, again));
            }
        };
        let answered = begun.elapsed();
        match cannot(response.status()) {
            true => {
                endpoint.failed(self.worker.shared.clock.millis());
            }
            false => endpoint.answered(answered),
        }
        Ok(Answer {
            response,
            held,
            endpoint: endpoint.clone(),
            connected,
            answered,
        })
    }

    /// Waits for the head of an answer; while a body is on its way, for as long as it moves.
    async fn wait<E>(
        &self,
        sending: impl Future<Output = Result<Response<Incoming>, E>>,
        streams: bool,
        flight: &Flight,
    ) -> Result<Response<Incoming>, Late<E>> {
        let timeouts = &self.plan.timeouts;
        let limit = match self.class.is_stream() {
            true => timeouts.stream_idle,
            false => timeouts.first_byte,
        };
        let mut sending = std::pin::pin!(sending);
        loop {
            let before = flight.told.so_far();
            match tokio::time::timeout(limit, sending.as_mut()).await {
                Ok(sent) => return sent.map_err(Late::Failed),
                Err(_) if streams && flight.told.so_far() > before => {}
                Err(_) => return Err(Late::Silent(limit)),
            }
        }
    }

    fn for_http1(
        &self,
        mut head: Parts,
        body: RequestBody,
        endpoint: &Endpoint,
    ) -> Request<RequestBody> {
        head.uri = Uri::from(self.path.clone());
        head.version = Version::HTTP_11;
        if let Some(host) = endpoint.as_host.as_ref().or(self.host.as_ref()) {
            head.headers.insert(HOST, host.clone());
        }
        if let Some(wish) = &self.wish {
            head.headers
                .insert(CONNECTION, HeaderValue::from_static("upgrade"));
            head.headers.insert(UPGRADE, wish.clone());
        }
        Request::from_parts(head, body)
    }

    fn for_http2(
        &self,
        mut head: Parts,
        body: RequestBody,
        endpoint: &Endpoint,
    ) -> Request<RequestBody> {
        head.headers.remove(HOST);
        let mut uri = http::uri::Parts::default();
        uri.scheme = Some(match self.manner(endpoint).tls {
            Some(_) => Scheme::HTTPS,
            None => Scheme::HTTP,
        });
        let host = endpoint
            .as_host
            .as_ref()
            .or(self.host.as_ref())
            .and_then(|host| Authority::try_from(host.as_bytes()).ok());
        uri.authority =
            host.or_else(|| format!("{}:{}", endpoint.host, endpoint.port).parse().ok());
        uri.path_and_query = Some(self.path.clone());
        head.uri = Uri::from_parts(uri).unwrap_or_default();
        head.version = Version::HTTP_2;
        Request::from_parts(head, body)
    }

    fn hand_back(
        &mut self,
        answer: Answer,
        mut flight: Box<Flight>,
        debug: bool,
    ) -> Result<Reply, (Box<Flight>, Problem)> {
        let Answer {
            mut response,
            held,
            endpoint,
            connected,
            answered,
        } = answer;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return self.switch(response, flight);
        }
        hop::strip_response(response.headers_mut());
        let class = self.class.with_answer(response.headers());
        let idle = match class.is_stream() {
            true => self.plan.timeouts.stream_idle,
            false => self.plan.timeouts.idle,
        };
        self.change(response.headers_mut());
        if debug {
            show(
                response.headers_mut(),
                &self.meter.name,
                &endpoint,
                (connected, answered),
            );
        }
        flight.status = response.status().as_u16();
        let (mut head, body) = response.into_parts();
        head.version = Version::HTTP_11;
        Ok(Response::from_parts(
            head,
            ReplyBody::upstream(body, held, idle, flight),
        ))
    }

    fn change(&self, headers: &mut HeaderMap) {
        for name in &self.plan.response_remove {
            headers.remove(name);
        }
        for (name, value) in &self.plan.response_set {
            headers.insert(name, value.clone());
        }
        for (name, value) in &self.plan.response_add {
            headers.append(name, value.clone());
        }
    }

    /// The upstream has switched: from now on bytes are carried, whatever they are.
    fn switch(
        &mut self,
        mut response: Response<Incoming>,
        mut flight: Box<Flight>,
    ) -> Result<Reply, (Box<Flight>, Problem)> {
        let taken = response.headers().get(UPGRADE);
        let wished = self.wish.as_ref().map(HeaderValue::as_bytes);
        let agreed = matches!((taken, wished), (Some(taken), Some(wish)) if taken.as_bytes().eq_ignore_ascii_case(wish));
        let (true, Some(client)) = (agreed, self.upgrade.take()) else {
            let failure = Failure::Upgrade("it switched to what was not asked for".to_owned());
            let problem = self.problem(&failure, &flight);
            return Err((flight, problem));
        };
        let upstream = hyper::upgrade::on(&mut response);
        let ends = Ends { client, upstream };
        upgrade::carry(
            self.worker,
            self.conn,
            self.meter,
            ends,
            self.plan.timeouts.stream_idle,
            flight.session.clone(),
        );
        hop::strip_response(response.headers_mut());
        self.change(response.headers_mut());
        flight.status = response.status().as_u16();
        let (mut head, _) = response.into_parts();
        head.headers
            .insert(CONNECTION, HeaderValue::from_static("upgrade"));
        if let Some(wish) = self.wish.take() {
            head.headers.insert(UPGRADE, wish);
        }
        Ok(Response::from_parts(head, ReplyBody::whole("", flight)))
    }

    fn problem(&self, failure: &Failure, flight: &Flight) -> Problem {
        match flight.told.fault() {
            Some("body_too_large") => {
                return too_large(self.body_limit.unwrap_or_default());
            }
            Some(what) => {
                let text = "the request's body did not come to its end".to_owned();
                let status = StatusCode::REQUEST_TIMEOUT;
                return Problem {
                    status,
                    who: Who::Client,
                    what,
                    text,
                    retry_after: None,
                };
            }
            None => {}
        }
        let who = match failure {
            Failure::Full | Failure::FullTimeout(_) | Failure::NoEndpoint(_) => Who::Proxy,
            Failure::SessionEnded => Who::Client,
            _ => Who::Upstream,
        };
        Problem {
            status: failure.status(),
            who,
            what: failure.as_str(),
            text: format!("{}: {failure}", self.meter.name),
            retry_after: failure.retry_after(),
        }
    }
}

/// The head, with nothing left in its place.
fn taken(head: &mut Parts) -> Parts {
    let (nothing, ()) = Request::new(()).into_parts();
    std::mem::replace(head, nothing)
}

/// Whoever answers so says that it cannot, and not that it may not.
fn cannot(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
    )
}

/// Asked twice it does what it does once, and changes nothing that matters (RFC 9110, section 9.2.1).
fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// An endpoint's request under way, until the flight takes over.
struct InFlight<'a>(Option<&'a Endpoint>);

impl InFlight<'_> {
    /// Somebody else counts it from now on.
    fn handed_over(mut self) {
        self.0 = None;
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        if let Some(endpoint) = self.0 {
            endpoint.ends();
        }
    }
}

/// No head of an answer.
enum Late<E> {
    Failed(E),
    Silent(Duration),
}

type SendError = hyper::client::conn::TrySendError<Request<RequestBody>>;

fn of_late(late: Late<SendError>) -> (Failure, Option<(Parts, RequestBody)>) {
    let mut error = match late {
        Late::Silent(limit) => return (Failure::FirstByte(limit), None),
        Late::Failed(error) => error,
    };
    let unsent = error.take_message().map(Request::into_parts);
    let error = error.into_error();
    let told = chain(&error);
    let failure = match unsent {
        Some(_) => Failure::NotSent(told),
        None if error.is_parse() => Failure::Protocol(told),
        None => Failure::Closed(told),
    };
    (failure, unsent)
}

fn show(
    headers: &mut HeaderMap,
    route: &str,
    endpoint: &Endpoint,
    (connected, answered): (Duration, Duration),
) {
    let millis = |duration: Duration| duration.as_secs_f64() * 1000.0;
    let timing = format!(
        "connect;dur={:.2}, upstream;dur={:.2}",
        millis(connected),
        millis(answered - connected)
    );
    let place = format!("{}:{}", endpoint.host, endpoint.port);
    for (name, text) in [
        (SERVER_TIMING, timing.as_str()),
        (SHOWN_UPSTREAM, &place),
        (SHOWN_ROUTE, route),
    ] {
        if let Ok(value) = HeaderValue::from_str(text) {
            headers.insert(name, value);
        }
    }
}
