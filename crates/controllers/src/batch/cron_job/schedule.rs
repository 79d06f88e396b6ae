//! Cron schedules: when they are due next. Upstream: github.com/robfig/cron v3, standard parser.

use std::time::Duration;

use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan, Zoned};

/// How far the search for the next time goes.
const YEARS: i16 = 5;

/// A parsed schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    when: When,
    zone: TimeZone,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum When {
    Every(Duration),
    Fields(Fields),
}

/// Bits of the values that match.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fields {
    minute: u64,
    hour: u64,
    day: u64,
    month: u64,
    weekday: u64,
    /// Whether day or weekday is `*` or `?`: then both must match, else either.
    any_day: bool,
}

/// Name, lowest and highest value, and words for them.
struct Bounds(u32, u32, &'static [&'static str]);

const MINUTE: Bounds = Bounds(0, 59, &[]);
const HOUR: Bounds = Bounds(0, 23, &[]);
const DAY: Bounds = Bounds(1, 31, &[]);
const MONTH: Bounds = Bounds(
    1,
    12,
    &[
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ],
);
const WEEKDAY: Bounds = Bounds(0, 6, &["sun", "mon", "tue", "wed", "thu", "fri", "sat"]);

const DESCRIPTORS: &[(&str, &str)] = &[
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

// === Schedule ===

impl Schedule {
    /// Reads a schedule; a `TZ=` or `CRON_TZ=` prefix wins over `zone`.
    pub fn parse(text: &str, zone: TimeZone) -> Result<Self, String> {
        let mut rest = text.trim();
        let mut zone = zone;
        for prefix in ["TZ=", "CRON_TZ="] {
            if let Some(tail) = rest.strip_prefix(prefix) {
                let (name, tail) = tail
                    .split_once(' ')
                    .ok_or_else(|| format!("provided bad location {tail}"))?;
                zone = TimeZone::get(name)
                    .map_err(|e| format!("provided bad location {name}: {e}"))?;
                rest = tail.trim();
            }
        }
        if rest.is_empty() {
            return Err("empty spec string".into());
        }
        if let Some(every) = rest.strip_prefix("@every ") {
            let every =
                duration(every.trim()).ok_or_else(|| format!("failed to parse duration {rest}"))?;
            let when = When::Every(every.max(Duration::from_secs(1)));
            return Ok(Self { when, zone });
        }
        if rest.starts_with('@') {
            let known = DESCRIPTORS.iter().find(|(name, _)| *name == rest);
            let (_, fields) = known.ok_or_else(|| format!("unrecognized descriptor: {rest}"))?;
            rest = fields;
        }
        let when = When::Fields(Fields::parse(rest)?);
        Ok(Self { when, zone })
    }

    /// The first time after `after`; `None` where none comes within five years.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        match &self.when {
            When::Every(d) => {
                let second = after.as_second() + i64::try_from(d.as_secs()).ok()?;
                Timestamp::from_second(second).ok()
            }
            When::Fields(fields) => fields.next(after.to_zoned(self.zone.clone())),
        }
    }
}

/// A Go duration such as `1h30m`, in whole seconds.
fn duration(text: &str) -> Option<Duration> {
    let mut total = 0.0;
    let mut rest = text;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        total += number
            * match &rest[..end] {
                "ns" => 1e-9,
                "us" | "µs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return None,
            };
        rest = &rest[end..];
    }
    Duration::try_from_secs_f64(total)
        .ok()
        .map(|d| Duration::from_secs(d.as_secs()))
}

// === Fields ===

impl Fields {
    fn parse(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = parts.as_slice() else {
            return Err(format!(
                "expected exactly 5 fields, found {}: [{}]",
                parts.len(),
                parts.join(" ")
            ));
        };
        let (day, any_a) = field(day, &DAY)?;
        let (weekday, any_b) = field(weekday, &WEEKDAY)?;
        Ok(Self {
            minute: field(minute, &MINUTE)?.0,
            hour: field(hour, &HOUR)?.0,
            day,
            month: field(month, &MONTH)?.0,
            weekday,
            any_day: any_a || any_b,
        })
    }

    fn day_matches(&self, t: &Zoned) -> bool {
        let day = self.day >> t.day() & 1 == 1;
        let weekday = self.weekday >> t.weekday().since(Weekday::Sunday) & 1 == 1;
        if self.any_day {
            day && weekday
        } else {
            day || weekday
        }
    }

