//! The config file: from YAML to targets with their probes, every problem with its place and fix.
//! Must not know what is done with it, nor how a reload is carried out.

pub mod access;
mod de;
pub(crate) mod dependencies;
pub mod discovery;
pub mod duration;
pub mod env;
mod files;
pub(crate) mod glob;
pub mod history;
pub mod maintenance;
pub mod node;
pub mod notify;
pub mod probe_policy;
pub mod proxy;
pub mod schema;
pub mod secret_file;
pub mod sections;
mod suggest;
pub mod target;
mod web_config;
mod yaml;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use comind_model::ingress::Ingress;
use serde::de::DeserializeOwned;

use self::discovery::{Discovery, Kubernetes};
use self::env::Env;
use self::files::Folder;
use self::maintenance::{Maintenance, Written};
use self::node::{Node, NodeError, Value};
use self::notify::Notify;
use self::probe_policy::ProbePolicy;
use self::sections::{Api, Defaults};
use self::target::{TargetConfig, Targets};
use crate::access::policy::Policy;
use crate::history::Limits;
use crate::notify::post::Poster;

/// The largest config file.
const MAX_BYTES: u64 = 8 * 1024 * 1024;

/// So many problems are shown; mending these is work enough for one round.
const SHOWN_PROBLEMS: usize = 50;

/// What the config says, checked as far as it can be without asking the targets.
#[derive(Debug)]
pub struct Config {
    /// Where the API, the page and the metrics are served.
    pub api: Api,
    /// What is demanded of whoever asks there.
    pub access: Policy,
    /// Where history is kept.
    pub data_dir: PathBuf,
    /// What holds for targets that do not say otherwise; already applied to `targets`.
    pub defaults: Defaults,
    /// What is watched, in the order of the file.
    pub targets: Vec<TargetConfig>,
    /// Whether a cluster names further targets.
    pub discovery: Option<Kubernetes>,
    /// What `/probe` may look at.
    pub probe: ProbePolicy,
    /// Whether metrics are exported under the names of other exporters as well.
    pub compat_metrics: bool,
    /// What the ingress proxy is told, where there is one.
    pub proxy: Option<Arc<Ingress>>,
    /// Who is told of outages.
    pub notify: Notify,
    /// How much of the past is kept.
    pub history: Limits,
    /// When nobody is to be told.
    pub maintenance: Vec<Maintenance>,
    /// Files besides the config whose change is a change of the config: secrets, certificates.
    pub files: Vec<PathBuf>,
    /// What works but should be thought about; a line each, with its place.
    pub warnings: Vec<String>,
}

/// Everything that is wrong with a config, in the order of the file.
#[derive(Debug)]
pub struct ConfigError {
    /// Never empty.
    pub problems: Vec<NodeError>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().take(SHOWN_PROBLEMS).enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{problem}")?;
        }
        match self.problems.len().saturating_sub(SHOWN_PROBLEMS) {
            0 => Ok(()),
            more => write!(f, "\n… and {more} more problems"),
        }
    }
}

impl std::error::Error for ConfigError {}

impl ConfigError {
    fn new(mut problems: Vec<NodeError>) -> Self {
        problems.sort_by_key(|problem| (problem.line, problem.column));
        Self { problems }
    }

    /// Something is wrong with the file as a whole.
    pub fn about_file(file: &Path, message: String) -> Self {
        let place = node::Place {
            file: file.display().to_string().into(),
            ..node::Place::default()
        };
        Self::new(vec![NodeError::message(message).at(&place)])
    }
}

/// Reads and checks a config file, with the environment of this process.
pub fn load(file: &Path) -> Result<Config, ConfigError> {
    let bytes = files::bounded(file, MAX_BYTES).map_err(|error| {
        let message = format!("failed to read the config: {error}; name it with `--config FILE`");
        ConfigError::about_file(file, message)
    })?;
    let shown = file.display().to_string();
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let before = String::from_utf8_lossy(&error.as_bytes()[..good]).into_owned();
        let place = yaml::place_of(&before, &shown.as_str().into());
        let message = "not text in UTF-8; save the config as UTF-8";
        ConfigError::new(vec![NodeError::message(message).at(&place)])
    })?;
    parse(&text, &shown, &|name| std::env::var(name).ok())
}

