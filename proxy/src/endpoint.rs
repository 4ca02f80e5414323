//! One place of an upstream as all workers know it: how it answers, and whether it is trusted.
//! The rules are pure (`now` is an argument, thresholds are data); the state is a few atomics, so
//! that no request waits for another. Must not know sockets.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use comind_model::ingress::Pod;
use http::HeaderValue;
use tokio::sync::watch;

/// When an endpoint is set aside because of what requests meet there.
#[derive(Clone, Copy, Debug)]
pub struct Thresholds {
    /// So many failures in a row.
    pub failures: u32,
    /// For so long at first; twice as long each further time.
    pub aside: Duration,
    /// Never longer.
    pub longest: Duration,
    /// So many good answers in a row make it forget an earlier time.
    pub forgives: u32,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            failures: 5,
            aside: Duration::from_secs(5),
            longest: Duration::from_secs(300),
            forgives: 20,
        }
    }
}

/// What is known of an endpoint.
#[derive(Debug)]
pub struct Endpoint {
    /// A number of its own, for the pools of the workers.
    pub id: u64,
    /// A name or an address.
    pub host: Arc<str>,
    /// Port.
    pub port: u16,
    /// The target of the collector that watches it.
    pub target: Option<Arc<str>>,
    /// The pod that it is, where only a tunnel leads there.
    pub pod: Option<Arc<Pod>>,
    /// `Host` for it, in place of any other.
    pub as_host: Option<HeaderValue>,
    /// It is talked to without TLS, whatever its neighbours are.
    pub plain: bool,
    thresholds: Thresholds,
    in_flight: AtomicU32,
    /// Moving average of the time to an answer's head, in microseconds.
    latency: AtomicU32,
    failures: AtomicU32,
    good: AtomicU32,
    /// How often it was set aside and not forgiven.
    times: AtomicU32,
    /// In milliseconds of the proxy's clock.
    aside_until: AtomicU64,
    /// The collector says that it is down.
    down: AtomicBool,
    /// It is not in force any more.
    left: watch::Sender<bool>,
}

impl Endpoint {
    /// Nothing bad is known of it.
    pub fn new(id: u64, host: Arc<str>, port: u16, target: Option<Arc<str>>) -> Self {
        Self {
            id,
            host,
            port,
            target,
            pod: None,
            as_host: None,
            plain: false,
            thresholds: Thresholds::default(),
            in_flight: AtomicU32::new(0),
            latency: AtomicU32::new(0),
            failures: AtomicU32::new(0),
            good: AtomicU32::new(0),
            times: AtomicU32::new(0),
            aside_until: AtomicU64::new(0),
            down: AtomicBool::new(false),
            left: watch::Sender::new(false),
        }
    }

    /// A request goes there.
    pub fn begins(&self) {
        self.in_flight.fetch_add(1, Relaxed);
    }

    /// It has ended, however.
    pub fn ends(&self) {
        self.in_flight.fetch_sub(1, Relaxed);
    }

    /// It answered after so long.
    pub fn answered(&self, took: Duration) {
        let sample = u32::try_from(took.as_micros()).unwrap_or(u32::MAX).max(1);
        let before = self.latency.load(Relaxed);
        // A lost update between workers costs one sample.
        self.latency.store(smoothed(before, sample), Relaxed);
        // What is zero anyway is not written: the line stays shared between cores.
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
        }
        if self.times.load(Relaxed) != 0
            && self.good.fetch_add(1, Relaxed) + 1 >= self.thresholds.forgives
        {
            self.times.store(0, Relaxed);
        }
    }

    /// It failed: refused, reset, silent, or said itself that it cannot. True when it is set
    /// aside from now on.
    pub fn failed(&self, now_ms: u64) -> bool {
        self.good.store(0, Relaxed);
        let failures = self.failures.fetch_add(1, Relaxed) + 1;
        if failures < self.thresholds.failures || self.is_aside(now_ms) {
            return false;
        }
        self.failures.store(0, Relaxed);
        let times = self.times.fetch_add(1, Relaxed);
        let aside = aside_for(&self.thresholds, times);
        let until = now_ms + u64::try_from(aside.as_millis()).unwrap_or(u64::MAX);
        self.aside_until.store(until, Relaxed);
        true
    }

    /// It is set aside because of failures.
    pub fn is_aside(&self, now_ms: u64) -> bool {
        self.aside_until.load(Relaxed) > now_ms
    }

    /// Requests go there by choice.
    pub fn is_usable(&self, now_ms: u64) -> bool {
        !self.down.load(Relaxed) && !self.is_aside(now_ms)
    }

    /// What the collector says of its target.
    pub fn is_down(&self, down: bool) {
        if self.down.swap(down, Relaxed) && !down {
            // Known to work again: what was held against it is old.
            self.aside_until.store(0, Relaxed);
            self.failures.store(0, Relaxed);
        }
    }

    /// Whether nothing leads there any more. It may come back.
    pub fn is_left(&self, left: bool) {
        self.left
            .send_if_modified(|before| std::mem::replace(before, left) != left);
    }

    /// Until that is so.
    pub async fn until_left(&self) {
        let mut left = self.left.subscribe();
        // Whoever waits here holds it, so that this cannot fail.
        let _ = left.wait_for(|left| *left).await;
    }

    /// What a further request would cost there: requests under way, each as slow as the last ones.
    fn load(&self) -> u64 {
        let waiting = u64::from(self.in_flight.load(Relaxed)) + 1;
        waiting * u64::from(self.latency.load(Relaxed).max(1))
    }
}

