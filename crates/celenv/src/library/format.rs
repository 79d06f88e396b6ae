//! Named formats. Upstream: k8s.io/apiserver/pkg/cel/library/format.go.

use std::sync::Arc;

use base64::Engine;

use super::{Answer, Foreign, Row, foreign, none, text, time, url};
use crate::value::Value;

/// A format with what is wrong about a text.
#[derive(Debug)]
pub struct Format {
    name: &'static str,
    /// Length of the pattern it costs as much as.
    pattern: u64,
    problems: fn(&str) -> Vec<String>,
}

impl Format {
    /// The length of a pattern that a check costs as much as.
    pub(crate) fn pattern_size(&self) -> u64 {
        self.pattern
    }

    /// The name in `format.named`.
    pub fn name(&self) -> &'static str {
        self.name
    }
}

const FORMATS: &[Format] = &[
    Format {
        name: "dns1123Label",
        pattern: 30,
        problems: |s| api::names::label_name(s, false),
    },
    Format {
        name: "dns1123Subdomain",
        pattern: 60,
        problems: |s| api::names::subdomain_name(s, false),
    },
    Format {
        name: "dns1035Label",
        pattern: 30,
        problems: |s| api::names::dns1035_name(s, false),
    },
    Format {
        name: "dns1123LabelPrefix",
        pattern: 30,
        problems: |s| api::names::label_name(s, true),
    },
    Format {
        name: "dns1123SubdomainPrefix",
        pattern: 60,
        problems: |s| api::names::subdomain_name(s, true),
    },
    Format {
        name: "dns1035LabelPrefix",
        pattern: 30,
        problems: |s| api::names::dns1035_name(s, true),
    },
    Format {
        name: "qualifiedName",
        pattern: 60,
        problems: api::names::qualified_name,
    },
    Format {
        name: "labelValue",
        pattern: 40,
        problems: api::names::label_value,
    },
    Format {
        name: "uri",
        pattern: 1103,
        problems: |s| url::parse(s).err().into_iter().collect(),
    },
    Format {
        name: "uuid",
        pattern: 72,
        problems: |s| unless(is_uuid(s), "does not match the UUID format"),
    },
    Format {
        name: "byte",
        pattern: 84,
        problems: |s| unless(is_base64(s), "invalid base64"),
    },
    Format {
        name: "date",
        pattern: 72,
        problems: |s| unless(is_date(s), "invalid date"),
    },
    Format {
        name: "datetime",
        pattern: 72,
        problems: |s| unless(time::parse_timestamp(s).is_ok(), "invalid datetime"),
    },
];

pub(super) const TABLE: &[Row] = &[
    ("format.named", "(string) optional<Format>", |a| {
        let name = text(a, 0)?;
        Ok(Value::Optional(named(name).map(Arc::new)))
    }),
    (
        "validate",
        "Format.(string) optional<list<string>>",
        validate,
    ),
    ("format.dns1123Label", "() Format", |_| {
        constant("dns1123Label")
    }),
    ("format.dns1123Subdomain", "() Format", |_| {
        constant("dns1123Subdomain")
    }),
    ("format.dns1035Label", "() Format", |_| {
        constant("dns1035Label")
    }),
    ("format.dns1123LabelPrefix", "() Format", |_| {
        constant("dns1123LabelPrefix")
    }),
    ("format.dns1123SubdomainPrefix", "() Format", |_| {
        constant("dns1123SubdomainPrefix")
    }),
    ("format.dns1035LabelPrefix", "() Format", |_| {
        constant("dns1035LabelPrefix")
    }),
    ("format.qualifiedName", "() Format", |_| {
        constant("qualifiedName")
    }),
    ("format.labelValue", "() Format", |_| constant("labelValue")),
    ("format.uri", "() Format", |_| constant("uri")),
    ("format.uuid", "() Format", |_| constant("uuid")),
    ("format.byte", "() Format", |_| constant("byte")),
    ("format.date", "() Format", |_| constant("date")),
    ("format.datetime", "() Format", |_| constant("datetime")),
];

fn named(name: &str) -> Option<Value> {
    let f = FORMATS.iter().find(|f| f.name == name)?;
    Some(Value::Foreign(Arc::new(Foreign::Format(f))))
}

fn constant(name: &str) -> Answer {
    named(name).map_or_else(none, Ok)
}

fn validate(a: &[Value]) -> Answer {
    let Foreign::Format(f) = foreign(a, 0)? else {
        return none();
    };
    let problems = (f.problems)(text(a, 1)?);
    if problems.is_empty() {
        return Ok(Value::Optional(None));
    }
    let problems = problems.into_iter().map(Value::from).collect();
    Ok(Value::Optional(Some(Arc::new(Value::list(problems)))))
}

fn unless(good: bool, problem: &str) -> Vec<String> {
    if good {
        Vec::new()
    } else {
        vec![problem.to_string()]
    }
}

fn is_uuid(s: &str) -> bool {
    let hex: String = s.chars().filter(|c| *c != '-').collect();
    let dashes = s.len() == 36 && [8, 13, 18, 23].iter().all(|i| s.as_bytes()[*i] == b'-');
    hex.len() == 32 && hex.bytes().all(|b| b.is_ascii_hexdigit()) && (dashes || s.len() == 32)
}

fn is_base64(s: &str) -> bool {
    !s.is_empty() && base64::engine::general_purpose::STANDARD.decode(s).is_ok()
}

fn is_date(s: &str) -> bool {
    s.len() == 10 && s.parse::<jiff::civil::Date>().is_ok()
}
