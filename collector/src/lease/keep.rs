//! Keeps a lease, or waits for it: the task that says whether this process leads. Must not decide.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::kube::client::Access;
use crate::kube::failure;
use crate::leader::Leads;
use crate::lease::decide::{Do, Seen, Terms, decide, leads};
use crate::probe::failure::Failure;
use comind_model::reason::Reason;

/// The annotation in which the leader says what it has told, so that a new one goes on with it.
pub const TOLD: &str = "comind.pro/open-alerts";
/// What may stand in it; the API server takes 256 KiB of annotations.
pub const MOST_TOLD: usize = 100 << 10;

/// Which lease, and who we are.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// A kubeconfig; without one, the pod's service account.
    pub kubeconfig: Option<PathBuf>,
}

impl std::str::FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some((namespace, name))
                if !namespace.is_empty() && !name.is_empty() && !name.contains('/') =>
            {
                Ok(Self {
                    namespace: namespace.to_owned(),
                    name: name.to_owned(),
                    kubeconfig: None,
                })
            }
            _ => Err("write NAMESPACE/NAME, such as monitoring/comind-ops".to_owned()),
        }
    }
}

/// What the leader has told, and what the one before it had.
#[derive(Debug)]
pub struct Handover {
    /// What this process has told while it leads; goes into the lease.
    pub told: watch::Receiver<String>,
    /// What the one before had told, when this process begins to lead.
    pub found: watch::Sender<String>,
}

/// The task.
pub struct Keeper {
    place: Place,
    me: String,
    terms: Terms,
    leads: watch::Sender<bool>,
    handover: Handover,
    started: Instant,
    seen: Option<Seen>,
    lease: Option<Lease>,
    renewed: Option<Duration>,
}

impl Keeper {
    /// For a lease; and who reads whether we lead.
    pub fn new(place: Place, handover: Handover) -> (Self, Leads) {
        let (leads, reader) = watch::channel(false);
        let keeper = Self {
            me: identity(),
            place,
            terms: Terms::default(),
            leads,
            handover,
            started: Instant::now(),
            seen: None,
            lease: None,
            renewed: None,
        };
        (keeper, reader)
    }

