//! Query parameters, percent-decoded; the first value of a name counts.

use machinery::ApiError;

/// A decoded query string.
#[derive(Clone, Debug, Default)]
pub struct Query {
    pairs: Vec<(String, String)>,
}

// === Query ===

impl Query {
    /// Decodes a query string; never fails (bad escapes stay as they are).
    pub fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|p| !p.is_empty()).map(|pair| {
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

    /// A whole number; `None` where the name is absent or empty.
    pub fn integer(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.get(name).filter(|t| !t.is_empty()) else {
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
        Err(ApiError::bad_request(format!(
            "strconv.ParseInt: parsing {text:?}: {why}"
        )))
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
    fn escapes_are_decoded_and_bad_ones_kept() {
        let q = Query::parse("a=b%2Cc&d=1+2&e=%zz&f&%61=x&g=%");
        assert_eq!(q.get("a"), Some("b,c"));
        assert_eq!(q.get("d"), Some("1 2"));
        assert_eq!(q.get("e"), Some("%zz"));
        assert_eq!(q.get("f"), Some(""));
        assert_eq!(q.get("g"), Some("%"));
        assert_eq!(q.all("a").count(), 2);
        let q = Query::parse("a=7&b=-1&c=x&d=99999999999999999999&e=");
        assert_eq!(q.integer("a").unwrap(), Some(7));
        assert_eq!(q.integer("b").unwrap(), Some(-1));
        assert_eq!(q.integer("e").unwrap(), None);
        for (name, why) in [
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
