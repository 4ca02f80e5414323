//! From the objects of a cluster to routes, certificates, and what is to be told of each object.
//! Pure: the same objects make the same routes, whatever order they came in. A bad object harms
//! none but itself.
//! Source: kubernetes.io/docs/concepts/services-networking/ingress.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use comind_model::ingress::{
    Action, Certificate, Controller, Endpoint, Forward, Host, Path, Protocol, Rewrite, Route,
    Upstream, UpstreamTls,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, Ingress, IngressBackend, IngressServiceBackend,
};
use kube::ResourceExt as _;

use super::annotations::{self, Annotations};
use super::guard::{self, Guard};
use super::world::{Key, World};
use crate::route::compile;
use crate::tunnel::resolve;

/// Marks classes whose Ingress objects are ours, whatever they are called.
pub const CONTROLLER: &str = "comind.pro/ingress";

const SERVICE_OF_SLICE: &str = "kubernetes.io/service-name";
const OLD_CLASS: &str = "kubernetes.io/ingress.class";
const DEFAULT_CLASS: &str = "ingressclass.kubernetes.io/is-default-class";

/// What is made of a cluster.
#[derive(Debug, Default, PartialEq)]
pub struct Made {
    /// Where requests go.
    pub routes: Vec<Route>,
    /// What is shown over TLS.
    pub certificates: Vec<Certificate>,
    /// The Ingress objects that are ours, with what is to be told of each.
    pub told: BTreeMap<Key, Vec<Told>>,
}

/// What is told of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Told {
    /// One word.
    pub reason: &'static str,
    /// A sentence.
    pub text: String,
}

/// Makes routes of all that is ours.
pub fn read(world: &World, wanted: &Controller) -> Made {
    let mut reading = Reading {
        world,
        made: Made::default(),
        taken: BTreeSet::new(),
        shown: BTreeSet::new(),
    };
    let mut ours: Vec<&Arc<Ingress>> = world
        .ingresses
        .all
        .values()
        .filter(|it| is_ours(it, world, wanted))
        .collect();
    // Of two that want the same the older one has it.
    ours.sort_by_key(|it| {
        (
            it.metadata.creation_timestamp.as_ref().map(|at| at.0),
            it.namespace(),
            it.name_any(),
        )
    });
    for ingress in ours {
        reading.ingress(ingress);
    }
    reading.made
}

fn is_ours(ingress: &Ingress, world: &World, wanted: &Controller) -> bool {
    if !wanted.namespaces.is_empty()
        && !wanted
            .namespaces
            .contains(&ingress.namespace().unwrap_or_default())
    {
        return false;
    }
    let named = ingress
        .spec
        .as_ref()
        .and_then(|spec| spec.ingress_class_name.as_ref());
    let named = named.or_else(|| ingress.annotations().get(OLD_CLASS));
    let class_is_ours = |name: &String| {
        let by_object = world
            .classes
            .all
            .get(&(String::new(), name.clone()))
            .is_some_and(|class| {
                class
                    .spec
                    .as_ref()
                    .and_then(|spec| spec.controller.as_deref())
                    == Some(CONTROLLER)
            });
        wanted.classes.contains(name) || by_object
    };
    match named {
        Some(name) => class_is_ours(name),
        None => world.classes.all.values().any(|class| {
            let default = class
                .annotations()
                .get(DEFAULT_CLASS)
                .is_some_and(|value| value == "true");
            default && class_is_ours(&class.name_any())
        }),
    }
}

struct Reading<'a> {
    world: &'a World,
    made: Made,
    taken: BTreeSet<(String, String)>,
    shown: BTreeSet<Key>,
}

/// One Ingress being read.
struct One<'a> {
    namespace: String,
    name: String,
    annotations: Annotations,
    /// Who may ask.
    guard: Guard,
    /// Hosts that have a certificate.
    secure: BTreeSet<&'a str>,
    told: Vec<Told>,
}

impl One<'_> {
    fn tell(&mut self, reason: &'static str, text: impl Into<String>) {
        self.told.push(Told {
            reason,
            text: text.into(),
        });
    }
}

impl<'a> Reading<'a> {
    fn ingress(&mut self, ingress: &'a Ingress) {
        let (namespace, name) = (ingress.namespace().unwrap_or_default(), ingress.name_any());
        let mut one = One {
            annotations: annotations::read(ingress.annotations()),
            guard: Guard::default(),
            namespace,
            name,
            secure: BTreeSet::new(),
            told: Vec::new(),
        };
        for problem in std::mem::take(&mut one.annotations.unknown) {
            one.tell("UnknownAnnotation", problem);
        }
        match guard::read(ingress.annotations(), &one.namespace) {
            Ok(guard) => {
                one.guard = guard;
                self.certificates(ingress, &mut one);
                self.rules(ingress, &mut one);
            }
            Err(text) => one.tell("NobodyAllowed", text),
        }
        self.made.told.insert((one.namespace, one.name), one.told);
    }

