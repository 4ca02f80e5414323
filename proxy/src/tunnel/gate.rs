//! Opens tunnels. A failure that may pass is tried again: at once, then ever later, until the limit.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use comind_model::ingress::Pod;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use kube::Client;
use kube::core::Request;

use super::refusal::{self, Refusal};
use super::resolve::Whose;
use super::stream::Tunnel;

/// A tunnel as it is made here.
pub type Opened = Tunnel<TokioIo<Upgraded>>;

/// The first try may take so long, and each further one twice as long as the one before: one that gets no
/// answer leaves time for others, and who is merely slow gets its time.
const TRY: Duration = Duration::from_secs(4);
/// The pause before the third try; it doubles …
const PAUSE: Duration = Duration::from_millis(50);
/// … up to this.
const LONGEST: Duration = Duration::from_secs(2);

/// The client of each cluster, where there is one. All workers share it.
#[derive(Default)]
pub struct Gate {
    clusters: ArcSwap<BTreeMap<Whose, Way>>,
}

/// How a cluster is asked.
#[derive(Clone, Default)]
struct Way {
    client: Option<Client>,
    /// Why there is none.
    lack: Option<String>,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let clusters = self.clusters.load();
        let open = clusters.values().filter(|way| way.client.is_some());
        write!(f, "Gate(open: {} of {})", open.count(), clusters.len())
    }
}

impl Gate {
    /// From now on this one is asked of that cluster.
    pub fn set(&self, whose: &Whose, client: &Result<Client, String>) {
        self.clusters.rcu(|before| {
            let mut clusters = BTreeMap::clone(before);
            let way = clusters.entry(whose.clone()).or_default();
            match client {
                Ok(client) => way.client = Some(client.clone()),
                // A client that there is goes on: its tunnels may work.
                Err(lack) => way.lack = Some(lack.clone()),
            }
            clusters
        });
    }

    /// A tunnel to a port of a pod within `limit`.
    ///
    /// # Errors
    /// With the reason of the last try.
    pub async fn open(&self, pod: &Pod, port: u16, limit: Duration) -> Result<Opened, Refusal> {
        let until = Instant::now() + limit;
        let mut tries = 0_u32;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let given = TRY.saturating_mul(1 << tries.min(10)).min(left);
            let tried = tokio::time::timeout(given, self.once(pod, port)).await;
            let refusal = match tried {
                Ok(Ok(tunnel)) => return Ok(tunnel),
                Ok(Err(refusal)) => refusal,
                Err(_) => Refusal::Away(format!(
                    "no tunnel to {}/{}:{port} within {limit:?}: the API server, or the node, does not answer",
                    pod.namespace, pod.name
                )),
            };
            let pause = pause_after(tries);
            tries += 1;
            if refusal.is_final() || Instant::now() + pause >= until {
                return Err(refusal);
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn once(&self, pod: &Pod, port: u16) -> Result<Opened, Refusal> {
        let place = format!("{}/{}:{port}", pod.namespace, pod.name);
        let way = self.clusters.load().get(&pod.cluster).cloned();
        let Way { client, lack } = way.unwrap_or_default();
        let Some(client) = client else {
            let lack = lack.unwrap_or_else(|| "no cluster is known yet".to_owned());
            return Err(Refusal::NoCluster(lack));
        };
        let request = Request::new(format!("/api/v1/namespaces/{}/pods", pod.namespace))
            .portforward(&pod.name, &[port])
            .map_err(|error| Refusal::Gone(format!("{place} is no place: {error}")))?;
        let connected = client.connect(request).await;
        let connection =
            connected.map_err(|error| refusal::of_api(&pod.namespace, &place, &error))?;
        Ok(Tunnel::new(connection.into_stream(), place))
    }
}

/// The pause after so many tries.
pub(super) fn pause_after(tries: u32) -> Duration {
    pause(tries, RandomState::new().hash_one(tries))
}

/// How long is waited after so many tries: not at all after the first, then twice as long each time,
/// of which between a half and all, so that those who failed together do not come back together.
fn pause(tries: u32, draw: u64) -> Duration {
    if tries == 0 {
        return Duration::ZERO;
    }
    let whole = PAUSE.saturating_mul(1 << (tries - 1).min(10)).min(LONGEST);
    let share = (draw % 1000) as f64 / 2000.0;
    whole.mul_f64(0.5 + share)
}

#[cfg(test)]
mod tests {
    use super::*;
    use comind_model::ingress::Cluster;
    use std::sync::Arc;

    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_second_try_is_at_once_and_pauses_are_bounded(tries in 0_u32..100, draw: u64) {
            let pause = pause(tries, draw);
            prop_assert_eq!(pause.is_zero(), tries == 0);
            prop_assert!(pause <= LONGEST);
            if tries >= 1 {
                prop_assert!(pause >= PAUSE / 2);
            }
            if tries >= 8 {
                prop_assert!(pause >= LONGEST / 2);
            }
        }
    }

    #[tokio::test]
    async fn without_a_cluster_the_lack_is_said() {
        let gate = Gate::default();
        let lack = "kubeconfig /nowhere: no such file";
        gate.set(&None, &Err(lack.to_owned()));
        let other = Cluster {
            context: Some("other".to_owned()),
            ..Cluster::default()
        };
        gate.set(&Some(Arc::new(other)), &Err("another one's".to_owned()));
        let pod = Pod {
            cluster: None,
            namespace: "a".into(),
            name: "b".into(),
        };
        let refused = gate.open(&pod, 1, Duration::ZERO).await;
        assert_eq!(refused.unwrap_err(), Refusal::NoCluster(lack.to_owned()));
    }
}
