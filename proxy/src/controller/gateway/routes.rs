//! Routes to the listeners that they are attached to. Pure: one that cannot be attached, or that
//! refers to what is not there, harms no other.
//! Source: gateway-api.sigs.k8s.io, ParentReference and RouteStatus.

use std::collections::BTreeMap;

use comind_model::gateway::Entry;
use comind_model::ingress::{Action, Host};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::backends::{self, Whose};
use super::gateways::{Reading, Site};
use super::kinds::{GROUP, Kind, ParentRef, RouteSpec};
use super::read::CONTROLLER;
use super::rules;
use super::status::{Condition, Trouble, conditions, resolved};
use crate::controller::guard;
use crate::controller::world::{Key, World};
use crate::route::hosts::intersection;

/// A route of either kind.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a> {
    /// Its kind.
    pub kind: &'static str,
    /// As it is written.
    pub object: &'a Kind<RouteSpec>,
}

/// What its rules make, whatever they are attached to.
struct Rules {
    entries: Vec<Entry>,
    refs: Vec<Trouble>,
    unsupported: Vec<String>,
    /// Nothing of it is served as it is written.
    all_bad: bool,
}

/// Attaches a route wherever it wants to be and may; gives what is to be told of that, by parent.
pub fn attach(world: &World, sites: &mut [Site<'_>], route: Given<'_>) -> Vec<Value> {
    let key: Key = (
        route.object.namespace().unwrap_or_default(),
        route.object.name_any(),
    );
    let Some(spec) = route.object.spec.good() else {
        return Vec::new();
    };
    let mut rules = None;
    let mut told = Vec::new();
    for (number, parent) in spec.parent_refs.iter().enumerate() {
        if spec.parent_refs[..number].contains(parent) {
            continue;
        }
        let Some(site) = site_of(sites, &key.0, parent) else {
            continue;
        };
        let rules = rules.get_or_insert_with(|| {
            let mut rules = read_rules(world, route.kind, &key, spec);
            guard(&mut rules, route.object.annotations(), &key.0);
            rules
        });
        let accepted = attach_to(world, site, (route.kind, &key.0), (parent, spec), rules);
        let generation = route.object.metadata.generation.unwrap_or_default();
        told.push(json!({
            "parentRef": reference(parent),
            "controllerName": CONTROLLER,
            "conditions": conditions(&verdict(accepted, rules), generation),
        }));
    }
    told
}

/// The Gateway of ours that is meant.
fn site_of<'s, 'a>(
    sites: &'s mut [Site<'a>],
    namespace: &str,
    parent: &ParentRef,
) -> Option<&'s mut Site<'a>> {
    let group = parent.group.as_deref().unwrap_or(GROUP);
    let kind = parent.kind.as_deref().unwrap_or("Gateway");
    let there = parent.namespace.as_deref().unwrap_or(namespace);
    let is_it = |site: &&mut Site<'a>| site.key.0 == there && site.key.1 == parent.name;
    ((group, kind) == (GROUP, "Gateway"))
        .then(|| sites.iter_mut().find(is_it))
        .flatten()
}

fn read_rules(world: &World, kind: &'static str, key: &Key, spec: &RouteSpec) -> Rules {
    let mut rules = Rules {
        entries: Vec::new(),
        refs: Vec::new(),
        unsupported: Vec::new(),
        all_bad: false,
    };
    let whose = Whose {
        kind,
        namespace: &key.0,
    };
    for (number, rule) in spec.rules.iter().enumerate() {
        let name = match &rule.name {
            Some(name) => format!("{}/{} {name}", key.0, key.1),
            None => format!("{}/{} #{number}", key.0, key.1),
        };
        let made = rules::read(world, whose, &name, rule);
        rules.entries.extend(made.entries);
        rules.refs.extend(made.refs);
        let told = made
            .unsupported
            .map(|text| format!("rule {number}: {text}"));
        rules.unsupported.extend(told);
    }
    rules.all_bad = !spec.rules.is_empty() && rules.unsupported.len() == spec.rules.len();
    rules
}

/// Before every rule: what its annotations ask of people. Where they cannot be read nothing is served.
fn guard(rules: &mut Rules, annotations: &BTreeMap<String, String>, namespace: &str) {
    let guard = guard::read(annotations, namespace);
    for entry in &mut rules.entries {
        match &guard {
            Ok(guard) => {
                entry.route.allow.clone_from(&guard.allow);
                entry.route.demand.clone_from(&guard.demand);
            }
            Err(text) => entry.route.action = backends::broken(text),
        }
    }
    if let Err(text) = guard {
        rules.unsupported = vec![text];
        rules.all_bad = true;
    }
}

fn attach_to(
    world: &World,
    site: &mut Site<'_>,
    (kind, namespace): (&'static str, &str),
    (parent, spec): (&ParentRef, &RouteSpec),
    rules: &Rules,
) -> Result<(), Trouble> {
    let home = site.key.0.clone();
    let meant = |it: &&mut Reading<'_>| {
        parent
            .section_name
            .as_ref()
            .is_none_or(|name| *name == it.spec.name)
            && parent.port.is_none_or(|port| port == it.spec.port)
    };
    let mut result = Err((
        "NoMatchingParent",
        "the Gateway has no such listener".to_owned(),
    ));
    for listener in site.listeners.iter_mut().filter(meant) {
        if result
            .as_ref()
            .is_err_and(|(reason, _)| *reason == "NoMatchingParent")
        {
            let text = "its listeners allow no routes of this kind and namespace";
            result = Err(("NotAllowedByListeners", text.to_owned()));
        }
        if !listener.kinds.contains(&kind) || !lets_in(world, listener, &home, namespace) {
            continue;
        }
        let hosts = hosts(&listener.host, &spec.hostnames);
        if hosts.is_empty() {
            if result.is_err() {
                let text = "none of its hostnames is one of the listener's";
                result = Err(("NoMatchingListenerHostname", text.to_owned()));
            }
            continue;
        }
        result = Ok(());
        listener.attached += 1;
        let port = listener.spec.port;
        let entries = rules
            .entries
            .iter()
            .map(|entry| at_home(entry, &hosts, port));
        listener.routes.extend(entries);
    }
    result
}

