//! Label and field selectors: parsing with upstream's errors, matching.
//! Upstream: k8s.io/apimachinery/pkg/labels and fields.

use serde_json::Value;

use crate::{limits, names};

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
        let mut p = Parser {
            tokens: lex(text),
            at: 0,
        };
        let mut requirements = Vec::new();
        if p.peek() == &Token::End {
            return Ok(Self::default());
        }
        loop {
            requirements.push(p.requirement()?);
            if requirements.len() > limits::SELECTOR_REQUIREMENTS {
                return Err("the label selector has too many requirements".into());
            }
            match p.next() {
                Token::End => return Ok(Self { requirements }),
                Token::Comma => {
                    if !matches!(p.peek(), Token::Word(_) | Token::Not) {
                        return Err(format!(
                            "found '{}', expected: identifier after ','",
                            p.peek().text()
                        ));
                    }
                }
                other => {
                    return Err(format!(
                        "found '{}', expected: ',' or 'end of string'",
                        other.text()
                    ));
                }
            }
        }
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

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Comma,
    Not,
    Equals,
    NotEquals,
    Open,
    Close,
    Greater,
    Less,
    End,
}

impl Token {
    fn text(&self) -> &str {
        match self {
            Self::Word(w) => w,
            Self::Comma => ",",
            Self::Not => "!",
            Self::Equals => "=",
            Self::NotEquals => "!=",
            Self::Open => "(",
            Self::Close => ")",
            Self::Greater => ">",
            Self::Less => "<",
            Self::End => "",
        }
    }
}

fn lex(text: &str) -> Vec<Token> {
    let mut out = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(&c) = chars.peek() {
        chars.next();
        let token = match c {
            ' ' | '\t' | '\r' | '\n' => continue,
            ',' => Token::Comma,
            '(' => Token::Open,
            ')' => Token::Close,
            '>' => Token::Greater,
            '<' => Token::Less,
            '!' if chars.next_if_eq(&'=').is_some() => Token::NotEquals,
            '!' => Token::Not,
            '=' => {
                chars.next_if_eq(&'=');
                Token::Equals
            }
            first => {
                let mut word = String::from(first);
                while let Some(c) = chars.next_if(|c| !" \t\r\n,()><!=".contains(*c)) {
                    word.push(c);
                }
                Token::Word(word)
            }
        };
        out.push(token);
    }
    out
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        self.tokens.get(self.at).unwrap_or(&Token::End)
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let absent = *self.peek() == Token::Not;
        if absent {
            self.next();
        }
        let key = match self.next() {
            Token::Word(w) => w,
            other => {
                return Err(format!(
                    "unable to parse requirement: found '{}', expected: identifier",
                    other.text()
                ));
            }
        };
        check_key(&key)?;
        if absent {
            return Ok(Requirement {
                key,
                operator: Operator::DoesNotExist,
            });
        }
        if matches!(self.peek(), Token::End | Token::Comma) {
            return Ok(Requirement {
                key,
                operator: Operator::Exists,
            });
        }
        let operator = match self.next() {
            Token::Equals => Operator::In(vec![self.value(&key)?]),
            Token::NotEquals => Operator::NotIn(vec![self.value(&key)?]),
            Token::Greater => Operator::GreaterThan(self.number(&key)?),
            Token::Less => Operator::LessThan(self.number(&key)?),
            Token::Word(w) if w == "in" => Operator::In(self.values(&key)?),
            Token::Word(w) if w == "notin" => Operator::NotIn(self.values(&key)?),
            other => {
                return Err(format!(
                    "unable to parse requirement: found '{}', expected: in, notin, =, ==, !=, gt, lt",
                    other.text()
                ));
            }
        };
        Ok(Requirement { key, operator })
    }

    fn value(&mut self, key: &str) -> Result<String, String> {
        match self.peek() {
            Token::End | Token::Comma => Ok(String::new()),
            Token::Word(w) => {
                let w = w.clone();
                self.next();
                check_value(key, &w)?;
                Ok(w)
            }
            other => Err(format!(
                "unable to parse requirement: found '{}', expected: identifier",
                other.text()
            )),
        }
    }

    fn number(&mut self, key: &str) -> Result<i64, String> {
        let text = self.value(key)?;
        text.parse().map_err(|_| {
            format!(
                "unable to parse requirement: values[0][{key}]: Invalid value: \"{text}\": for 'Gt', 'Lt' operators, the value must be an integer"
            )
        })
    }

    fn values(&mut self, key: &str) -> Result<Vec<String>, String> {
        if self.next() != Token::Open {
            self.at -= 1;
            return Err(format!(
                "unable to parse requirement: found '{}' expected: '('",
                self.peek().text()
            ));
        }
        let mut out = Vec::new();
        loop {
            match self.next() {
                Token::Word(w) => {
                    check_value(key, &w)?;
                    out.push(w);
                    match self.next() {
                        Token::Comma if *self.peek() == Token::Close => out.push(String::new()),
                        Token::Comma => {}
                        Token::Close => return Ok(out),
                        other => {
                            return Err(format!(
                                "unable to parse requirement: found '{}', expected: ',' or ')'",
                                other.text()
                            ));
                        }
                    }
                }
                Token::Comma => out.push(String::new()),
                Token::Close => {
                    if out.is_empty() {
                        out.push(String::new());
                    }
                    return Ok(out);
                }
                other => {
                    return Err(format!(
                        "unable to parse requirement: found '{}', expected: ',', ')' or identifier",
                        other.text()
                    ));
                }
            }
        }
    }
}

