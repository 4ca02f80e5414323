//! Gateways with their listeners: which can be served, and what they show. Pure.
//! Source: gateway-api.sigs.k8s.io, Gateway.

use std::collections::BTreeMap;

use comind_model::gateway::{Entry, Settings};
use comind_model::ingress::{Certificate, Host};
use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::addresses::{self, Wish};
use super::grants::{self, Party};
use super::kinds::{GROUP, Gateway, GatewaySpec, ListenerSpec, Reference};
use super::status::{Condition, Trouble, conditions, resolved};
use crate::controller::world::{Key, World};
use crate::tls::certificates;

/// The kinds of routes that we serve.
pub const ROUTES: [&str; 2] = ["HTTPRoute", "GRPCRoute"];

/// Where the proxy listens: without TLS, and with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ports {
    /// HTTP.
    pub plain: Vec<u16>,
    /// HTTPS.
    pub secure: Vec<u16>,
}

/// A listener being read.
#[derive(Debug)]
pub struct Reading<'a> {
    /// As it is written.
    pub spec: &'a ListenerSpec,
    /// The hosts that it is for.
    pub host: Host,
    /// Our port.
    pub port: u16,
    /// TLS is spoken.
    pub secure: bool,
    /// The kinds of routes that may be attached.
    pub kinds: Vec<&'static str>,
    /// What it shows.
    pub certificates: Vec<Certificate>,
    /// Why it is not accepted.
    pub refused: Option<Trouble>,
    /// Which other listener it is at odds with.
    pub conflict: Option<Trouble>,
    /// References that lead nowhere.
    pub refs: Vec<Trouble>,
    /// How many routes are attached.
    pub attached: usize,
    /// What they make.
    pub routes: Vec<Entry>,
}

/// A Gateway being read.
#[derive(Debug)]
pub struct Site<'a> {
    /// Its namespace and name.
    pub key: Key,
    /// As it is written.
    pub gateway: &'a Gateway,
    /// Its listeners.
    pub listeners: Vec<Reading<'a>>,
    /// Why it is not accepted at all.
    pub refused: Option<Trouble>,
    /// Where it is.
    pub address: Result<String, Trouble>,
}

/// Reads all of these, the oldest first, and gives them addresses.
pub fn read<'a>(
    world: &World,
    gateways: &[(&'a Gateway, &'a GatewaySpec)],
    settings: &Settings,
    ports: &Ports,
) -> Vec<Site<'a>> {
    let mut sites: Vec<Site<'a>> = gateways
        .iter()
        .map(|(gateway, spec)| site(world, gateway, spec, settings, ports))
        .collect();
    let wishes: Vec<Wish> = sites
        .iter()
        .zip(gateways)
        .map(|(site, (gateway, spec))| wish(site, gateway, spec, settings))
        .collect();
    let addresses = addresses::assign(&settings.addresses, &wishes);
    for (site, address) in sites.iter_mut().zip(addresses) {
        site.address = address;
    }
    sites
}

/// The address that a Gateway asks for. One that we do not have speaks for all, and several of ours
/// are one that we do not have: a Gateway has one address here.
fn wanted_address(spec: &GatewaySpec, settings: &Settings) -> Option<String> {
    let values = spec.addresses.iter().filter_map(|it| it.value.as_ref());
    let mut values = values.filter(|value| !value.is_empty());
    let missing = |value: &&String| !settings.addresses.contains(value);
    let alien = values.clone().find(missing);
    match (alien, values.next(), values.next()) {
        (Some(one), ..) | (None, Some(one), None) => Some(one.clone()),
        (None, Some(one), Some(other)) => Some(format!("{one} and {other} at once")),
        (None, None, _) => None,
    }
}

