//! Host and port. Must not know names' addresses (`resolve`) or sockets.

use std::fmt;

use crate::secret::SecretUrl;

/// Where to connect to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// Name or IP address, an IPv6 one without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl Address {
    /// The address in a URL.
    ///
    /// # Errors
    /// When it has no port and its scheme has no usual one.
    pub fn of(url: &SecretUrl, usual_port: Option<u16>) -> Result<Self, String> {
        let port = url.reveal().port_or_known_default().or(usual_port);
        let port =
            port.ok_or_else(|| format!("the URL {url} has no port; write scheme://host:port"))?;
        Ok(Self {
            host: url.host().to_owned(),
            port,
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}
