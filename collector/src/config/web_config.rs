//! Prometheus' web config file, so that one file serves its server, its exporters and us.
//! Source of the format: github.com/prometheus/exporter-toolkit, docs/web-configuration.md and
//! web/tls_config.go at 0089e78. What it refuses is refused here, with the place.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use rustls::version::{TLS12, TLS13};
use rustls::{NamedGroup, SupportedProtocolVersion};
use serde::Deserialize;
use serde::de::{Deserializer, Error};

use super::files::{self, Folder};
use super::node::{Node, NodeError};
use super::{access, yaml};
use crate::access::policy::{Policy, Rate};
use crate::access::tls::{ClientCertificates, ServerTls, Wanted};
use crate::secret::Secret;

const MAX_BYTES: u64 = 1024 * 1024;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WebConfig {
    tls_server_config: Option<TlsServer>,
    http_server_config: HttpServer,
    rate_limit: RateLimiter,
    basic_auth_users: BTreeMap<String, Secret>,
}

#[derive(Debug, Deserialize)]
#[serde(default)]
struct TlsServer {
    cert: Option<Secret>,
    key: Option<Secret>,
    client_ca: Option<Secret>,
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    client_ca_file: Option<PathBuf>,
    client_auth_type: Option<String>,
    client_allowed_sans: Option<Vec<String>>,
    min_version: Version,
    max_version: Version,
    cipher_suites: Vec<String>,
    curve_preferences: Vec<Curve>,
    prefer_server_cipher_suites: bool,
}