fn wish(site: &Site<'_>, gateway: &Gateway, spec: &GatewaySpec, settings: &Settings) -> Wish {
    let claim = |it: &Reading<'_>| {
        let host = it.spec.hostname.clone().unwrap_or_default();
        (it.spec.port, it.spec.protocol.clone(), host)
    };
    let has = gateway
        .status
        .as_ref()
        .and_then(|status| status["addresses"][0]["value"].as_str());
    Wish {
        claims: match site.refused {
            Some(_) => Vec::new(),
            None => site
                .listeners
                .iter()
                .filter(|it| it.serves())
                .map(claim)
                .collect(),
        },
        has: has.map(str::to_owned),
        must: wanted_address(spec, settings),
    }
}

fn site<'a>(
    world: &World,
    gateway: &'a Gateway,
    spec: &'a GatewaySpec,
    settings: &Settings,
    ports: &Ports,
) -> Site<'a> {
    let key = (gateway.namespace().unwrap_or_default(), gateway.name_any());
    let mut listeners: Vec<Reading<'a>> = spec
        .listeners
        .iter()
        .map(|listener| listener_of(world, &key.0, listener, settings, ports))
        .collect();
    conflicts(&mut listeners);
    Site {
        key,
        gateway,
        listeners,
        refused: refused(spec),
        address: Err(("AddressNotAssigned", String::new())),
    }
}

/// What we cannot do is refused rather than left out: a client certificate that is not asked for
/// would let in whoever comes.
fn refused(spec: &GatewaySpec) -> Option<Trouble> {
    let parameters = spec
        .infrastructure
        .as_ref()
        .and_then(|it| it.parameters_ref.as_ref());
    if parameters.is_some() {
        return Some((
            "InvalidParameters",
            "there are no parameters for Gateways".to_owned(),
        ));
    }
    if spec.tls.is_some() {
        let text = "certificates of clients, and our own towards backends (`tls`), are not served";
        return Some(("UnsupportedValue", text.to_owned()));
    }
    let odd = spec
        .addresses
        .iter()
        .find(|it| it.kind.as_deref().unwrap_or("IPAddress") != "IPAddress")?;
    let kind = odd.kind.as_deref().unwrap_or_default();
    let text = format!("an address is an IPAddress, not `{kind}`");
    Some(("UnsupportedAddress", text))
}

fn listener_of<'a>(
    world: &World,
    namespace: &str,
    spec: &'a ListenerSpec,
    settings: &Settings,
    ports: &Ports,
) -> Reading<'a> {
    let port = settings.ports.get(&spec.port).copied().unwrap_or(spec.port);
    let secure = spec.protocol == "HTTPS";
    let mut reading = Reading {
        spec,
        host: Host::Any,
        port,
        secure,
        kinds: Vec::new(),
        certificates: Vec::new(),
        refused: None,
        conflict: None,
        refs: Vec::new(),
        attached: 0,
        routes: Vec::new(),
    };
    if spec.protocol != "HTTP" && !secure {
        let text = format!("`{}` is not served; HTTP and HTTPS are", spec.protocol);
        reading.refused = Some(("UnsupportedProtocol", text));
        return reading;
    }
    reading.kinds();
    match spec
        .hostname
        .as_deref()
        .filter(|name| !name.is_empty())
        .map(str::parse)
    {
        None => {}
        Some(Ok(host)) => reading.host = host,
        Some(Err(text)) => reading.refused = Some(("UnsupportedValue", text)),
    }
    let ours = if secure { &ports.secure } else { &ports.plain };
    if !ours.contains(&port) {
        let text = format!(
            "the proxy does not listen on port {port} for {}",
            spec.protocol
        );
        reading.refused = Some(("PortUnavailable", text));
    }
    if secure {
        reading.certificates(world, namespace);
    }
    reading
}

