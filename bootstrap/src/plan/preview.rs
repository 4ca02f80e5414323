//! What a run would do, without doing it.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow};
use comfy_table::{Cell, Color};
use serde::Serialize;

use crate::plan::graph::{Graph, Id};
use crate::plan::step::{Change, Planned};
use crate::services::table::{Look, coloured, plain, trimmed};

/// What is known of one step.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// It is as wanted.
    Unchanged,
    /// This would be done.
    Change {
        /// In words.
        changes: Vec<Change>,
    },
    /// It cannot be looked at before these steps are done.
    Later {
        /// Their names.
        after: Vec<Id>,
    },
    /// It cannot be looked at, and nothing explains that.
    Unseen {
        /// Why.
        error: String,
    },
}

/// One step.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Row {
    /// Its name.
    pub step: Id,
    /// What is known of it.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// Looks at all steps of a graph.
pub async fn preview(graph: &Graph, steps: &[Box<dyn Planned>]) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let by_name: BTreeMap<Id, &dyn Planned> =
        steps.iter().map(|step| (step.id(), &**step)).collect();
    for id in graph.sorted() {
        let Some(step) = by_name.get(id) else {
            continue;
        };
        let looked = tokio::time::timeout(step.limit(), step.preview()).await;
        let looked = looked.unwrap_or_else(|_| Err(anyhow!("no answer in {:?}", step.limit())));
        let needs = graph.needs_of(id).iter().copied();
        let after = needs.filter(|need| differs(&rows, need)).collect();
        let verdict = judge(looked, after);
        rows.push(Row { step: id, verdict });
    }
    rows
}

fn differs(rows: &[Row], id: &str) -> bool {
    rows.iter()
        .any(|row| row.step == id && row.verdict != Verdict::Unchanged)
}

/// `after` are the steps that it needs and that are not as wanted.
fn judge(looked: Result<Vec<Change>>, after: Vec<Id>) -> Verdict {
    match looked {
        Ok(changes) if changes.is_empty() => Verdict::Unchanged,
        Ok(changes) => Verdict::Change { changes },
        Err(error) if after.is_empty() => Verdict::Unseen {
            error: format!("{error:#}"),
        },
        Err(_) => Verdict::Later { after },
    }
}

/// Whether a run would change something, as far as is known.
pub fn would_change(rows: &[Row]) -> bool {
    rows.iter().any(|row| row.verdict != Verdict::Unchanged)
}

/// For people.
pub fn table(rows: &[Row], look: Look) -> String {
    let mut table = plain(look);
    table.set_header(["STEP", "WOULD"]);
    for row in rows {
        let (word, colour) = match &row.verdict {
            Verdict::Unchanged => ("change nothing".to_owned(), Color::DarkGrey),
            Verdict::Change { changes } => (Change::words(changes).join("\n"), Color::Yellow),
            Verdict::Later { after } => {
                (format!("be seen after {}", after.join(", ")), Color::Yellow)
            }
            Verdict::Unseen { error } => (format!("perhaps fail: {error}"), Color::Red),
        };
        table.add_row([Cell::new(row.step), coloured(&word, colour, look)]);
    }
    trimmed(&table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_that_fails_is_explained_by_what_comes_before() {
        let failed = || Err(anyhow!("connection refused"));
        let rows = [
            Row {
                step: "services",
                verdict: judge(Ok(vec![]), vec![]),
            },
            Row {
                step: "cluster",
                verdict: judge(
                    Ok(vec![Change::new("make it"), Change::new("start it")]),
                    vec![],
                ),
            },
            Row {
                step: "argocd",
                verdict: judge(failed(), vec!["cluster"]),
            },
            Row {
                step: "apps",
                verdict: judge(failed(), vec![]),
            },
        ];
        assert!(would_change(&rows) && !would_change(&rows[..1]));
        insta::assert_snapshot!(table(&rows, Look::default()), @r"
        STEP      WOULD
        services  change nothing
        cluster   make it
                  start it
        argocd    be seen after cluster
        apps      perhaps fail: connection refused
        ");
        insta::assert_json_snapshot!(rows[1], @r#"
        {
          "step": "cluster",
          "verdict": "change",
          "changes": [
            "make it",
            "start it"
          ]
        }
        "#);
    }
}
