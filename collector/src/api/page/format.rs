//! Figures as people read them: durations, delays, bytes, counts, times of day.
//! Must not know what the figures are about, nor HTML.

use std::time::Duration;

use comind_model::timestamp::Timestamp;

/// How long a state has lasted, in at most two units: `12 s`, `3 h 12 min`, `123 d`.
pub(super) fn span(length: Duration) -> String {
    let seconds = length.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match () {
        () if minutes == 0 => format!("{seconds}\u{a0}s"),
        () if hours == 0 => two(minutes, "min", seconds % 60, "s"),
        () if days == 0 => two(hours, "h", minutes % 60, "min"),
        () if days < 100 => two(days, "d", hours % 24, "h"),
        () => format!("{days}\u{a0}d"),
    }
}

fn two(large: u64, large_unit: &str, small: u64, small_unit: &str) -> String {
    match small {
        0 => format!("{large}\u{a0}{large_unit}"),
        _ => format!("{large}\u{a0}{large_unit} {small}\u{a0}{small_unit}"),
    }
}

/// How long something took, with about three digits: `85 µs`, `0.42 ms`, `1.25 s`; a minute or
/// more as a [`span`].
pub(super) fn delay(length: Duration) -> String {
    let micros = length.as_secs_f64() * 1e6;
    match micros {
        m if m < 99.5 => format!("{m:.0}\u{a0}µs"),
        m if m < 9_995.0 => format!("{:.2}\u{a0}ms", m / 1e3),
        m if m < 99_950.0 => format!("{:.1}\u{a0}ms", m / 1e3),
        m if m < 999_500.0 => format!("{:.0}\u{a0}ms", m / 1e3),
        m if m < 9.995e6 => format!("{:.2}\u{a0}s", m / 1e6),
        m if m < 59.95e6 => format!("{:.1}\u{a0}s", m / 1e6),
        _ => span(length),
    }
}

/// How long something that is over lasted: a [`delay`] while that is short, then a [`span`].
pub(super) fn lasted(length: Duration) -> String {
    if length < Duration::from_secs(10) {
        delay(length)
    } else {
        span(length)
    }
}

/// Milliseconds, as transitions carry them; nothing for what is no length of time.
pub(super) fn from_ms(millis: f64) -> Duration {
    Duration::try_from_secs_f64(millis / 1e3).unwrap_or_default()
}

/// How long ago something was: tenths of a second while they tell anything, then a [`span`].
pub(super) fn age(length: Duration) -> String {
    match length.as_secs_f64() {
        s if s < 9.95 => format!("{s:.1}\u{a0}s"),
        _ => span(length),
    }
}

/// Bytes in binary units: `512 B`, `1.5 KiB`, `12 MiB`.
pub(super) fn bytes(value: f64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if !value.is_finite() || value.abs() < 1024.0 {
        return format!("{}\u{a0}B", count(value));
    }
    let mut scaled = value;
    let mut unit = "B";
    for larger in UNITS {
        // What would print as 1024 belongs into the next unit.
        if scaled.abs() < 1023.5 {
            break;
        }
        scaled /= 1024.0;
        unit = larger;
    }
    match scaled.abs() {
        s if s < 9.95 => format!("{scaled:.1}\u{a0}{unit}"),
        _ => format!("{scaled:.0}\u{a0}{unit}"),
    }
}

/// A count with its thousands set apart (`12,345`), a fraction with two digits.
pub(super) fn count(value: f64) -> String {
    if value.is_nan() {
        return "no number".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "∞" } else { "-∞" }.to_owned();
    }
    if value.abs() >= 1e15 {
        return format!("{value:.2e}");
    }
    let text = if value.fract() == 0.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}")
    };
    group(&text)
}

/// A share of one as a percentage.
pub(super) fn percent(share: f64) -> String {
    match share * 100.0 {
        p if p.is_finite() && p.fract().abs() > 0.05 && p.abs() < 9.95 => format!("{p:.1}\u{a0}%"),
        p if p.is_finite() => format!("{p:.0}\u{a0}%"),
        _ => "no number".to_owned(),
    }
}

/// `one target`, `2 targets`: a number with its noun.
pub(super) fn plural(number: usize, noun: &str) -> String {
    match number {
        1 => format!("one {noun}"),
        _ => format!("{} {noun}s", group(&number.to_string())),
    }
}

fn group(text: &str) -> String {
    let (whole, fraction) = text
        .split_once('.')
        .map_or((text, None), |(w, f)| (w, Some(f)));
    let (sign, digits) = whole
        .strip_prefix('-')
        .map_or(("", whole), |rest| ("-", rest));
    let mut grouped = String::from(sign);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if let Some(fraction) = fraction {
        grouped.push('.');
        grouped.push_str(fraction);
    }
    grouped
}

