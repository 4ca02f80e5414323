//! The section `proxy.kubernetes.gateway`.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use comind_model::gateway::Settings;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

/// Gateways of a cluster.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Gateway {
    /// What Gateways get as their addresses. A single address or host name is that of all of them, by
    /// whatever address of this machine it is reached. Of several each is an address of this machine,
    /// and every Gateway gets one of its own while there are enough.
    addresses: Vec<String>,
    /// The port that the proxy listens on, by the port that a Gateway has: `{ 80: 8080, 443: 8443 }`.
    /// The same port where nothing is said.
    #[serde(default)]
    ports: BTreeMap<String, u16>,
    /// Further addresses and ports for HTTP, for Gateways with other ports.
    #[serde(default, deserialize_with = "addresses")]
    #[schemars(with = "Vec<String>", extend("examples" = [["0.0.0.0:8080"]]))]
    pub(super) listen: Vec<SocketAddr>,
}

fn addresses<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SocketAddr>, D::Error> {
    let read = |text: &String| {
        let bad = || D::Error::custom(format!("`{text}` is no address; write 0.0.0.0:8080"));
        text.parse().map_err(|_| bad())
    };
    Vec::<String>::deserialize(deserializer)?
        .iter()
        .map(read)
        .collect()
}

impl Gateway {
    pub(super) fn read(&self) -> Result<Settings, String> {
        if self.addresses.is_empty() {
            return Err(
                "`gateway.addresses` is empty; name the address that clients use".to_owned(),
            );
        }
        let bad = self
            .addresses
            .iter()
            .find(|it| it.parse::<IpAddr>().is_err());
        if let (Some(bad), true) = (bad, self.addresses.len() > 1) {
            return Err(format!(
                "`{bad}` is no IP address; of several `gateway.addresses` each is one of this machine"
            ));
        }
        let port = |(port, ours): (&String, &u16)| {
            let read = port.parse().map(|port: u16| (port, *ours));
            read.map_err(|_| format!("`{port}` is no port; write {{ 80: 8080, 443: 8443 }}"))
        };
        Ok(Settings {
            addresses: self.addresses.clone(),
            ports: self.ports.iter().map(port).collect::<Result<_, _>>()?,
        })
    }
}