impl Default for TlsServer {
    fn default() -> Self {
        Self {
            cert: None,
            key: None,
            client_ca: None,
            cert_file: None,
            key_file: None,
            client_ca_file: None,
            client_auth_type: None,
            client_allowed_sans: None,
            min_version: Version::Tls12,
            max_version: Version::Tls13,
            cipher_suites: Vec::new(),
            curve_preferences: Vec::new(),
            prefer_server_cipher_suites: true,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
enum Version {
    #[serde(rename = "TLS10")]
    Tls10,
    #[serde(rename = "TLS11")]
    Tls11,
    #[serde(rename = "TLS12")]
    Tls12,
    #[serde(rename = "TLS13")]
    Tls13,
}

#[derive(Clone, Copy, Debug, Deserialize)]
enum Curve {
    X25519,
    CurveP256,
    CurveP384,
    CurveP521,
}

#[derive(Debug, Deserialize)]
#[serde(default)]
struct HttpServer {
    http2: bool,
    headers: BTreeMap<String, String>,
}

impl Default for HttpServer {
    fn default() -> Self {
        Self {
            http2: true,
            headers: BTreeMap::new(),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RateLimiter {
    #[serde(deserialize_with = "duration")]
    interval: Duration,
    burst: u32,
}

/// The headers that the format knows, with the values that it allows (none listed: any).
const HEADERS: [(&str, &[&str]); 5] = [
    ("Content-Security-Policy", &[]),
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
];

/// What a web config file demands. The error has its own file, line and column.
pub(super) fn policy(
    file: &Path,
    watched: &mut BTreeSet<PathBuf>,
    warnings: &mut Vec<String>,
) -> Result<Policy, String> {
    let bytes = files::bounded(file, MAX_BYTES)
        .map_err(|error| format!("failed to read {}: {error}", file.display()))?;
    let text =
        String::from_utf8(bytes).map_err(|_| format!("{} is not text in UTF-8", file.display()))?;
    // An empty file is a good one: nothing is demanded.
    let said = |line: &str| !matches!(line.trim_start().chars().next(), None | Some('#'));
    if !text.lines().any(said) {
        return Ok(Policy::default());
    }
    // Prometheus substitutes nothing in this file: `${X}` stands for itself.
    let text = text.replace('$', "$$");
    let root = yaml::read(&text, &file.display().to_string(), &|_| None).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        lines.join("\n")
    })?;
    let root = Folder::of(file).resolve(&root);
    watched.extend(files::fingerprints(&root).into_iter().map(|(path, _)| path));
    read(&root, warnings).map_err(|problem| problem.to_string())
}

fn read(root: &Node, warnings: &mut Vec<String>) -> Result<Policy, NodeError> {
    let config = root.read::<WebConfig>()?;
    let at = |key: &str| root.get(key).unwrap_or(root);
    let tls = match &config.tls_server_config {
        Some(tls) if tls.wanted() => {
            let node = at("tls_server_config");
            let wanted = tls.read(config.http_server_config.http2, |warning| {
                warnings.push(node.error(warning).to_string());
            });
            let built = wanted.and_then(ServerTls::new);
            Some(built.map_err(|problem| node.error(problem))?)
        }
        _ => None,
    };
    Ok(Policy {
        tls,
        users: access::users(&config.basic_auth_users, at("basic_auth_users"))?,
        tokens: Vec::new(),
        open_health: true,
        rate: rate(&config.rate_limit).map_err(|problem| at("rate_limit").error(problem))?,
        headers: headers(&config.http_server_config, at("http_server_config"))?,
        read_only: BTreeSet::new(),
    })
}

fn rate(limiter: &RateLimiter) -> Result<Option<Rate>, String> {
    if limiter.interval.is_zero() {
        return Ok(None);
    }
    let burst = NonZeroU32::new(limiter.burst)
        .ok_or("`burst` must be 1 or more, or nobody gets an answer")?;
    Ok(Some(Rate {
        period: limiter.interval,
        burst,
    }))
}

fn headers(http: &HttpServer, node: &Node) -> Result<Vec<(HeaderName, HeaderValue)>, NodeError> {
    let node = node.get("headers").unwrap_or(node);
    let mut all = Vec::new();
    for (name, value) in &http.headers {
        let at = node.get(name).unwrap_or(node);
        let known = HEADERS.iter().find(|(known, _)| known == name);
        let Some((_, allowed)) = known else {
            let names = HEADERS.map(|(name, _)| name).join(", ");
            return Err(at.error(format!("unknown header; one of {names}")));
        };
        if value.is_empty() {
            continue;
        }
        let wanted = value.to_ascii_lowercase();
        if !allowed.is_empty() && !allowed.contains(&wanted.as_str()) {
            return Err(at.error(format!("write {}", allowed.join(" or "))));
        }
        let name = HeaderName::try_from(name.as_str());
        let value = HeaderValue::from_str(value);
        let (Ok(name), Ok(value)) = (name, value) else {
            return Err(at.error("this cannot stand in a header"));
        };
        all.push((name, value));
    }
    Ok(all)
}

impl TlsServer {
    /// Whether any key asks for TLS, as the toolkit decides it.
    fn wanted(&self) -> bool {
        self.cert.is_some()
            || self.key.is_some()
            || self.client_ca.is_some()
            || self.cert_file.is_some()
            || self.key_file.is_some()
            || self.client_ca_file.is_some()
            || self.client_auth_type.is_some()
    }

    fn read(&self, http2: bool, mut warn: impl FnMut(String)) -> Result<Wanted, String> {
        let clients = self.clients(&mut warn)?;
        let authorities = match one(
            "client_ca",
            self.client_ca.as_ref(),
            self.client_ca_file.as_deref(),
        )? {
            Some(pem) if clients == ClientCertificates::None => {
                drop(pem);
                return Err("`client_ca_file` needs a `client_auth_type`".to_owned());
            }
            Some(pem) => access::certificates("client_ca_file", &pem)?,
            None if clients == ClientCertificates::None => Vec::new(),
            None => return Err("`client_auth_type` needs a `client_ca_file`".to_owned()),
        };
        if self.client_allowed_sans.is_some() && clients != ClientCertificates::Require {
            return Err(
                "`client_allowed_sans` needs `client_auth_type: RequireAndVerifyClientCert`"
                    .to_owned(),
            );
        }
        let missing = |key: &str| format!("missing one of `{key}` or `{key}_file`");
        let chain = one("cert", self.cert.as_ref(), self.cert_file.as_deref())?;
        let private = one("key", self.key.as_ref(), self.key_file.as_deref())?;
        Ok(Wanted {
            chain: access::certificates("cert_file", &chain.ok_or_else(|| missing("cert"))?)?,
            key: access::key("key_file", &private.ok_or_else(|| missing("key"))?)?,
            authorities,
            clients,
            allowed_names: self.client_allowed_sans.clone().unwrap_or_default(),
            versions: self.versions(&mut warn)?,
            cipher_suites: self.suites(&mut warn),
            groups: self.groups(&mut warn),
            own_order: self.prefer_server_cipher_suites,
            http2,
        })
    }

    fn clients(&self, warn: &mut impl FnMut(String)) -> Result<ClientCertificates, String> {
        match self.client_auth_type.as_deref().unwrap_or_default() {
            "" | "NoClientCert" => Ok(ClientCertificates::None),
            "VerifyClientCertIfGiven" => Ok(ClientCertificates::Optional),
            "RequireAndVerifyClientCert" => Ok(ClientCertificates::Require),
            "RequestClientCert" => {
                warn(
                    "`RequestClientCert` checks nothing and is taken as `NoClientCert`".to_owned(),
                );
                Ok(ClientCertificates::None)
            }
            "RequireAnyClientCert" | "RequireClientCert" => {
                Err("a certificate that nobody checks proves nothing; \
                 write `client_auth_type: RequireAndVerifyClientCert`"
                    .to_owned())
            }
            _ => Err(
                "unknown `client_auth_type`; write NoClientCert, VerifyClientCertIfGiven or \
                 RequireAndVerifyClientCert"
                    .to_owned(),
            ),
        }
    }

    fn versions(
        &self,
        warn: &mut impl FnMut(String),
    ) -> Result<Vec<&'static SupportedProtocolVersion>, String> {
        if self.min_version < Version::Tls12 {
            warn("TLS before 1.2 is broken and not spoken; `min_version` is TLS12".to_owned());
        }
        let both = [(Version::Tls13, &TLS13), (Version::Tls12, &TLS12)];
        let within = |version| version >= self.min_version && version <= self.max_version;
        let versions: Vec<_> = both
            .into_iter()
            .filter(|(version, _)| within(*version))
            .map(|(_, spoken)| spoken)
            .collect();
        match versions.is_empty() {
            true => Err("no version lies between `min_version` and `max_version`; TLS12 and TLS13 are spoken".to_owned()),
            false => Ok(versions),
        }
    }

    fn suites(&self, warn: &mut impl FnMut(String)) -> Vec<String> {
        let provider = rustls::crypto::ring::default_provider();
        let ours: Vec<String> = provider
            .cipher_suites
            .iter()
            .map(|suite| format!("{:?}", suite.suite()))
            .collect();
        // Go writes the suites of TLS 1.3 without the 13, and ignores them here.
        let known = |name: &&String| {
            ours.contains(name) || name.starts_with("TLS_AES_") || name.starts_with("TLS_CHACHA20_")
        };
        for unknown in self.cipher_suites.iter().filter(|name| !known(name)) {
            warn(format!(
                "cipher suite `{unknown}` is not spoken and left out"
            ));
        }
        self.cipher_suites.clone()
    }

    fn groups(&self, warn: &mut impl FnMut(String)) -> Vec<NamedGroup> {
        let mut groups = Vec::new();
        for curve in &self.curve_preferences {
            match curve {
                Curve::X25519 => groups.push(NamedGroup::X25519),
                Curve::CurveP256 => groups.push(NamedGroup::secp256r1),
                Curve::CurveP384 => groups.push(NamedGroup::secp384r1),
                Curve::CurveP521 => {
                    warn("`CurveP521` is not spoken and left out".to_owned());
                    groups.push(NamedGroup::secp521r1);
                }
            }
        }
        groups
    }
}

/// What stands in the file or in the text itself.
fn one(name: &str, text: Option<&Secret>, file: Option<&Path>) -> Result<Option<Vec<u8>>, String> {
    match (text, file) {
        (Some(_), Some(_)) => Err(format!("give `{name}` or `{name}_file`, not both")),
        (Some(text), None) => Ok(Some(text.reveal().as_bytes().to_vec())),
        (None, Some(file)) => access::contents(&format!("{name}_file"), file).map(Some),
        (None, None) => Ok(None),
    }
}

/// A duration as Go writes it: `0`, `1s`, `1m30s`, `1.5s`.
fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    go_duration(&text).ok_or_else(|| {
        D::Error::custom("this is no duration; write a number and its unit, such as 100ms or 1m30s")
    })
}

fn go_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        seconds += number * unit;
        rest = &rest[end..];
    }
    match text.is_empty() {
        true => None,
        false => Duration::try_from_secs_f64(seconds).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Policy, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("web.yml");
        std::fs::write(&file, text).unwrap();
        policy(&file, &mut BTreeSet::new(), &mut Vec::new())
    }

