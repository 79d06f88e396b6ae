//! Links of a proxied page and its redirects, put under the proxy's prefix.
//! Upstream: apimachinery/pkg/util/proxy/transport.go.

/// Attributes that hold URLs, by element.
const LINKS: &[(&str, &[&str])] = &[
    ("a", &["href"]),
    ("applet", &["codebase"]),
    ("area", &["href"]),
    ("audio", &["src"]),
    ("base", &["href"]),
    ("blockquote", &["cite"]),
    ("body", &["background"]),
    ("button", &["formaction"]),
    ("command", &["icon"]),
    ("del", &["cite"]),
    ("embed", &["src"]),
    ("form", &["action"]),
    ("frame", &["longdesc", "src"]),
    ("head", &["profile"]),
    ("html", &["manifest"]),
    ("iframe", &["longdesc", "src"]),
    ("img", &["longdesc", "src", "usemap"]),
    ("input", &["src", "formaction", "usemap"]),
    ("ins", &["cite"]),
    ("link", &["href"]),
    ("object", &["classid", "codebase", "data", "usemap"]),
    ("q", &["cite"]),
    ("script", &["src"]),
    ("source", &["src"]),
    ("track", &["src"]),
    ("video", &["poster", "src"]),
];

/// A URL of the backend under the prefix; other hosts and relative paths stay as they are.
pub fn rewritten_url(url: &str, prefix: &str, hosts: &[&str]) -> String {
    let authority = url
        .split_once("://")
        .map(|(_, rest)| rest)
        .or_else(|| url.strip_prefix("//"));
    let path = match authority {
        None => url,
        Some(rest) => {
            let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            let (host, path) = rest.split_at(end);
            if !hosts.contains(&host) {
                return url.to_string();
            }
            path
        }
    };
    if !path.starts_with('/') || path.starts_with(prefix) {
        return if authority.is_some() && path.starts_with('/') {
            path.to_string()
        } else {
            url.to_string()
        };
    }
    format!("{prefix}{path}")
}

/// An HTML page with its links rewritten. What is not a tag is copied as it is.
pub fn rewritten_page(page: &[u8], prefix: &str, hosts: &[&str]) -> Vec<u8> {
    let text = String::from_utf8_lossy(page);
    let mut out = String::with_capacity(text.len());
    let mut rest: &str = &text;
    while let Some(open) = rest.find('<') {
        out.push_str(&rest[..open]);
        rest = &rest[open..];
        let end = if rest.starts_with("<!--") {
            rest.find("-->").map(|i| i + 3)
        } else {
            tag_end(rest)
        };
        let Some(end) = end else { break };
        out.push_str(&tag(&rest[..end], prefix, hosts));
        rest = &rest[end..];
    }
    out.push_str(rest);
    out.into_bytes()
}

/// Behind the `>` that closes the tag at the start, quotes heeded.
fn tag_end(text: &str) -> Option<usize> {
    let mut quote = None;
    for (i, b) in text.bytes().enumerate() {
        match (quote, b) {
            (None, b'>') => return Some(i + 1),
            (None, b'"' | b'\'') => quote = Some(b),
            (Some(q), b) if q == b => quote = None,
            _ => {}
        }
    }
    None
}

fn tag(tag: &str, prefix: &str, hosts: &[&str]) -> String {
    let name_end = tag[1..]
        .find(|c: char| !c.is_ascii_alphanumeric())
        .map_or(tag.len(), |i| i + 1);
    let name = tag[1..name_end].to_ascii_lowercase();
    let Some((_, wanted)) = LINKS.iter().find(|(n, _)| *n == name) else {
        return tag.to_string();
    };
    let mut out = tag[..name_end].to_string();
    let mut rest = &tag[name_end..];
    while let Some(equals) = rest.find('=') {
        let (before, after) = rest.split_at(equals + 1);
        out.push_str(before);
        let attribute = before[..equals].trim().to_ascii_lowercase();
        let attribute = attribute.rsplit(char::is_whitespace).next().unwrap_or("");
        let space = after.len() - after.trim_start().len();
        out.push_str(&after[..space]);
        let value = &after[space..];
        let quote = value.chars().next().filter(|c| ['"', '\''].contains(c));
        let (open, inner_end) = match quote {
            Some(q) => (1, value[1..].find(q).map_or(value.len(), |i| i + 1)),
            None => (
                0,
                value
                    .find(|c: char| c.is_whitespace() || c == '>')
                    .unwrap_or(value.len()),
            ),
        };
        let inner = &value[open..inner_end];
        out.push_str(&value[..open]);
        if wanted.contains(&attribute) {
            out.push_str(&rewritten_url(inner, prefix, hosts));
        } else {
            out.push_str(inner);
        }
        rest = &value[inner_end..];
        if quote.is_some() && !rest.is_empty() {
            out.push_str(&rest[..1]);
            rest = &rest[1..];
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_go_under_the_prefix() {
        for (page, expected) in [
            (
                r#"<a href="/rewriteme">test</a>"#,
                r#"<a href="/p/rewriteme">test</a>"#,
            ),
            (
                r#"<IMG alt="a>b" SRC=/x.png> 1 < 2"#,
                r#"<IMG alt="a>b" SRC=/p/x.png> 1 < 2"#,
            ),
            (
                r#"<a href='rel'><a href="http://other/x">"#,
                r#"<a href='rel'><a href="http://other/x">"#,
            ),
            (
                r#"<!-- <a href="/x"> --><p title="/x">"#,
                r#"<!-- <a href="/x"> --><p title="/x">"#,
            ),
            (r#"<a href="/p/done">"#, r#"<a href="/p/done">"#),
            ("<a href=\"/x", "<a href=\"/x"),
        ] {
            let got = rewritten_page(page.as_bytes(), "/p", &["h"]);
            assert_eq!(String::from_utf8_lossy(&got), expected);
        }
    }

    #[test]
    fn redirects_go_under_the_prefix() {
        for (url, expected) in [
            ("/a", "/p/a"),
            ("http://h/a?b=c", "/p/a?b=c"),
            ("http://other/a", "http://other/a"),
            ("a/b", "a/b"),
            ("/p/a", "/p/a"),
        ] {
            assert_eq!(rewritten_url(url, "/p", &["h"]), expected, "{url}");
        }
    }
}
