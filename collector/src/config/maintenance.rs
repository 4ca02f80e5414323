//! The section `maintenance`: when nobody is to be told of which targets. Must not know clocks:
//! `now` is an argument.

use std::str::FromStr;
use std::sync::Arc;

use comind_model::timestamp::Timestamp;
use croner::Cron;
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::Deserialize;

use super::duration::Span;
use super::glob::glob;

/// The longest maintenance.
pub const LONGEST: std::time::Duration = std::time::Duration::from_secs(30 * 86_400);
/// So many windows of one maintenance are counted; one every ten minutes over a month fits.
pub const MOST_WINDOWS: usize = 5_000;

/// One maintenance as it is written: once (`from`, `until`), or again and again (`schedule`,
/// `duration`).
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Written {
    /// What it is called on the page and in metrics.
    pub name: String,
    /// Names of targets; `*` stands for any text.
    pub targets: Vec<String>,
    /// When it begins, RFC 3339.
    pub from: Option<String>,
    /// When it ends, RFC 3339.
    pub until: Option<String>,
    /// When it begins, as a cron pattern of five fields.
    pub schedule: Option<String>,
    /// How long it lasts.
    pub duration: Option<Span>,
    /// The time zone of `schedule`, such as `Europe/Berlin`; UTC by default.
    pub time_zone: Option<String>,
}

/// A maintenance, ready to be asked.
#[derive(Clone, Debug)]
pub struct Maintenance {
    /// Its name.
    pub name: Arc<str>,
    targets: Vec<String>,
    when: When,
}

#[derive(Clone, Debug)]
enum When {
    Once {
        from: Timestamp,
        until: Timestamp,
    },
    Again {
        cron: Box<Cron>,
        zone: TimeZone,
        duration: std::time::Duration,
    },
}

impl Written {
    /// Makes it ready; an error says what is wrong and how to mend it.
    ///
    /// # Errors
    /// When a time, a pattern or a zone cannot be, or the two forms are mixed.
    pub fn read(&self) -> Result<Maintenance, String> {
        let when = match (&self.from, &self.until, &self.schedule, self.duration) {
            (Some(from), Some(until), None, None) => once(from, until)?,
            (None, None, Some(schedule), Some(duration)) => self.again(schedule, duration)?,
            _ => {
                return Err("write `from` and `until` for once, or `schedule` and `duration` for again and again".to_owned());
            }
        };
        if self.targets.is_empty() {
            return Err("`targets` is empty; name targets, or write `[\"*\"]` for all".to_owned());
        }
        Ok(Maintenance {
            name: self.name.as_str().into(),
            targets: self.targets.clone(),
            when,
        })
    }

    fn again(&self, schedule: &str, duration: Span) -> Result<When, String> {
        let least = Span::from_millis(1_000);
        let duration = duration.within(least, Span(LONGEST));
        let duration = duration.map_err(|problem| format!("`duration`: {problem}"))?;
        let cron = Cron::from_str(schedule).map_err(|error| {
            format!("`schedule` is no cron pattern such as `0 3 * * SUN`: {error}")
        })?;
        let zone = self.time_zone.as_deref().unwrap_or("UTC");
        let zone = TimeZone::get(zone).map_err(|_| {
            format!("`time_zone` `{zone}` is not known; write one such as Europe/Berlin")
        })?;
        Ok(When::Again {
            cron: Box::new(cron),
            zone,
            duration,
        })
    }
}

fn once(from: &str, until: &str) -> Result<When, String> {
    let read = |key: &str, text: &str| {
        let at = jiff::Timestamp::from_str(text);
        at.map(|at| Timestamp::from_micros(at.as_microsecond()))
            .map_err(|_| format!("`{key}` is no time such as 2026-12-24T22:00:00Z or …+01:00"))
    };
    let (from, until) = (read("from", from)?, read("until", until)?);
    if until <= from {
        return Err("`until` is not after `from`".to_owned());
    }
    Ok(When::Once { from, until })
}

impl Maintenance {
    /// One that is on once.
    pub fn once(name: &str, targets: Vec<String>, from: Timestamp, until: Timestamp) -> Self {
        Self {
            name: name.into(),
            targets,
            when: When::Once { from, until },
        }
    }

    /// Whether it is about this target.
    pub fn covers(&self, target: &str) -> bool {
        self.targets.iter().any(|pattern| glob(pattern, target))
    }

