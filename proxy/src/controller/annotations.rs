//! The annotations of an Ingress: those of ingress-nginx that charts commonly carry, under its
//! prefix and under ours. Pure.
//! Source of the names and their meaning: kubernetes.github.io/ingress-nginx/user-guide/nginx-configuration/annotations.

use std::collections::BTreeMap;
use std::time::Duration;

use comind_model::ingress::{Protocol, Timeouts};

use super::guard;

/// Under which prefixes they stand.
const PREFIXES: [&str; 2] = ["nginx.ingress.kubernetes.io/", "comind.pro/"];

/// What they say.
#[derive(Debug, Default)]
pub struct Annotations {
    /// What takes the place of the path.
    pub rewrite: Option<String>,
    /// Paths are regular expressions.
    pub regex: bool,
    /// Whether plain HTTP is redirected; where none, it is when the host has a certificate.
    pub ssl_redirect: Option<bool>,
    /// It is redirected even where the host has no certificate here.
    pub force_ssl_redirect: bool,
    /// In bytes; `Some(None)` is unlimited.
    pub body: Option<Option<u64>>,
    /// How long upstreams are waited for.
    pub timeouts: Timeouts,
    /// What upstreams speak.
    pub protocol: Option<Protocol>,
    /// All requests are sent there.
    pub redirect: Option<(String, u16)>,
    /// `/` is redirected there.
    pub app_root: Option<String>,
    /// `Host` for the upstream.
    pub upstream_host: Option<String>,
    /// Further hosts for the same paths.
    pub aliases: Vec<String>,
    /// The upstream's certificate is checked.
    pub verify: bool,
    /// The name that it must have.
    pub tls_name: Option<String>,
    /// What is not understood, a sentence each.
    pub unknown: Vec<String>,
}

/// What we do anyway, or never do: nothing to set.
const MOOT: &[&str] = &[
    "proxy-buffering",
    "proxy-buffer-size",
    "proxy-buffers-number",
    "proxy-request-buffering",
    "proxy-http-version",
    "proxy-max-temp-file-size",
    "client-body-buffer-size",
    "websocket-services",
    "service-upstream",
    "enable-access-log",
    "preserve-trailing-slash",
    "proxy-next-upstream",
    "proxy-next-upstream-tries",
];

/// Reads them, but for those that say who may ask ([`guard`]). What is wrong or unknown is told and changes
/// nothing.
pub fn read(all: &BTreeMap<String, String>) -> Annotations {
    let mut read = Annotations::default();
    for prefix in PREFIXES {
        for (key, value) in all {
            let Some(name) = key.strip_prefix(prefix).filter(|_| !guard::reads(key)) else {
                continue;
            };
            if let Err(problem) = read.take(name, value.trim()) {
                read.unknown.push(format!("{key}: {problem}"));
            }
        }
    }
    read
}

impl Annotations {
    fn take(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "rewrite-target" => self.rewrite = Some(value.to_owned()),
            "use-regex" => self.regex = flag(value)?,
            "ssl-redirect" => self.ssl_redirect = Some(flag(value)?),
            "force-ssl-redirect" => self.force_ssl_redirect = flag(value)?,
            "proxy-body-size" => self.body = Some(size(value)?),
            "proxy-connect-timeout" => self.timeouts.connect = seconds(value)?,
            "proxy-read-timeout" => {
                let limit = seconds(value)?;
                self.timeouts.first_byte = limit;
                self.timeouts.idle = limit;
                // There it is the only limit for silent streams, and charts raise it for them.
                self.timeouts.stream_idle = limit.max(self.timeouts.stream_idle);
            }
            "proxy-send-timeout" => drop(seconds(value)?),
            "backend-protocol" => self.protocol = Some(protocol(value)?),
            "permanent-redirect" => self.redirect = Some((value.to_owned(), 301)),
            "temporal-redirect" => self.redirect = Some((value.to_owned(), 302)),
            "app-root" => self.app_root = Some(value.to_owned()),
            "upstream-vhost" => self.upstream_host = Some(value.to_owned()),
            "server-alias" => {
                self.aliases = value
                    .split(',')
                    .map(|name| name.trim().to_owned())
                    .collect();
            }
            "proxy-ssl-verify" => self.verify = value == "on",
            "proxy-ssl-name" => self.tls_name = Some(value.to_owned()),
            _ if name.starts_with("auth-") => {
                return Err(
                    "that login is not obeyed here; `comind.pro/login` names one of proxy.logins"
                        .to_owned(),
                );
            }
            moot if MOOT.contains(&moot) => {}
            _ if name.ends_with("-snippet") => {
                return Err("snippets of another proxy's configuration are never obeyed".to_owned());
            }
            _ => return Err("not known here, and without effect".to_owned()),
        }
        Ok(())
    }
}

