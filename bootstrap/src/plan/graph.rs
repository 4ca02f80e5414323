//! Which step comes when. Pure: knows names and needs, not what a step does.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};

/// A step's name.
pub type Id = &'static str;

/// Steps and what each of them needs.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Graph {
    needs: BTreeMap<Id, BTreeSet<Id>>,
    /// As they were given, which is how they are shown.
    order: Vec<Id>,
}

/// Which part of a graph is meant.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Part {
    /// All of it.
    #[default]
    Whole,
    /// This step and all that it needs.
    Until(String),
    /// These steps alone; what they need is taken to be there.
    Only(Vec<String>),
}

impl Graph {
    /// Of these steps.
    ///
    /// # Errors
    /// When a name comes twice, something needed is not there, or steps wait for each other.
    pub fn new(steps: impl IntoIterator<Item = (Id, &'static [Id])>) -> Result<Self> {
        Self::with(steps, |need| need)
    }

    /// Of these steps, where what one needs may be made by a step of another name.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with(
        steps: impl IntoIterator<Item = (Id, &'static [Id])>,
        step_of: impl Fn(Id) -> Id,
    ) -> Result<Self> {
        let mut graph = Self::default();
        for (id, needs) in steps {
            let needs = needs.iter().map(|need| step_of(need));
            if graph.needs.insert(id, needs.collect()).is_some() {
                bail!("two steps are called {id}");
            }
            graph.order.push(id);
        }
        for (id, needs) in &graph.needs {
            if let Some(missing) = needs.iter().find(|need| !graph.needs.contains_key(*need)) {
                bail!("{id} needs {missing}, which is no step");
            }
        }
        let stuck = graph.stuck();
        if !stuck.is_empty() {
            bail!("these steps wait for each other: {}", stuck.join(", "));
        }
        Ok(graph)
    }

    /// The steps in an order in which each comes after what it needs.
    pub fn sorted(&self) -> Vec<Id> {
        let mut done = BTreeSet::new();
        let mut sorted = Vec::new();
        loop {
            let next: Vec<Id> = self.ready(&done, &done);
            if next.is_empty() {
                return sorted;
            }
            done.extend(next.iter().copied());
            sorted.extend(next);
        }
    }

    fn stuck(&self) -> Vec<Id> {
        let sorted: BTreeSet<Id> = self.sorted().into_iter().collect();
        let left = self.order.iter().copied();
        left.filter(|id| !sorted.contains(id)).collect()
    }

    /// The steps that can begin: not begun yet, and all they need is done.
    pub fn ready(&self, begun: &BTreeSet<Id>, done: &BTreeSet<Id>) -> Vec<Id> {
        let waiting = self.order.iter().copied();
        waiting
            .filter(|id| !begun.contains(id) && self.needs_of(id).is_subset(done))
            .collect()
    }

    /// What it needs itself.
    pub fn needs_of(&self, id: &str) -> &BTreeSet<Id> {
        const NOTHING: &BTreeSet<Id> = &BTreeSet::new();
        self.needs.get(id).unwrap_or(NOTHING)
    }

    /// All steps that cannot begin without this one.
    pub fn dependants(&self, id: &str) -> BTreeSet<Id> {
        let mut found: BTreeSet<Id> = BTreeSet::new();
        for step in self.sorted() {
            let needs = self.needs_of(step);
            if needs.contains(id) || !needs.is_disjoint(&found) {
                found.insert(step);
            }
        }
        found
    }

    /// A part of it.
    ///
    /// # Errors
    /// When a name is no step; the message lists those that are.
    pub fn part(&self, part: &Part) -> Result<Self> {
        let kept: BTreeSet<Id> = match part {
            Part::Whole => return Ok(self.clone()),
            Part::Until(name) => {
                let last = self.named(name)?;
                let mut kept = BTreeSet::from([last]);
                for step in self.sorted().into_iter().rev() {
                    if kept.contains(step) {
                        kept.extend(self.needs_of(step));
                    }
                }
                kept
            }
            Part::Only(names) => names
                .iter()
                .map(|name| self.named(name))
                .collect::<Result<_>>()?,
        };
        let order = self.order.iter().copied();
        let needs = self.needs.iter();
        Ok(Self {
            order: order.filter(|id| kept.contains(id)).collect(),
            needs: needs
                .filter(|(id, _)| kept.contains(*id))
                .map(|(id, needs)| (*id, needs.intersection(&kept).copied().collect()))
                .collect(),
        })
    }

    fn named(&self, name: &str) -> Result<Id> {
        match self.order.iter().find(|id| **id == name) {
            Some(id) => Ok(id),
            None => bail!(
                "no step is called {name}; there are: {}",
                self.order.join(", ")
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STEPS: &[(Id, &[Id])] = &[
        ("services", &[]),
        ("network", &[]),
        ("cluster", &["network"]),
        ("argocd", &["cluster"]),
        ("apps", &["argocd", "services"]),
    ];

    fn graph() -> Graph {
        Graph::new(STEPS.iter().copied()).expect("it is one")
    }

    #[test]
    fn what_is_needed_comes_first() {
        assert_eq!(
            graph().sorted(),
            ["services", "network", "cluster", "argocd", "apps"]
        );
        assert_eq!(
            graph().dependants("network"),
            BTreeSet::from(["cluster", "argocd", "apps"])
        );
    }

    #[test]
    fn one_step_may_stand_for_several() -> Result<()> {
        let steps: [(Id, &'static [Id]); 2] = [("cluster", &[]), ("apps", &["dns", "volumes"])];
        let whole = |need| match need {
            "dns" | "volumes" => "cluster",
            other => other,
        };
        let graph = Graph::with(steps, whole)?;
        assert_eq!(graph.needs_of("apps"), &BTreeSet::from(["cluster"]));
        Ok(())
    }

    #[test]
    fn parts() -> Result<()> {
        let until = graph().part(&Part::Until("argocd".into()))?;
        assert_eq!(until.sorted(), ["network", "cluster", "argocd"]);
        let only = graph().part(&Part::Only(vec!["apps".into(), "argocd".into()]))?;
        assert_eq!(only.sorted(), ["argocd", "apps"]);
        let error = graph().part(&Part::Until("x".into())).expect_err("no step");
        insta::assert_snapshot!(error, @"no step is called x; there are: services, network, cluster, argocd, apps");
        Ok(())
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let wrong = |steps: &[(Id, &'static [Id])]| {
            Graph::new(steps.iter().copied())
                .expect_err("it cannot be")
                .to_string()
        };
        insta::assert_snapshot!(wrong(&[("a", &["b"]), ("b", &["c"]), ("c", &["b"]), ("d", &[])]), @"these steps wait for each other: a, b, c");
        insta::assert_snapshot!(wrong(&[("a", &["z"])]), @"a needs z, which is no step");
        insta::assert_snapshot!(wrong(&[("a", &[]), ("a", &[])]), @"two steps are called a");
    }

    const NAMES: [Id; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

    proptest! {
        /// Whatever fails, what begins has all it needs, and all that can be done is done.
        #[test]
        fn nothing_begins_too_early_and_nothing_is_forgotten(edges in prop::collection::vec((0_usize..8, 0_usize..8), 0..20), fails in prop::collection::btree_set(0_usize..8, 0..3)) {
            let mut needs: BTreeMap<Id, BTreeSet<Id>> = NAMES.iter().map(|id| (*id, BTreeSet::new())).collect();
            for (from, to) in edges {
                // From the later to the earlier: no circles.
                if from > to {
                    needs.entry(NAMES[from]).or_default().insert(NAMES[to]);
                }
            }
            let graph = Graph { needs, order: NAMES.to_vec() };
            let (mut begun, mut done) = (BTreeSet::new(), BTreeSet::new());
            loop {
                let next = graph.ready(&begun, &done);
                if next.is_empty() {
                    break;
                }
                for id in next {
                    prop_assert!(graph.needs_of(id).is_subset(&done));
                    begun.insert(id);
                    let at = NAMES.iter().position(|name| *name == id).unwrap_or_default();
                    if !fails.contains(&at) {
                        done.insert(id);
                    }
                }
            }
            let hindered: BTreeSet<Id> = begun.difference(&done).flat_map(|id| graph.dependants(id)).collect();
            let all: BTreeSet<Id> = NAMES.into_iter().collect();
            let left: BTreeSet<Id> = all.difference(&begun).copied().collect();
            prop_assert_eq!(left, hindered);
        }
    }
}