impl Reading<'_> {
    /// Requests can come in.
    pub fn serves(&self) -> bool {
        let shows = !self.secure || !self.certificates.is_empty();
        self.refused.is_none() && self.conflict.is_none() && !self.kinds.is_empty() && shows
    }

    fn kinds(&mut self) {
        let wanted = &self.spec.allowed_routes.kinds;
        if wanted.is_empty() {
            self.kinds = ROUTES.to_vec();
            return;
        }
        for kind in wanted {
            let ours = kind.group.as_deref().unwrap_or(GROUP) == GROUP;
            match ROUTES.iter().find(|name| ours && **name == kind.kind) {
                Some(name) => self.kinds.push(name),
                None => {
                    let text = format!("routes of the kind `{}` are not served", kind.kind);
                    self.refs.push(("InvalidRouteKinds", text));
                }
            }
        }
    }

    fn certificates(&mut self, world: &World, namespace: &str) {
        let tls = self.spec.tls.as_ref();
        if tls.and_then(|tls| tls.mode.as_deref()) == Some("Passthrough") {
            let text = "TLS is ended here (`Terminate`) and not passed through";
            self.refused = Some(("UnsupportedValue", text.to_owned()));
            return;
        }
        if tls.is_some_and(|tls| tls.frontend_validation.is_some()) {
            let text = "certificates of clients (`frontendValidation`) are not asked for";
            self.refused = Some(("UnsupportedValue", text.to_owned()));
            return;
        }
        let refs = tls
            .map(|tls| tls.certificate_refs.as_slice())
            .unwrap_or_default();
        if refs.is_empty() {
            let text = "a listener of HTTPS names a certificate in `tls.certificateRefs`";
            self.refs.push(("InvalidCertificateRef", text.to_owned()));
        }
        for reference in refs {
            match certificate(world, namespace, reference) {
                Ok(certificate) => self.certificates.push(certificate),
                Err(trouble) => self.refs.push(trouble),
            }
        }
    }

    fn json(&self, generation: i64, programmed: Option<&Trouble>) -> Value {
        let kinds: Vec<_> = self
            .kinds
            .iter()
            .map(|kind| json!({ "group": GROUP, "kind": kind }))
            .collect();
        let refused = self.refused.as_ref().or(self.conflict.as_ref());
        let accepted = match refused {
            None => Condition::good("Accepted"),
            Some((reason, text)) => Condition::of("Accepted", false, reason, text.clone()),
        };
        let conflicted = match &self.conflict {
            None => Condition::of("Conflicted", false, "NoConflicts", ""),
            Some((reason, text)) => Condition::of("Conflicted", true, reason, text.clone()),
        };
        let programmed = match programmed {
            Some((_, text)) => Condition::of("Programmed", false, "Pending", text.clone()),
            None if self.serves() => Condition::good("Programmed"),
            None => {
                let text = "it is not served, see its other conditions";
                Condition::of("Programmed", false, "Invalid", text)
            }
        };
        json!({
            "name": self.spec.name,
            "supportedKinds": kinds,
            "attachedRoutes": self.attached,
            "conditions": conditions(&[accepted, programmed, resolved(&self.refs), conflicted], generation),
        })
    }
}

fn certificate(world: &World, namespace: &str, to: &Reference) -> Result<Certificate, Trouble> {
    let invalid = |text: String| ("InvalidCertificateRef", text);
    let kind = to.kind.as_deref().unwrap_or("Secret");
    if kind != "Secret" || to.group.as_deref().is_some_and(|group| !group.is_empty()) {
        return Err(invalid(format!("a certificate is a Secret, not `{kind}`")));
    }
    let there = to.namespace.as_deref().unwrap_or(namespace);
    let from = Party {
        kind: "Gateway",
        namespace,
    };
    let at = Party {
        kind: "Secret",
        namespace: there,
    };
    let name = &to.name;
    if !grants::allowed(&world.gateway.grants, from, at, name) {
        let text = format!(
            "no ReferenceGrant in `{there}` lets Gateways of `{namespace}` use the secret `{name}`"
        );
        return Err(("RefNotPermitted", text));
    }
    let found = world.secrets.all.get(&(there.to_owned(), name.clone()));
    let found = found.ok_or_else(|| {
        invalid(format!(
            "there is no secret `{there}/{name}` of type kubernetes.io/tls"
        ))
    })?;
    let part = |part: &str| found.data.as_ref().and_then(|data| data.get(part));
    let (Some(chain), Some(key)) = (part("tls.crt"), part("tls.key")) else {
        let text = format!("the secret `{there}/{name}` lacks tls.crt or tls.key");
        return Err(invalid(text));
    };
    let certificate = Certificate {
        chain: chain.0.as_slice().into(),
        key: key.0.as_slice().into(),
        source: format!("secret {there}/{name}").into(),
    };
    certificates::readable(&certificate)
        .map_err(|problem| invalid(format!("the secret `{there}/{name}`: {problem}")))?;
    Ok(certificate)
}

