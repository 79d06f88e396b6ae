//! The parser of label selectors, with upstream's errors. Upstream: k8s.io/apimachinery/pkg/labels.

use super::{Operator, Requirement};
use crate::{go, names};

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Comma,
    Not,
    Equals,
    DoubleEquals,
    NotEquals,
    Open,
    Close,
    Greater,
    Less,
    End,
}

// === Token ===

impl Token {
    fn text(&self) -> &str {
        match self {
            Self::Word(w) => w,
            Self::Comma => ",",
            Self::Not => "!",
            Self::Equals => "=",
            Self::DoubleEquals => "==",
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
    // A NUL ends the text.
    let text = text.split('\0').next().unwrap_or_default();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let token = match c {
            ' ' | '\t' | '\r' | '\n' => continue,
            ',' => Token::Comma,
            '(' => Token::Open,
            ')' => Token::Close,
            '>' => Token::Greater,
            '<' => Token::Less,
            '!' if chars.next_if_eq(&'=').is_some() => Token::NotEquals,
            '!' => Token::Not,
            '=' if chars.next_if_eq(&'=').is_some() => Token::DoubleEquals,
            '=' => Token::Equals,
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

/// The requirements of a selector, sorted by their keys.
pub fn requirements(text: &str) -> Result<Vec<Requirement>, String> {
    let mut p = Parser {
        tokens: lex(text),
        at: 0,
    };
    let mut out = Vec::new();
    while *p.peek() != Token::End {
        if !matches!(p.peek(), Token::Word(_) | Token::Not) {
            let found = p.peek().text();
            return Err(format!(
                "found '{found}', expected: !, identifier, or 'end of string'"
            ));
        }
        let one = p.requirement();
        out.push(one.map_err(|e| format!("unable to parse requirement: {e}"))?);
        match p.next() {
            Token::End => break,
            Token::Comma if matches!(p.peek(), Token::Word(_) | Token::Not) => {}
            Token::Comma => {
                let found = p.peek().text();
                return Err(format!("found '{found}', expected: identifier after ','"));
            }
            other => {
                let found = other.text();
                return Err(format!("found '{found}', expected: ',' or 'end of string'"));
            }
        }
    }
    out.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(out)
}

// === Parser ===

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
            other => return Err(format!("found '{}', expected: identifier", other.text())),
        };
        let wrong = names::qualified_name(&key).join("; ");
        if !wrong.is_empty() {
            let key = go::quote(&key);
            return Err(format!("<nil>: Invalid value: {key}: {wrong}"));
        }
        let operator = match self.peek() {
            _ if absent => Operator::DoesNotExist,
            Token::End | Token::Comma => Operator::Exists,
            _ => self.operator(&key)?,
        };
        Ok(Requirement { key, operator })
    }

    fn operator(&mut self, key: &str) -> Result<Operator, String> {
        let checked = |values: Vec<String>| check_values(key, &values, &[]).map(|()| values);
        Ok(match self.next() {
            Token::Equals | Token::DoubleEquals => Operator::In(checked(vec![self.value()?])?),
            Token::NotEquals => Operator::NotIn(checked(vec![self.value()?])?),
            Token::Word(w) if w == "in" => Operator::In(checked(self.values()?)?),
            Token::Word(w) if w == "notin" => Operator::NotIn(checked(self.values()?)?),
            Token::Greater => Operator::GreaterThan(self.number(key)?),
            Token::Less => Operator::LessThan(self.number(key)?),
            other => {
                return Err(format!(
                    "found '{}', expected: in, notin, =, ==, !=, gt, lt",
                    other.text()
                ));
            }
        })
    }

    fn value(&mut self) -> Result<String, String> {
        if matches!(self.peek(), Token::End | Token::Comma) {
            return Ok(String::new());
        }
        match self.next() {
            Token::Word(w) => Ok(w),
            other => Err(format!("found '{}', expected: identifier", other.text())),
        }
    }

    fn number(&mut self, key: &str) -> Result<i64, String> {
        let text = self.value()?;
        let number = text.parse();
        let wrong = number.is_err().then(|| {
            let text = go::quote(&text);
            format!(
                "values[0]: Invalid value: {text}: for 'Gt', 'Lt' operators, the value must be an integer"
            )
        });
        check_values(key, &[text], wrong.as_slice())?;
        // Whatever is no number was refused.
        Ok(number.unwrap_or_default())
    }

    /// The values within parentheses, sorted, each once.
    fn values(&mut self) -> Result<Vec<String>, String> {
        match self.next() {
            Token::Open => {}
            other => return Err(format!("found '{}' expected: '('", other.text())),
        }
        let mut out = match self.peek() {
            Token::Word(_) | Token::Comma => self.list()?,
            Token::Close => vec![String::new()],
            other => {
                return Err(format!(
                    "found '{}', expected: ',', ')' or identifier",
                    other.text()
                ));
            }
        };
        self.next();
        out.sort_unstable();
        out.dedup();
        Ok(out)
    }

    /// What stands before the closing parenthesis.
    fn list(&mut self) -> Result<Vec<String>, String> {
        let mut out = Vec::new();
        loop {
            match self.next() {
                Token::Word(w) => {
                    out.push(w);
                    match self.peek() {
                        Token::Comma => {}
                        Token::Close => return Ok(out),
                        other => {
                            return Err(format!("found '{}', expected: ',' or ')'", other.text()));
                        }
                    }
                }
                Token::Comma => {
                    let follows = self.peek();
                    if out.is_empty() || matches!(follows, Token::Close | Token::Comma) {
                        out.push(String::new());
                    }
                    if *follows == Token::Close {
                        return Ok(out);
                    }
                }
                other => {
                    return Err(format!(
                        "found '{}', expected: ',', or identifier",
                        other.text()
                    ));
                }
            }
        }
    }
}

/// All that is wrong with values, after what is known to be.
fn check_values(key: &str, values: &[String], wrong: &[String]) -> Result<(), String> {
    let mut all = wrong.to_vec();
    for (i, value) in values.iter().enumerate() {
        let why = names::label_value(value).join("; ");
        if !why.is_empty() {
            let value = go::quote(value);
            all.push(format!("values[{i}][{key}]: Invalid value: {value}: {why}"));
        }
    }
    match all.as_slice() {
        [] => Ok(()),
        [one] => Err(one.clone()),
        many => Err(format!("[{}]", many.join(", "))),
    }
}
