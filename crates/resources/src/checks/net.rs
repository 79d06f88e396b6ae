//! Addresses and networks. Upstream: apimachinery validation/ip.go; gate StrictIPCIDRValidation is on.

use std::net::{IpAddr, Ipv6Addr};

use machinery::Causes;
use serde_json::json;

/// Problems of an address in an old field.
pub fn ip(text: &str) -> Vec<String> {
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_some() => {
            vec!["must not be an IPv4-mapped IPv6 address".into()]
        }
        Ok(_) => Vec::new(),
        Err(_) if without_zeros(text).parse::<IpAddr>().is_ok() => {
            vec!["must not have leading 0s".into()]
        }
        Err(_) => vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".into()],
    }
}

/// Problems of an address in a new field: it must also be canonical.
pub fn ip_strict(text: &str) -> Vec<String> {
    let problems = ip(text);
    if !problems.is_empty() {
        return problems;
    }
    canonical(text)
        .filter(|c| c != text)
        .map(|c| vec![format!("must be in canonical form (\"{c}\")")])
        .unwrap_or_default()
}

/// The canonical form of an address, leading zeros allowed.
pub fn canonical(text: &str) -> Option<String> {
    let ip: IpAddr = text.parse().or_else(|_| without_zeros(text).parse()).ok()?;
    Some(match ip {
        IpAddr::V6(v6) => v6
            .to_ipv4_mapped()
            .map_or_else(|| v6.to_string(), |v4| v4.to_string()),
        v4 => v4.to_string(),
    })
}

fn without_zeros(text: &str) -> String {
    if text.contains(':') {
        return text.to_string();
    }
    let parts: Vec<&str> = text
        .split('.')
        .map(|p| {
            let short = p.trim_start_matches('0');
            if short.is_empty() && !p.is_empty() {
                "0"
            } else {
                short
            }
        })
        .collect();
    parts.join(".")
}

/// Problems of a network in an old field.
pub fn cidr(text: &str) -> Vec<String> {
    let bad = || vec!["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)".into()];
    let Some((address, length)) = text.split_once('/') else {
        return bad();
    };
    let zeros = length.len() > 1 && length.starts_with('0');
    let parsed: Option<IpAddr> = address.parse().ok();
    let lenient: Option<IpAddr> = without_zeros(address).parse().ok();
    let (Some(ip), Ok(length)) = (parsed.or(lenient), length.parse::<u32>()) else {
        return bad();
    };
    let bits = if ip.is_ipv4() { 32 } else { 128 };
    if length > bits {
        return bad();
    }
    let mut out = Vec::new();
    if parsed.is_none() || zeros {
        out.push("must not have leading 0s in IP or prefix length".into());
    }
    if let IpAddr::V6(v6) = ip
        && v6.to_ipv4_mapped().is_some()
    {
        out.push("must not have an IPv4-mapped IPv6 address".into());
    }
    if host_bits(ip, length) {
        out.push("must not have bits set beyond the prefix length".into());
    }
    out
}

fn host_bits(ip: IpAddr, length: u32) -> bool {
    match ip {
        IpAddr::V4(v4) => length < 32 && u32::from(v4) & (u32::MAX >> length) != 0,
        IpAddr::V6(v6) => length < 128 && u128::from(v6) & (u128::MAX >> length) != 0,
    }
}

/// Problems of an address that endpoints may not have.
pub fn endpoint_ip(text: &str) -> Vec<String> {
    let Ok(ip) = text.parse::<IpAddr>() else {
        return vec!["must be a valid IP address".into()];
    };
    let mut out = Vec::new();
    if ip.is_unspecified() {
        out.push(format!("may not be unspecified ({text})"));
    }
    if ip.is_loopback() {
        out.push("may not be in the loopback range (127.0.0.0/8, ::1/128)".into());
    }
    if is_link_local(ip) {
        out.push("may not be in the link-local range (169.254.0.0/16, fe80::/10)".into());
    }
    if is_link_local_multicast(ip) {
        out.push("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".into());
    }
    out
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.segments()[0] & 0xffc0 == 0xfe80,
    }
}

fn is_link_local_multicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.octets()[..3] == [224, 0, 0],
        IpAddr::V6(v6) => v6.segments()[0] == 0xff02,
    }
}

/// At most one address of each family, at the current path; addresses that do not parse are not counted.
pub fn one_per_family(all: &[&str]) -> bool {
    let v6 = |t: &&&str| t.parse::<Ipv6Addr>().is_ok();
    let count = all.iter().filter(v6).count();
    all.len() <= 2 && count <= 1 && all.len() - count <= 1
}

/// Warnings about an address: non-standard forms.
pub fn ip_warnings(path: &str, text: &str, out: &mut Vec<String>) {
    let Some(canonical) = canonical(text) else {
        return;
    };
    if !ip(text).is_empty() {
        out.push(format!(
            "{path}: non-standard IP address \"{text}\" is invalid: use \"{canonical}\""
        ));
    } else if canonical != text {
        out.push(format!(
            "{path}: IPv6 address \"{text}\" should be in RFC 5952 canonical format (\"{canonical}\")"
        ));
    }
}

/// Checks a list of networks of one family each, at the current path.
pub fn networks(all: &[&str], c: &mut Causes) {
    for (i, text) in all.iter().enumerate() {
        c.index(i, |c| super::all(text, cidr(text), c));
    }
    let v6 = all.iter().filter(|t| t.contains(':')).count();
    if all.len() > 1 && (v6 != 1 || all.len() > 2) {
        c.invalid(
            &json!(all),
            "may specify no more than one CIDR for each IP family",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_networks_are_judged_as_upstream_does() {
        for (text, problem) in [
            ("10.0.0.1", ""),
            ("2001:db8::1", ""),
            ("010.0.0.1", "must not have leading 0s"),
            ("::ffff:1.2.3.4", "must not be an IPv4-mapped IPv6 address"),
            (
                "x",
                "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            ),
        ] {
            assert_eq!(ip(text).first().map_or("", |s| s), problem, "{text}");
        }
        for (text, problem) in [
            ("10.0.0.0/8", ""),
            (
                "10.0.0.1/8",
                "must not have bits set beyond the prefix length",
            ),
            (
                "10.0.0.0/33",
                "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
            ),
            (
                "10.0.0.0/08",
                "must not have leading 0s in IP or prefix length",
            ),
            ("0.0.0.0/0", ""),
        ] {
            assert_eq!(cidr(text).first().map_or("", |s| s), problem, "{text}");
        }
        assert_eq!(
            ip_strict("2001:DB8::1"),
            ["must be in canonical form (\"2001:db8::1\")"]
        );
        assert!(!endpoint_ip("127.0.0.1").is_empty());
        assert!(one_per_family(&["1.1.1.1", "::2"]) && !one_per_family(&["1.1.1.1", "1.1.1.2"]));
    }
}
