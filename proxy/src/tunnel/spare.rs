//! A worker's tunnels that nobody uses yet: opening one takes several round trips and TLS, so a few
//! are opened ahead for endpoints that are in use. Bounded, and none is kept for long.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use comind_model::ingress::Pod;

use super::gate::{Gate, Opened};
use super::refusal::Refusal;

/// So many for one endpoint.
const SPARES: usize = 2;
/// So many for all of them.
const ALL: usize = 32;
/// A server may close a connection on which nothing is asked.
const KEPT: Duration = Duration::from_secs(20);
/// How long opening one ahead may take.
const LIMIT: Duration = Duration::from_secs(10);

/// The tunnels of one worker.
#[derive(Clone, Debug)]
pub struct Tunnels {
    gate: Arc<Gate>,
    spares: Rc<RefCell<HashMap<u64, Spares>>>,
}

#[derive(Debug, Default)]
struct Spares {
    ready: Vec<(Opened, Instant)>,
    opening: usize,
}

impl Tunnels {
    /// None is open.
    pub fn new(gate: Arc<Gate>) -> Self {
        Self {
            gate,
            spares: Rc::default(),
        }
    }

    /// A tunnel to a port of a pod, for the endpoint with this number. After a connection there has broken
    /// it is a new one: those that were opened ahead may have broken with it, and do not know it yet.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn get(
        &self,
        endpoint: u64,
        pod: &Arc<Pod>,
        port: u16,
        (limit, broke): (Duration, bool),
    ) -> Result<Opened, Refusal> {
        if broke && let Some(spares) = self.spares.borrow_mut().get_mut(&endpoint) {
            spares.ready.clear();
        }
        let spare = self.spare(endpoint);
        let opened = match spare {
            Some(spare) => spare,
            None => self.gate.open(pod, port, limit).await?,
        };
        self.refill(endpoint, pod, port);
        Ok(opened)
    }

    fn spare(&self, endpoint: u64) -> Option<Opened> {
        let mut spares = self.spares.borrow_mut();
        let ready = &mut spares.get_mut(&endpoint)?.ready;
        // The newest is the least likely to be closing.
        while let Some((mut spare, since)) = ready.pop() {
            if since.elapsed() < KEPT && is_fresh(&mut spare) {
                return Some(spare);
            }
        }
        None
    }

    fn refill(&self, endpoint: u64, pod: &Arc<Pod>, port: u16) {
        let mut spares = self.spares.borrow_mut();
        let all: usize = spares
            .values()
            .map(|one| one.ready.len() + one.opening)
            .sum();
        let mine = spares.entry(endpoint).or_default();
        if all >= ALL || mine.ready.len() + mine.opening >= SPARES {
            return;
        }
        mine.opening += 1;
        let (this, pod) = (self.clone(), pod.clone());
        // It ends by its limit, or with the worker.
        tokio::task::spawn_local(async move {
            let opened = this.gate.open(&pod, port, LIMIT).await;
            let mut spares = this.spares.borrow_mut();
            let Some(mine) = spares.get_mut(&endpoint) else {
                return;
            };
            mine.opening -= 1;
            if let Ok(opened) = opened {
                mine.ready.push((opened, Instant::now()));
            }
        });
    }

    /// Closes what is old or broken, and all where nobody looked after them for long; called once a turn.
    pub fn tidy(&self, slept: bool) {
        self.spares.borrow_mut().retain(|_, one| {
            one.ready
                .retain_mut(|(spare, since)| !slept && since.elapsed() < KEPT && is_fresh(spare));
            one.opening > 0 || !one.ready.is_empty()
        });
    }
}

/// Nobody waits for it: it is asked again when it is wanted.
fn is_fresh(spare: &mut Opened) -> bool {
    spare.is_fresh(&mut Context::from_waker(Waker::noop()))
}
