//! Query parameters, percent-decoded; the first value of a name counts.

use machinery::ApiError;

/// A decoded query string.
#[derive(Clone, Debug, Default)]
pub struct Query {
    pairs: Vec<(String, String)>,
}

// === Query ===

impl Query {
    /// Decodes a query string; never fails: pairs with bad escapes or semicolons are left out, as Go's are.
    pub fn parse(text: &str) -> Self {
        let good = |p: &&str| !p.is_empty() && !p.contains(';') && escapes_well(p);
        let pairs = text.split('&').filter(good).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name, true), decode(value, true))
        });
        Self {
            pairs: pairs.collect(),
        }
    }

    /// The first value of a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }

    /// A whole number; `None` where the name is absent, 400 where it is given and no number.
    pub fn integer(&self, name: &str) -> Result<Option<i64>, ApiError> {
        self.number(name).map_err(ApiError::bad_request)
    }

    /// The same with Go's text as the error.
    pub fn number(&self, name: &str) -> Result<Option<i64>, String> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
        let why = match text.parse() {
            Ok(n) => return Ok(Some(n)),
            Err(_) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
                "value out of range"
            }
            Err(_) => "invalid syntax",
        };
        let text = api::go::quote(text);
        Err(format!("strconv.ParseInt: parsing {text}: {why}"))
    }

    /// All values of a name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.pairs
            .iter()
            .filter(move |(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }

    /// Whether a boolean option is given and not `0` or `false`, as upstream's conversion of
    /// query parameters reads it: any other text, even none, is true.
    pub fn flag(&self, name: &str) -> bool {
        self.get(name)
            .is_some_and(|v| v != "0" && !v.eq_ignore_ascii_case("false"))
    }

    /// Whether a boolean parameter is given and true, as Go's ParseBool with "" false.
    pub fn is_true(&self, name: &str) -> bool {
        self.get(name)
            .is_some_and(|v| ["1", "t", "T", "true", "TRUE", "True"].contains(&v))
    }
}

/// Whether each `%` begins an escape.
fn escapes_well(text: &str) -> bool {
    let mut parts = text.split('%');
    parts.next();
    parts.all(|p| p.len() >= 2 && p.bytes().take(2).all(|b| b.is_ascii_hexdigit()))
}

/// Percent-decodes; in queries `+` is a space.
pub fn decode(text: &str, query: bool) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    let hex = |b: u8| char::from(b).to_digit(16);
    while i < bytes.len() {
        match bytes[i] {
            b'%' if i + 2 < bytes.len() => match (hex(bytes[i + 1]), hex(bytes[i + 2])) {
                (Some(h), Some(l)) => {
                    out.push((h * 16 + l) as u8);
                    i += 3;
                    continue;
                }
                _ => out.push(b'%'),
            },
            b'+' if query => out.push(b' '),
            other => out.push(other),
        }
        i += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_decoded_and_bad_pairs_left_out() {
        let q = Query::parse("a=b%2Cc&d=1+2&e=%zz&f&%61=x&g=%&h=1;i=2");
        assert_eq!(q.get("a"), Some("b,c"));
        assert_eq!(q.get("d"), Some("1 2"));
        assert_eq!(q.get("f"), Some(""));
        for bad in ["e", "g", "h"] {
            assert_eq!(q.get(bad), None);
        }
        assert_eq!(q.all("a").count(), 2);
        let q = Query::parse("a=7&b=-1&c=x&d=99999999999999999999&e=");
        assert_eq!(q.integer("a").unwrap(), Some(7));
        assert_eq!(q.integer("b").unwrap(), Some(-1));
        assert_eq!(q.integer("f").unwrap(), None);
        for (name, why) in [
            ("e", "strconv.ParseInt: parsing \"\": invalid syntax"),
            ("c", "strconv.ParseInt: parsing \"x\": invalid syntax"),
            (
                "d",
                "strconv.ParseInt: parsing \"99999999999999999999\": value out of range",
            ),
        ] {
            assert_eq!(q.integer(name).unwrap_err().message, why);
        }
    }
}
