//! One item of `targets`: the keys that every kind shares, and the rest, which its kind reads.
//! Must not know single kinds.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use comind_model::ledger::Objective;
use comind_model::target::Target;
use comind_model::thresholds::Thresholds;
use schemars::JsonSchema;
use serde::Deserialize;

use super::de::unknown_keys;
use super::dependencies;
use super::duration::Span;
use super::files::{self, Fingerprint, Folder};
use super::node::{Entry, Node, NodeError, Value, listed};
use super::sections::Defaults;
use super::{schema, suggest};
use crate::kinds::{self, Kind};
use crate::probe::Probe;

/// The most targets.
pub(crate) const MAX_TARGETS: usize = 10_000;

/// After so many problems further targets are not read.
const MOST_PROBLEMS: usize = 1_000;

/// The keys that every kind of target has.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Common {
    /// Unique name: letters, digits, `.`, `_` and `-`, at most 63.
    #[schemars(regex(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"))]
    pub name: String,
    /// The kind of service.
    pub kind: String,
    /// Whether the platform is down without it.
    #[serde(default)]
    pub required: bool,
    /// Time between looks.
    pub interval: Option<Span>,
    /// How long a look may take.
    pub timeout: Option<Span>,
    /// Time between deep looks, which do the target's real work.
    pub deep_interval: Option<Span>,
    /// How long a deep look may take.
    pub deep_timeout: Option<Span>,
    /// How often a held connection is asked for a sign of life.
    pub heartbeat: Option<Span>,
    /// How many looks make a verdict.
    pub thresholds: Option<Thresholds>,
    /// Targets without which this one cannot work: while one of them is down, nobody is told
    /// that this one is.
    #[serde(default)]
    pub depends_on: Vec<String>,
    /// Which percentage of the time it should work, such as 99.9: what is left of the error budget
    /// is then shown and exported.
    #[schemars(range(min = 0, max = 100))]
    pub slo: Option<f64>,
}

/// The keys of [`Common`].
pub(super) const COMMON: &[&str] = &[
    "deep_interval",
    "deep_timeout",
    "depends_on",
    "heartbeat",
    "interval",
    "kind",
    "name",
    "required",
    "slo",
    "thresholds",
    "timeout",
];

/// A target, ready to be watched.
#[derive(Clone)]
pub struct TargetConfig {
    /// What the rules need of it.
    pub target: Arc<Target>,
    /// How it is looked at.
    pub probe: Arc<dyn Probe>,
    /// Time between looks.
    pub interval: Duration,
    /// How long a look may take.
    pub timeout: Duration,
    /// Time between deep looks.
    pub deep_interval: Duration,
    /// How long a deep look may take.
    pub deep_timeout: Duration,
    /// How often a held connection is asked for a sign of life.
    pub heartbeat: Duration,
    /// Equal to another's if nothing about the target changed.
    pub identity: Identity,
}

impl fmt::Debug for TargetConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TargetConfig")
            .field("target", &self.target)
            .field("interval", &self.interval)
            .finish_non_exhaustive()
    }
}

/// Everything that makes a target what it is: settings with defaults applied, and the contents of
/// the files they name. Where it stands in the config plays no part.
#[derive(Clone, PartialEq)]
pub struct Identity {
    target: Arc<Target>,
    schedule: Schedule,
    settings: Node,
    files: Vec<Fingerprint>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.target.name)
    }
}

/// When a target is looked at, and how many looks make a verdict.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Schedule {
    pub(super) interval: Span,
    pub(super) timeout: Span,
    pub(super) deep_interval: Span,
    pub(super) deep_timeout: Span,
    pub(super) heartbeat: Span,
    pub(super) thresholds: Thresholds,
}

impl Schedule {
    /// What a target says, and for the rest what the defaults say.
    fn of(common: &Common, defaults: &Defaults) -> Self {
        Self {
            interval: common.interval.unwrap_or(defaults.interval),
            timeout: common.timeout.unwrap_or(defaults.timeout),
            deep_interval: common.deep_interval.unwrap_or(defaults.deep_interval),
            deep_timeout: common.deep_timeout.unwrap_or(defaults.deep_timeout),
            heartbeat: common.heartbeat.unwrap_or(defaults.heartbeat),
            thresholds: common.thresholds.unwrap_or(defaults.thresholds),
        }
    }

