//! Which of those that ask are watched, and why the others are not. One that is refused harms no
//! other. Pure: what was read is handed in.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use comind_model::target::Target;
use serde_json::Value;
use url::Url;

use super::wish::{Asker, Asking, Origin, Wish};
use crate::config::dependencies::leads_to;
use crate::config::node::Node;
use crate::config::probe_policy::ProbePolicy;
use crate::config::sections::Defaults;
use crate::config::target::{self, TargetConfig};
use crate::secret::Secret;

/// Keys of a target that only the config file may have: they name files of ours.
const OF_FILES: &str = "_file";

/// By what it is decided.
#[derive(Clone, Debug)]
pub struct Terms {
    /// What holds for targets that do not say otherwise.
    pub defaults: Defaults,
    /// Names of targets that the config file has.
    pub taken: HashSet<String>,
    /// What may be named beyond the own namespace.
    pub allow: ProbePolicy,
    /// The most targets.
    pub most: usize,
}

/// What came of an asker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// `Watched`, or why not, in a word.
    pub reason: &'static str,
    /// The same in words.
    pub message: String,
    /// Which version of the asker it is about.
    pub generation: Option<i64>,
}

/// The reason of those that are watched.
pub const WATCHED: &str = "Watched";

impl Verdict {
    /// Whether it is watched.
    pub fn is_watched(&self) -> bool {
        self.reason == WATCHED
    }
}

#[derive(Clone, Debug)]
struct Refusal {
    reason: &'static str,
    message: String,
}

impl Refusal {
    fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }
}

/// What came of all.
#[derive(Clone, Debug, Default)]
pub struct Judgement {
    /// Those that are watched.
    pub targets: Vec<TargetConfig>,
    /// Of every asker.
    pub verdicts: BTreeMap<Asker, Verdict>,
}

/// Decides, and remembers what it made of those that did not change.
#[derive(Debug)]
pub struct Judge {
    terms: Terms,
    made: HashMap<Asker, (Asking, Result<TargetConfig, Refusal>)>,
}

impl Judge {
    /// By these terms.
    pub fn new(terms: Terms) -> Self {
        Self {
            terms,
            made: HashMap::new(),
        }
    }

    /// What becomes of all that ask.
    pub fn judge(&mut self, askers: &BTreeMap<Asker, Asking>) -> Judgement {
        self.made.retain(|asker, _| askers.contains_key(asker));
        // Who came first stays, so that a newcomer never pushes out what is watched.
        let mut order: Vec<_> = askers.iter().collect();
        order.sort_by_key(|(asker, asking)| (asking.made, *asker));
        let by_monitor = |asker: &Asker| {
            let monitor = Asker {
                origin: Origin::Monitor,
                ..asker.clone()
            };
            *asker != monitor && askers.contains_key(&monitor)
        };
        let mut accepted: Vec<(&Asker, TargetConfig)> = Vec::new();
        let mut refused = BTreeMap::new();
        for (asker, asking) in order {
            let name = asker.target();
            let made = if self.terms.taken.contains(&name) {
                let message = format!("the config file has a target `{name}`; rename one of them");
                Err(Refusal::new("Conflict", message))
            } else if by_monitor(asker) {
                let message = format!("the Monitor of the same name is heard, as `{name}`");
                Err(Refusal::new("Conflict", message))
            } else {
                self.make(asker, asking)
            };
            match made {
                Ok(_) if accepted.len() >= self.terms.most => {
                    let most = self.terms.most;
                    let message = format!(
                        "there are {most} older targets, the most that `discovery.kubernetes.max_targets` allows"
                    );
                    refused.insert(asker, Refusal::new("TooMany", message));
                }
                Ok(target) => accepted.push((asker, target)),
                Err(refusal) => drop(refused.insert(asker, refusal)),
            }
        }
        for asker in circles(&accepted) {
            let message = "it would depend on itself through its `dependsOn`";
            refused.insert(asker, Refusal::new("Invalid", message));
        }
        accepted.retain(|(asker, _)| !refused.contains_key(asker));
        self.conclude(askers, accepted, &refused)
    }

    fn make(&mut self, asker: &Asker, asking: &Asking) -> Result<TargetConfig, Refusal> {
        if let Some((before, made)) = self.made.get(asker)
            && before == asking
        {
            return made.clone();
        }
        let made = make(&self.terms, asker, asking);
        self.made
            .insert(asker.clone(), (asking.clone(), made.clone()));
        made
    }

    fn conclude(
        &self,
        askers: &BTreeMap<Asker, Asking>,
        accepted: Vec<(&Asker, TargetConfig)>,
        refused: &BTreeMap<&Asker, Refusal>,
    ) -> Judgement {
        let names: HashSet<&str> = accepted
            .iter()
            .map(|(_, made)| &*made.target.name)
            .collect();
        let mut verdicts = BTreeMap::new();
        for (asker, made) in &accepted {
            let strange = made
                .target
                .depends_on
                .iter()
                .find(|name| !names.contains(&***name) && !self.terms.taken.contains(&***name));
            let message = match strange {
                Some(name) => format!(
                    "watched as `{}`; it depends on `{name}`, which is not watched",
                    made.target.name
                ),
                None => format!("watched as `{}`", made.target.name),
            };
            let verdict = Verdict {
                reason: WATCHED,
                message,
                generation: askers[*asker].generation,
            };
            verdicts.insert((*asker).clone(), verdict);
        }
        for (asker, refusal) in refused {
            let verdict = Verdict {
                reason: refusal.reason,
                message: refusal.message.clone(),
                generation: askers[*asker].generation,
            };
            verdicts.insert((*asker).clone(), verdict);
        }
        let targets = accepted.into_iter().map(|(_, made)| made).collect();
        Judgement { targets, verdicts }
    }
}