fn check_key(key: &str) -> Result<(), String> {
    match names::qualified_name(key).as_slice() {
        [] => Ok(()),
        all => Err(format!(
            "unable to parse requirement: <nil>: Invalid value: \"{key}\": {}",
            all.join("; ")
        )),
    }
}

fn check_value(key: &str, value: &str) -> Result<(), String> {
    match names::label_value(value).as_slice() {
        [] => Ok(()),
        all => Err(format!(
            "unable to parse requirement: values[0][{key}]: Invalid value: \"{value}\": {}",
            all.join("; ")
        )),
    }
}

// === FieldSelector ===

impl FieldSelector {
    /// Parses `a=b,c!=d`; `\` escapes `,`, `=` and itself.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > limits::SELECTOR_BYTES {
            return Err("the field selector is too long".into());
        }
        let mut requirements = Vec::new();
        for term in split_terms(text) {
            if term.is_empty() {
                continue;
            }
            let (field, value, equal) = split_term(term)
                .ok_or_else(|| format!("invalid selector: '{text}'; can't understand '{term}'"))?;
            let value = unescape(value)
                .ok_or_else(|| format!("invalid field selector: invalid value in '{term}'"))?;
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

fn unescape(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next()? {
                e @ ('\\' | ',' | '=') => out.push(e),
                _ => return None,
            },
            ',' | '=' => return None,
            c => out.push(c),
        }
    }
    Some(out)
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
        ] {
            assert_eq!(judge(text, &labels), Ok(expected), "{text}");
        }
    }

    #[test]
    fn bad_label_selectors_are_errors() {
        for text in [
            "a=b=c",
            "a,",
            ",a",
            "a in b",
            "a in (b",
            "a b",
            "-",
            "a=$",
            "a>x",
            "(",
            "!",
            "a!b",
            "a in (b c)",
        ] {
            assert!(judge(text, &[]).is_err(), "{text}");
        }
        assert!(LabelSelector::parse(&"a,".repeat(60_000)).is_err());
    }

    #[test]
    fn field_selectors_parse_and_match() {
        let s = FieldSelector::parse("metadata.name=x\\,y,spec.nodeName!=n").unwrap();
        assert_eq!(s.requires("metadata.name"), Some("x,y"));
        let f = |k: &str| (k == "metadata.name").then_some("x,y");
        assert!(s.matches(f));
        assert!(FieldSelector::parse("nonsense").is_err());
        assert!(FieldSelector::parse("a=b\\c").is_err());
        assert!(FieldSelector::parse("").unwrap().is_empty());
    }
}
