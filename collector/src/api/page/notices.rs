//! What people are not told, and why: so that silence is never taken for calm. Must not know who
//! decides that.

use comind_model::alert::{Muted, Open};
use maud::{Markup, html};

use super::{name, text};
use crate::notify::status::{Alerts, Meter};

/// How many lines are shown; the API has them all.
const SHOWN: usize = 20;
/// An error longer than this is cut.
const MESSAGE: usize = 160;

/// What the page says about telling. Empty when all that should be told is told.
#[derive(Debug, Default)]
pub struct Notices {
    /// Alerts that are open and not told.
    muted: Vec<(String, String)>,
    /// Targets whose resolution waits because they change too often.
    flapping: Vec<String>,
    /// Receivers that do not accept, and why.
    failing: Vec<(String, String)>,
    /// Why nothing would survive a restart.
    not_kept: Option<String>,
}

impl Notices {
    /// From what the notifier shows.
    pub fn of<'a>(alerts: &Alerts, receivers: impl Iterator<Item = &'a Meter>) -> Self {
        let silent = alerts.open.iter().filter(|open| !open.told);
        Self {
            muted: silent
                .map(|open| (open.alert.target.to_string(), why(open)))
                .collect(),
            flapping: alerts.flapping.iter().map(ToString::to_string).collect(),
            failing: receivers
                .filter_map(|meter| Some((meter.receiver.clone(), meter.error()?)))
                .collect(),
            not_kept: alerts.not_kept.clone(),
        }
    }

    fn count(&self) -> usize {
        self.muted.len()
            + self.flapping.len()
            + self.failing.len()
            + usize::from(self.not_kept.is_some())
    }
}

fn why(open: &Open) -> String {
    match &open.muted {
        Some(Muted::Dependency(of)) => format!("depends on {of}, which is out"),
        Some(Muted::Waiting(of)) => format!("waits to learn how {of} is, on which it depends"),
        Some(Muted::Maintenance(of)) => format!("maintenance “{of}” is on"),
        None => "another replica is the one that tells".to_owned(),
    }
}

/// The section; nothing where there is nothing to say.
pub(super) fn section(notices: &Notices) -> Markup {
    let count = notices.count();
    html! {
        @if count > 0 {
            section class="notices" aria-labelledby="notices" {
                h2 id="notices" { "Not told " span class="number" { (count) } }
                ul {
                    @if let Some(why) = &notices.not_kept {
                        li class="bad" { "Open alerts would not survive a restart: " (text::clip(why, MESSAGE)) }
                    }
                    @for (receiver, error) in notices.failing.iter().take(SHOWN) {
                        li class="bad" { b { (name(receiver, 80)) } " accepts nothing: " bdi { (text::clip(error, MESSAGE)) } }
                    }
                    @for target in notices.flapping.iter().take(SHOWN) {
                        li { b { (name(target, 80)) } ": flapping, its end is told when it is steady" }
                    }
                    @for (target, why) in notices.muted.iter().take(SHOWN) {
                        li { b { (name(target, 80)) } ": " bdi { (text::clip(why, MESSAGE)) } }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calm_says_nothing_and_trouble_is_escaped() {
        assert_eq!(section(&Notices::default()).into_string(), "");
        let meter = Meter::new("webhook h:1".into());
        meter.refused("<script>");
        let said = section(&Notices::of(&Alerts::default(), [&meter].into_iter())).into_string();
        assert!(
            said.contains("webhook") && said.contains("&lt;script&gt;"),
            "{said}"
        );
    }
}