    /// Whether it is on.
    pub fn is_on(&self, now: Timestamp) -> bool {
        match &self.when {
            When::Once { from, until } => *from <= now && now < *until,
            When::Again {
                cron,
                zone,
                duration,
            } => {
                let Ok(instant) = jiff::Timestamp::from_microsecond(now.as_micros()) else {
                    return false;
                };
                // Searched from before the longest window that could still be on.
                let moment = instant.to_zoned(zone.clone());
                match cron.find_previous_occurrence(&moment, true) {
                    Ok(begun) => {
                        let begun = Timestamp::from_micros(begun.timestamp().as_microsecond());
                        now.since(begun) < *duration
                    }
                    Err(_) => false,
                }
            }
        }
    }
}

impl Maintenance {
    /// When it is on between two moments. At most [`MOST_WINDOWS`] of them.
    pub fn between(&self, (from, to): (Timestamp, Timestamp)) -> Vec<(Timestamp, Timestamp)> {
        let windows = match &self.when {
            When::Once { from, until } => vec![(*from, *until)],
            When::Again {
                cron,
                zone,
                duration,
            } => {
                let Ok(start) = jiff::Timestamp::from_microsecond((from - *duration).as_micros())
                else {
                    return Vec::new();
                };
                cron.iter_after(start.to_zoned(zone.clone()))
                    .map(|begun| Timestamp::from_micros(begun.timestamp().as_microsecond()))
                    .take_while(|begun| *begun < to)
                    .take(MOST_WINDOWS)
                    .map(|begun| (begun, begun + *duration))
                    .collect()
            }
        };
        let inside = |(start, end): &(Timestamp, Timestamp)| *end > from && *start < to;
        windows.into_iter().filter(inside).collect()
    }
}

/// The first maintenance that is on for a target.
pub fn on(all: &[Maintenance], target: &str, now: Timestamp) -> Option<Arc<str>> {
    let found = all
        .iter()
        .find(|maintenance| maintenance.covers(target) && maintenance.is_on(now));
    found.map(|maintenance| maintenance.name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        let at: jiff::Timestamp = text.parse().unwrap();
        Timestamp::from_micros(at.as_microsecond())
    }

    fn written(schedule: &str, zone: &str) -> Written {
        Written {
            name: "night".into(),
            targets: vec!["db*".into()],
            from: None,
            until: None,
            schedule: Some(schedule.into()),
            duration: Some(Span(std::time::Duration::from_secs(3600))),
            time_zone: Some(zone.into()),
        }
    }

    #[test]
    fn a_schedule_is_read_in_its_zone_over_the_change_of_clocks() {
        let night = written("0 3 * * SUN", "Europe/Berlin").read().unwrap();
        assert!(night.covers("db-1") && !night.covers("cache"));
        // Winter: 03:00 is 02:00 UTC; summer: 01:00 UTC.
        for (time, on) in [
            ("2026-11-22T01:59:59Z", false),
            ("2026-11-22T02:00:00Z", true),
            ("2026-11-22T02:59:59Z", true),
            ("2026-11-22T03:00:00Z", false),
            ("2026-07-05T01:30:00Z", true),
            ("2026-07-05T02:30:00Z", false),
            ("2026-07-06T01:30:00Z", false),
        ] {
            assert_eq!(night.is_on(at(time)), on, "{time}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_fix() {
        let wrong = |change: &dyn Fn(&mut Written)| {
            let mut written = written("0 3 * * SUN", "UTC");
            change(&mut written);
            written.read().unwrap_err()
        };
        assert!(wrong(&|w| w.schedule = Some("often".into())).contains("cron pattern"));
        assert!(wrong(&|w| w.time_zone = Some("Mars/Olympus".into())).contains("Europe/Berlin"));
        assert!(wrong(&|w| w.from = Some("2026-01-01T00:00:00Z".into())).contains("write `from`"));
        assert!(wrong(&|w| w.targets.clear()).contains("targets"));
        let once = |from: &str, until: &str| {
            wrong(&|w| {
                (w.schedule, w.duration) = (None, None);
                (w.from, w.until) = (Some(from.into()), Some(until.into()));
            })
        };
        assert!(once("2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z").contains("not after"));
        assert!(once("tomorrow", "2026-01-01T00:00:00Z").contains("no time"));
    }
}
