//! Label and field selectors: parsing with upstream's errors, matching.
//! Upstream: k8s.io/apimachinery/pkg/labels and fields.

use serde_json::Value;

use crate::limits;

mod parse;

/// How one requirement judges a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operator {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    DoesNotExist,
    GreaterThan(i64),
    LessThan(i64),
}

/// One requirement on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    pub key: String,
    pub operator: Operator,
}

/// A conjunction of requirements; the empty one matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    pub requirements: Vec<Requirement>,
}

/// One requirement on a field: `=` or `!=`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldRequirement {
    pub field: String,
    pub value: String,
    pub equal: bool,
}

/// A conjunction of field requirements.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    pub requirements: Vec<FieldRequirement>,
}

// === LabelSelector ===

impl LabelSelector {
    /// Parses `a=b,c!=d,e in (f,g),!h,i,j>1`. The error is the text upstream puts into its 400.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > limits::SELECTOR_BYTES {
            return Err("the label selector is too long".into());
        }
        let requirements = parse::requirements(text)?;
        if requirements.len() > limits::SELECTOR_REQUIREMENTS {
            return Err("the label selector has too many requirements".into());
        }
        Ok(Self { requirements })
    }

    /// A selector from a `metav1.LabelSelector` object. `None` where an operator or value is wrong.
    pub fn from_object(object: &Value) -> Option<Self> {
        let mut requirements = Vec::new();
        if let Some(labels) = object.get("matchLabels").and_then(Value::as_object) {
            for (key, value) in labels {
                let values = vec![value.as_str()?.to_string()];
                requirements.push(Requirement {
                    key: key.clone(),
                    operator: Operator::In(values),
                });
            }
        }
        for e in object
            .get("matchExpressions")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let values = || -> Option<Vec<String>> {
                let list = e.get("values").and_then(Value::as_array);
                list.into_iter()
                    .flatten()
                    .map(|v| v.as_str().map(str::to_string))
                    .collect()
            };
            let operator = match e.get("operator")?.as_str()? {
                "In" => Operator::In(values()?),
                "NotIn" => Operator::NotIn(values()?),
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                _ => return None,
            };
            requirements.push(Requirement {
                key: e.get("key")?.as_str()?.to_string(),
                operator,
            });
        }
        Some(Self { requirements })
    }

    /// Whether labels, looked up by key, satisfy all requirements.
    pub fn matches<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.requirements.iter().all(|r| r.matches(label(&r.key)))
    }

    /// Whether everything matches.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }
}

impl Requirement {
    fn matches(&self, value: Option<&str>) -> bool {
        match &self.operator {
            Operator::In(values) => value.is_some_and(|v| values.iter().any(|w| w == v)),
            Operator::NotIn(values) => !value.is_some_and(|v| values.iter().any(|w| w == v)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan(n) => value
                .and_then(|v| v.parse::<i64>().ok())
                .is_some_and(|v| v > *n),
            Operator::LessThan(n) => value
                .and_then(|v| v.parse::<i64>().ok())
                .is_some_and(|v| v < *n),
        }
    }
}

impl std::fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, r) in self.requirements.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            let list = |v: &[String]| {
                let mut v = v.to_vec();
                v.sort();
                v.join(",")
            };
            match &r.operator {
                Operator::In(v) if v.len() == 1 => write!(f, "{}={}", r.key, v[0])?,
                Operator::In(v) => write!(f, "{} in ({})", r.key, list(v))?,
                Operator::NotIn(v) if v.len() == 1 => write!(f, "{}!={}", r.key, v[0])?,
                Operator::NotIn(v) => write!(f, "{} notin ({})", r.key, list(v))?,
                Operator::Exists => f.write_str(&r.key)?,
                Operator::DoesNotExist => write!(f, "!{}", r.key)?,
                Operator::GreaterThan(n) => write!(f, "{}>{n}", r.key)?,
                Operator::LessThan(n) => write!(f, "{}<{n}", r.key)?,
            }
        }
        Ok(())
    }
}

// === FieldSelector ===

impl FieldSelector {
    /// Parses `a=b,c!=d`; `\` escapes `,`, `=` and itself.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > limits::SELECTOR_BYTES {
            return Err("the field selector is too long".into());
        }
        let mut terms = split_terms(text);
        terms.sort_unstable();
        let mut requirements = Vec::new();
        for term in terms.into_iter().filter(|t| !t.is_empty()) {
            let (field, value, equal) = split_term(term)
                .ok_or_else(|| format!("invalid selector: '{text}'; can't understand '{term}'"))?;
            let value = unescape(value)?;
            if field.is_empty() && value.is_empty() {
                continue;
            }
            requirements.push(FieldRequirement {
                field: field.to_string(),
                value,
                equal,
            });
            if requirements.len() > limits::SELECTOR_REQUIREMENTS {
                return Err("the field selector has too many requirements".into());
            }
        }
        Ok(Self { requirements })
    }

    /// The selector of one field's value.
    pub fn equal(field: &str, value: &str) -> Self {
        let requirement = FieldRequirement {
            field: field.into(),
            value: value.into(),
            equal: true,
        };
        Self {
            requirements: vec![requirement],
        }
    }

    /// Whether the fields, looked up by name, satisfy all requirements; an unknown field is empty.
    pub fn matches<'a>(&self, field: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.requirements
            .iter()
            .all(|r| (field(&r.field).unwrap_or("") == r.value) == r.equal)
    }

    /// The value a field must equal, if the selector says so.
    pub fn requires(&self, field: &str) -> Option<&str> {
        self.requirements
            .iter()
            .find(|r| r.equal && r.field == field)
            .map(|r| r.value.as_str())
    }

    /// Whether everything matches.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }
}