/// Listeners of one Gateway that want the same: none of them has it.
fn conflicts(listeners: &mut [Reading<'_>]) {
    let mut protocols: BTreeMap<u16, Vec<&str>> = BTreeMap::new();
    let mut hosts: BTreeMap<(u16, &str), usize> = BTreeMap::new();
    for it in listeners.iter().filter(|it| it.refused.is_none()) {
        let list = protocols.entry(it.spec.port).or_default();
        if !list.contains(&it.spec.protocol.as_str()) {
            list.push(&it.spec.protocol);
        }
        let host = it.spec.hostname.as_deref().unwrap_or_default();
        *hosts.entry((it.spec.port, host)).or_default() += 1;
    }
    for it in listeners.iter_mut().filter(|it| it.refused.is_none()) {
        let (port, host) = (
            it.spec.port,
            it.spec.hostname.as_deref().unwrap_or_default(),
        );
        if protocols.get(&port).is_some_and(|list| list.len() > 1) {
            let text = format!("port {port} is wanted for several protocols");
            it.conflict = Some(("ProtocolConflict", text));
        } else if hosts.get(&(port, host)).is_some_and(|count| *count > 1) {
            let text = format!("port {port} is wanted twice for the host `{host}`");
            it.conflict = Some(("HostnameConflict", text));
        }
    }
}

impl Site<'_> {
    /// Why none of its listeners is served.
    fn trouble(&self) -> Option<&Trouble> {
        self.refused.as_ref().or(self.address.as_ref().err())
    }

    /// Requests can come in.
    pub fn is_open(&self) -> bool {
        self.trouble().is_none()
    }

    /// Its status.
    pub fn status(&self) -> Value {
        let generation = self.gateway.metadata.generation.unwrap_or_default();
        let trouble = self.trouble();
        let accepted = self.accepted();
        let programmed = match trouble {
            Some((reason, text)) if self.refused.is_none() => {
                Condition::of("Programmed", false, reason, text.clone())
            }
            None if accepted.holds && self.listeners.iter().any(Reading::serves) => {
                Condition::good("Programmed")
            }
            _ => Condition::of(
                "Programmed",
                false,
                "Invalid",
                "none of its listeners is served",
            ),
        };
        let listeners: Vec<_> = self
            .listeners
            .iter()
            .map(|it| it.json(generation, trouble))
            .collect();
        let addresses: Vec<_> = self
            .address
            .iter()
            .map(|address| match address.parse::<std::net::IpAddr>() {
                Ok(_) => json!({ "type": "IPAddress", "value": address }),
                Err(_) => json!({ "type": "Hostname", "value": address }),
            })
            .collect();
        json!({
            "addresses": addresses,
            "conditions": conditions(&[accepted, programmed], generation),
            "listeners": listeners,
        })
    }

    fn accepted(&self) -> Condition {
        if let Some((reason, text)) = &self.refused {
            return Condition::of("Accepted", false, reason, text.clone());
        }
        let bad = |it: &&Reading<'_>| it.refused.is_some() || it.conflict.is_some();
        match self.listeners.iter().filter(bad).count() {
            0 => Condition::good("Accepted"),
            count => {
                let all = self.listeners.len();
                let text = format!("{count} of {all} listeners cannot be served");
                Condition::of("Accepted", count < all, "ListenersNotValid", text)
            }
        }
    }
}