    /// Keeps it until `stop`, then releases it.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut failing = false;
        let mut client = None;
        loop {
            let turned = tokio::select! {
                () = stop.cancelled() => break,
                turned = self.turn(&mut client) => turned,
            };
            match turned {
                Ok(()) => {
                    if std::mem::take(&mut failing) {
                        tracing::info!("the lease can be kept again");
                    }
                }
                Err(failure) => {
                    // Credentials may have been renewed: the next turn reads them anew.
                    client = None;
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!("failed to keep the lease, and will try again: {failure}");
                    }
                }
            }
            self.publish();
            if self.pause(&stop, failing).await {
                break;
            }
        }
        self.release(client).await;
    }

    /// Until the next turn; gives up leading in time. True when it is time to end.
    async fn pause(&mut self, stop: &CancellationToken, failing: bool) -> bool {
        let pause = match failing {
            true => self.terms.renew / 4,
            false => self.terms.renew,
        };
        let mut told = self.handover.told.clone();
        told.borrow_and_update();
        let next = Instant::now() + pause;
        loop {
            // A suspended process finds out here, before anybody reads that it leads.
            self.publish();
            let give_up = self
                .renewed
                .map(|at| self.started + at + self.terms.give_up);
            let leading = *self.leads.borrow();
            tokio::select! {
                () = stop.cancelled() => return true,
                () = tokio::time::sleep_until(next) => return false,
                Ok(()) = told.changed(), if leading => return false,
                () = tokio::time::sleep_until(give_up.unwrap_or(next)), if leading => {}
            }
        }
    }

    fn publish(&self) {
        let now = self.started.elapsed();
        let leading = leads(self.renewed, self.terms, now);
        let changed = self.leads.send_if_modified(|before| {
            let changed = *before != leading;
            *before = leading;
            changed
        });
        if changed {
            let place = &self.place;
            match leading {
                true => tracing::info!(
                    "this replica tells now (lease {}/{})",
                    place.namespace,
                    place.name
                ),
                false => tracing::info!(
                    "this replica tells no more (lease {}/{})",
                    place.namespace,
                    place.name
                ),
            }
        }
    }

    async fn turn(&mut self, client: &mut Option<kube::Client>) -> Result<(), Failure> {
        let limit = self.terms.renew;
        let work = self.look_and_write(client);
        match tokio::time::timeout(limit, work).await {
            Ok(result) => result,
            Err(_) => {
                let message = format!("the API server did not answer within {limit:?}");
                Err(Failure::new(Reason::Timeout, message))
            }
        }
    }

    async fn look_and_write(&mut self, held: &mut Option<kube::Client>) -> Result<(), Failure> {
        let client = match held {
            Some(client) => client.clone(),
            None => {
                let access = Access::of(self.place.kubeconfig.clone(), None)
                    .map_err(|error| Failure::new(Reason::ProberFault, error))?;
                held.insert(access.client().await?).clone()
            }
        };
        let api: Api<Lease> = Api::namespaced(client, &self.place.namespace);
        let found = api.get_opt(&self.place.name).await;
        let found = found.map_err(|error| failure::of("read the lease", &error))?;
        let now = self.started.elapsed();
        self.note(found, now);
        match decide(self.seen.as_ref(), &self.me, now) {
            Do::Wait => {
                self.renewed = None;
                Ok(())
            }
            what => {
                let told = match what {
                    Do::Take => self.annotation(),
                    // Still ours, though we gave up meanwhile: go on with what we told ourselves.
                    _ => self.handover.told.borrow().clone(),
                };
                self.write(&api, now).await?;
                if !*self.leads.borrow() {
                    self.handover.found.send_replace(told);
                }
                Ok(())
            }
        }
    }

    fn annotation(&self) -> String {
        let annotations = self
            .lease
            .as_ref()
            .and_then(|lease| lease.metadata.annotations.as_ref());
        annotations
            .and_then(|all| all.get(TOLD))
            .cloned()
            .unwrap_or_default()
    }

    fn note(&mut self, found: Option<Lease>, now: Duration) {
        self.lease = found;
        let Some(lease) = &self.lease else {
            self.seen = None;
            return;
        };
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        if self
            .seen
            .as_ref()
            .is_some_and(|seen| seen.version == version)
        {
            return;
        }
        let spec = lease.spec.as_ref();
        let seconds = spec
            .and_then(|spec| spec.lease_duration_seconds)
            .unwrap_or(0);
        self.seen = Some(Seen {
            holder: spec
                .and_then(|spec| spec.holder_identity.clone())
                .unwrap_or_default(),
            version,
            duration: Duration::from_secs(u64::try_from(seconds).unwrap_or(0)),
            since: now,
        });
    }

    /// Writes it as ours. The API server refuses it if somebody else wrote it meanwhile.
    async fn write(&mut self, api: &Api<Lease>, now: Duration) -> Result<(), Failure> {
        let time = MicroTime(jiff::Timestamp::now());
        let before = self.lease.take();
        let old = before
            .as_ref()
            .and_then(|lease| lease.spec.clone())
            .unwrap_or_default();
        let ours = old.holder_identity.as_deref() == Some(&*self.me);
        let told = self.handover.told.borrow().clone();
        let annotations = match ours && told.len() <= MOST_TOLD {
            true => Some(BTreeMap::from([(TOLD.to_owned(), told)])),
            // At first what the one before told must not be lost.
            false => before
                .as_ref()
                .and_then(|lease| lease.metadata.annotations.clone()),
        };
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(self.place.name.clone()),
                resource_version: before
                    .as_ref()
                    .and_then(|l| l.metadata.resource_version.clone()),
                annotations,
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.me.clone()),
                lease_duration_seconds: i32::try_from(self.terms.duration.as_secs()).ok(),
                acquire_time: if ours {
                    old.acquire_time
                } else {
                    Some(time.clone())
                },
                renew_time: Some(time),
                lease_transitions: Some(old.lease_transitions.unwrap_or(0) + i32::from(!ours)),
                ..LeaseSpec::default()
            }),
        };
        let written = match before {
            Some(_) => {
                api.replace(&self.place.name, &PostParams::default(), &lease)
                    .await
            }
            None => api.create(&PostParams::default(), &lease).await,
        };
        match written {
            Ok(written) => {
                self.note(Some(written), now);
                self.renewed = Some(now);
                Ok(())
            }
            // Another one was faster: look again.
            Err(kube::Error::Api(status)) if status.code == 409 => {
                self.renewed = None;
                Ok(())
            }
            Err(error) => Err(failure::of("write the lease", &error)),
        }
    }

    /// Lets another one take it at once.
    async fn release(&mut self, client: Option<kube::Client>) {
        if !leads(self.renewed, self.terms, self.started.elapsed()) {
            return;
        }
        self.renewed = None;
        self.publish();
        let Some(client) = client else { return };
        let api: Api<Lease> = Api::namespaced(client, &self.place.namespace);
        let Some(mut lease) = self.lease.take() else {
            return;
        };
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = None;
        }
        let params = PostParams::default();
        let released = api.replace(&self.place.name, &params, &lease);
        if !matches!(
            tokio::time::timeout(self.terms.renew, released).await,
            Ok(Ok(_))
        ) {
            tracing::warn!("the lease was not released: another replica waits until it runs out");
        }
    }
}

/// Who we are: the pod's or the machine's name, and something that no other process has.
fn identity() -> String {
    let host = std::env::var("POD_NAME").or_else(|_| std::env::var("HOSTNAME"));
    let host = host.unwrap_or_else(|_| {
        let name = rustix::system::uname();
        name.nodename().to_string_lossy().into_owned()
    });
    let now = jiff::Timestamp::now().as_nanosecond();
    format!("{host}_{}_{now:x}", std::process::id())
}