    #[test]
    fn users_headers_and_limits_are_taken() {
        let policy = read_text(
            "basic_auth_users:
  alice: $2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi
http_server_config: { http2: false, headers: { X-Frame-Options: deny, X-XSS-Protection: '' } }
rate_limit: { interval: 1m30s, burst: 3 }
",
        )
        .unwrap();
        assert_eq!(policy.users[0].0, "alice");
        assert_eq!(policy.headers.len(), 1);
        let rate = policy.rate.unwrap();
        assert_eq!((rate.period.as_secs(), rate.burst.get()), (90, 3));
        assert!(policy.tls.is_none());
    }

    #[test]
    fn an_empty_file_demands_nothing() {
        let policy = read_text("\n# nothing\n").unwrap();
        assert!(!policy.has_login() && policy.tls.is_none() && policy.rate.is_none());
    }

    #[test]
    fn what_the_toolkit_refuses_is_refused_with_its_place() {
        let cases = [
            ("basic_auth_user: {}\n", ":1:1", "basic_auth_users"),
            ("tls_server_config:\n  cert_files: x\n", ":2:3", "cert_file"),
            (
                "tls_server_config: { cert_file: a.crt }\n",
                ":1:20",
                "a.crt",
            ),
            (
                "tls_server_config: { client_auth_type: Maybe }\n",
                ":1:20",
                "client_auth_type",
            ),
            (
                "tls_server_config: { cert: x, key: y, client_allowed_sans: [a] }\n",
                ":1:20",
                "client_allowed_sans",
            ),
            (
                "tls_server_config: { cert: x, key: y, min_version: TLS9 }\n",
                ":1:",
                "TLS13",
            ),
            (
                "http_server_config: { headers: { Server: x } }\n",
                ":1:",
                "unknown header",
            ),
            (
                "http_server_config: { headers: { X-Frame-Options: maybe } }\n",
                ":1:",
                "sameorigin",
            ),
            (
                "basic_auth_users: { alice: fathom }\n",
                ":1:",
                "hash-password",
            ),
            ("rate_limit: { interval: 1s }\n", ":1:", "burst"),
            ("rate_limit: { interval: soon, burst: 1 }\n", ":1:", "100ms"),
        ];
        for (text, place, word) in cases {
            let error = read_text(text).unwrap_err();
            assert!(error.contains(place), "{text}: {error}");
            assert!(error.contains(word), "{text}: {error}");
            assert!(!error.contains("fathom"), "{error}");
        }
    }

    #[test]
    fn durations_are_read_as_go_writes_them() {
        let read = |text| go_duration(text).map(|duration| duration.as_micros());
        assert_eq!(read("0"), Some(0));
        assert_eq!(read("1.5s"), Some(1_500_000));
        assert_eq!(read("250us"), Some(250));
        assert_eq!(read("1h1m"), Some(3_660_000_000));
        for text in ["", "1", "s", "1 s", "-1s", "1s2", "1.1.1s", "1d"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
