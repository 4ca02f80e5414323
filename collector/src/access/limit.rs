//! How often each client may ask: a budget an address, in a bounded table.
//! Must not know what is asked. Time is tokio's.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::time::Instant;

use super::policy::Rate;

/// Addresses with a budget of their own; further ones share one until old ones are forgotten.
pub const MOST_CLIENTS: usize = 10_000;
/// The table is searched for old ones no more often.
const SEARCH: Duration = Duration::from_secs(1);

/// Budgets of clients.
#[derive(Debug)]
pub struct Limiter {
    quota: Quota,
    /// After this long a budget is full again, and may be forgotten.
    full_again: Duration,
    clock: DefaultClock,
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    clients: HashMap<IpAddr, (DefaultDirectRateLimiter, Instant)>,
    rest: DefaultDirectRateLimiter,
    searched: Option<Instant>,
}

impl Limiter {
    /// With this much for each client; `None` for a period of nothing.
    pub fn new(rate: Rate) -> Option<Self> {
        let quota = Quota::with_period(rate.period)?.allow_burst(rate.burst);
        Some(Self {
            quota,
            full_again: rate.period.saturating_mul(rate.burst.get()),
            clock: DefaultClock::default(),
            table: Mutex::new(Table {
                clients: HashMap::new(),
                rest: RateLimiter::direct(quota),
                searched: None,
            }),
        })
    }

    /// Takes one from a client's budget.
    ///
    /// # Errors
    /// With the time after which there is one again.
    pub fn take(&self, client: IpAddr, now: Instant) -> Result<(), Duration> {
        let client = network(client);
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let limiter = table.budget(client, self.quota, self.full_again, now);
        limiter
            .check()
            .map_err(|not_yet| not_yet.wait_time_from(self.clock.now()))
    }
}

impl Table {
    fn budget(
        &mut self,
        client: IpAddr,
        quota: Quota,
        full_again: Duration,
        now: Instant,
    ) -> &DefaultDirectRateLimiter {
        let full = self.clients.len() >= MOST_CLIENTS && !self.clients.contains_key(&client);
        if full && self.searched.is_none_or(|last| now - last >= SEARCH) {
            self.searched = Some(now);
            self.clients
                .retain(|_, (_, seen)| now.saturating_duration_since(*seen) < full_again);
        }
        if full && self.clients.len() >= MOST_CLIENTS {
            return &self.rest;
        }
        let (limiter, seen) = self
            .clients
            .entry(client)
            .or_insert_with(|| (RateLimiter::direct(quota), now));
        *seen = now;
        limiter
    }
}

/// Whose budget an address takes from: its own, and the network's where one customer has 2^64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(
            address.to_bits() & !u128::from(u64::MAX),
        )),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn limiter(burst: u32) -> Limiter {
        let rate = Rate {
            period: Duration::from_secs(600),
            burst: NonZeroU32::new(burst).unwrap(),
        };
        Limiter::new(rate).unwrap()
    }

    #[tokio::test]
    async fn each_client_has_a_budget_of_its_own() {
        let limiter = limiter(2);
        let now = Instant::now();
        let [a, b] = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse().unwrap());
        assert!(limiter.take(a, now).is_ok());
        assert!(limiter.take(a, now).is_ok());
        let wait = limiter.take(a, now).unwrap_err();
        assert!(wait > Duration::from_secs(500), "{wait:?}");
        assert!(limiter.take(b, now).is_ok());
    }

    #[tokio::test]
    async fn a_network_of_version_6_is_one_client_and_a_mapped_address_is_version_4() {
        let limiter = limiter(1);
        let now = Instant::now();
        assert!(limiter.take("2001:db8::1".parse().unwrap(), now).is_ok());
        assert!(
            limiter
                .take("2001:db8::ffff:2".parse().unwrap(), now)
                .is_err()
        );
        assert!(
            limiter
                .take("2001:db8:0:1::1".parse().unwrap(), now)
                .is_ok()
        );
        assert!(
            limiter
                .take("::ffff:192.0.2.1".parse().unwrap(), now)
                .is_ok()
        );
        assert!(limiter.take("192.0.2.1".parse().unwrap(), now).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn the_table_is_bounded_and_forgets_the_old() {
        let limiter = limiter(1);
        let now = Instant::now();
        let client = |number: usize| IpAddr::from((number as u32).to_be_bytes());
        for number in 0..MOST_CLIENTS {
            assert!(limiter.take(client(number), now).is_ok());
        }
        assert!(limiter.take(client(MOST_CLIENTS), now).is_ok());
        assert!(limiter.take(client(MOST_CLIENTS + 1), now).is_err());
        assert_eq!(limiter.table.lock().unwrap().clients.len(), MOST_CLIENTS);
        tokio::time::advance(Duration::from_secs(601)).await;
        assert!(
            limiter
                .take(client(MOST_CLIENTS + 2), Instant::now())
                .is_ok()
        );
        assert_eq!(limiter.table.lock().unwrap().clients.len(), 1);
    }
}
