//! Which Gateway gets which of our addresses. Pure: what a Gateway has it keeps, older ones choose
//! first, and two that want the same host and port never share one.

use std::collections::BTreeMap;

use super::status::Trouble;

/// Of a listener what others must not have beside it: its port, protocol and host.
pub type Claim = (u16, String, String);

/// What a Gateway wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// What its listeners claim.
    pub claims: Vec<Claim>,
    /// What it has by its status.
    pub has: Option<String>,
    /// The one that it must have.
    pub must: Option<String>,
}

/// Gives each Gateway, in this order, its address.
pub fn assign(pool: &[String], wishes: &[Wish]) -> Vec<Result<String, Trouble>> {
    let mut taken: BTreeMap<&str, Vec<&Claim>> = BTreeMap::new();
    let mut given: Vec<Option<Result<String, Trouble>>> = vec![None; wishes.len()];
    // First those that have one or must have one, so that nobody is moved for a newcomer.
    for settled in [true, false] {
        for (wish, given) in wishes.iter().zip(&mut given) {
            let wanted = wish.must.as_ref().or(wish.has.as_ref());
            if given.is_some() || (settled && wanted.is_none()) {
                continue;
            }
            let fits = |address: &&String| {
                let others = taken.get(address.as_str());
                others.is_none_or(|others| !clashes(others, &wish.claims))
            };
            let free = |address: &&String| !taken.contains_key(address.as_str());
            let found = match wanted {
                Some(wanted) if settled => pool.iter().find(|it| *it == wanted).filter(fits),
                // One of its own before one that it shares.
                _ if wish.must.is_none() => {
                    pool.iter().find(free).or_else(|| pool.iter().find(fits))
                }
                _ => None,
            };
            match found {
                Some(address) => {
                    taken.entry(address).or_default().extend(&wish.claims);
                    *given = Some(Ok(address.clone()));
                }
                None if settled && wish.must.is_none() => {}
                None => *given = Some(Err(trouble(wish, pool))),
            }
        }
    }
    let missing = || Err(("AddressNotAssigned", "no address is left".to_owned()));
    given
        .into_iter()
        .map(|it| it.unwrap_or_else(missing))
        .collect()
}

fn trouble(wish: &Wish, pool: &[String]) -> Trouble {
    match &wish.must {
        Some(address) if !pool.contains(address) => (
            "AddressNotUsable",
            format!("{address} is not among the addresses of this proxy"),
        ),
        Some(address) => (
            "AddressNotUsable",
            format!("another Gateway has a listener of the same port and host at {address}"),
        ),
        None => (
            "AddressNotAssigned",
            "at each address of this proxy another Gateway has a listener of the same port and host"
                .to_owned(),
        ),
    }
}

/// Two listeners of one port go together when they speak the same and differ in their hosts.
fn clashes(others: &[&Claim], claims: &[Claim]) -> bool {
    claims.iter().any(|(port, protocol, host)| {
        others
            .iter()
            .any(|(their_port, their_protocol, their_host)| {
                port == their_port && (protocol != their_protocol || host == their_host)
            })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wish(host: &str, has: Option<&str>, must: Option<&str>) -> Wish {
        Wish {
            claims: vec![(80, "HTTP".to_owned(), host.to_owned())],
            has: has.map(str::to_owned),
            must: must.map(str::to_owned),
        }
    }

    fn pool(addresses: &[&str]) -> Vec<String> {
        addresses.iter().map(|it| (*it).to_owned()).collect()
    }

    #[test]
    fn each_its_own_and_then_shared_without_clashes() {
        let wishes = ["", "", "a", "b", "a"].map(|host| wish(host, None, None));
        let given = assign(&pool(&["1", "2"]), &wishes);
        let good: Vec<_> = given.iter().map(|it| it.as_deref().ok()).collect();
        assert_eq!(
            good,
            [Some("1"), Some("2"), Some("1"), Some("1"), Some("2")]
        );
        let given = assign(&pool(&["1"]), &wishes);
        let good: Vec<_> = given.iter().map(|it| it.as_deref().ok()).collect();
        assert_eq!(good, [Some("1"), None, Some("1"), Some("1"), None]);
        assert_eq!(given[1].as_ref().unwrap_err().0, "AddressNotAssigned");
    }

    #[test]
    fn what_one_has_it_keeps() {
        let wishes = [
            wish("", None, None),
            wish("", Some("1"), None),
            wish("", None, Some("3")),
        ];
        let given = assign(&pool(&["1", "2"]), &wishes);
        assert_eq!(given[0].as_deref(), Ok("2"));
        assert_eq!(given[1].as_deref(), Ok("1"));
        assert_eq!(given[2].as_ref().unwrap_err().0, "AddressNotUsable");
    }

    proptest! {
        #[test]
        fn none_that_clash_share(
            wanted in prop::collection::vec(("[ab]?", prop::option::of("[123]"), prop::option::of("[123]")), 0..7),
            size in 0_usize..3,
        ) {
            let wishes: Vec<_> = wanted.iter().map(|(host, has, must)| wish(host, has.as_deref(), must.as_deref())).collect();
            let pool: Vec<String> = (1..=size).map(|it| it.to_string()).collect();
            let given = assign(&pool, &wishes);
            for (at, one) in given.iter().enumerate() {
                let Ok(address) = one else { continue };
                prop_assert!(pool.contains(address));
                prop_assert!(wishes[at].must.as_ref().is_none_or(|must| must == address));
                for (other, two) in given.iter().enumerate().skip(at + 1) {
                    prop_assert!(two.as_ref() != Ok(address) || wishes[at].claims != wishes[other].claims);
                }
            }
            // What came of it is what comes of it again.
            let again: Vec<_> = wishes.iter().zip(&given).map(|(wish, given)| Wish { has: given.clone().ok(), ..wish.clone() }).collect();
            let second = assign(&pool, &again);
            for (first, second) in given.iter().zip(&second) {
                prop_assert!(first.is_err() || first == second);
            }
        }
    }
}
