//! What one look at an application cannot tell: since when it is out of sync, and how many
//! operations ended how. Argo CD records neither. Counts from when we began to watch.

use std::collections::HashMap;
use std::sync::Arc;

use comind_model::fact::Facts;
use comind_model::timestamp::Timestamp;
use k8s_openapi::jiff;

use crate::kube::parts::MOST_PARTS;
use crate::probe::argocd::application::Application;

/// The fact since when an application is out of sync.
pub const OUT_OF_SYNC_SINCE: &str = "out_of_sync_since_timestamp_seconds";
/// The fact how many operations ended; its label `phase` says how.
pub const SYNCS: &str = "syncs";

/// So many applications are remembered.
const MOST: usize = 2 * MOST_PARTS;

/// What is remembered of each application.
#[derive(Debug, Default)]
pub struct Track(HashMap<Arc<str>, Of>);

#[derive(Debug, Default)]
struct Of {
    out_of_sync: Option<Timestamp>,
    last_end: Option<jiff::Timestamp>,
    ends: HashMap<String, u32>,
    seen: bool,
}

impl Track {
    /// Takes in how the application is at `now`, and adds what is known by that.
    pub fn add(&mut self, facts: &mut Facts, name: &Arc<str>, is: &Application, now: Timestamp) {
        if self.0.len() >= MOST && !self.0.contains_key(name) {
            // Applications that are long gone; begin anew rather than grow for ever.
            self.0.clear();
        }
        let of = self.0.entry(name.clone()).or_default();
        let status = is.status.as_ref();
        let out = status.is_some_and(|status| status.sync.status == "OutOfSync");
        of.out_of_sync = match out {
            true => of.out_of_sync.or(Some(now)),
            false => None,
        };
        if let Some(since) = of.out_of_sync {
            facts.set(OUT_OF_SYNC_SINCE, since.as_seconds());
        }
        if let Some(operation) = status.and_then(|status| status.operation_state.as_ref()) {
            let end = operation.finished_at;
            // What ended before we watched is not counted.
            if end.is_some() && end != of.last_end && of.seen {
                *of.ends.entry(operation.phase.clone()).or_default() += 1;
            }
            of.last_end = end.or(of.last_end);
        }
        of.seen = true;
        for (phase, count) in &of.ends {
            facts.set_labelled(SYNCS, "phase", phase, f64::from(*count));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::Duration;

    fn application(sync: &str, end: Option<&str>) -> Application {
        let operation = end.map(|end| json!({ "phase": "Succeeded", "finishedAt": end }));
        let object = json!({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "Application",
            "metadata": { "name": "shop" }, "spec": {},
            "status": { "sync": { "status": sync }, "operationState": operation },
        });
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn out_of_sync_counts_from_its_beginning_and_ends_are_counted_once() {
        let (mut track, name) = (Track::default(), Arc::from("a/shop"));
        let start = Timestamp::from_micros(1_000_000_000);
        let mut after = |second: u64, sync, end| {
            let mut facts = Facts::default();
            let now = start + Duration::from_secs(second);
            track.add(&mut facts, &name, &application(sync, end), now);
            facts
        };
        let before = Some("2026-11-25T10:00:00Z");
        let later = Some("2026-11-25T10:05:00Z");
        assert!(after(0, "Synced", before).is_empty());
        let since = |facts: &Facts| facts.get(OUT_OF_SYNC_SINCE).cloned();
        assert_eq!(since(&after(1, "OutOfSync", before)), Some(1001.0.into()));
        assert_eq!(since(&after(5, "OutOfSync", before)), Some(1001.0.into()));
        let facts = after(6, "Synced", later);
        assert_eq!(since(&facts), None);
        assert_eq!(facts.get("syncs{phase=Succeeded}"), Some(&1.0.into()));
        let facts = after(7, "Synced", later);
        assert_eq!(facts.get("syncs{phase=Succeeded}"), Some(&1.0.into()));
    }
}