    /// What is out of bounds, at the place in `section` which says so.
    pub(super) fn problems(&self, section: &Node) -> Vec<NodeError> {
        const OFTEN: Span = Span::from_millis(100);
        const SHORT: Span = Span::from_millis(1);
        const MINUTE: Span = Span(Duration::from_secs(60));
        const DAY: Span = Span(Duration::from_secs(24 * 3600));
        let bounds = [
            ("interval", self.interval, OFTEN, DAY),
            ("timeout", self.timeout, SHORT, MINUTE),
            ("deep_interval", self.deep_interval, OFTEN, DAY),
            ("deep_timeout", self.deep_timeout, SHORT, MINUTE),
            ("heartbeat", self.heartbeat, OFTEN, DAY),
        ];
        let times = bounds.into_iter().filter_map(|(key, span, least, most)| {
            // What a target does not say itself is told once, at the defaults.
            let node = section.get(key)?;
            let problem = span.within(least, most).err()?;
            Some(node.error(format!("`{key}`: {problem}")))
        });
        let thresholds = section.get("thresholds").and_then(|node| {
            let problem = self.thresholds.problem()?;
            Some(node.error(format!("`thresholds`: {problem}")))
        });
        times.chain(thresholds).collect()
    }

    /// Silence for longer than this makes a target unknown.
    fn stale_after(&self) -> Duration {
        const LEAST: Duration = Duration::from_secs(3);
        (self.interval.0 * 3 + self.timeout.0).max(LEAST)
    }
}

/// Reads a single target that stands in no file.
///
/// # Errors
/// All that is wrong with it.
pub fn single(item: &Node, defaults: &Defaults) -> Result<TargetConfig, Vec<NodeError>> {
    let folder = Folder::none();
    let mut targets = Targets::new(defaults, &folder);
    match targets.target(item) {
        Some(target) if targets.problems.is_empty() => Ok(target),
        _ => Err(targets.problems),
    }
}

/// Reads the list of targets, and gathers what is wrong.
pub(super) struct Targets<'a> {
    defaults: &'a Defaults,
    folder: &'a Folder,
    /// Line of each name, to tell the first of two.
    names: HashMap<String, u32>,
    /// Each kind's own keys, asked for once.
    keys: HashMap<&'static str, Vec<String>>,
    pub(super) targets: Vec<TargetConfig>,
    pub(super) files: BTreeSet<PathBuf>,
    pub(super) problems: Vec<NodeError>,
}

impl<'a> Targets<'a> {
    pub(super) fn new(defaults: &'a Defaults, folder: &'a Folder) -> Self {
        Self {
            defaults,
            folder,
            names: HashMap::new(),
            keys: HashMap::new(),
            targets: Vec::new(),
            files: BTreeSet::new(),
            problems: Vec::new(),
        }
    }

    pub(super) fn read(&mut self, list: &Node, items: &[Node]) {
        if items.len() > MAX_TARGETS {
            let message = format!(
                "{} targets; one instance watches at most {MAX_TARGETS}, give the rest to another",
                items.len()
            );
            self.problems.push(list.error(message));
            return;
        }
        for item in items {
            let before = self.problems.len();
            if before >= MOST_PROBLEMS {
                break;
            }
            if let Some(target) = self.target(item) {
                self.targets.push(target);
            }
            self.name_target(item, before);
        }
        // A target that could not be read would be missed as a dependency, too.
        if self.problems.is_empty() {
            let named = self.targets.iter().map(|target| &*target.target);
            self.problems = dependencies::problems(items, named);
        }
    }

    /// Says in each new problem which target it is about.
    fn name_target(&mut self, item: &Node, before: usize) {
        let Some(name) = item.get("name").and_then(text) else {
            return;
        };
        let label = format!("target `{}`", name.chars().take(63).collect::<String>());
        let added = self.problems.drain(before..).collect::<Vec<_>>();
        let named = added
            .into_iter()
            .map(|problem| problem.within(&label).hiding(item));
        self.problems.extend(named);
    }

    fn target(&mut self, item: &Node) -> Option<TargetConfig> {
        if !matches!(item.value, Value::Map(_)) {
            let message = format!(
                "expected a target such as `- {{ name: db, kind: tcp, … }}`, found {}",
                item.what()
            );
            self.problems.push(item.error(message));
            return None;
        }
        let kind = self.kind(item);
        let common = self.common(item);
        let built = kind.and_then(|kind| self.settings(item, kind));
        Some(self.assemble(common?, built?))
    }

