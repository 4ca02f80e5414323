//! Who may ask for what an object of a cluster describes, be it an Ingress or a route of a Gateway: our
//! annotations `login`, `roles` and `access`, lists of allowed clients, and those of ingress-nginx that
//! let in only some. Pure. What cannot be read, or is not obeyed here, lets nobody in: the object was
//! written to keep somebody out.

use std::collections::BTreeMap;
use std::sync::Arc;

use comind_model::ingress::Cidr;
use comind_model::login::{Demand, Resource, Right, is_word};

const LOGIN: &str = "comind.pro/login";
const ROLES: &str = "comind.pro/roles";
const ACCESS: &str = "comind.pro/access";

/// Those of ingress-nginx that a login of ours takes the place of.
const LOGINS: [&str; 3] = [
    "nginx.ingress.kubernetes.io/auth-type",
    "nginx.ingress.kubernetes.io/auth-url",
    "nginx.ingress.kubernetes.io/auth-tls-secret",
];
/// Those that nothing of ours takes the place of.
const DENIED: [&str; 2] = [
    "nginx.ingress.kubernetes.io/denylist-source-range",
    "comind.pro/denylist-source-range",
];
/// Lists of allowed clients: the first that is there counts.
const ALLOWED: [&str; 4] = [
    "comind.pro/allowlist-source-range",
    "comind.pro/whitelist-source-range",
    "nginx.ingress.kubernetes.io/allowlist-source-range",
    "nginx.ingress.kubernetes.io/whitelist-source-range",
];

/// Who may ask.
#[derive(Debug, Default, PartialEq)]
pub struct Guard {
    /// Only these clients; all where none.
    pub allow: Vec<Cidr>,
    /// What they must show; nothing where there is none.
    pub demand: Option<Demand>,
}

/// Whether this module, and no other, reads the annotation.
pub fn reads(key: &str) -> bool {
    [LOGIN, ROLES, ACCESS].contains(&key) || ALLOWED.contains(&key)
}

/// Who may ask. Names without a namespace are those of `namespace`.
///
/// # Errors
/// Why nobody may ask.
pub fn read(all: &BTreeMap<String, String>, namespace: &str) -> Result<Guard, String> {
    if let Some(key) = DENIED.iter().find(|key| all.contains_key(**key)) {
        return Err(format!(
            "{key} is not obeyed here: nobody is let in. Clients are allowed by allowlist-source-range"
        ));
    }
    Ok(Guard {
        allow: clients(all)?,
        demand: demand(all, namespace)?,
    })
}

/// The clients that may ask; all where nothing is said of them.
fn clients(all: &BTreeMap<String, String>) -> Result<Vec<Cidr>, String> {
    let given = ALLOWED.iter().find_map(|key| Some((key, all.get(*key)?)));
    let Some((key, value)) = given else {
        return Ok(Vec::new());
    };
    let ranges = value.split(',').map(|range| range.trim().parse());
    ranges
        .collect::<Result<_, String>>()
        .map_err(|problem| format!("{key}: {problem}: nobody is let in"))
}

/// What they must show; nothing where it is nothing.
fn demand(all: &BTreeMap<String, String>, namespace: &str) -> Result<Option<Demand>, String> {
    let given = |key: &str| all.get(key).map(|value| value.trim());
    let Some(login) = given(LOGIN).filter(|login| !login.is_empty()) else {
        let lost = [LOGIN, ROLES, ACCESS].iter().chain(&LOGINS);
        return match lost.into_iter().find(|key| all.contains_key(**key)) {
            Some(key) => Err(format!(
                "{key} is of no use without {LOGIN}, which names one of proxy.logins: nobody is let in"
            )),
            None => Ok(None),
        };
    };
    let roles = given(ROLES).unwrap_or_default().split(',').map(str::trim);
    let roles: Vec<Arc<str>> = roles
        .filter(|role| !role.is_empty())
        .map(Arc::from)
        .collect();
    if roles.is_empty() && all.contains_key(ROLES) {
        return Err(format!("{ROLES} names none: nobody is let in"));
    }
    let right = given(ACCESS).map(|text| right(text, namespace)).transpose();
    let right = right.map_err(|problem| format!("{ACCESS}: {problem}: nobody is let in"))?;
    Ok(Some(Demand {
        login: login.into(),
        roles,
        right: right.map(Arc::new),
        ..Demand::default()
    }))
}