/// A moving average in which the newest sample weighs an eighth, and a bad one a half: slowness
/// is noticed at once and forgotten slowly.
fn smoothed(before: u32, sample: u32) -> u32 {
    if before == 0 {
        return sample;
    }
    let (before, sample) = (u64::from(before), u64::from(sample));
    let next = match sample > before * 4 {
        true => (before + sample) / 2,
        false => (before * 7 + sample) / 8,
    };
    u32::try_from(next).unwrap_or(u32::MAX)
}

fn aside_for(thresholds: &Thresholds, times: u32) -> Duration {
    let factor = 1_u32.checked_shl(times.min(16)).unwrap_or(u32::MAX);
    thresholds
        .aside
        .saturating_mul(factor)
        .min(thresholds.longest)
}

/// An endpoint with its share.
#[derive(Clone, Debug)]
pub struct Weighted {
    /// The endpoint.
    pub endpoint: Arc<Endpoint>,
    /// Its share beside the others.
    pub weight: u32,
    /// Those of a higher number are asked only while none of a lower one can be.
    pub tier: u8,
}

/// Chooses the better of two that are drawn by weight. Where none is usable all are tried (it
/// is better to be wrong about an upstream than to be its outage). Of several tiers the lowest counts
/// that has a usable one. `draw` gives a number below
/// its argument; `but` was tried already.
pub fn choose(
    all: &[Weighted],
    but: Option<u64>,
    now_ms: u64,
    mut draw: impl FnMut(u64) -> u64,
) -> Option<&Arc<Endpoint>> {
    if let [only] = all {
        return (only.weight > 0).then_some(&only.endpoint);
    }
    let usable = |one: &Weighted| {
        one.weight > 0 && Some(one.endpoint.id) != but && one.endpoint.is_usable(now_ms)
    };
    let any = |one: &Weighted| one.weight > 0 && Some(one.endpoint.id) != but;
    of_lowest_tier(all, usable, &mut draw)
        .or_else(|| of_lowest_tier(all, any, &mut draw))
        .or_else(|| of_lowest_tier(all, |one| one.weight > 0, &mut draw))
}

fn of_lowest_tier<'a>(
    all: &'a [Weighted],
    fits: impl Fn(&Weighted) -> bool,
    draw: &mut impl FnMut(u64) -> u64,
) -> Option<&'a Arc<Endpoint>> {
    let lowest = all
        .iter()
        .filter(|one| fits(one))
        .map(|one| one.tier)
        .min()?;
    pick(all, |one| one.tier == lowest && fits(one), draw)
}

