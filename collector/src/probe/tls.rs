//! TLS: shakes hands anew at each look, and watches the certificate's end.

use futures_util::future::BoxFuture;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::kinds::{FactMetric, Kind, Settings};
use crate::net::dial::{self, Endpoint};
use crate::net::tls::TlsSettings;
use crate::probe::failure::Failure;
use crate::probe::{Probe, Seen, Session};
use crate::secret::SecretUrl;

/// The kind `tls`.
pub const KIND: Kind = Kind::of::<TlsProbeSettings>();

/// Settings of kind `tls`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "tls")]
pub struct TlsProbeSettings {
    /// Where to connect: `tls://host:port`.
    pub url: SecretUrl,
    /// Whom to trust and what to show.
    #[serde(default)]
    pub tls: TlsSettings,
}

impl Settings for TlsProbeSettings {
    const NAME: &'static str = "tls";
    const ABOUT: &'static str =
        "A TLS handshake succeeds with a trusted certificate that is not near its end.";
    const METRICS: &'static [FactMetric] = &[];

    fn build(self) -> Result<Box<dyn Probe>, String> {
        let endpoint = Endpoint::of(&self.url, Some(443), "tls", Some(&self.tls))?;
        Ok(Box::new(Tls(endpoint)))
    }
}

#[derive(Clone)]
struct Tls(Endpoint);

impl Probe for Tls {
    fn connect(&self) -> BoxFuture<'_, Result<Box<dyn Session>, Failure>> {
        Box::pin(async { Ok(Box::new(self.clone()) as Box<dyn Session>) })
    }
}

impl Session for Tls {
    fn look(&mut self) -> BoxFuture<'_, Result<Seen, Failure>> {
        Box::pin(async {
            let dialled = self.0.dial().await?;
            let mut seen = Seen::default();
            dial::note_certificate(&mut seen, dialled.certificate_expiry);
            Ok(seen)
        })
    }
}
