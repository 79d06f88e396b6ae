//! Pieces and tokens to nodes.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::functions;
use super::lex::{Piece, Token, pieces};
use super::{Branch, Node, Operand, Pipeline, Template};

/// Deepest nesting of actions and parentheses.
const DEPTH: usize = 64;

struct Parser {
    pieces: std::vec::IntoIter<Piece>,
    named: BTreeMap<String, Vec<Node>>,
    line: usize,
    depth: usize,
    /// Variables in scope.
    known: Vec<String>,
}

/// How a list of nodes ended.
enum Stop {
    Source,
    End,
    /// `{{else}}` with what follows it.
    Else(Vec<Token>),
}

/// Parses a whole template.
pub fn template(text: &str) -> Result<Template, String> {
    let mut parser = Parser {
        pieces: pieces(text)?.into_iter(),
        named: BTreeMap::new(),
        line: 1,
        depth: 0,
        known: vec!["$".into()],
    };
    let (body, end) = parser.list()?;
    match end {
        Stop::Source => Ok(Template {
            body,
            named: parser.named,
        }),
        Stop::End => Err(parser.at("unexpected {{end}}")),
        Stop::Else(_) => Err(parser.at("unexpected {{else}}")),
    }
}

fn words(tokens: &[Token]) -> Vec<Token> {
    let mut out = tokens.to_vec();
    while out.first() == Some(&Token::Space) {
        out.remove(0);
    }
    while out.last() == Some(&Token::Space) {
        out.pop();
    }
    out
}

impl Parser {
    fn at(&self, why: &str) -> String {
        format!("{}: {why}", self.line)
    }

