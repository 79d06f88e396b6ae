//! Whether a cron schedule and a time zone are right, with the texts clients of upstream know.
//! Upstream: the standard parser of robfig/cron; pkg/apis/batch/validation.

const MONTHS: &[&str] = &[
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const DAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// One of the five fields: smallest and largest number, names and the number of the first name.
struct Bounds {
    min: i64,
    max: i64,
    names: &'static [&'static str],
}

const FIELDS: [Bounds; 5] = [
    Bounds {
        min: 0,
        max: 59,
        names: &[],
    },
    Bounds {
        min: 0,
        max: 23,
        names: &[],
    },
    Bounds {
        min: 1,
        max: 31,
        names: &[],
    },
    Bounds {
        min: 1,
        max: 12,
        names: MONTHS,
    },
    Bounds {
        min: 0,
        max: 6,
        names: DAYS,
    },
];

/// What is wrong with a schedule.
pub fn check(schedule: &str) -> Result<(), String> {
    let mut spec = schedule;
    for prefix in ["TZ=", "CRON_TZ="] {
        let Some(rest) = schedule.strip_prefix(prefix) else {
            continue;
        };
        let (zone, rest) = rest
            .split_once(' ')
            .ok_or_else(|| format!("expected exactly 5 fields, found 0: [{schedule}]"))?;
        if let Some(problem) = zone_missing(zone) {
            return Err(format!("provided bad location {zone}: {problem}"));
        }
        spec = rest.trim();
        break;
    }
    if spec.starts_with('@') {
        return descriptor(spec);
    }
    let fields: Vec<&str> = spec.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        return Err(format!(
            "expected exactly 5 fields, found {}: [{}]",
            fields.len(),
            fields.join(" ")
        ));
    }
    for (text, bounds) in fields.iter().zip(&FIELDS) {
        for part in text.split(',').filter(|p| !p.is_empty()) {
            range(part, bounds)?;
        }
    }
    Ok(())
}

fn descriptor(spec: &str) -> Result<(), String> {
    if [
        "@yearly",
        "@annually",
        "@monthly",
        "@weekly",
        "@daily",
        "@midnight",
        "@hourly",
    ]
    .contains(&spec)
    {
        return Ok(());
    }
    let Some(every) = spec.strip_prefix("@every ") else {
        return Err(format!("unrecognized descriptor: {spec}"));
    };
    if is_duration(every) {
        return Ok(());
    }
    Err(format!(
        "failed to parse duration {spec}: time: invalid duration \"{every}\""
    ))
}

/// Whether Go's `time.ParseDuration` takes a text: `1h30m`, `1.5s`, `-2m`, `0`.
fn is_duration(text: &str) -> bool {
    let mut rest = text.trim_start_matches(['-', '+']);
    if rest == "0" {
        return true;
    }
    if rest.is_empty() || text.len() - rest.len() > 1 {
        return false;
    }
    while !rest.is_empty() {
        let digits = rest.len()
            - rest
                .trim_start_matches(|c: char| c.is_ascii_digit() || c == '.')
                .len();
        let number = &rest[..digits];
        if number.matches('.').count() > 1 || !number.bytes().any(|b| b.is_ascii_digit()) {
            return false;
        }
        rest = &rest[digits..];
        let unit = ["ns", "us", "µs", "μs", "ms", "s", "m", "h"]
            .into_iter()
            .filter(|u| rest.starts_with(u))
            .max_by_key(|u| u.len());
        let Some(unit) = unit else { return false };
        rest = &rest[unit.len()..];
    }
    true
}