fn make(terms: &Terms, asker: &Asker, asking: &Asking) -> Result<TargetConfig, Refusal> {
    let invalid = |problem: String| Refusal::new("Invalid", problem);
    let wish = asking.wish.clone().map_err(invalid)?;
    let secrets = asking
        .secrets
        .clone()
        .map_err(|problem| Refusal::new("SecretUnreadable", problem))?;
    if let Some(key) = of_a_file(&Value::Object(wish.keys.clone())) {
        let message = format!(
            "`{key}` names a file of the collector, which only its config may do; use `secrets`"
        );
        return Err(Refusal::new("NotAllowed", message));
    }
    let hidden = hidden(&wish, &secrets);
    let keys = fill(asker, wish, &secrets).map_err(invalid)?;
    may_be_asked(terms, asker, &keys)?;
    let item = Node::from_json(&Value::Object(keys), &hidden);
    let made = target::single(&item, &terms.defaults).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        invalid(lines.join("; "))
    })?;
    if made.probe.watch().is_some() {
        let message = format!(
            "kind `{}` looks with the collector's own rights, which only its config may grant",
            made.target.kind
        );
        return Err(Refusal::new("NotAllowed", message));
    }
    Ok(made)
}

/// The first key that names a file.
fn of_a_file(value: &Value) -> Option<String> {
    match value {
        Value::Object(map) => map.iter().find_map(|(key, value)| {
            let named = key.ends_with(OF_FILES) || key == "kubeconfig" || key == "socket";
            named.then(|| key.clone()).or_else(|| of_a_file(value))
        }),
        Value::Array(items) => items.iter().find_map(of_a_file),
        _ => None,
    }
}

/// What must not be seen, and what is shown in its place.
fn hidden(wish: &Wish, secrets: &BTreeMap<String, Secret>) -> Vec<(String, String)> {
    let shown = |key: &str| match wish.secrets.get(key) {
        Some(at) => format!("(key {} of Secret {})", at.key, at.name),
        None => "(secret)".to_owned(),
    };
    let both = |(key, secret): (&String, &Secret)| {
        let plain = secret.reveal().to_owned();
        let in_url: String = url::form_urlencoded::byte_serialize(plain.as_bytes()).collect();
        [(plain, shown(key)), (in_url, shown(key))]
    };
    secrets.iter().flat_map(both).collect()
}

/// The keys with the secrets put in, and with the name.
fn fill(
    asker: &Asker,
    wish: Wish,
    secrets: &BTreeMap<String, Secret>,
) -> Result<serde_json::Map<String, Value>, String> {
    let mut keys = wish.keys;
    if keys
        .insert("name".to_owned(), asker.target().into())
        .is_some()
    {
        let name = asker.target();
        return Err(format!(
            "`name` is not asked for: the target is called `{name}`"
        ));
    }
    for (key, secret) in secrets {
        if !matches!(key.as_str(), "username" | "password") {
            keys.insert(key.clone(), secret.reveal().into());
        }
    }
    let Some(text) = keys.get("url").and_then(Value::as_str) else {
        return Err("missing `url`; write it, or name a Secret for it in `secrets`".to_owned());
    };
    let mut url: Url = text
        .parse()
        .map_err(|error| format!("`url` is no URL: {error}"))?;
    let cannot = || "`url` has no place for a user and a password".to_owned();
    if let Some(name) = secrets.get("username") {
        url.set_username(name.reveal()).map_err(|()| cannot())?;
    }
    if let Some(password) = secrets.get("password") {
        url.set_password(Some(password.reveal()))
            .map_err(|()| cannot())?;
    }
    // As the parser understood it, so that nobody else understands another host.
    keys.insert("url".to_owned(), url.as_str().into());
    Ok(keys)
}

fn may_be_asked(
    terms: &Terms,
    asker: &Asker,
    keys: &serde_json::Map<String, Value>,
) -> Result<(), Refusal> {
    let text = keys.get("url").and_then(Value::as_str).unwrap_or_default();
    let Ok(url) = text.parse::<Url>() else {
        return Ok(());
    };
    let host = url.host_str().unwrap_or_default().to_ascii_lowercase();
    let own = [
        format!(".{}.svc", asker.namespace),
        format!(".{}.svc.cluster.local", asker.namespace),
    ];
    if own.iter().any(|end| host.ends_with(end)) || terms.allow.allows(text) {
        return Ok(());
    }
    let port = url.port_or_known_default();
    let port = port.map_or_else(String::new, |port| format!(":{port}"));
    let message = format!(
        "`{host}` does not lie in namespace {}; write NAME.{}.svc, or have \
         `{}://{host}{port}` added to `discovery.kubernetes.allow`",
        asker.namespace,
        asker.namespace,
        url.scheme()
    );
    Err(Refusal::new("NotAllowed", message))
}

/// Those that depend on themselves.
fn circles<'a>(accepted: &[(&'a Asker, TargetConfig)]) -> BTreeSet<&'a Asker> {
    let by_name: HashMap<&str, &Target> = accepted
        .iter()
        .map(|(_, made)| (&*made.target.name, &*made.target))
        .collect();
    let leads_back = |target: &Target| {
        let mut on = target.depends_on.iter();
        on.any(|on| leads_to(on, &target.name, &by_name))
    };
    accepted
        .iter()
        .filter(|(_, made)| leads_back(&made.target))
        .map(|(asker, _)| *asker)
        .collect()
}

#[cfg(test)]
mod tests;