    fn next(&self, after: Zoned) -> Option<Timestamp> {
        let last = after.year() + YEARS;
        let second: Span = (60 - i64::from(after.second())).seconds();
        let mut t = after.checked_add(second).ok()?;
        t = t.with().subsec_nanosecond(0).build().ok()?;
        while t.year() <= last {
            if self.month >> t.month() & 1 == 0 {
                let first = t.with().day(1).build().ok()?;
                t = first.checked_add(1.month()).ok()?.start_of_day().ok()?;
            } else if !self.day_matches(&t) {
                t = t.checked_add(1.day()).ok()?.start_of_day().ok()?;
            } else if self.hour >> t.hour() & 1 == 0 {
                // In absolute hours, so that an hour skipped by summer time is skipped here.
                let minutes = 60 - i64::from(t.minute());
                t = t.checked_add(minutes.minutes()).ok()?;
            } else if self.minute >> t.minute() & 1 == 0 {
                t = t.checked_add(1.minute()).ok()?;
            } else {
                return Some(t.timestamp());
            }
        }
        None
    }
}

/// The bits of a field, and whether it is a star.
fn field(text: &str, b: &Bounds) -> Result<(u64, bool), String> {
    let (mut bits, mut any) = (0, false);
    for part in text.split(',') {
        let (range, star) = range(part, b)?;
        bits |= range;
        any |= star;
    }
    Ok((bits, any))
}

fn range(text: &str, b: &Bounds) -> Result<(u64, bool), String> {
    let (span, step) = match text.split_once('/') {
        None => (text, None),
        Some((_, s)) if s.contains('/') => return Err(format!("too many slashes: {text}")),
        Some((span, s)) => (span, Some(number(s)?)),
    };
    let mut star = false;
    let (low, mut high) = match span.split_once('-') {
        _ if span == "*" || span == "?" => {
            star = step.is_none_or(|s| s == 1);
            (b.0, b.1)
        }
        None => {
            let low = value(span, b)?;
            (low, low)
        }
        Some((_, h)) if h.contains('-') => return Err(format!("too many hyphens: {text}")),
        Some((l, h)) => (value(l, b)?, value(h, b)?),
    };
    // `N/step` means from N to the end.
    if step.is_some() && !span.contains('-') {
        high = b.1;
    }
    let step = step.unwrap_or(1);
    if low < b.0 {
        return Err(format!(
            "beginning of range ({low}) below minimum ({}): {text}",
            b.0
        ));
    }
    if high > b.1 {
        return Err(format!(
            "end of range ({high}) above maximum ({}): {text}",
            b.1
        ));
    }
    if low > high {
        return Err(format!(
            "beginning of range ({low}) beyond end of range ({high}): {text}"
        ));
    }
    if step == 0 {
        return Err(format!("step of range should be a positive number: {text}"));
    }
    let all = (low..=high).step_by(step as usize);
    Ok((all.fold(0, |bits, n| bits | 1 << n), star))
}

fn value(text: &str, b: &Bounds) -> Result<u32, String> {
    let lower = text.to_lowercase();
    match b.2.iter().position(|w| *w == lower) {
        Some(i) => Ok(b.0 + u32::try_from(i).unwrap_or(0)),
        None => number(text),
    }
}

fn number(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| {
        format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: invalid syntax")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(schedule: &str, after: &str) -> String {
        let s = Schedule::parse(schedule, TimeZone::UTC).unwrap();
        let t = s.next(after.parse().unwrap());
        t.map_or("never".into(), |t| t.to_string())
    }

    #[test]
    fn the_next_time_is_found() {
        let table = [
            (
                "*/15 * * * *",
                "2026-01-01T00:01:30Z",
                "2026-01-01T00:15:00Z",
            ),
            ("0 0 * * *", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
            (
                "5 4 * * sun",
                "2026-01-01T00:00:00Z",
                "2026-01-04T04:05:00Z",
            ),
            ("0 0 29 2 *", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"),
            ("0 0 31 2 *", "2026-01-01T00:00:00Z", "never"),
            (
                "0 12 1 * mon",
                "2026-01-02T00:00:00Z",
                "2026-01-05T12:00:00Z",
            ),
            ("0 12 1 * *", "2026-01-02T00:00:00Z", "2026-02-01T12:00:00Z"),
            (
                "30/20 * * * *",
                "2026-01-01T00:31:00Z",
                "2026-01-01T00:50:00Z",
            ),
            ("@hourly", "2026-01-01T00:59:59Z", "2026-01-01T01:00:00Z"),
            (
                "@every 1h30m",
                "2026-01-01T00:00:00Z",
                "2026-01-01T01:30:00Z",
            ),
            (
                "* */1 * * ?",
                "2026-01-01T00:00:10Z",
                "2026-01-01T00:01:00Z",
            ),
        ];
        for (schedule, after, wanted) in table {
            assert_eq!(next(schedule, after), wanted, "{schedule}");
        }
    }

    #[test]
    fn malformed_schedules_are_refused() {
        for bad in [
            "",
            "* * * *",
            "60 * * * *",
            "* * * * 7",
            "a * * * *",
            "*/0 * * * *",
            "5-1 * * * *",
            "@often",
            "@every x",
        ] {
            assert!(Schedule::parse(bad, TimeZone::UTC).is_err(), "{bad:?}");
        }
    }
}
