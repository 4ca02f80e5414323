//! Values that must not be seen: they print as `***` wherever they go.
//! Must not know where they come from.

use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;

/// A password, a key or a token.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Takes a value into custody.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value, for the one call that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A URL that may carry a password; prints without it.
#[derive(Clone, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String")]
pub struct SecretUrl(url::Url);

impl SecretUrl {
    /// The URL with its password, for the one call that needs it.
    pub fn reveal(&self) -> &url::Url {
        &self.0
    }

    /// The host, without the brackets of an IPv6 address.
    pub fn host(&self) -> &str {
        let host = self.0.host_str().unwrap_or_default();
        host.strip_prefix('[')
            .and_then(|h| h.strip_suffix(']'))
            .unwrap_or(host)
    }

    /// The password in it, decoded.
    pub fn password(&self) -> Option<Secret> {
        self.0
            .password()
            .map(|text| Secret::new(percent_decode(text)))
    }

    /// The user name in it, decoded; `None` where there is none.
    pub fn username(&self) -> Option<String> {
        match self.0.username() {
            "" => None,
            name => Some(percent_decode(name)),
        }
    }
}

impl std::str::FromStr for SecretUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let url = url::Url::parse(text)
            .map_err(|error| format!("not a URL ({error}); write scheme://host:port/path"))?;
        if url.host_str().is_none_or(str::is_empty) {
            return Err("the URL has no host; write scheme://host:port/path".to_owned());
        }
        Ok(Self(url))
    }
}

impl<'de> Deserialize<'de> for SecretUrl {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = self.0.clone();
        if shown.password().is_some() {
            // Only URLs without a host refuse a password, and those were refused on entry.
            let _ = shown.set_password(Some("***"));
        }
        shown.set_query(None);
        f.write_str(shown.as_str())
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let decoded = (*first == b'%')
            .then(|| tail.get(..2).and_then(hex_pair))
            .flatten();
        bytes.push(decoded.unwrap_or(*first));
        rest = if decoded.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex_pair(pair: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_prints_a_password() {
        let url: SecretUrl = "postgres://me:hunter2@h:5432/db?password=hunter2"
            .parse()
            .unwrap();
        let shown = format!("{url} {url:?} {:?}", url.password());
        assert!(!shown.contains("hunter2"), "{shown}");
        assert_eq!(url.password().unwrap().reveal(), "hunter2");
    }

    #[test]
    fn percent_signs_decode_or_stay() {
        assert_eq!(percent_decode("a%40b%zz%4"), "a@b%zz%4");
    }

    #[test]
    fn a_url_needs_a_host() {
        assert!("nonsense".parse::<SecretUrl>().is_err());
        assert!(
            "redis:///0"
                .parse::<SecretUrl>()
                .unwrap_err()
                .contains("host")
        );
    }
}
