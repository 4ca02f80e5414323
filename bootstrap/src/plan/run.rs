//! Brings the steps of a graph about, side by side where none needs the other. What fails stops
//! what needs it, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use serde::Serialize;
use tokio::time::Instant;

use crate::cause;
use crate::event::{About, Level, Report, now, say};
use crate::plan::graph::{Graph, Id};
use crate::plan::journal::{Entry, Journal, interrupted};
use crate::plan::step::{Change, Planned};
use crate::wait::{Gave, until};

/// How a run went.
#[derive(Debug, Default, Serialize)]
pub struct Outcome {
    /// What was changed.
    pub changed: BTreeMap<Id, Vec<Change>>,
    /// What was as wanted.
    pub unchanged: BTreeSet<Id>,
    /// What failed, and why.
    pub failed: BTreeMap<Id, String>,
    /// What was not begun, and which failed step is the cause.
    pub hindered: BTreeMap<Id, Id>,
    /// How long each step took, in milliseconds.
    pub took_ms: BTreeMap<Id, u64>,
}

impl Outcome {
    /// An error that says what to do, if something failed.
    ///
    /// # Errors
    /// That one.
    pub fn verdict(&self) -> Result<()> {
        if self.failed.is_empty() {
            return Ok(());
        }
        let failed: Vec<Id> = self.failed.keys().copied().collect();
        let mut text = format!("failed: {}", failed.join(", "));
        if !self.hindered.is_empty() {
            let hindered: Vec<Id> = self.hindered.keys().copied().collect();
            text.push_str(&format!("; not begun: {}", hindered.join(", ")));
        }
        bail!(
            "{text} (reasons above). Remove the cause and run the same command again: it goes on where it stopped"
        );
    }
}

/// One step's end.
struct Ended {
    id: Id,
    took: Duration,
    result: Result<Vec<Change>>,
}

/// Runs a graph of these steps to its end. No step may take longer than `most`, even where its own
/// limit is above that.
///
/// # Errors
/// When the journal cannot be written. A step's failure is in the outcome.
pub async fn run(
    graph: &Graph,
    steps: &[Box<dyn Planned>],
    journal: &Path,
    most: Duration,
    report: &dyn Report,
) -> Result<Outcome> {
    for (step, since) in interrupted(journal)? {
        let text = format!("the run before was cut off in {step}, begun at {since}: goes on");
        say(report, Level::Note, text);
    }
    let mut journal = Journal::open(journal)?;
    let by_name: BTreeMap<Id, &dyn Planned> =
        steps.iter().map(|step| (step.id(), &**step)).collect();
    let (mut begun, mut done) = (BTreeSet::new(), BTreeSet::new());
    let mut outcome = Outcome::default();
    let mut running: FuturesUnordered<BoxFuture<'_, Ended>> = FuturesUnordered::new();
    loop {
        for id in graph.ready(&begun, &done) {
            begun.insert(id);
            let step = by_name
                .get(id)
                .copied()
                .ok_or_else(|| anyhow!("{id} is no step"))?;
            let entry = Entry::Begun { step: id.into() };
            journal.write(now(), entry)?;
            running.push(Box::pin(bring(step, most, report)));
        }
        let Some(ended) = running.next().await else {
            break;
        };
        journal.write(now(), ended.entry())?;
        if ended.result.is_ok() {
            done.insert(ended.id);
        }
        ended.count(graph, &mut outcome);
    }
    Ok(outcome)
}

impl Ended {
    fn entry(&self) -> Entry {
        let (step, took_ms) = (self.id.to_owned(), milliseconds(self.took));
        match &self.result {
            Ok(changes) => Entry::Done {
                step,
                changes: Change::words(changes),
                took_ms,
            },
            Err(error) => Entry::Failed {
                step,
                error: format!("{error:#}"),
                took_ms,
            },
        }
    }

    fn count(self, graph: &Graph, outcome: &mut Outcome) {
        outcome.took_ms.insert(self.id, milliseconds(self.took));
        match self.result {
            Ok(changes) if changes.is_empty() => {
                outcome.unchanged.insert(self.id);
            }
            Ok(changes) => {
                outcome.changed.insert(self.id, changes);
            }
            Err(error) => {
                outcome.failed.insert(self.id, format!("{error:#}"));
                for hindered in graph.dependants(self.id) {
                    outcome.hindered.entry(hindered).or_insert(self.id);
                }
            }
        }
    }
}

fn milliseconds(took: Duration) -> u64 {
    u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
}