/// Checks the text of a config. Reads nothing but the secret files that it names; `file` is for
/// messages, and its folder is where relative `*_file` paths begin.
pub fn parse(text: &str, file: &str, env: &Env<'_>) -> Result<Config, ConfigError> {
    let root = yaml::read(text, file, env).map_err(ConfigError::new)?;
    let mut reader = Reader::default();
    let config = reader.config(&root, &Folder::of(Path::new(file)));
    if reader.problems.is_empty() {
        Ok(config)
    } else {
        Err(ConfigError::new(reader.problems))
    }
}

/// Reads section after section, and gathers what is wrong.
#[derive(Default)]
struct Reader {
    problems: Vec<NodeError>,
    warnings: Vec<String>,
}

impl Reader {
    fn config(&mut self, root: &Node, folder: &Folder) -> Config {
        self.known_keys(root);
        let mut watched = BTreeSet::new();
        let (api, access) = self.api(root, folder, &mut watched);
        let compat_metrics: bool = self.section(root, "compat_metrics");
        let defaults = self.defaults(root);
        let targets = self.targets(root, &defaults, folder);
        let mut files = targets.files;
        let data_dir = self.data_dir(root);
        let proxy = self.proxy(root, folder, &data_dir, &mut watched);
        files.append(&mut watched);
        Config {
            api,
            access,
            data_dir,
            targets: targets.targets,
            discovery: self.discovery(root),
            probe: self.section(root, "probe"),
            compat_metrics,
            proxy,
            notify: self.notify(root, folder, &mut files),
            maintenance: self.maintenance(root),
            history: self.history(root),
            files: files.into_iter().collect(),
            defaults: defaults.clone(),
            warnings: std::mem::take(&mut self.warnings),
        }
    }

    fn api(
        &mut self,
        root: &Node,
        folder: &Folder,
        files: &mut BTreeSet<PathBuf>,
    ) -> (Api, Policy) {
        let Some(node) = root.get("api").filter(|node| !node.is_null()) else {
            return (Api::default(), access::undemanding());
        };
        let node = folder.resolve(node);
        let before = self.problems.len();
        let api: Api = self.take(node.read().map_err(|error: NodeError| error.under("api")));
        if self.problems.len() > before {
            return (api, Policy::default());
        }
        let policy = access::policy(&api, &node, files, &mut self.warnings);
        let policy = self.take(policy.map_err(|error| error.under("api")));
        if let Some(lack) = policy.lacks()
            && !api.listen.ip().is_loopback()
        {
            let place = node.get("listen").unwrap_or(&node);
            self.warn(place, format!("{}{lack}", sections::OPEN_TO_ALL));
        }
        (api, policy)
    }

    fn known_keys(&mut self, root: &Node) {
        if !matches!(root.value, Value::Map(_)) {
            let message = format!(
                "a config is a map with keys such as `targets:`, this is {}",
                root.what()
            );
            self.problems.push(root.error(message));
        }
        let known = sections::KEYS.iter().copied();
        self.problems.extend(de::unknown_keys(root, &known));
    }

    /// A section, or its default where it is not given or wrong.
    fn section<T: DeserializeOwned + Default>(&mut self, root: &Node, key: &str) -> T {
        match root.get(key).filter(|node| !node.is_null()) {
            Some(node) => self.take(node.read::<T>().map_err(|error| error.under(key))),
            None => T::default(),
        }
    }

    fn take<T: Default>(&mut self, result: Result<T, NodeError>) -> T {
        result.unwrap_or_else(|problem| {
            self.problems.push(problem);
            T::default()
        })
    }

    fn data_dir(&mut self, root: &Node) -> PathBuf {
        let written: Option<PathBuf> = self.section(root, "data_dir");
        written.unwrap_or_else(|| PathBuf::from("./data"))
    }

    fn defaults(&mut self, root: &Node) -> Defaults {
        let defaults: Defaults = self.section(root, "defaults");
        if let Some(node) = root.get("defaults") {
            self.problems.extend(defaults.schedule().problems(node));
        }
        defaults
    }

