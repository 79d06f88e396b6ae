//! Timestamps and durations.

use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};

use super::{Answer, Row, fail, none, text};
use crate::program::EvalError;
use crate::value::Value;

pub(super) const TABLE: &[Row] = &[
    ("timestamp", "(timestamp) timestamp", to_timestamp),
    ("timestamp", "(int) timestamp", to_timestamp),
    ("timestamp", "(string) timestamp", to_timestamp),
    ("duration", "(duration) duration", to_duration),
    ("duration", "(int) duration", to_duration),
    ("duration", "(string) duration", to_duration),
    ("getFullYear", "timestamp.() int", |a| {
        part(a, |z| i64::from(z.year()))
    }),
    ("getFullYear", "timestamp.(string) int", |a| {
        part(a, |z| i64::from(z.year()))
    }),
    ("getMonth", "timestamp.() int", |a| {
        part(a, |z| i64::from(z.month()) - 1)
    }),
    ("getMonth", "timestamp.(string) int", |a| {
        part(a, |z| i64::from(z.month()) - 1)
    }),
    ("getDayOfYear", "timestamp.() int", |a| {
        part(a, |z| i64::from(z.day_of_year()) - 1)
    }),
    ("getDayOfYear", "timestamp.(string) int", |a| {
        part(a, |z| i64::from(z.day_of_year()) - 1)
    }),
    ("getDayOfMonth", "timestamp.() int", |a| {
        part(a, |z| i64::from(z.day()) - 1)
    }),
    ("getDayOfMonth", "timestamp.(string) int", |a| {
        part(a, |z| i64::from(z.day()) - 1)
    }),
    ("getDate", "timestamp.() int", |a| {
        part(a, |z| i64::from(z.day()))
    }),
    ("getDate", "timestamp.(string) int", |a| {
        part(a, |z| i64::from(z.day()))
    }),
    ("getDayOfWeek", "timestamp.() int", |a| {
        part(a, |z| i64::from(z.weekday().to_sunday_zero_offset()))
    }),
    ("getDayOfWeek", "timestamp.(string) int", |a| {
        part(a, |z| i64::from(z.weekday().to_sunday_zero_offset()))
    }),
    ("getHours", "timestamp.() int", |a| {
        part(a, |z| i64::from(z.hour()))
    }),
    ("getHours", "timestamp.(string) int", |a| {
        part(a, |z| i64::from(z.hour()))
    }),
    ("getMinutes", "timestamp.() int", |a| {
        part(a, |z| i64::from(z.minute()))
    }),
    ("getMinutes", "timestamp.(string) int", |a| {
        part(a, |z| i64::from(z.minute()))
    }),
    ("getSeconds", "timestamp.() int", |a| {
        part(a, |z| i64::from(z.second()))
    }),
    ("getSeconds", "timestamp.(string) int", |a| {
        part(a, |z| i64::from(z.second()))
    }),
    ("getMilliseconds", "timestamp.() int", |a| {
        part(a, |z| i64::from(z.millisecond()))
    }),
    ("getMilliseconds", "timestamp.(string) int", |a| {
        part(a, |z| i64::from(z.millisecond()))
    }),
    ("getHours", "duration.() int", |a| {
        units(a, 3_600_000_000_000)
    }),
    ("getMinutes", "duration.() int", |a| {
        units(a, 60_000_000_000)
    }),
    ("getSeconds", "duration.() int", |a| units(a, 1_000_000_000)),
    ("getMilliseconds", "duration.() int", |a| {
        units(a, 1_000_000)
    }),
];

/// Go's `time.ParseDuration`.
pub(crate) fn parse_duration(text: &str) -> Result<i64, EvalError> {
    api::duration::nanoseconds(text).map_err(EvalError::of)
}

/// A text of the format `duration`: Go's, or whole numbers before longer names of units, other words between them
/// left alone. Upstream: kube-openapi/pkg/validation/strfmt/duration.go.
pub(crate) fn format_duration(text: &str) -> Option<i64> {
    /// Short names, a long one's beginning, and nanoseconds.
    const UNITS: &[(&[&str], &str, i64)] = &[
        (&["ns"], "nano", 1),
        (&["us", "µs"], "micro", 1_000),
        (&["ms"], "milli", 1_000_000),
        (&["s"], "sec", 1_000_000_000),
        (&["m"], "min", 60_000_000_000),
        (&["h", "hr"], "hour", 3_600_000_000_000),
        (&["d"], "day", 86_400_000_000_000),
        (&["w", "wk"], "week", 604_800_000_000_000),
    ];
    if let Ok(nanos) = api::duration::nanoseconds(text) {
        return Some(nanos);
    }
    let (mut sum, mut found, mut rest) = (0_i64, false, text);
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        let begun = &rest[at..];
        let end = |s: &str, fits: fn(char) -> bool| s.find(|c| !fits(c)).unwrap_or(s.len());
        let (digits, more) = begun.split_at(end(begun, |c| c.is_ascii_digit()));
        let more = more.trim_start_matches(['\t', '\n', '\x0c', '\r', ' ']);
        let (unit, more) = more.split_at(end(more, |c| c.is_ascii_alphabetic() || c == 'µ'));
        rest = more;
        if unit.is_empty() {
            continue;
        }
        let factor: i64 = digits.parse().ok()?;
        let unit = unit.to_lowercase();
        for (short, long, nanos) in UNITS {
            if short.contains(&unit.as_str()) || unit.starts_with(long) {
                found = true;
                sum = sum.wrapping_add(factor.wrapping_mul(*nanos));
            }
        }
    }
    found.then_some(sum)
}

