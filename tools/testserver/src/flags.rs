//! Flags as cobra takes them: `--name value`, `--name=value`, `_` and `-` alike.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};

/// A flag and its default; a default of `true` or `false` makes it boolean.
pub type Known = (&'static str, &'static str);

/// Accepted everywhere and without effect.
const IGNORED: &[Known] = &[
    ("v", "0"),
    ("vmodule", ""),
    ("logtostderr", "false"),
    ("alsologtostderr", "false"),
    ("stderrthreshold", ""),
    ("log-file", ""),
];

/// Parsed flags and what is left.
pub struct Flags {
    values: BTreeMap<String, String>,
    pub rest: Vec<String>,
}

// === Flags ===

impl Flags {
    /// Parses the arguments after the subcommand; `positional` says whether others than flags may follow.
    pub fn parse(args: &[String], known: &[Known], positional: bool) -> Result<Self> {
        let mut values: BTreeMap<String, String> = known
            .iter()
            .map(|(n, v)| (n.to_string(), v.to_string()))
            .collect();
        let mut rest = Vec::new();
        let mut args = args.iter().skip(2);
        while let Some(arg) = args.next() {
            if arg == "--" {
                rest.extend(args.by_ref().cloned());
                break;
            }
            let Some(text) = arg.strip_prefix('-').filter(|t| !t.is_empty()) else {
                if !positional {
                    bail!("unknown command {arg:?}");
                }
                rest.push(arg.clone());
                continue;
            };
            let text = text.strip_prefix('-').unwrap_or(text);
            let (name, value) = match text.split_once('=') {
                Some((name, value)) => (name.replace('_', "-"), Some(value.to_string())),
                None => (text.replace('_', "-"), None),
            };
            let listed = known.iter().chain(IGNORED).find(|(n, _)| *n == name);
            let (_, default) = listed.ok_or_else(|| anyhow!("unknown flag: --{name}"))?;
            let value = match value {
                Some(value) => value,
                None if matches!(*default, "true" | "false") => "true".to_string(),
                None => args
                    .next()
                    .cloned()
                    .ok_or_else(|| anyhow!("flag needs an argument: --{name}"))?,
            };
            values.insert(name, value);
        }
        Ok(Self { values, rest })
    }

    /// A value.
    pub fn get(&self, name: &str) -> &str {
        self.values
            .get(name)
            .map(String::as_str)
            .unwrap_or_default()
    }

    /// A number.
    pub fn number(&self, name: &str) -> Result<i64> {
        let text = self.get(name);
        text.parse()
            .map_err(|_| anyhow!("invalid argument {text:?} for \"--{name}\" flag"))
    }

    /// A port.
    pub fn port(&self, name: &str) -> Result<u16> {
        Ok(u16::try_from(self.number(name)?)?)
    }

    /// A switch.
    pub fn on(&self, name: &str) -> bool {
        matches!(self.get(name), "true" | "1" | "t" | "T" | "TRUE" | "True")
    }

    /// A duration in Go's form.
    pub fn duration(&self, name: &str) -> Result<Duration> {
        let text = self.get(name);
        duration(text).ok_or_else(|| anyhow!("invalid argument {text:?} for \"--{name}\" flag"))
    }
}

/// `1m30s`, `500ms`, `0`.
pub fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut total = 0f64;
    let mut rest = text;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let unit_end = rest[digits..]
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .map_or(rest.len(), |n| digits + n);
        total += number
            * match &rest[digits..unit_end] {
                "ns" => 1e-9,
                "us" | "µs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return None,
            };
        rest = &rest[unit_end..];
    }
    Duration::try_from_secs_f64(total).ok()
}

#[cfg(test)]
mod tests {
    use super::{Flags, duration};
    use std::time::Duration;

    fn parse(args: &[&str]) -> anyhow::Result<Flags> {
        let args: Vec<String> = ["/agnhost", "x"]
            .iter()
            .chain(args)
            .map(|a| a.to_string())
            .collect();
        Flags::parse(
            &args,
            &[("http-port", "80"), ("tcp", "false"), ("http", "true")],
            false,
        )
    }

    #[test]
    fn flags_are_cobras() {
        let flags = parse(&["--http_port=8080", "--tcp", "--http=false", "-v=4"]).unwrap();
        assert_eq!(flags.port("http-port").unwrap(), 8080);
        assert!(flags.on("tcp") && !flags.on("http"));
        assert_eq!(
            parse(&["--http-port", "9"])
                .unwrap()
                .number("http-port")
                .unwrap(),
            9
        );
        assert!(parse(&["--other"]).is_err());
        assert!(parse(&["stray"]).is_err());
    }

    #[test]
    fn durations_are_gos() {
        assert_eq!(duration("1m30s"), Some(Duration::from_secs(90)));
        assert_eq!(duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(duration("5"), None);
    }
}
