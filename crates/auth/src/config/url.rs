//! Issuers' URLs, taken apart as Go's `url.Parse` does.

use machinery::causes::go_quote;

/// The parts that validation asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parts {
    pub scheme: String,
    pub has_user: bool,
    pub query: String,
    pub fragment: String,
}

/// The parts of a URL; the error is Go's.
pub(super) fn parse(text: &str) -> Result<Parts, String> {
    let bad = |why: String| Err(format!("parse {}: {why}", go_quote(text)));
    if text.bytes().any(|b| b < 0x20 || b == 0x7f) {
        return bad("net/url: invalid control character in URL".into());
    }
    let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    if rest.starts_with(':') {
        return bad("missing protocol scheme".into());
    }
    let colon = rest.find(':').filter(|at| {
        let mut letters = rest[..*at].bytes();
        letters.next().is_some_and(|b| b.is_ascii_alphabetic())
            && letters.all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
    });
    let (scheme, rest) = match colon {
        Some(at) => (rest[..at].to_lowercase(), &rest[at + 1..]),
        None => (String::new(), rest),
    };
    let first = rest.split('/').next().unwrap_or_default();
    if scheme.is_empty() && first.contains(':') {
        return bad("first path segment in URL cannot contain colon".into());
    }
    let authority = rest.strip_prefix("//").map(|r| match r.find('/') {
        Some(at) => r.split_at(at),
        None => (r, ""),
    });
    let (authority, path) = authority.unwrap_or(("", rest));
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    if let Some(why) = escapes(path).or_else(|| escapes(fragment)) {
        return bad(why);
    }
    if let Some(why) = wrong_host(host) {
        return bad(why);
    }
    Ok(Parts {
        scheme,
        has_user: user.is_some(),
        query: query.to_string(),
        fragment: fragment.to_string(),
    })
}

fn escapes(text: &str) -> Option<String> {
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        let code: String = rest[at..].chars().take(3).collect();
        let good = code.len() == 3 && code[1..].bytes().all(|b| b.is_ascii_hexdigit());
        if !good {
            return Some(format!("invalid URL escape {}", go_quote(&code)));
        }
        rest = &rest[at + 3..];
    }
    None
}

fn wrong_host(host: &str) -> Option<String> {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((name, port)) => (name, port),
            None => return Some("missing ']' in host".into()),
        },
        None => match host.rfind(':') {
            Some(at) => host.split_at(at),
            None => (host, ""),
        },
    };
    let digits = port.strip_prefix(':').unwrap_or(port);
    if (!port.is_empty() && !port.starts_with(':')) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Some(format!("invalid port {} after host", go_quote(port)));
    }
    let odd = name.chars().find(|c| " \"<>\\^`{|}".contains(*c));
    odd.map(|c| {
        format!(
            "invalid character {} in host name",
            go_quote(&c.to_string())
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart_as_go_does() {
        for (text, wanted) in [
            ("https://a.b/c", "https"),
            ("HTTP://a", "http"),
            ("a/b", ""),
            ("https://u:p@a", "https user"),
            ("https://a?b", "https ?b"),
            ("https://[::1]:8443/x#f", "https #f"),
            (
                "https://a b",
                "parse \"https://a b\": invalid character \" \" in host name",
            ),
            (
                "https://a:b",
                "parse \"https://a:b\": invalid port \":b\" after host",
            ),
            (":x", "parse \":x\": missing protocol scheme"),
            (
                "1a:b",
                "parse \"1a:b\": first path segment in URL cannot contain colon",
            ),
            (
                "https://a/%zz",
                "parse \"https://a/%zz\": invalid URL escape \"%zz\"",
            ),
            (
                "https://a/\u{1}",
                "parse \"https://a/\\x01\": net/url: invalid control character in URL",
            ),
            (
                "https://a/%é",
                "parse \"https://a/%é\": invalid URL escape \"%é\"",
            ),
        ] {
            let got = match parse(text) {
                Err(e) => e,
                Ok(p) => {
                    let mut out = p.scheme;
                    if p.has_user {
                        out.push_str(" user");
                    }
                    if !p.query.is_empty() {
                        out = format!("{out} ?{}", p.query);
                    }
                    if !p.fragment.is_empty() {
                        out = format!("{out} #{}", p.fragment);
                    }
                    out
                }
            };
            assert_eq!(got, wanted, "{text}");
        }
    }
}