    fn kind(&mut self, item: &Node) -> Option<&'static Kind> {
        let all = || kinds::KINDS.iter().map(|kind| kind.name);
        let Some(node) = item.get("kind") else {
            let message = format!(
                "missing key `kind`; add `kind: …`, one of {}",
                listed(all())
            );
            self.problems.push(item.error(message));
            return None;
        };
        let word = text(node)?;
        let found = kinds::find(word);
        if found.is_none() {
            let help = suggest::help(word, all());
            let message = format!("unknown kind `{}`; {help}", suggest::shown(word));
            self.problems.push(node.error(message));
        }
        found
    }

    fn common(&mut self, item: &Node) -> Option<Common> {
        let named = match item.get("name") {
            Some(node) => text(node).is_none_or(|name| self.good_name(node, name)),
            None => true,
        };
        item.get("kind")?;
        let section = item.with_keys(|key| COMMON.contains(&key));
        let common = match section.read::<Common>() {
            Ok(common) => common,
            Err(problem) => {
                self.problems.push(problem);
                return None;
            }
        };
        if let Some(percent) = common.slo
            && Objective::percent(percent).is_none()
        {
            let node = section.get("slo").unwrap_or(&section);
            let message =
                format!("`slo` is {percent}, it must lie between 0 and 100, such as 99.9");
            self.problems.push(node.error(message));
            return None;
        }
        let problems = Schedule::of(&common, self.defaults).problems(&section);
        let fine = named && problems.is_empty();
        self.problems.extend(problems);
        fine.then_some(common)
    }

    fn good_name(&mut self, node: &Node, name: &str) -> bool {
        if !is_name(name) {
            let message = "`name`: write 1 to 63 letters, digits, `.`, `_` or `-`, the first a letter or a digit";
            self.problems.push(node.error(message));
            return false;
        }
        match self.names.insert(name.to_owned(), node.place().line) {
            None => true,
            Some(first) => {
                let message =
                    format!("`name`: already taken by the target on line {first}; give another");
                self.problems.push(node.error(message));
                false
            }
        }
    }

    /// The kind's own settings, without keys that it does not know (those are reported).
    fn settings(&mut self, item: &Node, kind: &'static Kind) -> Option<Built> {
        let own = self
            .keys
            .entry(kind.name)
            .or_insert_with(|| schema::own_keys(kind));
        let allowed = COMMON.iter().copied().chain(own.iter().map(String::as_str));
        self.problems.extend(unknown_keys(item, &allowed));
        let settings = item.with_keys(|key| own.iter().any(|known| known == key));
        let settings = self.folder.resolve(&settings);
        // Before they are read: a change in between then counts as one at the next reload.
        let files = files::fingerprints(&settings);
        match (kind.build)(&settings) {
            Ok(probe) => Some(Built {
                kind,
                settings,
                files,
                probe,
            }),
            Err(problem) => {
                self.problems.push(blame(problem, &settings));
                None
            }
        }
    }

    fn assemble(&mut self, common: Common, built: Built) -> TargetConfig {
        let schedule = Schedule::of(&common, self.defaults);
        let target = Arc::new(Target {
            name: common.name.into(),
            kind: built.kind.name,
            required: common.required,
            thresholds: schedule.thresholds,
            stale_after: schedule.stale_after(),
            deep: built.probe.has_deep(),
            objective: common.slo.and_then(Objective::percent),
            watched: built.probe.watch().is_some(),
            parent: None,
            depends_on: common
                .depends_on
                .iter()
                .map(|name| name.as_str().into())
                .collect(),
        });
        self.files
            .extend(built.files.iter().map(|(path, _)| path.clone()));
        TargetConfig {
            target: target.clone(),
            probe: built.probe.into(),
            interval: schedule.interval.0,
            timeout: schedule.timeout.0,
            deep_interval: schedule.deep_interval.0,
            deep_timeout: schedule.deep_timeout.0,
            heartbeat: schedule.heartbeat.0,
            identity: Identity {
                target,
                schedule,
                settings: built.settings,
                files: built.files,
            },
        }
    }
}

/// What a kind made of its own settings.
struct Built {
    kind: &'static Kind,
    settings: Node,
    files: Vec<Fingerprint>,
    probe: Box<dyn Probe>,
}

/// A kind that refuses its settings tells no place. If the message names a key, or the file of
/// a key, that one is meant.
fn blame(problem: NodeError, settings: &Node) -> NodeError {
    if !problem.is_at(settings.place()) {
        return problem;
    }
    let message = problem.message.to_lowercase();
    let letter = |c: char| c.is_alphanumeric() || c == '_';
    let words: Vec<&str> = message.split(|c| !letter(c)).collect();
    let named = |entry: &&Entry| {
        let file = text(&entry.value).filter(|_| entry.key.ends_with("_file"));
        words.contains(&&*entry.key) || file.is_some_and(|file| problem.message.contains(file))
    };
    match settings.entries().iter().find(named) {
        Some(entry) => problem.moved_to(entry.value.place()),
        None => problem,
    }
}

fn text(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Scalar(scalar) if !scalar.is_null() => Some(&scalar.text),
        _ => None,
    }
}

fn is_name(name: &str) -> bool {
    let starts = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    starts && name.len() <= 63 && name.chars().all(good)
}
