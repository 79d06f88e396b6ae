//! What Go finds wrong about an IP address, in its words. Upstream: `netip.ParseAddr`.

/// Bytes of an address of version 6.
const LONG: usize = 16;
/// Bytes of one of version 4.
const SHORT: usize = 4;

/// What is wrong, and where.
type Problem<'a> = (&'static str, Option<&'a str>);

/// `ParseAddr("x"): why`; `None` where it is an address.
pub fn problem(s: &str) -> Option<String> {
    let first = s.find(['.', ':', '%']).map(|i| s.as_bytes()[i]);
    let found = match first {
        Some(b'.') => four(s),
        Some(b':') => six(s),
        Some(_) => Err(("missing IPv6 address", None)),
        None => Err(("unable to parse IP", None)),
    };
    let (why, at) = found.err()?;
    let at = at.map_or_else(String::new, |at| format!(" (at {at:?})"));
    Some(format!("ParseAddr({s:?}): {why}{at}"))
}

fn four(s: &str) -> Result<(), Problem<'_>> {
    let bytes = s.as_bytes();
    let (mut dots, mut digits, mut value) = (0, 0, 0_u32);
    for (i, c) in bytes.iter().enumerate() {
        match c {
            b'0'..=b'9' => {
                if digits == 1 && value == 0 {
                    return Err(("IPv4 field has octet with leading zero", None));
                }
                value = value * 10 + u32::from(c - b'0');
                digits += 1;
                if value > 255 {
                    return Err(("IPv4 field has value >255", None));
                }
            }
            b'.' => {
                if i == 0 || i == bytes.len() - 1 || bytes[i - 1] == b'.' {
                    let at = s.get(i..);
                    return Err(("IPv4 field must have at least one digit", at));
                }
                if dots == SHORT - 1 {
                    return Err(("IPv4 address too long", None));
                }
                dots += 1;
                (digits, value) = (0, 0);
            }
            _ => return Err(("unexpected character", s.get(i..))),
        }
    }
    match dots {
        3 => Ok(()),
        _ => Err(("IPv4 address too short", None)),
    }
}

fn six(whole: &str) -> Result<(), Problem<'_>> {
    let mut s = match whole.split_once('%') {
        Some((_, "")) => return Err(("zone must be a non-empty string", None)),
        Some((s, _)) => s,
        None => whole,
    };
    let (mut gap, mut used) = (false, 0);
    if let Some(rest) = s.strip_prefix("::") {
        (gap, s) = (true, rest);
        if s.is_empty() {
            return Ok(());
        }
    }
    while used < LONG {
        let digits = group(s)?;
        if s[digits..].starts_with('.') {
            if !gap && used != LONG - SHORT {
                let why = "embedded IPv4 address must replace the final 2 fields of the address";
                return Err((why, Some(s)));
            }
            if used + SHORT > LONG {
                let why = "too many hex fields to fit an embedded IPv4 at the end of the address";
                return Err((why, Some(s)));
            }
            four(s)?;
            (used, s) = (used + SHORT, "");
            break;
        }
        (used, s) = (used + 2, &s[digits..]);
        if s.is_empty() {
            break;
        }
        let Some(rest) = s.strip_prefix(':') else {
            return Err(("unexpected character, want colon", Some(s)));
        };
        if rest.is_empty() {
            return Err(("colon must be followed by more characters", Some(s)));
        }
        s = rest;
        if let Some(rest) = s.strip_prefix(':') {
            if gap {
                return Err(("multiple :: in address", Some(s)));
            }
            (gap, s) = (true, rest);
            if s.is_empty() {
                break;
            }
        }
    }
    match (s.is_empty(), used < LONG, gap) {
        (false, ..) => Err(("trailing garbage after address", Some(s))),
        (_, true, false) => Err(("address string too short", None)),
        (_, false, true) => Err(("the :: must expand to at least one field of zeros", None)),
        _ => Ok(()),
    }
}

/// How many digits a group begins with.
fn group(s: &str) -> Result<usize, Problem<'_>> {
    let digits = s.bytes().take_while(u8::is_ascii_hexdigit).count();
    match digits {
        0 => {
            let why = "each colon-separated field must have at least one digit";
            Err((why, Some(s)))
        }
        5.. => Err(("each group must have 4 or fewer digits", Some(s))),
        n => Ok(n),
    }
}

#[cfg(test)]
mod tests {
    use super::problem;

    #[test]
    fn addresses_are_refused_in_gos_words() {
        for good in [
            "1.2.3.4",
            "::",
            "::1",
            "fe80::1%eth0",
            "::ffff:1.2.3.4",
            "1:2:3:4:5:6:7:8",
        ] {
            assert_eq!(problem(good), None, "{good}");
        }
        for (bad, why) in [
            ("", "unable to parse IP"),
            ("x%y", "missing IPv6 address"),
            ("1.2.3", "IPv4 address too short"),
            ("1.2.3.4.5", "IPv4 address too long"),
            (
                "1.2.3.",
                "IPv4 field must have at least one digit (at \".\")",
            ),
            ("01.2.3.4", "IPv4 field has octet with leading zero"),
            ("256.2.3.4", "IPv4 field has value >255"),
            ("1.2.3.x", "unexpected character (at \"x\")"),
            (
                "http://a",
                "each colon-separated field must have at least one digit (at \"http://a\")",
            ),
            ("1::2::3", "multiple :: in address (at \":3\")"),
            (
                "12345::",
                "each group must have 4 or fewer digits (at \"12345::\")",
            ),
            ("1:2", "address string too short"),
            (
                "1:2:3:4:5:6:7::8",
                "the :: must expand to at least one field of zeros",
            ),
            (
                "1:2:3:4:5:6:7:8:9",
                "trailing garbage after address (at \"9\")",
            ),
        ] {
            assert_eq!(problem(bad), Some(format!("ParseAddr({bad:?}): {why}")));
        }
    }
}
