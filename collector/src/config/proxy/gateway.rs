//! The section `proxy.kubernetes.gateway`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use comind_model::gateway::Settings;
use schemars::JsonSchema;
use serde::Deserialize;

/// Gateways of a cluster.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Gateway {
    /// What Gateways get as their addresses. A single address or host name is that of all of them, by
    /// whatever address of this machine it is reached. Of several each is an address of this machine,
    /// and every Gateway gets one of its own while there are enough.
    addresses: Vec<String>,
    /// The port that the proxy listens on, by the port that a Gateway has: `{ 80: 8080, 443: 8443 }`.
    /// The same port where nothing is said.
    #[serde(default)]
    ports: BTreeMap<u16, u16>,
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
        Ok(Settings {
            addresses: self.addresses.clone(),
            ports: self.ports.clone(),
        })
    }
}