    fn certificates(&mut self, ingress: &'a Ingress, one: &mut One<'a>) {
        for tls in ingress
            .spec
            .iter()
            .flat_map(|spec| spec.tls.iter().flatten())
        {
            let hosts = tls.hosts.iter().flatten().map(String::as_str);
            one.secure.extend(hosts);
            // Without a secret the certificate of whoever serves is meant.
            let Some(secret) = &tls.secret_name else {
                continue;
            };
            let key = (one.namespace.clone(), secret.clone());
            let Some(found) = self.world.secrets.all.get(&key) else {
                one.tell(
                    "SecretMissing",
                    format!("there is no secret `{secret}` of type kubernetes.io/tls"),
                );
                continue;
            };
            let part = |name: &str| {
                found
                    .data
                    .as_ref()
                    .and_then(|data| data.get(name))
                    .map(|bytes| bytes.0.as_slice())
            };
            let (Some(chain), Some(private)) = (part("tls.crt"), part("tls.key")) else {
                one.tell(
                    "SecretIncomplete",
                    format!("the secret `{secret}` lacks tls.crt or tls.key"),
                );
                continue;
            };
            if self.shown.insert(key) {
                let source = format!("secret {}/{secret}", one.namespace).into();
                self.made.certificates.push(Certificate {
                    chain: chain.into(),
                    key: private.into(),
                    source,
                });
            }
        }
    }

    fn rules(&mut self, ingress: &'a Ingress, one: &mut One<'a>) {
        let Some(spec) = &ingress.spec else { return };
        for rule in spec.rules.iter().flatten() {
            let hosts = match &rule.host {
                Some(host) => std::iter::once(host.clone())
                    .chain(one.annotations.aliases.iter().cloned())
                    .collect(),
                None => vec!["*".to_owned()],
            };
            for host in hosts {
                for path in rule.http.iter().flat_map(|http| &http.paths) {
                    if let Err(text) = self.path(one, &host, path) {
                        one.tell(
                            "NotServed",
                            format!("{host}{}: {text}", path.path.as_deref().unwrap_or("/")),
                        );
                    }
                }
                self.app_root(one, &host);
            }
        }
        if let Some(backend) = &spec.default_backend {
            let path = HTTPIngressPath {
                backend: backend.clone(),
                path: Some("/".to_owned()),
                path_type: "Prefix".to_owned(),
            };
            if let Err(text) = self.path(one, "*", &path) {
                one.tell("NotServed", format!("default backend: {text}"));
            }
        }
    }

    fn app_root(&mut self, one: &mut One<'a>, host: &str) {
        let Some(root) = one.annotations.app_root.clone() else {
            return;
        };
        let action = Action::Redirect {
            to: root,
            status: 302,
        };
        let added = host
            .parse()
            .and_then(|host_of| self.add(one, host, host_of, Path::Exact("/".to_owned()), action));
        if let Err(text) = added {
            one.tell("NotServed", format!("{host}/: {text}"));
        }
    }

    fn path(
        &mut self,
        one: &mut One<'a>,
        host: &str,
        path: &HTTPIngressPath,
    ) -> Result<(), String> {
        let host_of: Host = host.parse()?;
        let text = path.path.clone().unwrap_or_else(|| "/".to_owned());
        if !text.starts_with('/') {
            return Err("a path begins with `/`".to_owned());
        }
        let groups = one
            .annotations
            .rewrite
            .as_ref()
            .is_some_and(|rewrite| rewrite.contains('$'));
        let path_of = match path.path_type.as_str() {
            "Exact" => Path::Exact(text),
            _ if one.annotations.regex || groups => Path::Regex(text),
            "Prefix" | "ImplementationSpecific" => Path::Prefix(text),
            other => return Err(format!("`{other}` is no pathType")),
        };
        compile::matcher(&path_of)?;
        let action = match &one.annotations.redirect {
            Some((to, status)) => Action::Redirect {
                to: to.clone(),
                status: *status,
            },
            None => Action::Forward(Box::new(Forward {
                upstream: self.upstream(one, &path.backend)?,
                rewrite: Rewrite {
                    path: one.annotations.rewrite.clone(),
                    host: one.annotations.upstream_host.clone(),
                    ..Rewrite::default()
                },
                timeouts: one.annotations.timeouts,
            })),
        };
        self.add(one, host, host_of, path_of, action)
    }

