//! Syntax of names, labels and keys, with upstream's messages.
//! Upstream: k8s.io/apimachinery/pkg/util/validation and api/validation.

const LABEL_FMT: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN_FMT: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const DNS1035_FMT: &str = "[a-z]([-a-z0-9]*[a-z0-9])?";
const QUALIFIED_FMT: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const LABEL_VALUE_FMT: &str = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?";

/// Longest DNS label.
pub const DNS1123_LABEL_MAX: usize = 63;
/// Longest DNS subdomain.
pub const DNS1123_SUBDOMAIN_MAX: usize = 253;

/// A name check: `prefix` is true where a suffix will follow (generateName).
pub type NameCheck = fn(name: &str, prefix: bool) -> Vec<String>;

fn too_long(max: usize) -> String {
    format!("must be no more than {max} bytes")
}

/// The same of DNS names, where upstream still speaks of characters.
fn dns_too_long(max: usize) -> String {
    format!("must be no more than {max} characters")
}

/// Upstream's `RegexError`: examples are joined by `,  or `.
fn regex_text(message: &str, fmt: &str, examples: &[&str]) -> String {
    let quoted: Vec<String> = examples.iter().map(|e| format!("'{e}'")).collect();
    format!(
        "{message} (e.g. {}, regex used for validation is '{fmt}')",
        quoted.join(",  or ")
    )
}

fn alnum(c: u8) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}

fn is_label(s: &[u8]) -> bool {
    !s.is_empty()
        && alnum(s[0])
        && alnum(s[s.len() - 1])
        && s.iter().all(|&c| alnum(c) || c == b'-')
}

/// Problems of a DNS-1123 label.
pub fn dns1123_label(s: &str) -> Vec<String> {
    let mut out = Vec::new();
    if s.len() > DNS1123_LABEL_MAX {
        out.push(dns_too_long(DNS1123_LABEL_MAX));
    }
    if !is_label(s.as_bytes()) {
        if s.len() <= DNS1123_SUBDOMAIN_MAX && is_subdomain(s) {
            // Upstream's hint for names such as `a.b`.
            out.push("must not contain dots".into());
        } else {
            out.push(regex_text(
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character",
                LABEL_FMT,
                &["my-name", "123-abc"],
            ));
        }
    }
    out
}

fn is_subdomain(s: &str) -> bool {
    !s.is_empty() && s.split('.').all(|part| is_label(part.as_bytes()))
}

/// Problems of a DNS-1123 subdomain.
pub fn dns1123_subdomain(s: &str) -> Vec<String> {
    let mut out = Vec::new();
    if s.len() > DNS1123_SUBDOMAIN_MAX {
        out.push(dns_too_long(DNS1123_SUBDOMAIN_MAX));
    }
    if !is_subdomain(s) {
        out.push(format!(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '{SUBDOMAIN_FMT}')"
        ));
    }
    out
}

/// Problems of a DNS-1035 label.
pub fn dns1035_label(s: &str) -> Vec<String> {
    let mut out = Vec::new();
    if s.len() > DNS1123_LABEL_MAX {
        out.push(dns_too_long(DNS1123_LABEL_MAX));
    }
    let b = s.as_bytes();
    if !(is_label(b) && b[0].is_ascii_lowercase()) {
        out.push(regex_text(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character",
            DNS1035_FMT,
            &["my-name", "abc-123"],
        ));
    }
    out
}

