//! TCP: connects anew at each look, and reads a banner where one is expected.
//! Holds nothing: a service that we know nothing of may not like idle guests.

use comind_model::reason::Reason;
use futures_util::future::BoxFuture;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::kinds::{FactMetric, Kind, Settings};
use crate::net::address::Address;
use crate::net::dial;
use crate::probe::failure::Failure;
use crate::probe::{Probe, Seen, Session};
use crate::secret::SecretUrl;

/// The kind `tcp`.
pub const KIND: Kind = Kind::of::<TcpSettings>();

/// The most that is read while waiting for `expect`.
const BANNER_LIMIT: usize = 4096;

/// Settings of kind `tcp`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "tcp")]
pub struct TcpSettings {
    /// Where to connect: `tcp://host:port`.
    pub url: SecretUrl,
    /// What to send after connecting.
    #[serde(default)]
    pub send: Option<String>,
    /// A text that the answer must contain.
    #[serde(default)]
    pub expect: Option<String>,
}

impl Settings for TcpSettings {
    const NAME: &'static str = "tcp";
    const ABOUT: &'static str =
        "A TCP connection can be opened; with `expect`, the answer contains a text.";
    const METRICS: &'static [FactMetric] = &[];

    fn build(self) -> Result<Box<dyn Probe>, String> {
        Ok(Box::new(Tcp {
            address: Address::of(&self.url, None)?,
            send: self.send,
            expect: self.expect,
        }))
    }
}

#[derive(Clone)]
struct Tcp {
    address: Address,
    send: Option<String>,
    expect: Option<String>,
}

impl Probe for Tcp {
    fn connect(&self) -> BoxFuture<'_, Result<Box<dyn Session>, Failure>> {
        Box::pin(async { Ok(Box::new(self.clone()) as Box<dyn Session>) })
    }
}

impl Session for Tcp {
    fn look(&mut self) -> BoxFuture<'_, Result<Seen, Failure>> {
        Box::pin(async {
            let mut stream = dial::tcp(&self.address).await?;
            if let Some(text) = &self.send {
                let sent = stream.write_all(text.as_bytes()).await;
                sent.map_err(|error| Failure::io("send", &error))?;
            }
            if let Some(expected) = &self.expect {
                expect(&mut stream, expected).await?;
            }
            Ok(Seen::default())
        })
    }
}

async fn expect(stream: &mut tokio::net::TcpStream, expected: &str) -> Result<(), Failure> {
    let mut got = Vec::new();
    let mut chunk = [0; 512];
    loop {
        let read = stream
            .read(&mut chunk)
            .await
            .map_err(|error| Failure::io("read the answer", &error))?;
        got.extend_from_slice(&chunk[..read]);
        if contains(&got, expected.as_bytes()) {
            return Ok(());
        }
        if read == 0 || got.len() > BANNER_LIMIT {
            let got = String::from_utf8_lossy(&got[..got.len().min(80)]).into_owned();
            let message =
                format!("the answer does not contain {expected:?}; it starts with {got:?}");
            return Err(Failure::new(Reason::UnexpectedAnswer, message));
        }
    }
}

/// Whether `text` lies in `bytes`.
pub fn contains(bytes: &[u8], text: &[u8]) -> bool {
    text.is_empty() || bytes.windows(text.len()).any(|window| window == text)
}
