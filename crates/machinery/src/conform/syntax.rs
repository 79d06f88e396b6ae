//! JSON that Go reads though it is odd. Upstream: Go's encoding/json/decode.go.

/// The text with replacement characters for half surrogates and bytes that are no UTF-8, as Go reads it.
pub fn repaired(data: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(data);
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_ref();
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        out.push_str(before);
        let high = unit(escape).filter(|u| (0xd800..0xdc00).contains(u));
        let low = |t: &str| unit(t).is_some_and(|u| (0xdc00..0xe000).contains(&u));
        let (text, length) = match unit(escape) {
            Some(_) if high.is_some() && low(&escape[6..]) => (&escape[..12], 12),
            Some(0xd800..0xe000) => ("\\ufffd", 6),
            _ => {
                let next = escape.chars().nth(1).map_or(0, char::len_utf8);
                (&escape[..1 + next], 1 + next)
            }
        };
        out.push_str(text);
        rest = &escape[length..];
    }
    out.push_str(rest);
    out.into_bytes()
}

/// The number of a `\uXXXX` at the begin of a text.
fn unit(text: &str) -> Option<u32> {
    u32::from_str_radix(text.strip_prefix("\\u")?.get(..4)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_surrogates_are_replaced() {
        let read =
            |text: &str| serde_json::from_slice::<String>(&repaired(text.as_bytes())).unwrap();
        assert_eq!(read("\"a\\ud800b\""), "a\u{fffd}b");
        assert_eq!(read("\"\\ud83d\\ude00\""), "😀");
        assert_eq!(read("\"\\\\ud800\""), "\\ud800");
    }
}
