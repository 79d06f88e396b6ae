//! Times as Go's time package reads them, and what it says of those that are none: the layout's parts in turn, each with
//! the rest of the text. Upstream: Go's time/format.go.

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};

/// A layout's parts: what stands before an element, and the element.
pub type Layout = (&'static str, &'static [(&'static str, &'static str)]);

/// Times of metadata.
pub const RFC3339: Layout = (
    "2006-01-02T15:04:05Z07:00",
    &[
        ("", "2006"),
        ("-", "01"),
        ("-", "02"),
        ("T", "15"),
        (":", "04"),
        (":", "05"),
        ("", "Z07:00"),
    ],
);

/// Times with microseconds.
pub const MICRO: Layout = (
    "2006-01-02T15:04:05.000000Z07:00",
    &[
        ("", "2006"),
        ("-", "01"),
        ("-", "02"),
        ("T", "15"),
        (":", "04"),
        (":", "05"),
        ("", ".000000"),
        ("", "Z07:00"),
    ],
);

/// Most digits of a fraction that count.
const FRACTION: usize = 9;

#[derive(Default)]
struct Read {
    year: i16,
    month: i8,
    day: i8,
    seconds: i64,
    nanos: i32,
    /// Seconds east.
    offset: i64,
}

/// Why an element is none.
enum Bad {
    /// It is another text.
    Text,
    Range(&'static str),
}

/// A time of a layout, or Go's error.
pub fn parse((layout, parts): Layout, text: &str) -> Result<Timestamp, String> {
    let whole = quote(text);
    let cannot = |rest: &str, element: &str| {
        format!(
            "parsing time {whole} as {}: cannot parse {} as {}",
            quote(layout),
            quote(rest),
            quote(element)
        )
    };
    let mut read = Read::default();
    let mut rest = text;
    for (i, (before, element)) in parts.iter().enumerate() {
        rest = rest
            .strip_prefix(before)
            .ok_or_else(|| cannot(rest, before))?;
        let fraction = parts.get(i + 1).is_some_and(|(_, e)| e.starts_with('.'));
        rest = read
            .element(element, rest, fraction)
            .map_err(|bad| match bad {
                Bad::Text => cannot(rest, element),
                Bad::Range(what) => format!("parsing time {whole}: {what} out of range"),
            })?;
    }
    if !rest.is_empty() {
        return Err(format!("parsing time {whole}: extra text: {}", quote(rest)));
    }
    read.time()
        .ok_or_else(|| format!("parsing time {whole}: day out of range"))
}

/// A number of one digit or two, and what follows it.
fn number(text: &str, fixed: bool) -> Result<(i64, &str), Bad> {
    let digit = |i: usize| text.as_bytes().get(i).filter(|c| c.is_ascii_digit());
    let digit = |i: usize| digit(i).map(|c| i64::from(c - b'0'));
    match (digit(0), digit(1)) {
        (Some(tens), Some(ones)) => Ok((tens * 10 + ones, &text[2..])),
        (Some(one), None) if !fixed => Ok((one, &text[1..])),
        _ => Err(Bad::Text),
    }
}

/// A number below a limit.
fn below<'a>(text: &'a str, limit: i64, what: &'static str) -> Result<(i64, &'a str), Bad> {
    let (n, rest) = number(text, what != "hour")?;
    match n < limit {
        true => Ok((n, rest)),
        false => Err(Bad::Range(what)),
    }
}