    fn add(
        &mut self,
        one: &One<'a>,
        host: &str,
        host_of: Host,
        path: Path,
        action: Action,
    ) -> Result<(), String> {
        let shown = match &path {
            Path::Exact(path) => format!("={path}"),
            Path::Prefix(path) => format!("{}/", path.trim_end_matches('/')),
            Path::Regex(path) => format!("~{path}"),
        };
        if !self.taken.insert((host.to_ascii_lowercase(), shown)) {
            return Err("an older Ingress has this host and path".to_owned());
        }
        let secure = one.secure.contains(host);
        let https_only = one.annotations.force_ssl_redirect
            || (secure && one.annotations.ssl_redirect != Some(false));
        let name = format!("{}/{} {host}{}", one.namespace, one.name, path.as_str());
        self.made.routes.push(Route {
            allow: one.guard.allow.clone(),
            https_only,
            body_limit: one.annotations.body.flatten(),
            demand: one.guard.demand.clone(),
            ..Route::open(name, host_of, path, action)
        });
        Ok(())
    }

    fn upstream(&self, one: &mut One<'a>, backend: &IngressBackend) -> Result<Upstream, String> {
        let Some(service) = &backend.service else {
            return Err("only services can be a backend".to_owned());
        };
        let key = (one.namespace.clone(), service.name.clone());
        let known = self
            .world
            .services
            .all
            .get(&key)
            .ok_or_else(|| format!("there is no service `{}`", service.name));
        let endpoints = match known {
            Ok(known) => {
                let spec = known.spec.as_ref();
                if spec.and_then(|spec| spec.type_.as_deref()) == Some("ExternalName") {
                    // Whoever may write a service would have us ask any host that we can reach.
                    return Err(format!(
                        "service `{}` is of type ExternalName, which is not followed",
                        service.name
                    ));
                }
                let port = port_of(
                    service,
                    spec.and_then(|spec| spec.ports.as_deref())
                        .unwrap_or_default(),
                )?;
                endpoints(self.world, &key, port.as_deref())
            }
            Err(text) => {
                one.tell("ServiceMissing", text);
                Vec::new()
            }
        };
        let lack = format!(
            "service {}/{} has no ready endpoint",
            one.namespace, service.name
        );
        Ok(Upstream {
            protocol: one.annotations.protocol.unwrap_or(Protocol::Http),
            endpoints,
            services: Vec::new(),
            tls: UpstreamTls {
                authority: None,
                name: one.annotations.tls_name.as_deref().map(Arc::from),
                // As there: pods rarely have a certificate that anybody knows.
                insecure: !one.annotations.verify,
            },
            send_proxy: None,
            lack: Some(lack.into()),
        })
    }
}

type ServicePort = k8s_openapi::api::core::v1::ServicePort;

/// The name of the port that a backend means, as endpoint slices bear it: none where the only
/// port of the service has no name.
fn port_of(
    backend: &IngressServiceBackend,
    ports: &[ServicePort],
) -> Result<Option<String>, String> {
    let wanted = backend.port.as_ref();
    let number = wanted.and_then(|port| port.number);
    let name = wanted.and_then(|port| port.name.as_deref());
    let fits = |port: &&ServicePort| {
        number == Some(port.port) || (name.is_some() && port.name.as_deref() == name)
    };
    match ports.iter().find(fits) {
        Some(port) => Ok(port.name.clone()),
        None => {
            let wanted = name
                .map(str::to_owned)
                .or_else(|| number.map(|number| number.to_string()));
            let wanted = wanted.unwrap_or_else(|| "(none)".to_owned());
            Err(format!("service `{}` has no port `{wanted}`", backend.name))
        }
    }
}

/// The ready pods of a service at a port, in order, so that the same pods make the same route.
pub(super) fn endpoints(world: &World, service: &Key, port: Option<&str>) -> Vec<Endpoint> {
    let of_service = |slice: &&Arc<EndpointSlice>| {
        slice.namespace().as_deref() == Some(&service.0)
            && slice
                .labels()
                .get(SERVICE_OF_SLICE)
                .is_some_and(|name| *name == service.1)
    };
    let slices = world
        .slices
        .all
        .values()
        .filter(of_service)
        .map(Arc::as_ref);
    let (places, _) = resolve::ready(slices, port);
    // One address may be named by several slices, and by another name of the pod.
    let found: BTreeSet<_> = places
        .into_iter()
        .map(|place| (place.address, place.port))
        .collect();
    let made = |(host, port): (String, u16)| Endpoint::plain(host.into(), port);
    found.into_iter().map(made).collect()
}
