//! Opens a connection, with or without TLS, and gives every failure its cause.
//! Must not know protocols above TLS, nor deadlines: the caller has one around all of it.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use comind_model::fact::Facts;
use comind_model::observation::Attention;
use comind_model::reason::Reason;
use tokio::net::TcpStream;

use crate::metrics::targets::CERTIFICATE_EXPIRY;
use crate::net::address::Address;
use crate::net::resolve;
use crate::net::stream::Stream;
use crate::net::tls::{TlsClient, TlsSettings, certificate_expiry};
use crate::probe::Seen;
use crate::probe::failure::Failure;
use crate::secret::SecretUrl;

/// A certificate that ends sooner than this asks for attention.
const EXPIRY_WARNING: Duration = Duration::from_secs(20 * 24 * 3600);

/// Where and how to connect.
#[derive(Clone)]
pub struct Endpoint {
    /// Host and port.
    pub address: Address,
    /// TLS, unless the connection goes without.
    pub tls: Option<TlsClient>,
}

/// An open connection, and the end of the certificate that the server showed.
pub struct Dialled {
    /// The connection.
    pub stream: Stream,
    /// Seconds since the Unix epoch.
    pub certificate_expiry: Option<f64>,
}

impl Endpoint {
    /// From a URL and its TLS settings: TLS is spoken where the scheme asks for it or
    /// settings for it are given.
    ///
    /// # Errors
    /// What is wrong with the URL or the settings.
    pub fn of(
        url: &SecretUrl,
        usual_port: Option<u16>,
        tls_scheme: &str,
        settings: Option<&TlsSettings>,
    ) -> Result<Self, String> {
        let wanted = settings.is_some() || url.reveal().scheme() == tls_scheme;
        let tls = match wanted {
            true => Some(TlsClient::new(
                settings.unwrap_or(&TlsSettings::default()),
                url.host(),
            )?),
            false => None,
        };
        Ok(Self {
            address: Address::of(url, usual_port)?,
            tls,
        })
    }

    /// Connects, and shakes hands where TLS is wanted.
    ///
    /// # Errors
    /// The cause by which it failed.
    pub async fn dial(&self) -> Result<Dialled, Failure> {
        let stream = tcp(&self.address).await?;
        let Some(tls) = &self.tls else {
            return Ok(Dialled {
                stream: Stream::Plain(stream),
                certificate_expiry: None,
            });
        };
        let stream = tls.handshake(stream).await?;
        Ok(Dialled {
            certificate_expiry: certificate_expiry(&stream),
            stream: Stream::Tls(Box::new(stream)),
        })
    }
}

/// Connects to the first of the host's addresses that answers.
///
/// # Errors
/// `DnsFailure`, or the cause by which the last address failed.
pub async fn tcp(address: &Address) -> Result<TcpStream, Failure> {
    let mut last = Failure::new(
        Reason::DnsFailure,
        format!("{} has no address", address.host),
    );
    for ip in resolve::addresses(&address.host).await? {
        match TcpStream::connect(SocketAddr::new(ip, address.port)).await {
            Ok(stream) => {
                // Questions are small and wait for their answer: no reason to gather them.
                if let Err(error) = stream.set_nodelay(true) {
                    return Err(Failure::io("set TCP_NODELAY", &error));
                }
                return Ok(stream);
            }
            Err(error) => last = Failure::io(&format!("connect to {address}"), &error),
        }
    }
    Err(last)
}

/// Notes a certificate's end in what was seen, and asks for attention when it is near.
pub fn note_certificate(seen: &mut Seen, expiry: Option<f64>) {
    let Some(expiry) = expiry else { return };
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    note_expiry(
        &mut seen.facts,
        &mut seen.attention,
        expiry,
        now.as_secs_f64(),
    );
}

fn note_expiry(facts: &mut Facts, attention: &mut Vec<Attention>, expiry: f64, now: f64) {
    facts.set(CERTIFICATE_EXPIRY, expiry);
    let left = expiry - now;
    if left < EXPIRY_WARNING.as_secs_f64() {
        attention.push(Attention {
            reason: Reason::CertificateExpiring,
            message: format!("the certificate ends in {:.1} days", left / 86_400.0),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_near_its_end_asks_for_attention() {
        let day = 86_400.0;
        let asked = |left: f64| {
            let (mut facts, mut attention) = (Facts::default(), Vec::new());
            note_expiry(
                &mut facts,
                &mut attention,
                1000.0 * day + left,
                1000.0 * day,
            );
            attention.len()
        };
        assert_eq!(asked(21.0 * day), 0);
        assert_eq!(asked(19.0 * day), 1);
        assert_eq!(asked(-day), 1);
    }
}