impl Read {
    /// Reads an element; gives what follows. `fraction`: the layout names one behind it.
    fn element<'a>(&mut self, of: &str, text: &'a str, fraction: bool) -> Result<&'a str, Bad> {
        let small = |n: i64| i8::try_from(n).map_err(|_| Bad::Text);
        match of {
            "2006" => {
                let year = text.get(..4).filter(|y| y.as_bytes()[0].is_ascii_digit());
                let year = year.and_then(|y| y.parse().ok());
                self.year = year.ok_or(Bad::Text)?;
                Ok(&text[4..])
            }
            "01" => {
                let (n, rest) = below(text, 13, "month")?;
                if n == 0 {
                    return Err(Bad::Range("month"));
                }
                self.month = small(n)?;
                Ok(rest)
            }
            "02" => {
                let (n, rest) = number(text, true)?;
                self.day = small(n)?;
                Ok(rest)
            }
            "15" => self.count(below(text, 24, "hour")?, 3600),
            "04" => self.count(below(text, 60, "minute")?, 60),
            "05" => {
                let rest = self.count(below(text, 60, "second")?, 1)?;
                let digits = rest
                    .strip_prefix(['.', ','])
                    .map_or(0, |r| r.bytes().take_while(u8::is_ascii_digit).count());
                match digits {
                    0 => Ok(rest),
                    _ if fraction => Ok(rest),
                    n => self.fraction(rest, n),
                }
            }
            ".000000" => self.fraction(text, 6),
            _ => self.zone(text),
        }
    }

    fn count<'a>(&mut self, (n, rest): (i64, &'a str), each: i64) -> Result<&'a str, Bad> {
        self.seconds += n * each;
        Ok(rest)
    }

    fn fraction<'a>(&mut self, text: &'a str, digits: usize) -> Result<&'a str, Bad> {
        let all = text.strip_prefix(['.', ',']).and_then(|r| r.get(..digits));
        let all = all.filter(|d| d.bytes().all(|c| c.is_ascii_digit()));
        let kept: String = all.ok_or(Bad::Text)?.chars().take(FRACTION).collect();
        let nanos = format!("{kept:0<FRACTION$}");
        self.nanos = nanos.parse().map_err(|_| Bad::Text)?;
        Ok(&text[1 + digits..])
    }

    fn zone<'a>(&mut self, text: &'a str) -> Result<&'a str, Bad> {
        if let Some(rest) = text.strip_prefix('Z') {
            return Ok(rest);
        }
        let zone = text.get(..6).filter(|z| z.as_bytes()[3] == b':');
        let zone = zone.filter(|z| z.is_ascii()).ok_or(Bad::Text)?;
        let (hours, _) = number(&zone[1..3], true)?;
        let (minutes, _) = number(&zone[4..], true)?;
        if hours > 24 {
            return Err(Bad::Range("time zone offset hour"));
        }
        if minutes > 60 {
            return Err(Bad::Range("time zone offset minute"));
        }
        let east = (hours * 60 + minutes) * 60;
        self.offset = match zone.as_bytes()[0] {
            b'+' => east,
            b'-' => -east,
            _ => return Err(Bad::Text),
        };
        Ok(&text[6..])
    }

    fn time(&self) -> Option<Timestamp> {
        let day = Date::new(self.year, self.month, self.day).ok()?;
        let midnight = day.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
        let since = SignedDuration::new(self.seconds - self.offset, self.nanos);
        midnight.checked_add(since).ok()
    }
}

/// A text between quotes as Go's time package writes it.
fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            ' '..='\u{7f}' => out.push(c),
            c => {
                let mut bytes = [0; 4];
                for b in c.encode_utf8(&mut bytes).bytes() {
                    out.push_str(&format!("\\x{b:02x}"));
                }
            }
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_go_reads_them() {
        for (text, expected) in [
            ("2001-02-03T04:05:06Z", "2001-02-03T04:05:06Z"),
            ("2001-02-03T4:05:06.5Z", "2001-02-03T04:05:06.5Z"),
            ("2001-02-03T04:05:06,25+01:30", "2001-02-03T02:35:06.25Z"),
            ("2001-02-03T04:05:06-24:60", "2001-02-04T05:05:06Z"),
        ] {
            let read = parse(RFC3339, text).expect(text);
            assert_eq!(read.to_string(), expected);
        }
        assert!(parse(MICRO, "2001-02-03T04:05:06.123456Z").is_ok());
    }

    #[test]
    fn what_is_no_time_is_told_as_go_tells_it() {
        const AS: &str = "as \"2006-01-02T15:04:05Z07:00\": cannot parse";
        for (text, why) in [
            ("", format!(" {AS} \"\" as \"2006\"")),
            ("yesterday", format!(" {AS} \"yesterday\" as \"2006\"")),
            ("2001-1-01", format!(" {AS} \"1-01\" as \"01\"")),
            ("2001", format!(" {AS} \"\" as \"-\"")),
            (
                "2001-01-01T00:e00:00Z",
                format!(" {AS} \"e00:00Z\" as \"04\""),
            ),
            (
                "2001-01-01t00:00:00Z",
                format!(" {AS} \"t00:00:00Z\" as \"T\""),
            ),
            ("2001-01-01T00:00:00", format!(" {AS} \"\" as \"Z07:00\"")),
            (
                "2001-01-01T00:00:00+01",
                format!(" {AS} \"+01\" as \"Z07:00\""),
            ),
            ("2001-13-01T00:00:00Z", ": month out of range".into()),
            ("2001-02-29T00:00:00Z", ": day out of range".into()),
            ("2001-01-01T24:00:00Z", ": hour out of range".into()),
            ("2001-01-01T00:00:60Z", ": second out of range".into()),
            ("2001-01-01T00:00:00Z!", ": extra text: \"!\"".into()),
        ] {
            let e = parse(RFC3339, text).expect_err(text);
            assert_eq!(e, format!("parsing time \"{text}\"{why}"));
        }
        let e = parse(MICRO, "2001-01-01T00:00:00Z").expect_err("no fraction");
        assert!(e.ends_with("cannot parse \"Z\" as \".000000\""), "{e}");
    }
}
