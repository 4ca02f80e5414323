//! How long a certificate that is made here is good. Pure.

use anyhow::Result;
use jiff::{SignedDuration, Timestamp};
use rcgen::CertificateParams;

/// Valid from yesterday, because clocks differ, for so many days; gives the end.
pub fn set(params: &mut CertificateParams, now: Timestamp, days: i64) -> Result<Timestamp> {
    let end = now + SignedDuration::from_hours(24 * days);
    let day = |at: Timestamp| {
        let date = at.to_zoned(jiff::tz::TimeZone::UTC).date();
        rcgen::date_time_ymd(
            date.year().into(),
            date.month().unsigned_abs(),
            date.day().unsigned_abs(),
        )
    };
    params.not_before = day(now - SignedDuration::from_hours(24));
    params.not_after = day(end);
    Ok(end)
}