async fn bring(step: &dyn Planned, most: Duration, report: &dyn Report) -> Ended {
    let began = Instant::now();
    let about = About::new(step.id(), report);
    let result = brought(step, about, step.limit().min(most)).await;
    let took = began.elapsed();
    match &result {
        Ok(changes) if changes.is_empty() => about.say(Level::Unchanged, "as wanted"),
        Ok(_) => about.say(
            Level::Changed,
            format!("ready after {:.1} s", took.as_secs_f64()),
        ),
        Err(error) => about.say(Level::Failed, format!("{error:#}")),
    }
    Ended {
        id: step.id(),
        took,
        result,
    }
}

/// Brings it until that succeeds, fails for good, or its time is over: what passes by itself, such as a busy
/// etcd, is waited for.
async fn tried(
    step: &dyn Planned,
    about: About<'_>,
    end: Instant,
) -> Result<Vec<Change>, Gave<anyhow::Error>> {
    let mut made = Vec::new();
    let mut last = String::new();
    while let Ok(ended) = tokio::time::timeout_at(end, step.bring(about, &mut made)).await {
        let error = match ended {
            Ok(()) => return Ok(made),
            Err(error) if cause::passes(&error) => format!(": {error:#}"),
            Err(error) => return Err(Gave::Hopeless(error)),
        };
        if error != last {
            about.say(Level::Waiting, format!("waiting{error}"));
            last = error;
        }
        if Instant::now() + AGAIN > end {
            break;
        }
        tokio::time::sleep(AGAIN).await;
    }
    Err(Gave::TimedOut(last))
}

/// Between two tries of a step.
const AGAIN: Duration = Duration::from_millis(500);

