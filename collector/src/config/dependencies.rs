//! What `depends_on` may say: targets that there are, and no circle. Pure.

use std::collections::HashMap;

use comind_model::target::Target;

use super::node::{Node, NodeError, Value};
use super::suggest;

/// What is wrong with the dependencies of these targets, each at its place in `items`.
pub(super) fn problems<'a>(
    items: &[Node],
    targets: impl Iterator<Item = &'a Target>,
) -> Vec<NodeError> {
    let by_name: HashMap<&str, &Target> = targets.map(|t| (&*t.name, t)).collect();
    let mut problems = Vec::new();
    for item in items {
        let Some(name) = item.get("name").and_then(word) else {
            continue;
        };
        let Some(list) = item.get("depends_on") else {
            continue;
        };
        let Value::List(entries) = &list.value else {
            continue;
        };
        for entry in entries.iter() {
            let Some(wanted) = word(entry) else { continue };
            if !by_name.contains_key(wanted) {
                let help = suggest::help(wanted, by_name.keys().copied());
                let shown = suggest::shown(wanted);
                let message = format!(
                    "target `{name}`: `depends_on` names `{shown}`, which is no target; {help}"
                );
                problems.push(entry.error(message));
            } else if leads_to(wanted, name, &by_name) {
                let message = format!(
                    "target `{name}`: it would depend on itself through `{wanted}`; take one of the two out"
                );
                problems.push(entry.error(message));
            }
        }
    }
    problems
}

/// Whether `from` is `to`, or depends on it. Names that are no targets depend on nothing.
pub(crate) fn leads_to(from: &str, to: &str, by_name: &HashMap<&str, &Target>) -> bool {
    let mut waiting = vec![from];
    let mut seen = std::collections::HashSet::new();
    while let Some(name) = waiting.pop() {
        if name == to {
            return true;
        }
        if seen.insert(name) {
            let next = by_name
                .get(name)
                .into_iter()
                .flat_map(|t| t.depends_on.iter());
            waiting.extend(next.map(|name| &**name));
        }
    }
    false
}

fn word(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Scalar(scalar) if !scalar.is_null() => Some(&scalar.text),
        _ => None,
    }
}