/// The time of day in UTC: `02:13:20`, with the date before it where that is not `now`'s.
pub(super) fn clock(at: Timestamp, now: Timestamp) -> String {
    const DAY: i64 = 86_400_000_000;
    let same_day = at.as_micros().div_euclid(DAY) == now.as_micros().div_euclid(DAY);
    written(
        at,
        if same_day {
            "%H:%M:%S"
        } else {
            "%b %-d, %H:%M:%S"
        },
    )
}

/// Date and time in UTC to the millisecond, for titles.
pub(super) fn exact(at: Timestamp) -> String {
    written(at, "%Y-%m-%d %H:%M:%S%.3f UTC")
}

fn written(at: Timestamp, form: &str) -> String {
    match jiff::Timestamp::from_microsecond(at.as_micros()) {
        Ok(moment) => moment.strftime(form).to_string(),
        // Outside the years that a calendar can name: still say something true.
        Err(_) => at.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn us(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A number and its unit do not part at the end of a line.
    fn plain(text: &str) -> String {
        text.replace('\u{a0}', " ")
    }

    #[test]
    fn spans_have_at_most_two_units() {
        let cases = [
            (s(0), "0 s"),
            (s(59), "59 s"),
            (s(60), "1 min"),
            (s(192), "3 min 12 s"),
            (s(3600), "1 h"),
            (s(11_520), "3 h 12 min"),
            (s(86_400 * 2 + 3600 * 4 + 59), "2 d 4 h"),
            (s(86_400 * 123 + 3600), "123 d"),
        ];
        for (length, text) in cases {
            assert_eq!(plain(&span(length)), text);
        }
    }

    #[test]
    fn delays_keep_three_digits_across_units() {
        let cases = [
            (us(0), "0 µs"),
            (us(85), "85 µs"),
            (us(100), "0.10 ms"),
            (us(420), "0.42 ms"),
            (us(9_994), "9.99 ms"),
            (us(9_999), "10.0 ms"),
            (us(42_000), "42.0 ms"),
            (us(420_000), "420 ms"),
            (us(999_600), "1.00 s"),
            (us(1_250_000), "1.25 s"),
            (us(12_500_000), "12.5 s"),
            (s(61), "1 min 1 s"),
        ];
        for (length, text) in cases {
            assert_eq!(plain(&delay(length)), text);
        }
        assert_eq!(plain(&delay(from_ms(3.25))), "3.25 ms");
        assert_eq!(plain(&delay(from_ms(f64::NAN))), "0 µs");
        assert_eq!(plain(&delay(from_ms(-1.0))), "0 µs");
        assert_eq!(plain(&lasted(us(40_000))), "40.0 ms");
        assert_eq!(plain(&lasted(us(12_500_000))), "12 s");
    }

    #[test]
    fn ages_lose_their_tenths() {
        assert_eq!(plain(&age(us(400_000))), "0.4 s");
        assert_eq!(plain(&age(us(9_960_000))), "9 s");
        assert_eq!(plain(&age(s(75))), "1 min 15 s");
    }

    #[test]
    fn bytes_are_binary_and_never_print_1024() {
        let cases = [
            (0.0, "0 B"),
            (512.0, "512 B"),
            (1536.0, "1.5 KiB"),
            (12.0 * 1024.0 * 1024.0, "12 MiB"),
            (1023.7 * 1024.0, "1.0 MiB"),
            (-2048.0, "-2.0 KiB"),
            (1e30, "867361737988 EiB"),
            (f64::NAN, "no number B"),
        ];
        for (value, text) in cases {
            assert_eq!(plain(&bytes(value)), text);
        }
    }

    #[test]
    fn counts_are_grouped() {
        let cases = [
            (0.0, "0"),
            (999.0, "999"),
            (12_345.0, "12,345"),
            (-1_234_567.0, "-1,234,567"),
            (1234.5, "1,234.50"),
            (1e18, "1.00e18"),
            (f64::INFINITY, "∞"),
        ];
        for (value, text) in cases {
            assert_eq!(plain(&count(value)), text);
        }
        assert_eq!(plural(1, "target"), "one target");
        assert_eq!(plural(1000, "target"), "1,000 targets");
        assert_eq!(plain(&percent(0.125)), "12 %");
        assert_eq!(plain(&percent(0.015)), "1.5 %");
        assert_eq!(plain(&percent(1.0)), "100 %");
    }

    #[test]
    fn the_date_shows_when_it_is_another_day() {
        let now = Timestamp::from_micros(1_795_400_000_123_456);
        assert_eq!(clock(now, now), "02:13:20");
        assert_eq!(clock(now - s(10_000), now), "Nov 22, 23:26:40");
        assert_eq!(exact(now), "2026-11-23 02:13:20.123 UTC");
        assert!(clock(Timestamp::from_micros(i64::MAX), now).contains("1970"));
    }
}