fn is_qualified_part(s: &str) -> bool {
    let b = s.as_bytes();
    !b.is_empty()
        && b[0].is_ascii_alphanumeric()
        && b[b.len() - 1].is_ascii_alphanumeric()
        && b.iter()
            .all(|&c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.'))
}

/// Problems of a qualified name (label keys, annotation keys, finalizers): `[prefix/]name`.
pub fn qualified_name(s: &str) -> Vec<String> {
    let mut out = Vec::new();
    let parts: Vec<&str> = s.split('/').collect();
    let name = match parts.as_slice() {
        [name] => *name,
        [prefix, name] => {
            if prefix.is_empty() {
                out.push("prefix part must be non-empty".into());
            } else {
                out.extend(
                    dns1123_subdomain(prefix)
                        .iter()
                        // Upstream counts bytes here.
                        .map(|m| {
                            format!("prefix part {}", m.replace("253 characters", "253 bytes"))
                        }),
                );
            }
            *name
        }
        _ => {
            out.push(format!(
                "a valid label key must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '{QUALIFIED_FMT}') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            ));
            return out;
        }
    };
    if name.is_empty() {
        out.push("name part must be non-empty".into());
    } else if name.len() > DNS1123_LABEL_MAX {
        out.push(format!("name part {}", too_long(DNS1123_LABEL_MAX)));
    }
    if !is_qualified_part(name) {
        out.push(format!(
            "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '{QUALIFIED_FMT}')"
        ));
    }
    out
}

/// Problems of a label value.
pub fn label_value(s: &str) -> Vec<String> {
    let mut out = Vec::new();
    if s.len() > DNS1123_LABEL_MAX {
        out.push(too_long(DNS1123_LABEL_MAX));
    }
    if !s.is_empty() && !is_qualified_part(s) {
        out.push(format!(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '{LABEL_VALUE_FMT}')"
        ));
    }
    out
}

/// Problems of a name as one segment of a path (RBAC kinds, custom CRD-less names).
pub fn path_segment(s: &str, prefix: bool) -> Vec<String> {
    let mut out = Vec::new();
    if !prefix && (s == "." || s == "..") {
        out.push(format!("may not be '{s}'"));
    }
    for bad in ["/", "%"] {
        if s.contains(bad) {
            out.push(format!("may not contain '{bad}'"));
        }
    }
    out
}

/// What a generateName must be once its suffix is there: the trailing dash may be masked.
fn masked(s: &str, prefix: bool) -> String {
    if prefix && s.len() > 1 && s.ends_with('-') {
        format!("{}a", &s[..s.len() - 1])
    } else {
        s.to_string()
    }
}

/// `NameIsDNSSubdomain`.
pub fn subdomain_name(s: &str, prefix: bool) -> Vec<String> {
    dns1123_subdomain(&masked(s, prefix))
}

/// `NameIsDNSLabel`.
pub fn label_name(s: &str, prefix: bool) -> Vec<String> {
    dns1123_label(&masked(s, prefix))
}

/// `NameIsDNS1035Label`.
pub fn dns1035_name(s: &str, prefix: bool) -> Vec<String> {
    dns1035_label(&masked(s, prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_judged_as_upstream_does() {
        for (check, text, fine) in [
            (subdomain_name as NameCheck, "a", true),
            (subdomain_name, "a.b-c.d1", true),
            (subdomain_name, "A", false),
            (subdomain_name, "", false),
            (subdomain_name, "a..b", false),
            (subdomain_name, "-a", false),
            (label_name, "a.b", false),
            (label_name, "a-b", true),
            (dns1035_name, "1a", false),
            (dns1035_name, "a1", true),
            (path_segment, "system:x", true),
            (path_segment, "a/b", false),
            (path_segment, "..", false),
        ] {
            assert_eq!(check(text, false).is_empty(), fine, "{text}");
        }
        assert!(subdomain_name("web-", true).is_empty());
        assert!(!subdomain_name("web-", false).is_empty());
        assert_eq!(
            dns1123_subdomain(&"a".repeat(254))[0],
            "must be no more than 253 characters"
        );
    }

    #[test]
    fn keys_and_values() {
        assert!(qualified_name("app.kubernetes.io/name").is_empty());
        assert!(qualified_name("a/b/c")[0].starts_with("a valid label key must consist of"));
        assert_eq!(qualified_name("/x")[0], "prefix part must be non-empty");
        assert!(label_value("").is_empty());
        assert!(!label_value("a b").is_empty());
        assert!(!label_value(&"a".repeat(64)).is_empty());
    }
}