fn flag(value: &str) -> Result<bool, String> {
    value
        .parse()
        .map_err(|_| format!("`{value}` is neither true nor false"))
}

/// Seconds, with or without their unit.
fn seconds(value: &str) -> Result<Duration, String> {
    let number = value.strip_suffix('s').unwrap_or(value);
    match number.parse::<u64>() {
        Ok(seconds @ 1..=86_400) => Ok(Duration::from_secs(seconds)),
        _ => Err(format!("`{value}` is no number of seconds from 1 to 86400")),
    }
}

/// `8m`, `1g`, `512k`, or bytes; 0 is no limit.
fn size(value: &str) -> Result<Option<u64>, String> {
    let lower = value.to_ascii_lowercase();
    let (number, unit) = match lower
        .char_indices()
        .find(|(_, letter)| !letter.is_ascii_digit())
    {
        Some((at, _)) => lower.split_at(at),
        None => (lower.as_str(), ""),
    };
    let factor = match unit {
        "" => 1,
        "k" => 1024,
        "m" => 1024 * 1024,
        "g" => 1024 * 1024 * 1024,
        _ => return Err(format!("`{value}` is no size; write 8m")),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| format!("`{value}` is no size; write 8m"))?;
    Ok((number > 0).then(|| number.saturating_mul(factor)))
}

fn protocol(value: &str) -> Result<Protocol, String> {
    match value.to_ascii_uppercase().as_str() {
        "HTTP" | "AUTO_HTTP" => Ok(Protocol::Http),
        "HTTPS" | "GRPCS" => Ok(Protocol::Https),
        "GRPC" => Ok(Protocol::H2c),
        _ => Err(format!(
            "`{value}` is not spoken here; HTTP, HTTPS, GRPC and GRPCS are"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Annotations {
        let all = pairs.iter().map(|(key, value)| {
            (
                format!("nginx.ingress.kubernetes.io/{key}"),
                (*value).to_owned(),
            )
        });
        read(&all.collect())
    }

    #[test]
    fn common_ones_are_read() {
        let read = of(&[
            ("rewrite-target", "/$2"),
            ("proxy-body-size", "8m"),
            ("proxy-read-timeout", "3600"),
            ("proxy-connect-timeout", "5s"),
            ("backend-protocol", "grpc"),
            ("ssl-redirect", "false"),
            ("proxy-buffering", "off"),
        ]);
        assert_eq!(read.unknown, Vec::<String>::new());
        assert_eq!(read.body, Some(Some(8 * 1024 * 1024)));
        assert_eq!(read.timeouts.first_byte, Duration::from_secs(3600));
        assert_eq!(read.timeouts.connect, Duration::from_secs(5));
        assert_eq!(read.protocol, Some(Protocol::H2c));
        assert_eq!(of(&[("proxy-body-size", "0")]).body, Some(None));
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (key, value) in [
            ("proxy-body-size", "8x"),
            ("proxy-read-timeout", "never"),
            ("use-regex", "yes"),
            ("backend-protocol", "FCGI"),
            ("configuration-snippet", "deny all;"),
            ("auth-url", "http://x"),
        ] {
            assert_eq!(of(&[(key, value)]).unknown.len(), 1, "{key}");
        }
    }
}
