//! Environments side by side: what must differ between them. Pure.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::Serialize;

/// An environment of the platform.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Env {
    /// Where one tries things out.
    #[default]
    Dev,
    /// As production will be.
    Stage,
    /// For tests.
    Qa,
    /// Production.
    Prod,
}

impl Env {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Dev, Self::Stage, Self::Qa, Self::Prod];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Stage => "stage",
            Self::Qa => "qa",
            Self::Prod => "prod",
        }
    }

    /// The cluster's name, which is also that of its node, its context and its network namespace.
    pub fn cluster(self) -> String {
        format!("comind-ops-{}", self.name())
    }

    fn number(self) -> u8 {
        match self {
            Self::Dev => 0,
            Self::Stage => 1,
            Self::Qa => 2,
            Self::Prod => 3,
        }
    }

    /// This machine's address towards the cluster's node. The network is a /24 of its own.
    pub fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 231, self.number(), 1)
    }

    /// The node's address.
    pub fn node(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 231, self.number(), 2)
    }

    /// What Services of type LoadBalancer get of the same network; none of it is anyone's own address.
    pub fn pool(self) -> RangeInclusive<Ipv4Addr> {
        let address = |last| Ipv4Addr::new(10, 231, self.number(), last);
        address(200)..=address(239)
    }

    /// The network of both, in the notation of routes.
    pub fn network(self) -> String {
        format!("10.231.{}.0/24", self.number())
    }

    /// This machine's end of the cable between the two; names of links have at most 15 bytes.
    pub fn link(self) -> String {
        format!("comind-{}", self.name())
    }
}

impl FromStr for Env {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|env| env.name() == name);
        found.ok_or_else(|| "the environments are dev, stage, qa, prod".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::{Env, Ipv4Addr};
    use std::collections::BTreeSet;

    #[test]
    fn no_two_share_anything() {
        let all = Env::ALL;
        let distinct =
            |of: fn(Env) -> String| all.map(of).into_iter().collect::<BTreeSet<_>>().len();
        assert_eq!(distinct(|env| env.network()), 4);
        assert_eq!(distinct(|env| env.link()), 4);
        assert_eq!(distinct(|env| format!("{:?}", env.pool())), 4);
        assert!(all.iter().all(|env| env.link().len() <= 15));
        assert!(all.iter().all(|env| env.name().parse() == Ok(*env)));
    }

    #[test]
    fn addresses_that_are_given_are_nobodys_own() {
        for env in Env::ALL {
            let (pool, node) = (env.pool(), env.node());
            assert!(!pool.contains(&node) && !pool.contains(&env.gateway()));
            let network = |address: &Ipv4Addr| address.octets()[..3].to_vec();
            assert_eq!(network(pool.start()), network(&node));
            assert_eq!(network(pool.end()), network(&node));
        }
    }
}
