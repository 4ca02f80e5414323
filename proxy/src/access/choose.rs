//! Which way leads to a service now: the ingress, else the Service's own address, else a tunnel. Pure.

use serde::Serialize;

/// A way, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// Through the cluster's ingress: as everybody comes.
    Ingress,
    /// To the address of the Service.
    Service,
    /// Through the API server to a pod.
    Tunnel,
}

impl Way {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Ingress, Self::Service, Self::Tunnel];

    /// As people call it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Service => "service",
            Self::Tunnel => "tunnel",
        }
    }
}

/// What a look at a way has seen.
pub type Seen = Result<String, String>;

/// A way that nobody has looked at.
pub const UNSEEN: &str = "not looked at yet";
/// A service of which the cluster has not told yet.
pub const SOUGHT: &str = "the service is being looked for";
/// A tunnel of which nothing is known yet.
pub const OPENING: &str = "a first tunnel is being opened";

/// So many good looks in a row bring a better way back: one that comes and goes is not followed.
const RETURNS: u32 = 2;

/// One way as it has been.
#[derive(Clone, Debug)]
struct Track {
    last: Seen,
    good: u32,
    usable: bool,
}

impl Default for Track {
    fn default() -> Self {
        Self {
            last: Err(UNSEEN.to_owned()),
            good: 0,
            usable: false,
        }
    }
}

/// The ways to one service.
#[derive(Clone, Debug, Default)]
pub struct Ways([Track; 3]);

/// What is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Chosen {
    /// Which way; none leads there now.
    pub way: Option<Way>,
    /// Why it, and why not a better one.
    pub why: String,
}

impl Chosen {
    /// Whether nothing leads there only because not everything has been looked at.
    pub fn is_early(&self) -> bool {
        let open = [UNSEEN, SOUGHT, OPENING];
        self.way.is_none() && open.iter().any(|text| self.why.contains(text))
    }
}

impl Ways {
    /// Takes what has been seen of one.
    pub fn take(&mut self, way: Way, seen: Seen) {
        let first = self.0.iter().all(|track| !track.usable);
        let track = &mut self.0[way as usize];
        match seen {
            Ok(_) => {
                track.good = track.good.saturating_add(1);
                // Where nothing works there is nothing to be careful of.
                track.usable |= first || track.good >= RETURNS;
            }
            Err(_) => {
                track.good = 0;
                track.usable = false;
            }
        }
        track.last = seen;
    }

    /// Whether requests may go this way.
    pub fn is_usable(&self, way: Way) -> bool {
        self.0[way as usize].usable
    }

    /// The best that works.
    pub fn chosen(&self) -> Chosen {
        let way = Way::ALL.into_iter().find(|way| self.is_usable(*way));
        let better = Way::ALL
            .into_iter()
            .filter(|one| way.is_none_or(|way| *one < way));
        let why_not = better.map(|one| match &self.0[one as usize].last {
            Ok(_) => format!("{}: works again, watched a little longer", one.as_str()),
            Err(text) => format!("{}: {text}", one.as_str()),
        });
        let why_not: Vec<String> = why_not.collect();
        let good = way.and_then(|way| self.0[way as usize].last.clone().ok());
        let why: Vec<String> = good.into_iter().chain(why_not).collect();
        Chosen {
            way,
            why: why.join("; "),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Seen {
        Ok("answers".to_owned())
    }

    fn bad() -> Seen {
        Err("refused".to_owned())
    }

    #[test]
    fn the_best_that_works_is_chosen_and_a_lost_one_left_at_once() {
        let mut ways = Ways::default();
        assert_eq!(ways.chosen().way, None);
        ways.take(Way::Ingress, bad());
        ways.take(Way::Service, bad());
        ways.take(Way::Tunnel, good());
        assert_eq!(
            ways.chosen(),
            Chosen {
                way: Some(Way::Tunnel),
                why: "answers; ingress: refused; service: refused".to_owned(),
            }
        );
        // A better one has to prove itself.
        ways.take(Way::Ingress, good());
        assert_eq!(ways.chosen().way, Some(Way::Tunnel));
        assert!(ways.chosen().why.contains("works again"));
        ways.take(Way::Ingress, good());
        assert_eq!(
            ways.chosen(),
            Chosen {
                way: Some(Way::Ingress),
                why: "answers".to_owned(),
            }
        );
        ways.take(Way::Ingress, bad());
        assert_eq!(ways.chosen().way, Some(Way::Tunnel));
        ways.take(Way::Tunnel, bad());
        assert_eq!(ways.chosen().way, None);
        // Where nothing works the first that does is taken.
        ways.take(Way::Ingress, good());
        assert_eq!(ways.chosen().way, Some(Way::Ingress));
    }
}
