//! Maintenance that people begin while the program runs: kept in a file of `data_dir`, so that it
//! survives a restart. Must not know HTTP, nor what maintenance is for (`config::maintenance`).

use std::fmt;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use comind_model::timestamp::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::duration::Span;
use crate::config::maintenance::{LONGEST, Maintenance};

/// So many may be planned or on at once.
pub const MOST: usize = 100;
/// The longest name, in characters.
const LONGEST_NAME: usize = 100;
/// The most patterns of targets in one.
const MOST_PATTERNS: usize = 100;
/// The longest pattern, in bytes.
const LONGEST_PATTERN: usize = 256;
/// What is over is kept for so long, because uptime does not count it.
const KEPT: Duration = Duration::from_secs(90 * 86_400);
/// Of what is kept, at most so much.
const MOST_KEPT: usize = 2_000;

/// One that somebody began.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Begun {
    /// By which it can be ended.
    pub id: String,
    /// What it is called on the page and in metrics.
    pub name: String,
    /// Names of targets; `*` stands for any text.
    pub targets: Vec<String>,
    /// When it begins.
    pub from: Timestamp,
    /// When it ends.
    pub until: Timestamp,
}

impl Begun {
    fn ready(&self) -> Maintenance {
        Maintenance::once(&self.name, self.targets.clone(), self.from, self.until)
    }
}

/// What somebody wants.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// What it is for.
    pub name: String,
    /// Names of targets; `*` stands for any text.
    pub targets: Vec<String>,
    /// How long.
    pub duration: Span,
    /// When it begins; now by default.
    #[serde(default)]
    pub from: Option<Timestamp>,
}

/// Why something was not done.
#[derive(Debug)]
pub enum Refusal {
    /// What is wanted cannot be, in words.
    Wrong(String),
    /// There is no such maintenance, or it is over.
    Unknown,
    /// The file could not be written, so nothing was changed.
    NotKept(String),
}

/// Keeps them. One writer: whoever holds the lock.
#[derive(Clone)]
pub struct Desk {
    file: PathBuf,
    all: Arc<Mutex<Vec<Begun>>>,
    told: Arc<OnceLock<Teller>>,
}

/// Brings what there is into force.
type Teller = Box<dyn Fn(Arc<[Maintenance]>) + Send + Sync>;

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Desk({})", self.file.display())
    }
}

impl Desk {
    /// With what the last process kept; a file that cannot be read is set aside and named.
    pub fn open(folder: &Path) -> Self {
        let file = folder.join("maintenance.json");
        let all = read(&file).unwrap_or_else(|error| {
            let aside = file.with_extension("broken");
            let set = std::fs::rename(&file, &aside).is_ok();
            let what = if set { "is set aside" } else { "is left" };
            tracing::error!(
                "{} {what}: {error}; maintenance in it is forgotten",
                file.display()
            );
            Vec::new()
        });
        Self {
            file,
            all: Arc::new(Mutex::new(all)),
            told: Arc::default(),
        }
    }