fn split_terms(text: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (i, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                out.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    out.push(&text[start..]);
    out
}

fn split_term(term: &str) -> Option<(&str, &str, bool)> {
    for (i, _) in term.char_indices() {
        let rest = &term[i..];
        for (operator, equal) in [("!=", false), ("==", true), ("=", true)] {
            if let Some(value) = rest.strip_prefix(operator) {
                return Some((&term[..i], value, equal));
            }
        }
    }
    None
}

fn unescape(text: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    let sequence = |s: &str| {
        Err(format!(
            "invalid field selector: invalid escape sequence: {s}"
        ))
    };
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(e @ ('\\' | ',' | '=')) => out.push(e),
                Some(e) => return sequence(&format!("\\{e}")),
                None => return sequence("\\"),
            },
            ',' | '=' => {
                let n = u32::from(c);
                return Err(format!(
                    "invalid field selector: unescaped character in value: {n}"
                ));
            }
            c => out.push(c),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(selector: &str, labels: &[(&str, &str)]) -> Result<bool, String> {
        let s = LabelSelector::parse(selector)?;
        Ok(s.matches(|k| labels.iter().find(|(l, _)| *l == k).map(|(_, v)| *v)))
    }

    #[test]
    fn label_selectors_match_as_upstreams() {
        let labels = [("a", "1"), ("env", "prod"), ("x.io/y", "")];
        for (text, expected) in [
            ("", true),
            ("a=1", true),
            ("a==1", true),
            ("a!=1", false),
            ("b!=1", true),
            ("a", true),
            ("!a", false),
            ("!b", true),
            ("env in (prod, dev)", true),
            ("env notin (prod)", false),
            ("b notin (prod)", true),
            ("a>0,a<2", true),
            ("a>1", false),
            ("x.io/y=", true),
            ("x.io/y", true),
            ("env in (prod),a=2", false),
            ("in", false),
            ("a in (1,)", true),
            ("x.io/y in ()", true),
        ] {
            assert_eq!(judge(text, &labels), Ok(expected), "{text}");
        }
    }

    #[test]
    fn bad_label_selectors_are_errors() {
        let label = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
        let name = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
        for (text, why) in [
            ("a=b=c", "found '=', expected: ',' or 'end of string'"),
            ("a,", "found '', expected: identifier after ','"),
            (
                ",a",
                "found ',', expected: !, identifier, or 'end of string'",
            ),
            (
                "a in b",
                "unable to parse requirement: found 'b' expected: '('",
            ),
            (
                "a in (b",
                "unable to parse requirement: found '', expected: ',' or ')'",
            ),
            (
                "a in (,",
                "unable to parse requirement: found '', expected: ',', or identifier",
            ),
            (
                "a in (=",
                "unable to parse requirement: found '=', expected: ',', ')' or identifier",
            ),
            (
                "a b",
                "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt",
            ),
            (
                "-",
                &format!("unable to parse requirement: <nil>: Invalid value: \"-\": {name}"),
            ),
            (
                "a=$",
                &format!(
                    "unable to parse requirement: values[0][a]: Invalid value: \"$\": {label}"
                ),
            ),
            (
                "a in ($,A)",
                &format!(
                    "unable to parse requirement: values[0][a]: Invalid value: \"$\": {label}"
                ),
            ),
            (
                "a in (z$,b)",
                &format!(
                    "unable to parse requirement: values[1][a]: Invalid value: \"z$\": {label}"
                ),
            ),
            (
                "a>x",
                "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value must be an integer",
            ),
            (
                "a>-",
                &format!(
                    "unable to parse requirement: [values[0]: Invalid value: \"-\": for 'Gt', 'Lt' operators, the value must be an integer, values[0][a]: Invalid value: \"-\": {label}]"
                ),
            ),
            (
                "(",
                "found '(', expected: !, identifier, or 'end of string'",
            ),
            (
                "!",
                "unable to parse requirement: found '', expected: identifier",
            ),
            ("!a=b", "found '=', expected: ',' or 'end of string'"),
            (
                "a!b",
                "unable to parse requirement: found '!', expected: in, notin, =, ==, !=, gt, lt",
            ),
            (
                "a===b",
                "unable to parse requirement: found '=', expected: identifier",
            ),
            (
                "a in (b c)",
                "unable to parse requirement: found 'c', expected: ',' or ')'",
            ),
        ] {
            assert_eq!(judge(text, &[]), Err(why.into()), "{text}");
        }
        assert!(LabelSelector::parse(&"a,".repeat(60_000)).is_err());
    }

    #[test]
    fn field_selectors_parse_and_match() {
        let s = FieldSelector::parse("metadata.name=x\\,y,spec.nodeName!=n").unwrap();
        assert_eq!(s.requires("metadata.name"), Some("x,y"));
        let f = |k: &str| (k == "metadata.name").then_some("x,y");
        assert!(s.matches(f));
        for (text, why) in [
            (
                "b=1,nonsense,c",
                "invalid selector: 'b=1,nonsense,c'; can't understand 'c'",
            ),
            (
                "a=b\\c",
                "invalid field selector: invalid escape sequence: \\c",
            ),
            (
                "a=b\\",
                "invalid field selector: invalid escape sequence: \\",
            ),
            (
                "a=b=c",
                "invalid field selector: unescaped character in value: 61",
            ),
        ] {
            assert_eq!(FieldSelector::parse(text), Err(why.into()));
        }
        assert!(FieldSelector::parse("=,").unwrap().is_empty());
        assert!(FieldSelector::parse("").unwrap().is_empty());
    }
}