/// Years 1 to 9999, as upstream has them.
pub(super) fn in_range(t: Timestamp) -> bool {
    (-62_135_596_800..=253_402_300_799).contains(&t.as_second())
}

/// RFC 3339.
pub(crate) fn parse_timestamp(text: &str) -> Result<Timestamp, EvalError> {
    let year_ok = text.len() >= 20 && text.as_bytes()[10] == b'T';
    match text.parse::<Timestamp>() {
        Ok(t) if year_ok => Ok(t),
        _ => fail(format!(
            "parsing time {text:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse {text:?} as \"2006\""
        )),
    }
}

/// A duration as conversions to strings write it: seconds.
pub(crate) fn duration_text(nanos: i64) -> String {
    let whole = nanos / 1_000_000_000;
    let rest = (nanos % 1_000_000_000).unsigned_abs();
    let sign = if nanos < 0 && whole == 0 { "-" } else { "" };
    if rest == 0 {
        return format!("{whole}s");
    }
    let fraction = format!("{rest:09}");
    format!("{sign}{whole}.{}s", fraction.trim_end_matches('0'))
}

fn unconverted<T>(to: &str) -> Result<T, EvalError> {
    fail(format!(
        "type conversion error from 'string' to 'google.protobuf.{to}'"
    ))
}

fn to_timestamp(a: &[Value]) -> Answer {
    let t = match &a[0] {
        Value::Timestamp(t) => *t,
        Value::Int(i) => match Timestamp::from_second(*i) {
            Ok(t) => t,
            Err(_) => return fail("timestamp overflow"),
        },
        Value::String(s) => parse_timestamp(s).or_else(|_| unconverted("Timestamp"))?,
        _ => return none(),
    };
    Ok(Value::Timestamp(t))
}

fn to_duration(a: &[Value]) -> Answer {
    match &a[0] {
        Value::Duration(d) | Value::Int(d) => Ok(Value::Duration(*d)),
        Value::String(s) => parse_duration(s)
            .map(Value::Duration)
            .or_else(|_| unconverted("Duration")),
        _ => none(),
    }
}

fn part(a: &[Value], of: fn(jiff::Zoned) -> i64) -> Answer {
    let Some(Value::Timestamp(t)) = a.first() else {
        return none();
    };
    let zone = if a.len() > 1 {
        zone(text(a, 1)?)?
    } else {
        TimeZone::UTC
    };
    Ok(of(t.to_zoned(zone)).into())
}

/// An offset such as `-08:00`, UTC, or a zone of the machine's database by its name.
fn zone(name: &str) -> Result<TimeZone, EvalError> {
    if matches!(name, "UTC" | "Etc/UTC" | "GMT" | "") {
        return Ok(TimeZone::UTC);
    }
    let offset = || {
        let (sign, rest) = match name.strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, name.strip_prefix('+').unwrap_or(name)),
        };
        let (hours, minutes) = rest.split_once(':')?;
        let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
        Offset::from_seconds(sign * (hours * 3600 + minutes * 60)).ok()
    };
    match offset() {
        Some(o) => Ok(TimeZone::fixed(o)),
        None => match TimeZone::get(name) {
            Ok(zone) => Ok(zone),
            Err(_) => fail(format!("unknown time zone {name}")),
        },
    }
}

fn units(a: &[Value], nanos: i64) -> Answer {
    match a.first() {
        Some(Value::Duration(d)) => Ok((d / nanos).into()),
        _ => none(),
    }
}

#[cfg(test)]
mod tests {
    use super::format_duration;

    #[test]
    fn durations_are_read_as_the_format_has_them() {
        const SECOND: i64 = 1_000_000_000;
        for (text, nanos) in [
            ("1h30m", Some(5_400 * SECOND)),
            ("-1.5s", Some(-1_500_000_000)),
            ("22 ns", Some(22)),
            ("2 weeks and 1 day", Some(15 * 86_400 * SECOND)),
            ("3 Hours", Some(10_800 * SECOND)),
            ("5 s", Some(5 * SECOND)),
            ("1 fortnight", None),
            ("5", None),
            ("", None),
        ] {
            assert_eq!(format_duration(text), nanos, "{text}");
        }
    }
}
