//! Uptime and budgets as they are now, worked out now and then so that readers need no query.
//! Must not know the file.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use comind_model::ledger::{Ledger, Objective, Share, Stretch};
use comind_model::timestamp::Timestamp;
use serde::Serialize;

const HOUR: Duration = Duration::from_secs(3_600);

/// The windows of uptime, by name.
pub const WINDOWS: [(&str, Duration); 4] = [
    ("1h", HOUR),
    ("24h", Duration::from_secs(24 * 3_600)),
    ("7d", Duration::from_secs(7 * 86_400)),
    ("30d", Duration::from_secs(30 * 86_400)),
];

/// The windows of burn rates. Source of the pairs that alerts use (1h with 5m at 14.4, 6h with
/// 30m at 6, 1d with 2h at 3, 3d with 6h at 1): the SRE Workbook, chapter 5.
pub const BURN: [(&str, Duration); 7] = [
    ("5m", Duration::from_secs(300)),
    ("30m", Duration::from_secs(1_800)),
    ("1h", HOUR),
    ("2h", Duration::from_secs(2 * 3_600)),
    ("6h", Duration::from_secs(6 * 3_600)),
    ("1d", Duration::from_secs(86_400)),
    ("3d", Duration::from_secs(3 * 86_400)),
];

/// The window of the error budget.
const BUDGET: Duration = Duration::from_secs(30 * 86_400);

/// How one target did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Record {
    /// For each of [`WINDOWS`]: good time as a share of the known, 0 to 1; null while none is known.
    #[serde(serialize_with = "by_name")]
    pub uptime: [(&'static str, Option<f64>); 4],
    /// What is left of the error budget, 1 to 0 and below; null without an objective.
    pub budget_left: Option<f64>,
    /// For each of [`BURN`]: how many times faster than allowed the budget is used.
    #[serde(serialize_with = "by_name")]
    pub burn: Option<[(&'static str, Option<f64>); 7]>,
}

/// Windows as a map, in their order.
fn by_name<'a, W, S>(windows: &'a W, serializer: S) -> Result<S::Ok, S::Error>
where
    W: Windows<'a>,
    S: serde::Serializer,
{
    match windows.each() {
        Some(each) => serializer.collect_map(each.iter().copied()),
        None => serializer.serialize_none(),
    }
}

/// Either form in which windows stand in a [`Record`].
trait Windows<'a> {
    fn each(&'a self) -> Option<&'a [(&'static str, Option<f64>)]>;
}

impl<'a, const N: usize> Windows<'a> for [(&'static str, Option<f64>); N] {
    fn each(&'a self) -> Option<&'a [(&'static str, Option<f64>)]> {
        Some(self)
    }
}

impl<'a, const N: usize> Windows<'a> for Option<[(&'static str, Option<f64>); N]> {
    fn each(&'a self) -> Option<&'a [(&'static str, Option<f64>)]> {
        self.as_ref().map(<[_; N]>::as_slice)
    }
}

impl Record {
    /// From a ledger, without what is excluded.
    pub fn of(
        ledger: &Ledger,
        objective: Option<Objective>,
        excluded: &[Stretch],
        now: Timestamp,
    ) -> Self {
        let share = |window: Duration| -> Share { ledger.share((now - window, now), excluded) };
        Self {
            uptime: WINDOWS.map(|(name, window)| (name, share(window).uptime())),
            budget_left: objective.and_then(|objective| objective.budget_left(&share(BUDGET))),
            burn: objective.map(|objective| {
                BURN.map(|(name, window)| (name, objective.burn_rate(&share(window))))
            }),
        }
    }
}

/// How all targets did.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// By name of target.
    pub records: HashMap<Arc<str>, Record>,
    /// Why nothing is kept, or what is wrong with keeping.
    pub trouble: Option<String>,
    /// What the file holds, in bytes.
    pub size: u64,
    /// Transitions that could not be kept.
    pub lost: u64,
    /// Damaged files that were set aside since the start.
    pub set_aside: u64,
}
