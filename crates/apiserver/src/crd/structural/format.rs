//! String formats that upstream checks. Upstream: k8s.io/kube-openapi/pkg/validation/strfmt,
//! apiextensions-apiserver/pkg/apiserver/validation/formats.go.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use regex::Regex;

use super::JsonType;

/// Formats of texts, without dashes.
const TEXTS: [&str; 27] = [
    "bsonobjectid",
    "byte",
    "cidr",
    "creditcard",
    "date",
    "datetime",
    "duration",
    "email",
    "hexcolor",
    "hostname",
    "ipv4",
    "ipv6",
    "isbn",
    "isbn10",
    "isbn13",
    "k8slongname",
    "k8sshortname",
    "mac",
    "password",
    "rgbcolor",
    "ssn",
    "uri",
    "uuid",
    "uuid3",
    "uuid4",
    "uuid5",
    "",
];

/// Those that are an expression and nothing else.
const PATTERNS: &[(&str, &str)] = &[
    ("bsonobjectid", "^[0-9a-fA-F]{24}$"),
    (
        "byte",
        r"^(?:[A-Za-z0-9+\/]{4})*(?:[A-Za-z0-9+\/]{2}==|[A-Za-z0-9+\/]{3}=|[A-Za-z0-9+\/]{4})$",
    ),
    ("hexcolor", "^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$"),
    (
        "hostname",
        r"^([a-zA-Z0-9\p{S}\p{L}]((-?[a-zA-Z0-9\p{S}\p{L}]{0,62})?)|([a-zA-Z0-9\p{S}\p{L}](([a-zA-Z0-9-\p{S}\p{L}]{0,61}[a-zA-Z0-9\p{S}\p{L}])?)(\.)){1,}([a-zA-Z\p{L}]){2,63})$",
    ),
    ("k8sshortname", "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"),
    (
        "k8slongname",
        r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
    ),
    (
        "rgbcolor",
        r"^rgb\(\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*,\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*,\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*\)$",
    ),
    ("ssn", r"^\d{3}[- ]\d{2}[- ]\d{4}$"),
    (
        "time",
        r"^([0-9]{2}):([0-9]{2}):([0-9]{2})(.[0-9]+)?(z|([+-][0-9]{2}:[0-9]{2}))$",
    ),
    (
        "uuid",
        "(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$",
    ),
    (
        "uuid3",
        "(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?3[0-9a-f]{3}-?[0-9a-f]{4}-?[0-9a-f]{12}$",
    ),
    (
        "uuid4",
        "(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?4[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}$",
    ),
    (
        "uuid5",
        "(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?5[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}$",
    ),
    (
        "card",
        r"^(?:4[0-9]{12}(?:[0-9]{3})?|5[1-5][0-9]{14}|6(?:011|5[0-9][0-9])[0-9]{12}|3[47][0-9]{13}|3(?:0[0-5]|[68][0-9])[0-9]{11}|(?:2131|1800|35\d{3})\d{11})$",
    ),
    ("quantity", r"(\d+)\s*([A-Za-zµ]+)"),
];

static KNOWN: LazyLock<HashMap<&str, Regex>> = LazyLock::new(|| {
    let one = |(name, text): &(&'static str, &str)| {
        Some((*name, stdx::regexp::compile(text, 1 << 24).ok()?))
    };
    PATTERNS.iter().filter_map(one).collect()
});

fn matches(name: &str, text: &str) -> bool {
    KNOWN.get(name).is_some_and(|r| r.is_match(text))
}

fn plain(format: &str) -> String {
    format.replace('-', "")
}

/// Whether a format of a text is one that is checked.
pub fn is_known(format: &str) -> bool {
    TEXTS.contains(&plain(format).as_str())
}

/// Whether a format of a type means something; of ints or strings and of anything it is a text's.
pub fn is_supported(kind: Option<JsonType>, format: &str) -> bool {
    match kind {
        None | Some(JsonType::String) => is_known(format),
        Some(JsonType::Integer) => ["int32", "int64"].contains(&format),
        Some(JsonType::Number) => ["float", "double"].contains(&format),
        _ => false,
    }
}

/// Whether a text is of a format.
pub fn fits(format: &str, text: &str) -> bool {
    match plain(format).as_str() {
        "datetime" => date_time(&text.to_lowercase()),
        "date" => date(text),
        "ipv4" => text.contains('.') && address(text).is_some(),
        "ipv6" => text.contains(':') && text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => cidr(text),
        "mac" => mac(text),
        "uri" => request_uri(text),
        "email" => email(text),
        "hostname" => {
            let short = text.len() <= 255 && text.split('.').all(|p| p.len() <= 63);
            short && matches("hostname", text)
        }
        "k8sshortname" => text.len() <= 63 && matches("k8sshortname", text),
        "k8slongname" => text.len() <= 253 && matches("k8slongname", text),
        "isbn" => isbn10(text) || isbn13(text),
        "isbn10" => isbn10(text),
        "isbn13" => isbn13(text),
        "creditcard" => credit_card(text),
        "duration" => duration(text),
        "password" | "" => true,
        name => matches(name, text),
    }
}

