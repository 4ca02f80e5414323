//! How much each client uses: connections counted by address, requests by a rate.
//! Must not know HTTP.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};

use comind_model::ingress::Limits;
use governor::{DefaultKeyedRateLimiter, Quota};

/// One client: an address, or a /64 of IPv6, which is what one customer gets.
fn key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let number = u128::from(address) & (u128::MAX << 64);
            IpAddr::V6(number.into())
        }
    }
}

/// Open connections, all and by client. Asked when one opens or closes, never for a request.
#[derive(Debug, Default)]
pub struct Connections {
    open: Mutex<(usize, HashMap<IpAddr, usize>)>,
}

/// Why a connection is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// All together have too many.
    All,
    /// This client has too many.
    Client,
}

impl Connections {
    /// Counts one more.
    ///
    /// # Errors
    /// When a limit is reached.
    pub fn open(self: &Arc<Self>, client: IpAddr, limits: &Limits) -> Result<Open, Full> {
        let client = key(client);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.0 >= limits.connections {
            return Err(Full::All);
        }
        let of_client = open.1.entry(client).or_default();
        if *of_client >= limits.connections_per_client {
            return Err(Full::Client);
        }
        *of_client += 1;
        open.0 += 1;
        Ok(Open {
            all: self.clone(),
            client,
        })
    }

    fn close(&self, client: IpAddr) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.0 -= 1;
        if let Some(count) = open.1.get_mut(&client) {
            *count -= 1;
            if *count == 0 {
                open.1.remove(&client);
            }
        }
    }
}

/// An open connection, counted until this is dropped.
#[derive(Debug)]
pub struct Open {
    all: Arc<Connections>,
    client: IpAddr,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.all.close(self.client);
    }
}

/// How often a client may ask.
#[derive(Debug)]
pub struct Rate(DefaultKeyedRateLimiter<IpAddr>);

impl Rate {
    /// Where a rate is wanted.
    pub fn new(limits: &Limits) -> Option<Self> {
        let per_second = NonZeroU32::new(limits.requests_per_second?)?;
        let burst = NonZeroU32::new(limits.burst).unwrap_or(NonZeroU32::MIN);
        Some(Self(DefaultKeyedRateLimiter::keyed(
            Quota::per_second(per_second).allow_burst(burst),
        )))
    }

    /// Whether one more request is within it.
    pub fn allows(&self, client: IpAddr) -> bool {
        self.0.check_key(&key(client)).is_ok()
    }

    /// Forgets clients that are at rest.
    pub fn tidy(&self) {
        self.0.retain_recent();
        self.0.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted_until_they_close() {
        let limits = Limits {
            connections: 3,
            connections_per_client: 2,
            ..Limits::default()
        };
        let all = Arc::new(Connections::default());
        let (a, b): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let first = all.open(a, &limits).unwrap();
        let second = all
            .open("::ffff:10.0.0.1".parse().unwrap(), &limits)
            .unwrap();
        assert_eq!(all.open(a, &limits).unwrap_err(), Full::Client);
        let third = all.open(b, &limits).unwrap();
        assert_eq!(all.open(b, &limits).unwrap_err(), Full::All);
        drop((first, second, third));
        assert!(all.open.lock().unwrap().1.is_empty());
    }
}
