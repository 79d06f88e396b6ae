//! String formats that upstream checks. Unknown formats pass.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether a text is of a format.
pub fn fits(format: &str, text: &str) -> bool {
    match format {
        "date-time" | "datetime" => text.parse::<jiff::Timestamp>().is_ok(),
        "date" => text.parse::<jiff::civil::Date>().is_ok() && text.len() == 10,
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => cidr(text),
        "mac" => mac(text),
        "uuid" | "uuid3" | "uuid4" | "uuid5" => {
            uuid::Uuid::try_parse(text).is_ok_and(|u| match format {
                "uuid3" => u.get_version_num() == 3,
                "uuid4" => u.get_version_num() == 4,
                "uuid5" => u.get_version_num() == 5,
                _ => true,
            })
        }
        "uri" => {
            text.starts_with('/')
                || text
                    .parse::<http::Uri>()
                    .is_ok_and(|u| u.scheme().is_some())
        }
        "email" => {
            let parts: Vec<&str> = text.split('@').collect();
            parts.len() == 2
                && parts.iter().all(|p| !p.is_empty())
                && !text.contains(char::is_whitespace)
        }
        "hostname" => api::names::dns1123_subdomain(&text.to_lowercase()).is_empty(),
        "byte" => {
            use base64::Engine;
            base64::prelude::BASE64_STANDARD.decode(text).is_ok()
        }
        "hexcolor" => {
            let digits = text.strip_prefix('#').unwrap_or(text);
            matches!(digits.len(), 3 | 6) && digits.chars().all(|c| c.is_ascii_hexdigit())
        }
        "duration" => duration(text),
        "k8s-short-name" => api::names::dns1123_label(text).is_empty(),
        "k8s-long-name" => api::names::dns1123_subdomain(text).is_empty(),
        _ => true,
    }
}

fn cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else {
        return false;
    };
    let max = match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    bits.parse::<u8>().is_ok_and(|b| b <= max)
}

fn mac(text: &str) -> bool {
    let parts: Vec<&str> = text.split([':', '-']).collect();
    matches!(parts.len(), 6 | 8 | 20)
        && parts
            .iter()
            .all(|p| p.len() == 2 && p.chars().all(|c| c.is_ascii_hexdigit()))
}

/// Go's durations: `1h30m`, `-1.5s`, `100ms`, and Scala's `3 days` that go-openapi knows.
fn duration(text: &str) -> bool {
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return true;
    }
    if rest.is_empty() {
        return false;
    }
    const UNITS: [&str; 20] = [
        "ns",
        "us",
        "µs",
        "ms",
        "nanoseconds",
        "milliseconds",
        "minutes",
        "minute",
        "seconds",
        "second",
        "hours",
        "hour",
        "days",
        "day",
        "weeks",
        "week",
        "h",
        "m",
        "s",
        "d",
    ];
    while !rest.is_empty() {
        let digits = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        if digits.len() == rest.len() {
            return false;
        }
        let unit = digits.trim_start();
        let Some(found) = UNITS.iter().find(|u| unit.starts_with(**u)) else {
            return false;
        };
        rest = unit[found.len()..].trim_start();
    }
    true
}