async fn brought(step: &dyn Planned, about: About<'_>, limit: Duration) -> Result<Vec<Change>> {
    let end = Instant::now() + limit;
    let with_lines = |error: anyhow::Error| {
        let lines = step.last_lines();
        match lines.is_empty() {
            true => error,
            false => anyhow!("{error:#}\nits last lines:\n  {}", lines.join("\n  ")),
        }
    };
    let changes = tried(step, about, end).await.map_err(|gave| match gave {
        Gave::Hopeless(error) => with_lines(error),
        Gave::TimedOut(why) => with_lines(anyhow!("it was not done within {limit:?}{why}")),
    })?;
    let left = end.saturating_duration_since(Instant::now());
    let gave = until(
        left,
        |why| about.say(Level::Waiting, format!("waiting: {why}")),
        || step.ready(),
    )
    .await;
    match gave {
        Ok(()) => Ok(changes),
        Err(Gave::Hopeless(why)) => Err(with_lines(anyhow!("{why}"))),
        Err(Gave::TimedOut(why)) => Err(with_lines(anyhow!("not ready within {limit:?}: {why}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;
    use crate::plan::step::Step;
    use crate::wait::Look;
    use std::sync::{Arc, Mutex, PoisonError};

    /// A step whose world is a list of what was made.
    struct Made {
        id: Id,
        needs: &'static [Id],
        world: Arc<Mutex<Vec<Id>>>,
        fails: bool,
    }

    impl Step for Made {
        type Seen = bool;

        fn id(&self) -> Id {
            self.id
        }

        fn needs(&self) -> &'static [Id] {
            self.needs
        }

        fn limit(&self) -> Duration {
            Duration::from_millis(400)
        }

        async fn observe(&self) -> Result<bool> {
            Ok(self
                .world
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .contains(&self.id))
        }

        fn diff(&self, seen: &bool) -> Vec<Change> {
            let missing = !seen;
            missing
                .then(|| Change::new("make it"))
                .into_iter()
                .collect()
        }

        async fn apply(&self, _: bool, _: About<'_>) -> Result<()> {
            self.world
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(self.id);
            Ok(())
        }

        async fn ready(&self) -> Look<(), String> {
            match self.fails {
                true => Look::NotYet("the pod wants an image that is nowhere".into()),
                false => Look::Done(()),
            }
        }

        fn last_lines(&self) -> Vec<String> {
            vec!["its last words".into()]
        }
    }

    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Report for Heard {
        fn report(&self, event: Event) {
            let subject = event.subject.unwrap_or_default();
            let line = format!("{subject}: {}", event.message);
            self.0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(line);
        }
    }

    fn made(world: &Arc<Mutex<Vec<Id>>>, failing: Id) -> Vec<Box<dyn Planned>> {
        let all: [(Id, &'static [Id]); 4] =
            [("a", &[]), ("b", &["a"]), ("c", &["b"]), ("d", &["a"])];
        all.into_iter()
            .map(|(id, needs)| {
                let fails = id == failing;
                let world = world.clone();
                Box::new(Made {
                    id,
                    needs,
                    world,
                    fails,
                }) as Box<dyn Planned>
            })
            .collect()
    }

    #[tokio::test]
    async fn what_fails_stops_what_needs_it_and_the_next_run_goes_on() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let journal = dir.path().join("journal");
        let world = Arc::default();
        let heard = Heard::default();
        let steps = made(&world, "b");
        let graph = Graph::new(steps.iter().map(|step| (step.id(), step.needs())))?;
        let outcome = run(&graph, &steps, &journal, Duration::MAX, &heard).await?;
        assert_eq!(outcome.failed.keys().collect::<Vec<_>>(), [&"b"]);
        assert_eq!(outcome.hindered, BTreeMap::from([("c", "b")]));
        assert!(outcome.changed.contains_key("d"));
        insta::assert_snapshot!(outcome.failed["b"], @r"
        not ready within 400ms: the pod wants an image that is nowhere
        its last lines:
          its last words
        ");
        insta::assert_snapshot!(outcome.verdict().expect_err("it failed"), @"failed: b; not begun: c (reasons above). Remove the cause and run the same command again: it goes on where it stopped");
        let heard = heard.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        let why = "b: waiting: the pod wants an image that is nowhere".to_owned();
        assert!(heard.contains(&why), "{heard:?}");

        let steps = made(&world, "");
        let outcome = run(&graph, &steps, &journal, Duration::MAX, &Heard::default()).await?;
        assert_eq!(outcome.changed.keys().collect::<Vec<_>>(), [&"c"]);
        assert_eq!(outcome.unchanged, BTreeSet::from(["a", "b", "d"]));
        let outcome = run(&graph, &steps, &journal, Duration::MAX, &Heard::default()).await?;
        assert!(outcome.changed.is_empty() && outcome.verdict().is_ok());
        Ok(())
    }

    /// A step that comes up against something that passes, so many times; each time half of it is done.
    struct Late(Mutex<u32>);

    impl Step for Late {
        type Seen = u32;

        fn id(&self) -> Id {
            "late"
        }

        fn limit(&self) -> Duration {
            Duration::from_secs(60)
        }

        async fn observe(&self) -> Result<u32> {
            Ok(*self.0.lock().unwrap_or_else(PoisonError::into_inner))
        }

        fn diff(&self, left: &u32) -> Vec<Change> {
            let all = [Change::new("make it"), Change::new("name it")];
            all.into_iter().take((*left).min(2) as usize).collect()
        }

        async fn apply(&self, left: u32, _: About<'_>) -> Result<()> {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = left - 1;
            let late = cause::Passing("etcdserver: request timed out".to_owned());
            Err(anyhow::Error::from(late).context("cannot make it"))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_passes_by_itself_is_waited_for_and_told_once() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let journal = dir.path().join("journal");
        let heard = Heard::default();
        let brought = async |times, heard: &Heard| {
            let steps: Vec<Box<dyn Planned>> = vec![Box::new(Late(Mutex::new(times)))];
            let graph = Graph::new(steps.iter().map(|step| (step.id(), step.needs())))?;
            run(&graph, &steps, &journal, Duration::MAX, heard).await
        };
        let outcome = brought(3, &heard).await?;
        let changed = Change::words(&outcome.changed["late"]);
        assert_eq!(changed, ["make it", "name it"]);
        let heard = heard.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        insta::assert_snapshot!(heard[..3].join("\n"), @r"
        late: make it
        late: name it
        late: waiting: cannot make it: etcdserver: request timed out
        ");
        assert_eq!(heard.len(), 4, "{heard:?}");

        let outcome = brought(u32::MAX, &Heard::default()).await?;
        insta::assert_snapshot!(outcome.failed["late"], @"it was not done within 60s: cannot make it: etcdserver: request timed out");
        Ok(())
    }

    #[tokio::test]
    async fn no_step_takes_longer_than_it_was_given() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let steps = made(&Arc::default(), "b");
        let graph = Graph::new(steps.iter().map(|step| (step.id(), step.needs())))?;
        let (journal, most) = (dir.path().join("journal"), Duration::from_millis(20));
        let outcome = run(&graph, &steps, &journal, most, &Heard::default()).await?;
        let why = &outcome.failed["b"];
        assert!(why.starts_with("not ready within 20ms: "), "{why}");
        Ok(())
    }
}
