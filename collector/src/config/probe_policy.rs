//! Which targets `/probe` may look at: patterns over the parts of a URL. Pure.
//! Must not know HTTP.

use schemars::JsonSchema;
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use url::Url;

use super::glob::glob;
use super::suggest::shown;

/// What `/probe?target=URL` may look at. Empty: nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ProbePolicy {
    /// Patterns `SCHEME://HOST:PORT`; `*` stands for any text within host or port. A pattern
    /// without a port allows only the scheme's own.
    pub allow: Vec<Pattern>,
}

impl ProbePolicy {
    /// Whether a target may be looked at.
    pub fn allows(&self, target: &str) -> bool {
        Url::parse(target).is_ok_and(|url| self.allow.iter().any(|pattern| pattern.fits(&url)))
    }
}

/// A pattern over the parts of a URL. The parts are compared one by one, so that nothing in a
/// path or a user name can pass for a host.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String", extend("examples" = ["http://127.0.0.1:*", "tcp://*.internal:5432"]))]
pub struct Pattern {
    scheme: String,
    host: String,
    port: Option<String>,
}

impl Pattern {
    fn fits(&self, url: &Url) -> bool {
        let Some(host) = url.host_str() else {
            return false;
        };
        self.scheme == url.scheme()
            && glob(&self.host, &host.to_ascii_lowercase())
            && self.fits_port(url)
    }

    fn fits_port(&self, url: &Url) -> bool {
        match (&self.port, url.port_or_known_default()) {
            (Some(pattern), Some(port)) => glob(pattern, &port.to_string()),
            (Some(pattern), None) => pattern == "*",
            (None, _) => url.port().is_none(),
        }
    }
}

impl std::str::FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{}` is no pattern; write SCHEME://HOST:PORT such as http://127.0.0.1:*",
                shown(text)
            )
        };
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        if rest.contains(['/', '@', '?', '#']) {
            return Err(format!("{}, without a path or a user", wrong()));
        }
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port.to_owned())),
            _ => (rest, None),
        };
        let digits = |c: char| c.is_ascii_digit() || c == '*';
        let good_port = port
            .as_deref()
            .is_none_or(|port| !port.is_empty() && port.chars().all(digits));
        if scheme.is_empty() || scheme.contains('*') || host.is_empty() || !good_port {
            return Err(wrong());
        }
        Ok(Self {
            scheme: scheme.to_ascii_lowercase(),
            host: host.to_ascii_lowercase(),
            port,
        })
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(patterns: &[&str]) -> ProbePolicy {
        ProbePolicy {
            allow: patterns.iter().map(|text| text.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn nothing_is_allowed_by_default() {
        assert!(!ProbePolicy::default().allows("http://127.0.0.1:80/"));
    }

    #[test]
    fn patterns_compare_part_by_part() {
        let policy = policy(&[
            "http://127.0.0.1:*",
            "https://*.example.org",
            "tcp://[::1]:5432",
        ]);
        for good in [
            "http://127.0.0.1:9000/x?y",
            "http://127.0.0.1",
            "https://a.b.example.org/path",
            "tcp://[::1]:5432",
        ] {
            assert!(policy.allows(good), "{good}");
        }
        for bad in [
            "http://127.0.0.1:80@evil.test/",
            "http://127.0.0.1.evil.test/",
            "https://evil.test/x.example.org",
            "https://a.example.org:8443/",
            "https://127.0.0.1/",
            "tcp://[::1]:5433",
            "nonsense",
        ] {
            assert!(!policy.allows(bad), "{bad}");
        }
    }

    #[test]
    fn patterns_that_cannot_be_are_refused() {
        for bad in [
            "",
            "127.0.0.1",
            "http://",
            "*://x",
            "http://x/path",
            "http://u@x",
            "http://x:y",
        ] {
            assert!(bad.parse::<Pattern>().is_err(), "{bad}");
        }
    }
}