    fn targets<'a>(
        &mut self,
        root: &Node,
        defaults: &'a Defaults,
        folder: &'a Folder,
    ) -> Targets<'a> {
        let mut targets = Targets::new(defaults, folder);
        match root.get("targets").map(|node| (node, &node.value)) {
            Some((node, Value::List(items))) => targets.read(node, items),
            Some((node, _)) if !node.is_null() => {
                let message = "`targets`: expected a list, each item beginning with `- name: …`";
                self.problems.push(node.error(message));
            }
            _ => {}
        }
        self.problems.append(&mut targets.problems);
        let elsewhere = root.get("discovery").is_some();
        let elsewhere = elsewhere || root.get("proxy").is_some();
        if targets.targets.is_empty() && !elsewhere && self.problems.is_empty() {
            self.warn(root, "no `targets`: nothing is watched");
        }
        targets
    }

    /// Secret files are read here, so that a missing one is a problem of the config.
    fn notify(&mut self, root: &Node, folder: &Folder, files: &mut BTreeSet<PathBuf>) -> Notify {
        let Some(node) = root.get("notify").filter(|node| !node.is_null()) else {
            return Notify::default();
        };
        let node = folder.resolve(node);
        files.extend(files::fingerprints(&node).into_iter().map(|(path, _)| path));
        let read = node.read::<Notify>().and_then(|mut notify| {
            let receivers = notify.alertmanager.iter_mut().chain(&mut notify.webhooks);
            for receiver in receivers {
                let usable = receiver.take_secret().and_then(|()| {
                    let poster = Poster::new(receiver, "");
                    poster.map(drop)
                });
                // Only the host: a path may hold a token.
                usable.map_err(|problem| {
                    let host = receiver.url.host();
                    node.error(format!("the receiver at {host}: {problem}"))
                })?;
            }
            match notify.problem() {
                Some(problem) => Err(node.error(problem)),
                None => Ok(notify),
            }
        });
        self.take(read.map_err(|error| error.under("notify")))
    }

    fn discovery(&mut self, root: &Node) -> Option<Kubernetes> {
        let node = root.get("discovery").filter(|node| !node.is_null())?;
        let read = node.read::<Discovery>().and_then(|section| {
            let problem = section.kubernetes.as_ref().and_then(Kubernetes::problem);
            let at = node.get("kubernetes").unwrap_or(node);
            problem.map_or(Ok(section), |problem| Err(at.error(problem)))
        });
        let section = self.take(read.map_err(|error| error.under("discovery")));
        section.kubernetes
    }

    fn history(&mut self, root: &Node) -> Limits {
        let section: history::History = self.section(root, "history");
        let limits = section.limits().or_else(|problem| {
            let node = root.get("history").unwrap_or(root);
            self.problems.push(node.error(problem).under("history"));
            history::History::default().limits()
        });
        limits.unwrap_or(Limits {
            keep: section.keep.0,
            max_size: 0,
        })
    }

    fn maintenance(&mut self, root: &Node) -> Vec<Maintenance> {
        let Some(node) = root.get("maintenance").filter(|node| !node.is_null()) else {
            return Vec::new();
        };
        let Value::List(items) = &node.value else {
            let message = "`maintenance`: expected a list, each item beginning with `- name: …`";
            self.problems.push(node.error(message));
            return Vec::new();
        };
        let mut all = Vec::new();
        for item in items.iter() {
            let read = item.read::<Written>();
            match read.and_then(|w| w.read().map_err(|problem| item.error(problem))) {
                Ok(maintenance) => all.push(maintenance),
                Err(problem) => self.problems.push(problem.under("maintenance")),
            }
        }
        all
    }

    fn proxy(
        &mut self,
        root: &Node,
        folder: &Folder,
        data_dir: &Path,
        files: &mut BTreeSet<PathBuf>,
    ) -> Option<Arc<Ingress>> {
        let node = folder.resolve(root.get("proxy").filter(|node| !node.is_null())?);
        let read = proxy::read(&node, data_dir, files, &mut self.warnings);
        self.take(
            read.map(|told| Some(Arc::new(told)))
                .map_err(|error| error.under("proxy")),
        )
    }

    fn warn(&mut self, node: &Node, message: impl Into<String>) {
        self.warnings.push(node.error(message).to_string());
    }
}