/// `VERB RESOURCE[.GROUP][/SUBRESOURCE] [[NAMESPACE/]NAME]`, or `VERB /PATH`.
fn right(text: &str, namespace: &str) -> Result<Right, String> {
    let bad = || {
        format!(
            "`{text}` is no right; write `get services/proxy NAME`, `get pods.metrics.k8s.io NAMESPACE/NAME` or `get /metrics`"
        )
    };
    let words: Vec<&str> = text.split_whitespace().collect();
    let (verb, what, which) = match words[..] {
        [verb, what] => (verb, what, ""),
        [verb, what, which] => (verb, what, which),
        _ => return Err(bad()),
    };
    if what.starts_with('/') {
        return match (is_word(verb), which) {
            (true, "") => Ok(Right::Path {
                verb: verb.into(),
                path: what.into(),
            }),
            _ => Err(bad()),
        };
    }
    let (what, subresource) = what.split_once('/').unwrap_or((what, ""));
    let (resource, group) = what.split_once('.').unwrap_or((what, ""));
    let (namespace, name) = which.split_once('/').unwrap_or((namespace, which));
    let needed = [verb, resource].iter().all(|word| is_word(word));
    let others = [subresource, group, namespace, name];
    if !needed || !others.iter().all(|word| word.is_empty() || is_word(word)) {
        return Err(bad());
    }
    Ok(Right::Resource(Box::new(Resource {
        verb: verb.into(),
        group: group.into(),
        resource: resource.into(),
        subresource: subresource.into(),
        namespace: namespace.into(),
        name: name.into(),
    })))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Result<Option<Demand>, String> {
        let all = pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        read(&all.collect(), "home").map(|guard| guard.demand)
    }

    fn right_of(text: &str) -> Option<String> {
        let demand = of(&[(LOGIN, "cluster"), (ACCESS, text)]).ok()??;
        demand.right.map(|right| right.to_string())
    }

    #[test]
    fn a_login_with_roles_and_a_right() {
        assert_eq!(of(&[("other", "x")]), Ok(None));
        let demand = of(&[(LOGIN, " staff "), (ROLES, "admin, dev")])
            .ok()
            .flatten();
        let demand = demand.expect("a demand");
        assert_eq!(
            (&*demand.login, demand.roles.len(), demand.right),
            ("staff", 2, None)
        );
        for (text, said) in [
            (
                "get services/proxy grafana",
                "get services/proxy grafana in namespace home",
            ),
            (
                "get pods.metrics.k8s.io there/a",
                "get pods.metrics.k8s.io a in namespace there",
            ),
            ("list nodes /", "list nodes in all namespaces"),
            ("get /metrics", "get /metrics"),
        ] {
            assert_eq!(right_of(text).as_deref(), Some(said), "{text}");
        }
    }

    #[test]
    fn what_would_keep_somebody_out_and_is_not_obeyed_keeps_all_out() {
        for pairs in [
            &[(DENIED[0], "10.0.0.0/8"), (LOGIN, "staff")][..],
            &[(LOGINS[0], "basic")],
            &[(LOGINS[1], "https://login.example.org")],
            &[(LOGINS[2], "ns/ca")],
            &[(LOGIN, "")],
            &[(ROLES, "admin")],
            &[(ACCESS, "get /metrics")],
            &[(LOGIN, "staff"), (ROLES, " ,")],
            &[(LOGIN, "staff"), (ACCESS, "")],
            &[(LOGIN, "staff"), (ACCESS, "get")],
            &[(LOGIN, "staff"), (ACCESS, "get /metrics more")],
            &[(LOGIN, "staff"), (ACCESS, "get a b c")],
            &[(LOGIN, "staff"), (ACCESS, "get a$ b")],
            &[(ALLOWED[3], "everybody")],
            &[(ALLOWED[0], "")],
            // The wrong one is not made good by one of another proxy's.
            &[(ALLOWED[0], "10.0.0.0/"), (ALLOWED[2], "10.0.0.0/8")],
        ] {
            assert!(of(pairs).is_err(), "{pairs:?}");
        }
        // Ours in its place.
        assert!(of(&[(LOGINS[1], "https://login.example.org"), (LOGIN, "staff")]).is_ok());
    }

    #[test]
    fn clients_are_allowed_by_any_of_the_names_and_ours_counts() {
        for key in ALLOWED {
            let all = [(key, "10.0.0.0/8, 192.168.1.1"), (ALLOWED[3], "0.0.0.0/0")];
            let all = all.map(|(key, value)| (key.to_owned(), value.to_owned()));
            let [first, rest] = all;
            // The later of two that are the same counts.
            let read = read(&BTreeMap::from([rest, first]), "home").expect("a guard");
            assert_eq!((read.allow.len(), read.demand), (2, None), "{key}");
        }
        assert_eq!(read(&BTreeMap::new(), "home"), Ok(Guard::default()));
    }

    proptest! {
        /// Whatever is given, somebody who is to show something is not let in without.
        #[test]
        fn no_text_opens_what_was_closed(login in "\\PC{0,20}", roles in "\\PC{0,20}", access in "\\PC{0,40}") {
            let read = of(&[(LOGIN, &login), (ROLES, &roles), (ACCESS, &access)]);
            if let Ok(demand) = read {
                let demand = demand.expect("a demand");
                prop_assert!(!demand.login.is_empty() && !demand.roles.is_empty() && demand.right.is_some());
            }
        }
    }
}