fn date(text: &str) -> bool {
    text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok()
}

/// A date and time in lower case; the time may not be real.
fn date_time(text: &str) -> bool {
    let mut parts = text.split('t');
    let (Some(day), Some(time)) = (parts.next(), parts.next()) else {
        return false;
    };
    let found = KNOWN.get("time").and_then(|r| r.captures(time));
    date(day) && found.is_some_and(|m| &m[1] <= "23" && &m[2] <= "59" && &m[3] <= "59")
}

/// An address whose decimal parts may have leading zeros.
fn address(text: &str) -> Option<IpAddr> {
    if text.contains(':') {
        return text.parse().ok().map(IpAddr::V6);
    }
    let part = |p: &str| {
        let digits = !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit());
        match p.trim_start_matches('0') {
            "" => digits.then_some(0),
            n => n.parse::<u8>().ok().filter(|_| digits),
        }
    };
    let all: Vec<u8> = text.split('.').map(part).collect::<Option<_>>()?;
    let four: [u8; 4] = all.try_into().ok()?;
    Some(IpAddr::V4(Ipv4Addr::from(four)))
}

fn cidr(text: &str) -> bool {
    let Some((host, bits)) = text.split_once('/') else {
        return false;
    };
    let most = match address(host) {
        Some(IpAddr::V4(_)) => 32,
        Some(IpAddr::V6(_)) => 128,
        None => return false,
    };
    let digits = !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit());
    digits && bits.parse::<u32>().is_ok_and(|n| n <= most)
}

fn mac(text: &str) -> bool {
    let hex = |p: &str, n: usize| p.len() == n && p.bytes().all(|b| b.is_ascii_hexdigit());
    for (separator, digits, counts) in [
        (':', 2, [6, 8, 20]),
        ('-', 2, [6, 8, 20]),
        ('.', 4, [3, 4, 10]),
    ] {
        let parts: Vec<&str> = text.split(separator).collect();
        if counts.contains(&parts.len()) && parts.iter().all(|p| hex(p, digits)) {
            return true;
        }
    }
    false
}

/// What Go's `url.ParseRequestURI` reads.
fn request_uri(text: &str) -> bool {
    if text.is_empty() || text.bytes().any(|b| b < 0x20 || b == 0x7f) {
        return false;
    }
    if text == "*" {
        return true;
    }
    let name = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    let (scheme, rest) = match text.find(|c| !name(c)) {
        Some(0) if text.starts_with(':') => return false,
        Some(i)
            if text[i..].starts_with(':')
                && text.starts_with(|c: char| c.is_ascii_alphabetic()) =>
        {
            (true, &text[i + 1..])
        }
        Some(i) if text[i..].starts_with(':') => return false,
        _ => (false, text),
    };
    let rest = rest.split('?').next().unwrap_or("");
    if !rest.starts_with('/') {
        return scheme;
    }
    let path = match rest.strip_prefix("//").filter(|_| scheme) {
        None => rest,
        Some(rest) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            if !self::authority(authority) {
                return false;
            }
            path
        }
    };
    escapes(path)
}

fn escapes(text: &str) -> bool {
    let mut parts = text.split('%').skip(1);
    parts.all(|p| p.len() >= 2 && p.as_bytes()[..2].iter().all(u8::is_ascii_hexdigit))
}

fn authority(text: &str) -> bool {
    let (user, host) = text.rsplit_once('@').unwrap_or(("", text));
    let user_good = |c: char| c.is_ascii_alphanumeric() || "-._:~!$&'()*+,;=%@".contains(c);
    let host_good = |c: char| {
        !c.is_ascii() || c.is_ascii_alphanumeric() || "-_.~!$&'()*+,;=:[]<>\"".contains(c)
    };
    let port = match host.rfind(']') {
        Some(i) => &host[i + 1..],
        None if host.starts_with('[') => return false,
        None => host.rfind(':').map_or("", |i| &host[i..]),
    };
    let port_good = port.is_empty()
        || port
            .strip_prefix(':')
            .is_some_and(|p| p.bytes().all(|b| b.is_ascii_digit()));
    user.chars().all(user_good) && escapes(user) && host.chars().all(host_good) && port_good
}

/// An address of RFC 5322, with or without a name before it.
fn email(text: &str) -> bool {
    let text = text.trim();
    match text.strip_suffix('>') {
        None => address_spec(text),
        Some(text) => {
            let Some((name, spec)) = text.rsplit_once('<') else {
                return false;
            };
            let word = |w: &str| w.chars().all(|c| atom(c) || c == '.');
            let name = name.trim();
            let quoted = name.len() > 1 && name.starts_with('"') && name.ends_with('"');
            (quoted || name.split_whitespace().all(word)) && address_spec(spec)
        }
    }
}

fn atom(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || !c.is_ascii()
}