fn pick<'a>(
    all: &'a [Weighted],
    fits: impl Fn(&Weighted) -> bool,
    draw: &mut impl FnMut(u64) -> u64,
) -> Option<&'a Arc<Endpoint>> {
    let sum: u64 = all
        .iter()
        .filter(|one| fits(one))
        .map(|one| u64::from(one.weight))
        .sum();
    let mut drawn = || {
        let mut at = draw(sum.max(1));
        all.iter().filter(|one| fits(one)).find(|one| {
            let weight = u64::from(one.weight);
            let here = at < weight;
            at = at.saturating_sub(weight);
            here
        })
    };
    let (first, second) = (drawn()?, drawn()?);
    let better = match second.endpoint.load() < first.endpoint.load() {
        true => second,
        false => first,
    };
    Some(&better.endpoint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;
    use proptest::prelude::*;

    fn endpoints(weights: &[u32]) -> Vec<Weighted> {
        let made = |(id, weight): (usize, &u32)| Weighted {
            endpoint: Arc::new(Endpoint::new(id as u64, "a".into(), 1, None)),
            weight: *weight,
            tier: 0,
        };
        weights.iter().enumerate().map(made).collect()
    }

    /// A small generator, the same each time.
    fn draws() -> impl FnMut(u64) -> u64 {
        let mut state = 1_u64;
        move |below| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        }
    }

    #[test]
    fn set_aside_after_failures_in_a_row_and_longer_each_time() {
        let endpoint = Endpoint::new(1, "a".into(), 1, None);
        let fail = |now| (0..5).map(|_| endpoint.failed(now)).collect::<Vec<_>>();
        assert_eq!(fail(1000), [false, false, false, false, true]);
        assert!(endpoint.is_aside(5999) && !endpoint.is_aside(6000));
        // What still fails while it is aside changes nothing.
        assert!(!endpoint.failed(2000));
        endpoint.answered(Duration::from_millis(1));
        assert_eq!(fail(10_000).last(), Some(&true));
        assert!(endpoint.is_aside(19_999) && !endpoint.is_aside(20_000));
        (0..20).for_each(|_| endpoint.answered(Duration::from_millis(1)));
        assert_eq!(fail(30_000).last(), Some(&true));
        assert!(!endpoint.is_aside(35_000));
    }

    #[test]
    fn a_good_answer_breaks_the_row() {
        let endpoint = Endpoint::new(1, "a".into(), 1, None);
        for _ in 0..100 {
            (0..4).for_each(|_| assert!(!endpoint.failed(0)));
            endpoint.answered(Duration::from_millis(1));
        }
    }

    #[tokio::test]
    async fn who_waits_there_learns_that_it_is_left() {
        let endpoint = Endpoint::new(1, "a".into(), 1, None);
        assert!(endpoint.until_left().now_or_never().is_none());
        tokio::join!(endpoint.until_left(), async { endpoint.is_left(true) });
        // Who comes later too, until it is back.
        assert!(endpoint.until_left().now_or_never().is_some());
        endpoint.is_left(false);
        assert!(endpoint.until_left().now_or_never().is_none());
    }

    #[test]
    fn all_are_tried_when_all_look_bad() {
        let all = endpoints(&[1, 1]);
        all.iter().for_each(|one| one.endpoint.is_down(true));
        assert!(choose(&all, None, 0, draws()).is_some());
        all[1].endpoint.is_down(false);
        for _ in 0..50 {
            assert_eq!(choose(&all, None, 0, draws()).unwrap().id, 1);
        }
        assert_eq!(choose(&all, Some(1), 0, draws()).unwrap().id, 0);
        assert!(choose(&endpoints(&[0, 0]), None, 0, draws()).is_none());
        assert!(choose(&[], None, 0, draws()).is_none());
    }

    #[test]
    fn a_higher_tier_waits_for_the_lower_one_to_fail() {
        let mut all = endpoints(&[1, 1, 1]);
        all[1].tier = 1;
        all[2].tier = 1;
        for _ in 0..50 {
            assert_eq!(choose(&all, None, 0, draws()).unwrap().id, 0);
        }
        // What has just failed is not asked again while another tier can be.
        assert_ne!(choose(&all, Some(0), 0, draws()).unwrap().id, 0);
        all[0].endpoint.is_down(true);
        assert_ne!(choose(&all, None, 0, draws()).unwrap().id, 0);
        all[1].endpoint.is_down(true);
        all[2].endpoint.is_down(true);
        assert_eq!(choose(&all, None, 0, draws()).unwrap().id, 0);
    }

    #[test]
    fn the_slower_gets_less() {
        let all = endpoints(&[1, 1]);
        all[0].endpoint.answered(Duration::from_millis(50));
        all[1].endpoint.answered(Duration::from_millis(1));
        let mut draw = draws();
        let slow = (0..1000)
            .filter(|_| choose(&all, None, 0, &mut draw).unwrap().id == 0)
            .count();
        // Only when both draws hit it.
        assert!((150..350).contains(&slow), "{slow}");
    }

    proptest! {
        #[test]
        fn shares_follow_weights(weights in prop::collection::vec(0_u32..5, 1..5)) {
            let all = endpoints(&weights);
            let mut draw = draws();
            let mut count = vec![0_u32; weights.len()];
            for _ in 0..2000 {
                if let Some(chosen) = choose(&all, None, 0, &mut draw) {
                    count[chosen.id as usize] += 1;
                }
            }
            for (count, weight) in count.iter().zip(&weights) {
                prop_assert_eq!(*count == 0, *weight == 0);
            }
        }
    }
}