    /// What there is.
    pub fn ready(&self) -> Arc<[Maintenance]> {
        ready(&self.all.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Who hears of every change, before the one who asked for it does. One only, once.
    pub fn tell(&self, teller: impl Fn(Arc<[Maintenance]>) + Send + Sync + 'static) {
        // A second one would be a slip of ours, and the first stays.
        let _ = self.told.set(Box::new(teller));
    }

    /// Those that are not over at `now`.
    pub fn list(&self, now: Timestamp) -> Vec<Begun> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter()
            .filter(|begun| begun.until > now)
            .cloned()
            .collect()
    }

    /// Begins one. Blocks for a write.
    ///
    /// # Errors
    /// When it cannot be, or cannot be kept.
    pub fn begin(&self, wanted: Wanted, now: Timestamp) -> Result<Begun, Refusal> {
        let begun = check(wanted, now).map_err(Refusal::Wrong)?;
        self.change(now, |all| {
            if all.iter().filter(|other| other.until > now).count() >= MOST {
                let message = format!("there are {MOST} already; end one of them first");
                return Err(Refusal::Wrong(message));
            }
            let mut begun = begun;
            // Two in one microsecond have two names.
            while all.iter().any(|other| other.id == begun.id) {
                begun.id.push('x');
            }
            all.push(begun.clone());
            Ok(begun)
        })
    }

    /// Ends one now. What was of it stays, as uptime does not count it. Blocks for a write.
    ///
    /// # Errors
    /// When there is none, or the end cannot be kept.
    pub fn end(&self, id: &str, now: Timestamp) -> Result<(), Refusal> {
        self.change(now, |all| {
            let found = all
                .iter()
                .position(|begun| begun.id == id && begun.until > now);
            let place = found.ok_or(Refusal::Unknown)?;
            if all[place].from >= now {
                all.remove(place);
            } else {
                all[place].until = now;
            }
            Ok(())
        })
    }

    fn change<T>(
        &self,
        now: Timestamp,
        change: impl FnOnce(&mut Vec<Begun>) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = all.clone();
        let changed = change(&mut next)?;
        next.retain(|begun| begun.until > now || now.since(begun.until) < KEPT);
        if next.len() > MOST_KEPT {
            next.drain(..next.len() - MOST_KEPT);
        }
        write(&self.file, &next).map_err(|error| {
            Refusal::NotKept(format!("failed to write {}: {error}", self.file.display()))
        })?;
        if let Some(tell) = self.told.get() {
            tell(ready(&next));
        }
        *all = next;
        Ok(changed)
    }
}

fn check(wanted: Wanted, now: Timestamp) -> Result<Begun, String> {
    let letters = wanted.name.chars().count();
    if letters == 0 || letters > LONGEST_NAME || wanted.name.chars().any(char::is_control) {
        return Err(format!("`name` must have 1 to {LONGEST_NAME} characters"));
    }
    if wanted.targets.is_empty() || wanted.targets.len() > MOST_PATTERNS {
        return Err(format!(
            "`targets` must name 1 to {MOST_PATTERNS} targets; `[\"*\"]` is all"
        ));
    }
    if wanted
        .targets
        .iter()
        .any(|pattern| pattern.is_empty() || pattern.len() > LONGEST_PATTERN)
    {
        return Err(format!(
            "a pattern in `targets` is empty or longer than {LONGEST_PATTERN} bytes"
        ));
    }
    let least = Span::from_millis(1_000);
    let duration = wanted
        .duration
        .within(least, Span(LONGEST))
        .map_err(|problem| format!("`duration`: {problem}"))?;
    let from = wanted.from.unwrap_or(now);
    if from < now || from.since(now) > LONGEST {
        return Err("`from` must lie within the next 30 days".to_owned());
    }
    Ok(Begun {
        id: format!("{:x}", now.as_micros()),
        name: wanted.name,
        targets: wanted.targets,
        from,
        until: from + duration,
    })
}

fn ready(all: &[Begun]) -> Arc<[Maintenance]> {
    all.iter().map(Begun::ready).collect()
}

fn read(file: &Path) -> io::Result<Vec<Begun>> {
    match std::fs::read(file) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Whole or not at all, also when the power fails.
fn write(file: &Path, all: &[Begun]) -> io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let new = file.with_extension("new");
    let mut out = File::create(&new)?;
    out.write_all(&serde_json::to_vec(all)?)?;
    out.sync_all()?;
    std::fs::rename(&new, file)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

    fn wanted(text: &str) -> Wanted {
        serde_json::from_str(text).unwrap()
    }

    const HOUR: &str = r#"{"name":"disks","targets":["db*"],"duration":"1h"}"#;

    #[test]
    fn one_that_was_begun_is_on_and_survives() {
        let dir = tempfile::tempdir().unwrap();
        let desk = Desk::open(dir.path());
        let begun = desk.begin(wanted(HOUR), NOW).unwrap();
        let told = desk.ready();
        assert!(told[0].covers("db1") && !told[0].covers("cache"));
        assert!(told[0].is_on(NOW) && !told[0].is_on(NOW + Duration::from_secs(3600)));
        let later = NOW + Duration::from_secs(60);
        let again = Desk::open(dir.path());
        assert_eq!(again.list(later), std::slice::from_ref(&begun));
        again.end(&begun.id, later).unwrap();
        assert_eq!(again.list(later), []);
        // What was of it does not count for uptime.
        let told = again.ready();
        assert!(told[0].is_on(NOW) && !told[0].is_on(later));
        assert!(matches!(again.end(&begun.id, later), Err(Refusal::Unknown)));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let desk = Desk::open(dir.path());
        for (text, word) in [
            (r#"{"name":"","targets":["*"],"duration":"1h"}"#, "name"),
            (r#"{"name":"a","targets":[],"duration":"1h"}"#, "targets"),
            (
                r#"{"name":"a","targets":["*"],"duration":"100d"}"#,
                "duration",
            ),
            (
                r#"{"name":"a","targets":["*"],"duration":"1h","from":"2001-01-01T00:00:00Z"}"#,
                "from",
            ),
        ] {
            let refused = desk.begin(wanted(text), NOW);
            assert!(
                matches!(&refused, Err(Refusal::Wrong(why)) if why.contains(word)),
                "{refused:?}"
            );
        }
        for _ in 0..MOST {
            desk.begin(wanted(HOUR), NOW).unwrap();
        }
        assert!(matches!(
            desk.begin(wanted(HOUR), NOW),
            Err(Refusal::Wrong(_))
        ));
    }

    #[test]
    fn what_cannot_be_kept_is_not_begun_and_what_cannot_be_read_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("maintenance.json");
        std::fs::write(&file, "{ half").unwrap();
        let desk = Desk::open(dir.path());
        assert!(dir.path().join("maintenance.broken").exists());
        // A folder in its place cannot be replaced by a file.
        std::fs::create_dir_all(file.join("x")).unwrap();
        assert!(matches!(
            desk.begin(wanted(HOUR), NOW),
            Err(Refusal::NotKept(_))
        ));
        assert_eq!(desk.list(NOW), []);
    }
}