fn address_spec(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else {
        return false;
    };
    let dotted = |t: &str| t.split('.').all(|p| !p.is_empty() && p.chars().all(atom));
    let quoted = local.len() > 1 && local.starts_with('"') && local.ends_with('"');
    let literal = domain.strip_prefix('[').and_then(|d| d.strip_suffix(']'));
    (quoted || dotted(local))
        && literal.map_or_else(|| dotted(domain), |l| l.parse::<IpAddr>().is_ok())
}

fn credit_card(text: &str) -> bool {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let each = |(i, b): (usize, u8)| {
        let n = u32::from(b - b'0') * if i % 2 == 1 { 2 } else { 1 };
        if n > 9 { n - 9 } else { n }
    };
    matches("card", &digits) && digits.bytes().rev().enumerate().map(each).sum::<u32>() % 10 == 0
}

fn book_digits(text: &str) -> Vec<u8> {
    text.bytes()
        .filter(|b| !b.is_ascii_whitespace() && *b != b'-')
        .collect()
}

fn isbn10(text: &str) -> bool {
    let b = book_digits(text);
    let last = |b: u8| {
        if b == b'X' {
            10
        } else {
            u32::from(b.wrapping_sub(b'0'))
        }
    };
    let good = b.len() == 10
        && b[..9].iter().all(u8::is_ascii_digit)
        && (b[9] == b'X' || b[9].is_ascii_digit());
    good && (1..).zip(&b).map(|(i, b)| i * last(*b)).sum::<u32>() % 11 == 0
}

fn isbn13(text: &str) -> bool {
    let b = book_digits(text);
    let each = |(i, b): (usize, &u8)| u32::from(b - b'0') * if i % 2 == 1 { 3 } else { 1 };
    b.len() == 13
        && b.iter().all(u8::is_ascii_digit)
        && b.iter().enumerate().map(each).sum::<u32>() % 10 == 0
}

/// Go's durations, and texts with numbers before Scala's units.
fn duration(text: &str) -> bool {
    if go_duration(text) {
        return true;
    }
    const UNITS: [&[&str]; 8] = [
        &["ns", "nano"],
        &["us", "µs", "micro"],
        &["ms", "milli"],
        &["s", "sec"],
        &["m", "min"],
        &["h", "hr", "hour"],
        &["d", "day"],
        &["w", "wk", "week"],
    ];
    let Some(quantity) = KNOWN.get("quantity") else {
        return false;
    };
    let mut found = false;
    for m in quantity.captures_iter(text) {
        if m[1].parse::<i64>().is_err() {
            return false;
        }
        let unit = m[2].to_lowercase();
        let last = |u: &[&str]| u.last().is_some_and(|l| unit.starts_with(l));
        found |= UNITS.iter().any(|u| last(u) || u.contains(&unit.as_str()));
    }
    found
}

fn go_duration(text: &str) -> bool {
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return true;
    }
    if rest.is_empty() {
        return false;
    }
    while !rest.is_empty() {
        let unit = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        let number = &rest[..rest.len() - unit.len()];
        if !number.contains(|c: char| c.is_ascii_digit()) || number.matches('.').count() > 1 {
            return false;
        }
        let Some(found) = ["ns", "us", "µs", "μs", "ms", "h", "m", "s"]
            .iter()
            .find(|u| unit.starts_with(**u))
        else {
            return false;
        };
        rest = &unit[found.len()..];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_of_the_formats_that_upstream_says() {
        for (format, yes, no) in [
            ("date", "2024-02-29", "2024-02-30"),
            (
                "date-time",
                "2024-02-29T23:59:59.1Z",
                "2024-02-29T24:00:00Z",
            ),
            ("ipv4", "01.2.3.4", "1.2.3"),
            ("ipv6", "::ffff:1.2.3.4", "1.2.3.4"),
            ("cidr", "10.0.0.1/8", "10.0.0.0/33"),
            ("mac", "0011.2233.4455", "00:11:22"),
            ("uuid", "123e4567e89b12d3a456426614174000", "123"),
            ("uri", "http://a.b/c?d", "a b"),
            ("uri", "mailto:a", "relative/path"),
            ("email", "Joe <a@b.c>", "a@b@c"),
            ("hostname", "a-b.example", "-a"),
            ("byte", "aGk=", ""),
            ("duration", "1h30m", "1 fortnight"),
            ("duration", "22 ns", "x"),
            ("isbn10", "0-321-75104-3", "0321751042"),
            ("isbn13", "978-0321751041", "9780321751042"),
            ("creditcard", "4111 1111 1111 1111", "4111111111111112"),
            ("k8s-short-name", "a-b", "a.b"),
            ("k8s-long-name", "a.b", "A"),
            ("hexcolor", "#fff", "#ffff"),
            ("rgbcolor", "rgb(1, 2,3)", "rgb(256,0,0)"),
            ("ssn", "111-22-3333", "111223333"),
        ] {
            assert!(fits(format, yes), "{format} {yes}");
            assert!(!fits(format, no), "{format} {no}");
        }
    }
}
