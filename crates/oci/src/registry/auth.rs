//! Challenges and tokens. Follows Docker's token authentication specification and RFC 7235's grammar.

/// What a registry wants to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    Basic,
    Bearer {
        realm: String,
        service: String,
        scope: String,
        /// Why the last try was refused.
        error: String,
    },
}

/// The challenges of a `WWW-Authenticate` header, in order; unknown schemes are left out.
pub fn challenges(header: &str) -> Vec<Challenge> {
    let mut out = Vec::new();
    let mut rest = header.trim();
    while !rest.is_empty() {
        let (scheme, after) = rest.split_once(' ').unwrap_or((rest, ""));
        let (parameters, after) = parameters(after);
        rest = after;
        let get = |key: &str| {
            let found = parameters.iter().find(|(k, _)| k.eq_ignore_ascii_case(key));
            found.map(|(_, v)| v.clone()).unwrap_or_default()
        };
        if scheme.eq_ignore_ascii_case("basic") {
            out.push(Challenge::Basic);
        } else if scheme.eq_ignore_ascii_case("bearer") && !get("realm").is_empty() {
            out.push(Challenge::Bearer {
                realm: get("realm"),
                service: get("service"),
                scope: get("scope"),
                error: get("error"),
            });
        }
    }
    out
}

/// `key=value, key="value"…`; what follows is another challenge.
fn parameters(mut text: &str) -> (Vec<(String, String)>, &str) {
    let mut out = Vec::new();
    loop {
        text = text.trim_start_matches([' ', ',', '\t']);
        let Some(equals) = text.find('=') else {
            return (out, "");
        };
        let key = &text[..equals];
        if key.contains(' ') {
            return (out, text);
        }
        let after = &text[equals + 1..];
        let (value, rest) = match after.strip_prefix('"') {
            Some(quoted) => unquote(quoted),
            None => {
                let end = after.find([',', ' ']).unwrap_or(after.len());
                (after[..end].to_string(), &after[end..])
            }
        };
        out.push((key.to_string(), value));
        text = rest;
    }
}

fn unquote(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

/// Percent-encodes a query value.
pub fn query(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{Challenge, challenges, query};

    #[test]
    fn challenges_are_read() {
        let bearer = |error: &str| Challenge::Bearer {
            realm: "https://auth/token".into(),
            service: "reg, istry".into(),
            scope: "repository:a/b:pull,push".into(),
            error: error.into(),
        };
        let text = r#"Bearer realm="https://auth/token",service="reg, istry",scope="repository:a/b:pull,push""#;
        assert_eq!(challenges(text), [bearer("")]);
        let both = format!(r#"Basic realm="x", {text}, error="invalid_token""#);
        assert_eq!(
            challenges(&both),
            [Challenge::Basic, bearer("invalid_token")]
        );
        assert_eq!(challenges("Negotiate"), []);
        assert_eq!(challenges(r#"Bearer realm=""#), []);
        assert_eq!(challenges("basic"), [Challenge::Basic]);
    }

    #[test]
    fn queries_are_encoded() {
        assert_eq!(query("repository:a/b:pull"), "repository%3Aa%2Fb%3Apull");
    }
}
