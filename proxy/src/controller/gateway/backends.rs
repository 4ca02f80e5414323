//! What a route passes requests on to. Pure. What cannot be followed answers 500, as the Gateway API
//! wants it, and the route's status says why.

use std::sync::Arc;

use comind_model::ingress::{Action, Forward, Protocol, Rewrite, Timeouts, Upstream, UpstreamTls};

use super::grants::{self, Party};
use super::kinds::BackendRef;
use super::status::Trouble;
use crate::controller::read::endpoints;
use crate::controller::world::World;

/// The route whose backends are read.
#[derive(Clone, Copy, Debug)]
pub struct Whose<'a> {
    /// Its kind.
    pub kind: &'static str,
    /// Its namespace.
    pub namespace: &'a str,
}

/// What becomes of requests that a backend gets.
pub fn action(
    world: &World,
    whose: Whose<'_>,
    backend: &BackendRef,
    (rewrite, timeouts): (Rewrite, Timeouts),
) -> Result<Action, Trouble> {
    Ok(Action::Forward(Box::new(Forward {
        upstream: upstream(world, whose, backend)?,
        rewrite,
        timeouts,
    })))
}

/// Its answer where it cannot be followed.
pub fn broken(text: &str) -> Action {
    Action::Respond {
        status: 500,
        body: format!("{text}\n").into(),
    }
}

fn upstream(world: &World, whose: Whose<'_>, backend: &BackendRef) -> Result<Upstream, Trouble> {
    let kind = backend.to.kind.as_deref().unwrap_or("Service");
    let group = backend.to.group.as_deref().unwrap_or_default();
    if kind != "Service" || !group.is_empty() {
        let text = format!("a backend is a Service, not `{kind}`");
        return Err(("InvalidKind", text));
    }
    let name = &backend.to.name;
    let there = backend.to.namespace.as_deref().unwrap_or(whose.namespace);
    let from = Party {
        kind: whose.kind,
        namespace: whose.namespace,
    };
    let at = Party {
        kind: "Service",
        namespace: there,
    };
    if !grants::allowed(&world.gateway.grants, from, at, name) {
        let text = format!(
            "no ReferenceGrant in `{there}` lets a {} of `{}` use the service `{name}`",
            whose.kind, whose.namespace
        );
        return Err(("RefNotPermitted", text));
    }
    let key = (there.to_owned(), name.clone());
    let missing = |text: String| ("BackendNotFound", text);
    let service = world.services.all.get(&key);
    let service =
        service.ok_or_else(|| missing(format!("there is no service `{there}/{name}`")))?;
    let spec = service.spec.as_ref();
    if spec.and_then(|spec| spec.type_.as_deref()) == Some("ExternalName") {
        // Whoever may write a service would have us ask any host that we can reach.
        let text =
            format!("service `{there}/{name}` is of type ExternalName, which is not followed");
        return Err(("UnsupportedValue", text));
    }
    let ports = spec
        .and_then(|spec| spec.ports.as_deref())
        .unwrap_or_default();
    let port = ports
        .iter()
        .find(|it| u16::try_from(it.port).ok() == backend.port);
    let port = port.ok_or_else(|| match backend.port {
        Some(port) => missing(format!("service `{there}/{name}` has no port {port}")),
        None => missing(format!(
            "service `{there}/{name}` is referred to without a port"
        )),
    })?;
    let lack: Arc<str> = format!("service {there}/{name} has no ready endpoint").into();
    Ok(Upstream {
        protocol: protocol(whose.kind, port.app_protocol.as_deref())?,
        endpoints: endpoints(world, &key, port.name.as_deref()),
        services: Vec::new(),
        tls: UpstreamTls::default(),
        send_proxy: None,
        lack: Some(lack),
    })
}

fn protocol(route: &str, told: Option<&str>) -> Result<Protocol, Trouble> {
    match told {
        Some("kubernetes.io/h2c" | "grpc") => Ok(Protocol::H2c),
        Some(told @ ("kubernetes.io/wss" | "https" | "HTTPS")) => {
            let text = format!("appProtocol `{told}` asks for TLS, and nothing says whom to trust");
            Err(("UnsupportedProtocol", text))
        }
        _ if route == "GRPCRoute" => Ok(Protocol::H2c),
        _ => Ok(Protocol::Http),
    }
}
