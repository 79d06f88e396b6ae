//! Go's texts of durations: `1h2m3.5s`. Upstream: time.ParseDuration, Duration.String.

/// Go's text of a duration: `1h2m3.5s`.
pub fn text(nanos: i64) -> String {
    if nanos == 0 {
        return "0s".into();
    }
    let sign = if nanos < 0 { "-" } else { "" };
    let n = nanos.unsigned_abs();
    let fraction = |value: u64, unit: u64| {
        let rest = value % unit;
        let digits = unit.ilog10() as usize;
        let text = format!("{rest:0digits$}");
        let text = text.trim_end_matches('0');
        let point = if text.is_empty() { "" } else { "." };
        format!("{}{point}{text}", value / unit)
    };
    let text = match n {
        n if n < 1_000 => format!("{n}ns"),
        n if n < 1_000_000 => format!("{}µs", fraction(n, 1_000)),
        n if n < 1_000_000_000 => format!("{}ms", fraction(n, 1_000_000)),
        n => {
            let minutes = n / 60_000_000_000;
            let seconds = fraction(n % 60_000_000_000, 1_000_000_000);
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{seconds}s"),
                (0, m) => format!("{m}m{seconds}s"),
                (h, m) => format!("{h}h{m}m{seconds}s"),
            }
        }
    };
    format!("{sign}{text}")
}

/// Nanoseconds of a Go duration text.
pub fn nanoseconds(text: &str) -> Result<i64, String> {
    let bad = || format!("time: invalid duration \"{text}\"");
    let no_unit = || format!("time: missing unit in duration \"{text}\"");
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" || rest.is_empty() {
        return if rest.is_empty() { Err(bad()) } else { Ok(0) };
    }
    let mut total = 0f64;
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(no_unit)?;
        let number: f64 = rest[..end].parse().map_err(|_| bad())?;
        rest = &rest[end..];
        let end = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return Err(bad()),
        };
        total += number * unit;
        rest = &rest[end..];
    }
    // What does not fit in 64 bits is refused as any other text.
    if total >= i64::MAX as f64 {
        return Err(bad());
    }
    let total = total as i64;
    Ok(if negative { -total } else { total })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_write_as_gos() {
        for (t, nanos) in [
            ("1h2m3.5s", 3_723_500_000_000),
            ("1m0s", 60_000_000_000),
            ("1.5ms", 1_500_000),
            ("-2s", -2_000_000_000),
            ("0s", 0),
            ("100ns", 100),
        ] {
            assert_eq!(nanoseconds(t), Ok(nanos), "{t}");
            assert_eq!(text(nanos), t);
        }
        assert_eq!(
            nanoseconds("x").unwrap_err(),
            "time: invalid duration \"x\""
        );
        assert_eq!(
            nanoseconds("5").unwrap_err(),
            "time: missing unit in duration \"5\""
        );
        assert_eq!(nanoseconds("0"), Ok(0));
    }
}
