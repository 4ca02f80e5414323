//! Things by host, as Gateways mean hosts: a wildcard stands for one label or more. Pure.

use std::collections::HashMap;

use comind_model::ingress::Host;

/// Things by host; small letters.
#[derive(Debug)]
pub struct Hosts<T> {
    exact: HashMap<Box<str>, T>,
    /// By what follows the wildcard, its dot included.
    wildcard: HashMap<Box<str>, T>,
    any: Option<T>,
}

impl<T> Default for Hosts<T> {
    fn default() -> Self {
        Self {
            exact: HashMap::new(),
            wildcard: HashMap::new(),
            any: None,
        }
    }
}

impl<T: Default> Hosts<T> {
    /// What belongs to this host, made where it is not there.
    pub fn of(&mut self, host: &Host) -> &mut T {
        match host {
            Host::Any => self.any.get_or_insert_default(),
            Host::Exact(name) => self.exact.entry(name.as_str().into()).or_default(),
            Host::Wildcard(rest) => self.wildcard.entry(rest.as_str().into()).or_default(),
        }
    }
}

impl<T> Hosts<T> {
    /// What fits a name, the most specific first.
    pub fn fitting<'a, 'n>(
        &'a self,
        name: &'n str,
    ) -> impl Iterator<Item = &'a T> + use<'a, 'n, T> {
        let dots = name.match_indices('.').map(|(at, _)| at);
        // `.a.b` has no label for the wildcard.
        let wildcards = dots.filter(|at| *at > 0);
        self.exact
            .get(name)
            .into_iter()
            .chain(wildcards.filter_map(move |at| self.wildcard.get(&name[at..])))
            .chain(&self.any)
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &T> {
        self.exact
            .values()
            .chain(self.wildcard.values())
            .chain(&self.any)
    }

    /// All of them, to be changed.
    pub fn all_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.exact
            .values_mut()
            .chain(self.wildcard.values_mut())
            .chain(&mut self.any)
    }
}

/// The hosts that two have in common; none where they have none.
pub fn intersection(a: &Host, b: &Host) -> Option<Host> {
    match (a, b) {
        (Host::Any, other) | (other, Host::Any) => Some(other.clone()),
        (Host::Exact(a), Host::Exact(b)) => (a == b).then(|| Host::Exact(a.clone())),
        (Host::Exact(name), Host::Wildcard(rest)) | (Host::Wildcard(rest), Host::Exact(name)) => {
            below(name, rest).then(|| Host::Exact(name.clone()))
        }
        // `*.a.b` is within `*.b`.
        (Host::Wildcard(a), Host::Wildcard(b)) => {
            let (longer, shorter) = if a.len() >= b.len() { (a, b) } else { (b, a) };
            longer
                .ends_with(shorter.as_str())
                .then(|| Host::Wildcard(longer.clone()))
        }
    }
}

/// Whether a name has one label or more before `rest`, which begins with a dot.
fn below(name: &str, rest: &str) -> bool {
    name.strip_suffix(rest)
        .is_some_and(|labels| !labels.is_empty() && !labels.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn host(text: &str) -> Host {
        text.parse().unwrap()
    }

    fn holds(host: &Host, name: &str) -> bool {
        match host {
            Host::Any => true,
            Host::Exact(exact) => exact == name,
            Host::Wildcard(rest) => below(name, rest),
        }
    }

    #[test]
    fn a_wildcard_is_for_one_label_or_more() {
        let mut hosts = Hosts::default();
        for name in ["*", "*.b.c", "*.a.b.c", "x.a.b.c"] {
            *hosts.of(&host(name)) = name;
        }
        let fitting = |name| hosts.fitting(name).copied().collect::<Vec<_>>();
        assert_eq!(fitting("x.a.b.c"), ["x.a.b.c", "*.a.b.c", "*.b.c", "*"]);
        assert_eq!(fitting("y.x.a.b.c"), ["*.a.b.c", "*.b.c", "*"]);
        assert_eq!(fitting("a.b.c"), ["*.b.c", "*"]);
        for name in ["b.c", ".b.c", "", ".", "bb.c"] {
            assert_eq!(fitting(name), ["*"], "{name}");
        }
    }

    proptest! {
        /// A name is for both exactly when it is for what they have in common.
        #[test]
        fn what_is_common_is_in_both(
            a in "\\*|(\\*\\.)?[ab](\\.[ab]){0,2}",
            b in "\\*|(\\*\\.)?[ab](\\.[ab]){0,2}",
            name in "[ab](\\.[ab]){0,3}",
        ) {
            let (a, b) = (host(&a), host(&b));
            let common = intersection(&a, &b);
            prop_assert_eq!(&common, &intersection(&b, &a));
            let in_common = common.as_ref().is_some_and(|common| holds(common, &name));
            prop_assert_eq!(in_common, holds(&a, &name) && holds(&b, &name));
        }

        /// What is found for a name is for it, and the most specific is first.
        #[test]
        fn found_by_a_slow_search(
            all in prop::collection::vec("\\*|(\\*\\.)?[ab](\\.[ab]){0,2}", 0..6),
            name in "[ab](\\.[ab]){0,3}",
        ) {
            let mut hosts = Hosts::default();
            for text in &all {
                *hosts.of(&host(text)) = text.as_str();
            }
            let mut slow: Vec<_> = all.iter().map(String::as_str).filter(|text| holds(&host(text), &name)).collect();
            slow.sort_by_key(|text| std::cmp::Reverse((!text.starts_with('*'), text.len())));
            slow.dedup();
            prop_assert_eq!(hosts.fitting(&name).copied().collect::<Vec<_>>(), slow);
        }
    }
}
