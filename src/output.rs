//! What the user sees: events, tables and answers, for a person or as one JSON object a line.
//!
//! Progress goes to standard error, answers to standard output; with `--json` both are one stream
//! on standard output.

use std::collections::BTreeMap;
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail};
use comind_bootstrap::event::{Event, Level, Report, now, say};
use comind_bootstrap::services::table::Look;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::{Value, json};

/// What the user asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wishes {
    /// JSON instead of text.
    pub(crate) json: bool,
    /// No progress.
    pub(crate) quiet: bool,
    /// Every question is answered yes.
    pub(crate) yes: bool,
}

/// The user's end of the line.
pub(crate) struct Output {
    wishes: Wishes,
    colour: bool,
    bars: Option<Bars>,
}

struct Bars {
    all: MultiProgress,
    running: Mutex<BTreeMap<String, ProgressBar>>,
}

impl Output {
    pub(crate) fn new(wishes: Wishes) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let plain = wishes.json || wishes.quiet || !terminal;
        Self {
            wishes,
            colour: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
            bars: (!plain).then(|| Bars {
                all: MultiProgress::new(),
                running: Mutex::new(BTreeMap::new()),
            }),
        }
    }

    /// Whether answers are JSON.
    pub(crate) fn json(&self) -> bool {
        self.wishes.json
    }

    /// How tables are to look here.
    pub(crate) fn look(&self) -> Look {
        let terminal = std::io::stdout().is_terminal();
        let width = comfy_table::Table::new().width();
        Look {
            colour: terminal && self.colour,
            // A terminal that does not know its width says 0; in less than this nothing fits.
            width: width.filter(|width| terminal && *width >= 60),
        }
    }

    /// An answer: `value` with `--json`, else `text`.
    pub(crate) fn answer(&self, text: &str, value: &Value) -> Result<()> {
        if self.wishes.json {
            self.print(&format!("{value}\n"))
        } else {
            self.print(text)
        }
    }

    /// Text to standard output. A reader that has gone away, such as `head`, is no failure.
    pub(crate) fn print(&self, text: &str) -> Result<()> {
        let mut out = std::io::stdout().lock();
        let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        match written {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                std::process::exit(i32::from(crate::exit::DONE))
            }
            other => Ok(other?),
        }
    }

    /// Asks before something that cannot be undone.
    pub(crate) fn confirm(&self, question: &str) -> Result<()> {
        if self.wishes.yes {
            return Ok(());
        }
        if self.wishes.json || !std::io::stdin().is_terminal() {
            bail!("{question}: nobody can be asked here; say --yes if you mean it");
        }
        let mut err = std::io::stderr().lock();
        write!(err, "{question}? Type yes: ")?;
        err.flush()?;
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer)?;
        if answer.trim() != "yes" {
            bail!("not confirmed; nothing was changed");
        }
        Ok(())
    }

    /// The last word about an error.
    pub(crate) fn failed(&self, error: &anyhow::Error) {
        say(self, Level::Failed, format!("{error:#}"));
    }

    fn line(&self, event: &Event) -> String {
        let (mark, code) = match event.level {
            Level::Doing | Level::Waiting => ("…", "2"),
            Level::Changed => ("✔", "32"),
            Level::Unchanged => ("=", "2"),
            Level::Note => ("·", "36"),
            Level::Warning => ("!", "33"),
            Level::Failed => ("✘", "31"),
        };
        let mark = if self.colour && std::io::stderr().is_terminal() {
            format!("\u{1b}[{code}m{mark}\u{1b}[0m")
        } else {
            mark.to_owned()
        };
        match &event.subject {
            Some(subject) => format!("{mark} {subject:<10}  {}", event.message),
            None => format!("{mark} {}", event.message),
        }
    }
}

impl Bars {
    /// What goes on is a line that moves; what is over is a line that stays.
    fn show(&self, event: &Event, line: String) {
        let subject = event.subject.clone().unwrap_or_default();
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(event.level, Level::Doing | Level::Waiting) {
            let bar = running
                .entry(subject.clone())
                .or_insert_with(|| self.all.add(spinner()));
            bar.set_message(format!("{subject:<10}  {}", event.message));
            return;
        }
        if !matches!(event.level, Level::Note)
            && let Some(bar) = running.remove(&subject)
        {
            bar.finish_and_clear();
        }
        // Nothing to be done if the terminal has gone.
        let _ = self.all.println(line);
    }
}

fn spinner() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner:.cyan} {wide_msg} {elapsed:.dim}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner());
    let bar = ProgressBar::new_spinner().with_style(style);
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

impl Report for Output {
    fn report(&self, event: Event) {
        let loud = matches!(event.level, Level::Warning | Level::Failed);
        if self.wishes.json {
            let mut value = json!({ "at": now() });
            if let (Value::Object(all), Ok(Value::Object(more))) =
                (&mut value, serde_json::to_value(&event))
            {
                all.extend(more);
            }
            // A closed pipe ends the program; nothing else can go wrong with a line of text.
            let _ = self.print(&format!("{value}\n"));
            return;
        }
        if self.wishes.quiet && !loud {
            return;
        }
        let line = self.line(&event);
        match &self.bars {
            Some(bars) => bars.show(&event, line),
            None => {
                let _ = writeln!(std::io::stderr().lock(), "{line}");
            }
        }
    }
}
