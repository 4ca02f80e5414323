//! HTTP and HTTPS: one request on a held connection, its status and its body judged.

use bytes::Bytes;
use comind_model::reason::Reason;
use futures_util::future::BoxFuture;
use http::{HeaderName, HeaderValue, Method, Request, header};
use http_body_util::Full;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;

use crate::kinds::{FactMetric, Kind, Settings};
use crate::net::dial::{self, Endpoint};
use crate::net::http1::{self, HttpConnection};
use crate::net::tls::TlsSettings;
use crate::probe::failure::Failure;
use crate::probe::tcp::contains;
use crate::probe::{Probe, Seen, Session};
use crate::secret::{Secret, SecretUrl};

/// The kind `http`.
pub const KIND: Kind = Kind::of::<HttpSettings>();

/// The largest body that is read.
const BODY_LIMIT: usize = 1 << 20;

/// Settings of kind `http`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "http")]
pub struct HttpSettings {
    /// What to ask for: `http://…` or `https://…`.
    pub url: SecretUrl,
    /// The method; GET by default.
    #[serde(default = "get")]
    pub method: String,
    /// Further headers. Their values are kept secret.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    /// What to send as body.
    #[serde(default)]
    pub body: String,
    /// The statuses that are good; 200 to 299 by default.
    #[serde(default)]
    pub expect_status: Vec<u16>,
    /// A text that the body must contain.
    #[serde(default)]
    pub expect_body: Option<String>,
    /// Whom to trust and what to show.
    #[serde(default)]
    pub tls: Option<TlsSettings>,
}

fn get() -> String {
    "GET".to_owned()
}

impl Settings for HttpSettings {
    const NAME: &'static str = "http";
    const ABOUT: &'static str = "An HTTP request gets a good status (and body) on a held connection; certificates are watched.";
    const METRICS: &'static [FactMetric] = &[FactMetric {
        name: "status",
        help: "The status of the last answer",
    }];

    fn build(self) -> Result<Box<dyn Probe>, String> {
        let scheme = self.url.reveal().scheme();
        if !matches!(scheme, "http" | "https") {
            return Err(format!(
                "the URL's scheme is `{scheme}`; kind http asks http:// or https://"
            ));
        }
        let mut endpoint = Endpoint::of(&self.url, None, "https", self.tls.as_ref())?;
        endpoint.tls = endpoint.tls.map(|tls| tls.with_alpn(&["http/1.1"]));
        Ok(Box::new(Http {
            request: self.request()?,
            endpoint,
            expect_status: self.expect_status,
            expect_body: self.expect_body,
        }))
    }
}

impl HttpSettings {
    fn request(&self) -> Result<Request<Full<Bytes>>, String> {
        let url = self.url.reveal();
        let authority = match url.port() {
            Some(port) => format!("{}:{port}", url.host_str().unwrap_or_default()),
            None => url.host_str().unwrap_or_default().to_owned(),
        };
        let path = &url[url::Position::BeforePath..url::Position::AfterQuery];
        let mut request = http1::get(path, &authority);
        *request.method_mut() = self
            .method
            .parse::<Method>()
            .map_err(|_| format!("`{}` is no HTTP method", self.method))?;
        *request.body_mut() = Full::new(Bytes::from(self.body.clone()));
        if let (Some(user), password) = (self.url.username(), self.url.password()) {
            let password = password.unwrap_or_else(|| Secret::new(""));
            request
                .headers_mut()
                .insert(header::AUTHORIZATION, basic(&user, &password)?);
        }
        for (name, value) in &self.headers {
            let header: HeaderName = name
                .parse()
                .map_err(|_| format!("`{name}` is no header name"))?;
            let mut value = HeaderValue::from_str(value.reveal()).map_err(|_| {
                format!("the value of header `{name}` holds characters that no header may")
            })?;
            value.set_sensitive(true);
            request.headers_mut().insert(header, value);
        }
        Ok(request)
    }
}

/// The header value of a basic login.
pub(crate) fn basic(user: &str, password: &Secret) -> Result<HeaderValue, String> {
    let encoded = aws_smithy_types::base64::encode(format!("{user}:{}", password.reveal()));
    let mut value = HeaderValue::from_str(&format!("Basic {encoded}"))
        .map_err(|_| "user and password in the URL fit no header".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

struct Http {
    endpoint: Endpoint,
    request: Request<Full<Bytes>>,
    expect_status: Vec<u16>,
    expect_body: Option<String>,
}

impl Probe for Http {
    fn connect(&self) -> BoxFuture<'_, Result<Box<dyn Session>, Failure>> {
        Box::pin(async {
            Ok(Box::new(HttpSession {
                connection: HttpConnection::open(&self.endpoint).await?,
                endpoint: self.endpoint.clone(),
                request: self.request.clone(),
                expect_status: self.expect_status.clone(),
                expect_body: self.expect_body.clone(),
                one_shot: false,
            }) as Box<dyn Session>)
        })
    }
}

struct HttpSession {
    connection: HttpConnection,
    endpoint: Endpoint,
    request: Request<Full<Bytes>>,
    expect_status: Vec<u16>,
    expect_body: Option<String>,
    /// The server said that it closes after its answer: then the close is no hint.
    one_shot: bool,
}

fn closes(answer: &http::Response<Bytes>) -> bool {
    let connection = answer.headers().get(header::CONNECTION);
    let says = |word: &str| {
        connection.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(word.as_bytes()))
    };
    says("close") || (answer.version() == http::Version::HTTP_10 && !says("keep-alive"))
}

impl Session for HttpSession {
    fn look(&mut self) -> BoxFuture<'_, Result<Seen, Failure>> {
        Box::pin(async {
            // A server that answers `Connection: close` is no outage: connect again.
            if !self.connection.is_open() {
                self.connection = HttpConnection::open(&self.endpoint).await?;
            }
            self.one_shot = false;
            let answer = self
                .connection
                .fetch(self.request.clone(), BODY_LIMIT)
                .await?;
            self.one_shot = closes(&answer);
            let mut seen = Seen::default();
            seen.facts
                .set("status", f64::from(answer.status().as_u16()));
            self.judge(&answer)
                .map_err(|failure| failure.with_facts(seen.facts.clone()))?;
            dial::note_certificate(&mut seen, self.connection.certificate_expiry());
            Ok(seen)
        })
    }

    fn closed(&mut self) -> BoxFuture<'_, ()> {
        if self.one_shot {
            return Box::pin(std::future::pending());
        }
        Box::pin(self.connection.closed())
    }
}

impl HttpSession {
    fn judge(&self, answer: &http::Response<Bytes>) -> Result<(), Failure> {
        let status = answer.status();
        let good = match self.expect_status.as_slice() {
            [] => status.is_success(),
            expected => expected.contains(&status.as_u16()),
        };
        if !good {
            let reason = match status.as_u16() {
                401 => Reason::WrongPassword,
                403 => Reason::PermissionDenied,
                _ => Reason::BadStatus,
            };
            return Err(Failure::new(reason, format!("it answered {status}")));
        }
        match &self.expect_body {
            Some(text) if !contains(answer.body(), text.as_bytes()) => {
                let message = format!(
                    "the body ({} bytes) does not contain {text:?}",
                    answer.body().len()
                );
                Err(Failure::new(Reason::UnexpectedAnswer, message))
            }
            _ => Ok(()),
        }
    }
}