    fn list(&mut self) -> Result<(Vec<Node>, Stop), String> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(self.at("max expression depth exceeded"));
        }
        let mut out = Vec::new();
        while let Some(piece) = self.pieces.next() {
            let (tokens, line) = match piece {
                Piece::Text(text) => {
                    out.push(Node::Text(text));
                    continue;
                }
                Piece::Action(tokens, line) => (words(&tokens), line),
            };
            self.line = line;
            let keyword = match tokens.first() {
                Some(Token::Word(word)) => word.clone(),
                _ => String::new(),
            };
            let rest = words(tokens.get(1..).unwrap_or_default());
            match keyword.as_str() {
                "end" => {
                    self.depth -= 1;
                    return Ok((out, Stop::End));
                }
                "else" => {
                    self.depth -= 1;
                    return Ok((out, Stop::Else(rest)));
                }
                "define" => self.define(&rest)?,
                _ => out.push(self.action(&keyword, &tokens, &rest)?),
            }
        }
        self.depth -= 1;
        Ok((out, Stop::Source))
    }

    fn action(&mut self, keyword: &str, all: &[Token], rest: &[Token]) -> Result<Node, String> {
        match keyword {
            "if" => self.branch(rest).map(Node::If),
            "with" => self.branch(rest).map(Node::With),
            "range" => self.branch(rest).map(Node::Range),
            "break" => Ok(Node::Break),
            "continue" => Ok(Node::Continue),
            "template" => self.template(rest),
            "block" => {
                let node = self.template(rest)?;
                let name = self.name(rest)?;
                self.body(name)?;
                Ok(node)
            }
            _ => {
                let pipeline = self.pipeline(all)?;
                Ok(Node::Print(pipeline))
            }
        }
    }

    fn name(&self, tokens: &[Token]) -> Result<String, String> {
        match tokens.first() {
            Some(Token::Text(name)) => Ok(name.clone()),
            _ => Err(self.at("a template's name must be a string")),
        }
    }

    fn template(&mut self, rest: &[Token]) -> Result<Node, String> {
        let name = self.name(rest)?;
        let argument = words(&rest[1..]);
        let argument = match argument.is_empty() {
            true => None,
            false => Some(self.pipeline(&argument)?),
        };
        Ok(Node::Template(name, argument))
    }

    fn define(&mut self, rest: &[Token]) -> Result<(), String> {
        let name = self.name(rest)?;
        self.body(name)
    }

    fn body(&mut self, name: String) -> Result<(), String> {
        let outer = std::mem::replace(&mut self.known, vec!["$".into()]);
        let (body, end) = self.list()?;
        self.known = outer;
        let Stop::End = end else {
            return Err(self.at("unexpected EOF"));
        };
        self.named.insert(name, body);
        Ok(())
    }

    fn branch(&mut self, rest: &[Token]) -> Result<Branch, String> {
        let scope = self.known.len();
        let on = self.pipeline(rest)?;
        let (then, end) = self.list()?;
        let otherwise = match end {
            Stop::End => Vec::new(),
            Stop::Source => return Err(self.at("unexpected EOF")),
            Stop::Else(more) if more.is_empty() => match self.list()? {
                (nodes, Stop::End) => nodes,
                _ => return Err(self.at("unexpected EOF")),
            },
            // `else if` ends with the same `end`.
            Stop::Else(more) => match more.first() {
                Some(Token::Word(w)) if w == "if" => {
                    vec![Node::If(self.branch(&words(&more[1..]))?)]
                }
                Some(Token::Word(w)) if w == "with" => {
                    vec![Node::With(self.branch(&words(&more[1..]))?)]
                }
                _ => return Err(self.at("unexpected tokens in else")),
            },
        };
        self.known.truncate(scope);
        Ok(Branch {
            on,
            then,
            otherwise,
        })
    }

    fn pipeline(&mut self, tokens: &[Token]) -> Result<Pipeline, String> {
        let (mut out, rest) = self.declared(tokens)?;
        let mut at = 0;
        while at <= rest.len() {
            let (command, next) = self.command(&rest, at)?;
            out.commands.push(command);
            at = next;
            if rest.get(at) != Some(&Token::Sign("|")) {
                break;
            }
            at += 1;
        }
        if at < rest.len() {
            return Err(self.at("unexpected token in a pipeline"));
        }
        if !out.assigns {
            self.known.extend(out.variables.iter().cloned());
        }
        Ok(out)
    }

    /// The variables before `:=` or `=`, and what follows.
    fn declared(&self, tokens: &[Token]) -> Result<(Pipeline, Vec<Token>), String> {
        let mut out = Pipeline::default();
        let sign = |t: &Token| matches!(t, Token::Sign("=" | ":="));
        let Some(at) = tokens.iter().position(sign) else {
            return Ok((out, tokens.to_vec()));
        };
        for token in &tokens[..at] {
            match token {
                Token::Variable(name) => out.variables.push(name.clone()),
                Token::Space | Token::Sign(",") => {}
                _ => return Err(self.at("unexpected token before an assignment")),
            }
        }
        out.assigns = tokens[at] == Token::Sign("=");
        Ok((out, words(&tokens[at + 1..])))
    }

    /// One command, and where it ends.
    fn command(&mut self, tokens: &[Token], from: usize) -> Result<(Vec<Operand>, usize), String> {
        let (mut out, mut at) = (Vec::new(), from);
        loop {
            match tokens.get(at) {
                None | Some(Token::Sign(")" | "|")) => break,
                Some(Token::Space) => at += 1,
                Some(_) => {
                    let (operand, next) = self.operand(tokens, at)?;
                    out.push(operand);
                    at = next;
                }
            }
        }
        if out.is_empty() {
            return Err(self.at("missing value for command"));
        }
        Ok((out, at))
    }

    fn operand(&mut self, tokens: &[Token], at: usize) -> Result<(Operand, usize), String> {
        let token = &tokens[at];
        let next = at + 1;
        let fields = |from: usize| {
            let mut out = Vec::new();
            let mut at = from;
            while let Some(Token::Dot(name)) = tokens.get(at).filter(|_| at < tokens.len()) {
                if name.is_empty() {
                    break;
                }
                out.push(name.clone());
                at += 1;
            }
            (out, at)
        };
        Ok(match token {
            Token::Dot(name) if name.is_empty() => (Operand::Dot, next),
            Token::Dot(_) => {
                let (all, next) = fields(at);
                (Operand::Field(all), next)
            }
            Token::Variable(name) => {
                if !self.known.contains(name) {
                    return Err(self.at(&format!("undefined variable {name:?}")));
                }
                let (all, next) = fields(next);
                (Operand::Variable(name.clone(), all), next)
            }
            Token::Text(text) => (Operand::Literal(json!(text)), next),
            Token::Number(n) => (Operand::Literal(Value::Number(n.clone())), next),
            Token::Word(word) => match word.as_str() {
                "true" => (Operand::Literal(Value::Bool(true)), next),
                "false" => (Operand::Literal(Value::Bool(false)), next),
                "nil" => (Operand::Nil, next),
                name if functions::is_known(name) => (Operand::Function(word.clone()), next),
                name => return Err(self.at(&format!("function {name:?} not defined"))),
            },
            Token::Sign("(") => {
                let close = closing(tokens, at).ok_or_else(|| self.at("unclosed left paren"))?;
                self.depth += 1;
                if self.depth > DEPTH {
                    return Err(self.at("max expression depth exceeded"));
                }
                let inside = self.pipeline(&words(&tokens[next..close]))?;
                self.depth -= 1;
                let (all, next) = fields(close + 1);
                (Operand::Group(Box::new(inside), all), next)
            }
            _ => return Err(self.at("unexpected token in operand")),
        })
    }
}

/// The parenthesis that closes another.
fn closing(tokens: &[Token], open: usize) -> Option<usize> {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token {
            Token::Sign("(") => depth += 1,
            Token::Sign(")") => {
                depth -= 1;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}