/// An entry at a listener: a redirect that says nothing of scheme and port keeps the listener's.
fn at_home(entry: &Entry, hosts: &[Host], port: u16) -> Entry {
    let mut entry = Entry {
        hosts: hosts.to_vec(),
        ..entry.clone()
    };
    if let Action::Move(to) = &mut entry.route.action
        && to.scheme.is_none()
    {
        to.port.get_or_insert(port);
    }
    entry
}

/// What a listener's hosts and those of a route have in common.
fn hosts(listener: &Host, wanted: &[String]) -> Vec<Host> {
    if wanted.is_empty() {
        return vec![listener.clone()];
    }
    let parsed = wanted.iter().filter_map(|name| name.parse::<Host>().ok());
    parsed
        .filter_map(|host| intersection(listener, &host))
        .collect()
}

fn lets_in(world: &World, listener: &Reading<'_>, home: &str, namespace: &str) -> bool {
    let allowed = &listener.spec.allowed_routes.namespaces;
    match allowed.from.as_deref().unwrap_or("Same") {
        "All" => true,
        "Same" => home == namespace,
        "Selector" => {
            let key = (String::new(), namespace.to_owned());
            let found = world.gateway.namespaces.all.get(&key);
            let empty = BTreeMap::new();
            let labels = found.map(|it| it.metadata.labels.as_ref().unwrap_or(&empty));
            labels.is_some_and(|labels| selects(&allowed.selector, labels))
        }
        _ => false,
    }
}

/// Whether a selector means what has these labels. One that cannot be read means nothing.
fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let equal = selector.match_labels.iter().flatten();
    equal
        .into_iter()
        .all(|(name, value)| labels.get(name) == Some(value))
        && selector.match_expressions.iter().flatten().all(|it| {
            let values = it.values.as_deref().unwrap_or_default();
            let value = labels.get(&it.key);
            match it.operator.as_str() {
                "In" => value.is_some_and(|value| values.contains(value)),
                "NotIn" => value.is_none_or(|value| !values.contains(value)),
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}

fn verdict(accepted: Result<(), Trouble>, rules: &Rules) -> Vec<Condition> {
    let text = rules.unsupported.join("; ");
    let accepted = match accepted {
        Err((reason, text)) => Condition::of("Accepted", false, reason, text),
        Ok(()) if rules.all_bad => {
            Condition::of("Accepted", false, "UnsupportedValue", text.clone())
        }
        Ok(()) => Condition::good("Accepted"),
    };
    let partly = accepted.holds && !rules.unsupported.is_empty();
    let mut all = vec![accepted, resolved(&rules.refs)];
    if partly {
        let text = format!("Dropped Rule: {text}");
        all.push(Condition::of(
            "PartiallyInvalid",
            true,
            "UnsupportedValue",
            text,
        ));
    }
    all
}

/// As it was written.
fn reference(parent: &ParentRef) -> Value {
    let mut made = json!({ "name": parent.name });
    let texts = [
        ("group", &parent.group),
        ("kind", &parent.kind),
        ("namespace", &parent.namespace),
        ("sectionName", &parent.section_name),
    ];
    for (name, value) in texts {
        if let Some(value) = value {
            made[name] = json!(value);
        }
    }
    if let Some(port) = parent.port {
        made["port"] = json!(port);
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement;

    #[test]
    fn selectors_mean_labels() {
        let labels: BTreeMap<_, _> = [("a".to_owned(), "1".to_owned())].into();
        let by = |key: &str, operator: &str, values: &[&str]| LabelSelector {
            match_expressions: Some(vec![LabelSelectorRequirement {
                key: key.to_owned(),
                operator: operator.to_owned(),
                values: Some(values.iter().map(|it| (*it).to_owned()).collect()),
            }]),
            ..LabelSelector::default()
        };
        for (selector, wanted) in [
            (by("a", "In", &["1", "2"]), true),
            (by("a", "In", &["2"]), false),
            (by("a", "NotIn", &["1"]), false),
            (by("b", "NotIn", &["1"]), true),
            (by("a", "Exists", &[]), true),
            (by("b", "Exists", &[]), false),
            (by("b", "DoesNotExist", &[]), true),
            (by("a", "Whatever", &[]), false),
            (LabelSelector::default(), true),
        ] {
            assert_eq!(selects(&selector, &labels), wanted, "{selector:?}");
        }
    }

    #[test]
    fn hosts_of_a_route_are_those_of_its_listener() {
        let listener: Host = "*.a.test".parse().unwrap();
        let names = |all: &[&str]| {
            hosts(
                &listener,
                &all.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>(),
            )
        };
        let all = std::slice::from_ref(&listener);
        assert_eq!(names(&[]), all);
        assert_eq!(
            names(&["x.y.a.test", "a.test", "b.test"]),
            [Host::Exact("x.y.a.test".to_owned())]
        );
        assert_eq!(names(&["*.test"]), all);
        assert_eq!(names(&["b.test"]), []);
    }
}
