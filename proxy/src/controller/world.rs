//! What the cluster holds, as far as it is watched. Values only.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use kube::ResourceExt as _;

use super::gateway::world::GatewayWorld;

/// Namespace and name.
pub type Key = (String, String);

/// The objects of one kind. A relist is gathered apart and takes over as a whole, so that nothing
/// is missing while it lasts.
#[derive(Debug)]
pub struct Objects<K> {
    /// What is known.
    pub all: BTreeMap<Key, Arc<K>>,
    gathered: Option<BTreeMap<Key, Arc<K>>>,
    /// A whole list has come once.
    pub whole: bool,
}

impl<K> Default for Objects<K> {
    fn default() -> Self {
        Self {
            all: BTreeMap::new(),
            gathered: None,
            whole: false,
        }
    }
}

impl<K: kube::Resource> Objects<K> {
    /// Takes what a watch tells; true when that may change what is made of it.
    pub fn take(&mut self, event: kube::runtime::watcher::Event<K>) -> bool {
        use kube::runtime::watcher::Event;
        let key = |object: &K| (object.namespace().unwrap_or_default(), object.name_any());
        match event {
            Event::Apply(object) => {
                self.all.insert(key(&object), Arc::new(object));
                true
            }
            Event::Delete(object) => self.all.remove(&key(&object)).is_some(),
            Event::Init => {
                self.gathered = Some(BTreeMap::new());
                false
            }
            Event::InitApply(object) => {
                self.gathered
                    .get_or_insert_default()
                    .insert(key(&object), Arc::new(object));
                false
            }
            Event::InitDone => {
                self.all = self.gathered.take().unwrap_or_default();
                self.whole = true;
                true
            }
        }
    }
}

/// All of them.
#[derive(Debug, Default)]
pub struct World {
    /// Ingress objects.
    pub ingresses: Objects<Ingress>,
    /// Their classes.
    pub classes: Objects<IngressClass>,
    /// Services, for the names of their ports.
    pub services: Objects<Service>,
    /// Where the pods of services are.
    pub slices: Objects<EndpointSlice>,
    /// Secrets of type `kubernetes.io/tls`.
    pub secrets: Objects<Secret>,
    /// What there is of the Gateway API, where that is watched.
    pub gateway: GatewayWorld,
}

impl World {
    /// Everything has been listed once: before that, what is made of it would lack something.
    pub fn is_whole(&self) -> bool {
        self.ingresses.whole
            && self.classes.whole
            && self.services.whole
            && self.slices.whole
            && self.secrets.whole
    }

    /// The same of what Gateways need.
    pub fn is_whole_for_gateways(&self) -> bool {
        self.gateway.is_whole() && self.services.whole && self.slices.whole && self.secrets.whole
    }
}