fn range(part: &str, b: &Bounds) -> Result<(), String> {
    let pieces: Vec<&str> = part.split('/').collect();
    let ends: Vec<&str> = pieces[0].split('-').collect();
    let (mut start, mut end) = (b.min, b.max);
    if !["*", "?"].contains(&ends[0]) {
        start = number_or_name(ends[0], b)?;
        end = match ends.len() {
            1 => start,
            2 => number_or_name(ends[1], b)?,
            _ => return Err(format!("too many hyphens: {part}")),
        };
    }
    let mut step = 1;
    match pieces.len() {
        1 => {}
        2 => {
            step = number(pieces[1])?;
            if ends.len() == 1 {
                end = b.max;
            }
        }
        _ => return Err(format!("too many slashes: {part}")),
    }
    if start < b.min {
        return Err(format!(
            "beginning of range ({start}) below minimum ({}): {part}",
            b.min
        ));
    }
    if end > b.max {
        return Err(format!(
            "end of range ({end}) above maximum ({}): {part}",
            b.max
        ));
    }
    if start > end {
        return Err(format!(
            "beginning of range ({start}) beyond end of range ({end}): {part}"
        ));
    }
    if step == 0 {
        return Err(format!("step of range should be a positive number: {part}"));
    }
    Ok(())
}

fn number_or_name(text: &str, b: &Bounds) -> Result<i64, String> {
    let lower = text.to_lowercase();
    match b.names.iter().position(|n| *n == lower) {
        Some(i) => Ok(b.min + i64::try_from(i).unwrap_or(0)),
        None => number(text),
    }
}

fn number(text: &str) -> Result<i64, String> {
    let n: i64 = text.parse().map_err(|_| {
        format!("failed to parse int from {text}: strconv.Atoi: parsing \"{text}\": invalid syntax")
    })?;
    if n < 0 {
        return Err(format!("negative number ({n}) not allowed: {text}"));
    }
    Ok(n)
}

/// What is wrong with a time zone, each as its own error.
pub fn zone_problems(zone: &str) -> Vec<String> {
    let unknown = || format!("unknown time zone {zone}");
    if zone.is_empty() {
        return vec!["timeZone must be nil or non-empty string".into()];
    }
    let fits = |part: &str| {
        (1..=14).contains(&part.len())
            && !part.starts_with('-')
            && ![".", ".."].contains(&part)
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b".-_+".contains(&b))
    };
    if !zone.split('/').all(fits) {
        return vec![unknown()];
    }
    if zone.eq_ignore_ascii_case("local") {
        let mut out = vec![
            "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"
                .to_string(),
        ];
        if zone != "Local" {
            out.push(unknown());
        }
        return out;
    }
    zone_missing(zone).into_iter().collect()
}

/// Whether a zone is not in the data base.
fn zone_missing(zone: &str) -> Option<String> {
    let known = ["UTC", "", "Local"].contains(&zone) || jiff::tz::db().get(zone).is_ok();
    (!known).then(|| format!("unknown time zone {zone}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_are_judged_with_known_texts() {
        for good in [
            "* * * * ?",
            "*/5 0-6 1,15 jan-mar Sun",
            "@hourly",
            "@every 1h30m",
            "0/10 * * * *",
            "TZ=UTC 0 0 * * *",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for (bad, text) in [
            ("x", "expected exactly 5 fields, found 1: [x]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            (
                "5-3 * * * *",
                "beginning of range (5) beyond end of range (3): 5-3",
            ),
            (
                "*/0 * * * *",
                "step of range should be a positive number: */0",
            ),
            ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
            ("1/2/3 * * * *", "too many slashes: 1/2/3"),
            (
                "a * * * *",
                "failed to parse int from a: strconv.Atoi: parsing \"a\": invalid syntax",
            ),
            ("@sometimes", "unrecognized descriptor: @sometimes"),
            (
                "@every x",
                "failed to parse duration @every x: time: invalid duration \"x\"",
            ),
        ] {
            assert_eq!(check(bad), Err(text.to_string()), "{bad}");
        }
    }

    #[test]
    fn zones_are_judged() {
        assert_eq!(zone_problems("UTC"), [""; 0]);
        assert_eq!(
            zone_problems(""),
            ["timeZone must be nil or non-empty string"]
        );
        assert_eq!(
            zone_problems("Europe/../x"),
            ["unknown time zone Europe/../x"]
        );
        assert_eq!(
            zone_problems("local"),
            [
                "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones",
                "unknown time zone local"
            ]
        );
    }
}
