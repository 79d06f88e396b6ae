//! Nodes of a YAML text's first document. Upstream: parserc.go, and the parser of decode.go.

use std::collections::HashMap;

use super::Fault;
use super::scanner::{Kind, Scanner};
use crate::limits;

/// A node's place in its document.
pub type Id = usize;

#[derive(Debug)]
pub enum What {
    Scalar {
        text: String,
        tag: String,
        /// Whether what it is shows in its text.
        implicit: bool,
    },
    Alias {
        name: String,
        of: Id,
    },
    Sequence(Vec<Id>),
    Mapping(Vec<(Id, Id)>),
}

#[derive(Debug)]
pub struct Node {
    pub what: What,
    /// From 0.
    pub line: usize,
}

pub struct Parser<'a> {
    scanner: Scanner<'a>,
    nodes: Vec<Node>,
    anchors: HashMap<String, Id>,
    /// Handles of tags, and what they stand for.
    tags: Vec<(String, String)>,
    depth: usize,
}

/// The nodes of the first document, and its root; nothing where there is none.
pub fn document(bytes: &[u8]) -> Result<Option<(Vec<Node>, Id)>, Fault> {
    let mut parser = Parser {
        scanner: Scanner::new(bytes),
        nodes: Vec::new(),
        anchors: HashMap::new(),
        tags: Vec::new(),
        depth: 0,
    };
    let root = parser.document()?;
    Ok(root.map(|root| (parser.nodes, root)))
}

/// A token that does not fit.
fn misfit(line: usize, why: &str) -> Fault {
    match line {
        0 => Fault(why.into()),
        line => Fault(format!("line {line}: {why}")),
    }
}

impl Parser<'_> {
    fn peek(&mut self) -> Result<&Kind, Fault> {
        self.scanner.peek().map(|t| &t.kind)
    }

    fn line(&mut self) -> Result<usize, Fault> {
        self.scanner.peek().map(|t| t.line)
    }

    /// Takes the next token where it is of a kind.
    fn take(&mut self, kind: &Kind) -> Result<bool, Fault> {
        let fits = self.peek()? == kind;
        if fits {
            self.scanner.next()?;
        }
        Ok(fits)
    }

    /// Whether the next token is one of these.
    fn is_any(&mut self, of: &[Kind]) -> Result<bool, Fault> {
        Ok(of.contains(self.peek()?))
    }

    fn put(&mut self, what: What, line: usize) -> Id {
        self.nodes.push(Node { what, line });
        self.nodes.len() - 1
    }

    fn empty(&mut self, line: usize) -> Id {
        let what = What::Scalar {
            text: String::new(),
            tag: String::new(),
            implicit: true,
        };
        self.put(what, line)
    }

    fn document(&mut self) -> Result<Option<Id>, Fault> {
        let root = match self.peek()? {
            Kind::StreamEnd => return Ok(None),
            Kind::Version(..) | Kind::TagDirective(..) | Kind::DocumentStart => {
                self.directives()?;
                let line = self.line()?;
                if !self.take(&Kind::DocumentStart)? {
                    return Err(misfit(line, "did not find expected <document start>"));
                }
                let line = self.line()?;
                match self.peek()? {
                    Kind::Version(..)
                    | Kind::TagDirective(..)
                    | Kind::DocumentStart
                    | Kind::DocumentEnd
                    | Kind::StreamEnd => self.empty(line),
                    _ => self.node(true, false)?,
                }
            }
            _ => {
                self.directives()?;
                self.node(true, false)?
            }
        };
        // What follows the document is not read, but that something does is.
        self.peek()?;
        Ok(Some(root))
    }

    fn directives(&mut self) -> Result<(), Fault> {
        let mut versions = 0;
        loop {
            let line = self.line()?;
            match self.peek()?.clone() {
                Kind::Version(..) if versions > 0 => {
                    return Err(misfit(line, "found duplicate %YAML directive"));
                }
                Kind::Version(1, 1) => versions += 1,
                Kind::Version(..) => {
                    return Err(misfit(line, "found incompatible YAML document"));
                }
                Kind::TagDirective(handle, prefix) => {
                    if self.tags.iter().any(|(h, _)| *h == handle) {
                        return Err(misfit(line, "found duplicate %TAG directive"));
                    }
                    self.tags.push((handle, prefix));
                }
                _ => break,
            }
            self.scanner.next()?;
        }
        for (handle, prefix) in [("!", "!"), ("!!", super::resolve::PREFIX)] {
            if self.tags.iter().all(|(h, _)| h != handle) {
                self.tags.push((handle.into(), prefix.into()));
            }
        }
        Ok(())
    }

    /// A node; within blocks it may be a block, and a sequence that is not set in where that is said.
    fn node(&mut self, block: bool, indentless: bool) -> Result<Id, Fault> {
        self.depth += 1;
        if self.depth > limits::YAML_DEPTH {
            let max = limits::YAML_DEPTH;
            return Err(Fault(format!("exceeded max depth of {max}")));
        }
        let node = self.node_of(block, indentless);
        self.depth -= 1;
        node
    }

    fn node_of(&mut self, block: bool, indentless: bool) -> Result<Id, Fault> {
        let begun = self.line()?;
        if let Kind::Alias(name) = self.peek()?.clone() {
            let of = self.anchors.get(&name).copied();
            let of = of.ok_or_else(|| Fault(format!("unknown anchor '{name}' referenced")))?;
            self.scanner.next()?;
            return Ok(self.put(What::Alias { name, of }, begun));
        }
        let (anchor, tag) = self.properties()?;
        let anchored = anchor.is_some();
        let line = self.line()?;
        let kind = self.peek()?.clone();
        let text = match &kind {
            Kind::BlockEntry if indentless => None,
            Kind::Scalar { text, plain } => Some((text.clone(), *plain)),
            Kind::FlowSequenceStart | Kind::FlowMappingStart => None,
            Kind::BlockSequenceStart | Kind::BlockMappingStart if block => None,
            _ if anchored || !tag.is_empty() => Some((String::new(), true)),
            _ => return Err(misfit(line, "did not find expected node content")),
        };
        if let Some((text, plain)) = text {
            if matches!(kind, Kind::Scalar { .. }) {
                self.scanner.next()?;
            }
            let implicit = (tag.is_empty() && plain) || tag == "!";
            let what = What::Scalar {
                text,
                tag,
                implicit,
            };
            return Ok(self.named(what, begun, anchor));
        }
        let is_mapping = matches!(kind, Kind::FlowMappingStart | Kind::BlockMappingStart);
        let what = match is_mapping {
            true => What::Mapping(Vec::new()),
            false => What::Sequence(Vec::new()),
        };
        let id = self.named(what, begun, anchor);
        let what = match kind {
            Kind::BlockEntry => What::Sequence(self.indentless()?),
            Kind::FlowSequenceStart => What::Sequence(self.flow_sequence()?),
            Kind::FlowMappingStart => What::Mapping(self.flow_mapping()?),
            Kind::BlockSequenceStart => What::Sequence(self.block_sequence()?),
            _ => What::Mapping(self.block_mapping()?),
        };
        self.nodes[id].what = what;
        Ok(id)
    }

    /// Puts a node, under a name where it has one.
    fn named(&mut self, what: What, line: usize, anchor: Option<String>) -> Id {
        let id = self.put(what, line);
        if let Some(anchor) = anchor {
            self.anchors.insert(anchor, id);
        }
        id
    }

    /// Anchor and tag of a node, in any order.
    fn properties(&mut self) -> Result<(Option<String>, String), Fault> {
        let (mut anchor, mut tag) = (None, None);
        loop {
            match self.peek()?.clone() {
                Kind::Anchor(name) if anchor.is_none() => anchor = Some(name),
                Kind::Tag(handle, suffix) if tag.is_none() => {
                    let line = self.line()?;
                    tag = Some((handle, suffix, line));
                }
                _ => break,
            }
            self.scanner.next()?;
        }
        let Some((handle, suffix, line)) = tag else {
            return Ok((anchor, String::new()));
        };
        if handle.is_empty() {
            return Ok((anchor, suffix));
        }
        let known = self.tags.iter().find(|(h, _)| *h == handle);
        let known = known.map(|(_, prefix)| format!("{prefix}{suffix}"));
        let tag = known.filter(|t| !t.is_empty());
        let tag = tag.ok_or_else(|| misfit(line, "found undefined tag handle"))?;
        Ok((anchor, tag))
    }

    /// A node, or an empty one where one of these tokens follows.
    fn node_unless(
        &mut self,
        ends: &[Kind],
        block: bool,
        indentless: bool,
        line: usize,
    ) -> Result<Id, Fault> {
        match self.is_any(ends)? {
            true => Ok(self.empty(line)),
            false => self.node(block, indentless),
        }
    }

    fn block_sequence(&mut self) -> Result<Vec<Id>, Fault> {
        let mut out = Vec::new();
        self.scanner.next()?;
        loop {
            let line = self.line()?;
            if self.take(&Kind::BlockEntry)? {
                let ends = [Kind::BlockEntry, Kind::BlockEnd];
                out.push(self.node_unless(&ends, true, false, line)?);
            } else if self.take(&Kind::BlockEnd)? {
                return Ok(out);
            } else {
                return Err(misfit(line, "did not find expected '-' indicator"));
            }
        }
    }

    fn indentless(&mut self) -> Result<Vec<Id>, Fault> {
        let ends = [Kind::BlockEntry, Kind::Key, Kind::Value, Kind::BlockEnd];
        let mut out = Vec::new();
        loop {
            let line = self.line()?;
            if !self.take(&Kind::BlockEntry)? {
                return Ok(out);
            }
            out.push(self.node_unless(&ends, true, false, line)?);
        }
    }

    fn block_mapping(&mut self) -> Result<Vec<(Id, Id)>, Fault> {
        let ends = [Kind::Key, Kind::Value, Kind::BlockEnd];
        let mut out = Vec::new();
        self.scanner.next()?;
        loop {
            let line = self.line()?;
            if self.take(&Kind::BlockEnd)? {
                return Ok(out);
            }
            if !self.take(&Kind::Key)? {
                return Err(misfit(line, "did not find expected key"));
            }
            let key = self.node_unless(&ends, true, true, line)?;
            let line = self.line()?;
            let value = match self.take(&Kind::Value)? {
                true => self.node_unless(&ends, true, true, line)?,
                false => self.empty(line),
            };
            out.push((key, value));
        }
    }

    fn flow_sequence(&mut self) -> Result<Vec<Id>, Fault> {
        let mut out = Vec::new();
        self.scanner.next()?;
        let mut first = true;
        loop {
            if self.take(&Kind::FlowSequenceEnd)? {
                return Ok(out);
            }
            let line = self.line()?;
            if !first && !self.take(&Kind::FlowEntry)? {
                return Err(misfit(line, "did not find expected ',' or ']'"));
            }
            first = false;
            let line = self.line()?;
            if self.take(&Kind::Key)? {
                out.push(self.pair(line)?);
            } else if self.take(&Kind::FlowSequenceEnd)? {
                return Ok(out);
            } else {
                out.push(self.node(false, false)?);
            }
        }
    }

    /// A mapping of one key within a flow sequence.
    fn pair(&mut self, begun: usize) -> Result<Id, Fault> {
        let id = self.put(What::Mapping(Vec::new()), begun);
        let line = self.line()?;
        let ends = [Kind::Value, Kind::FlowEntry, Kind::FlowSequenceEnd];
        let key = if self.is_any(&ends)? {
            // Upstream takes the token that ends an empty key.
            self.scanner.next()?;
            self.empty(line)
        } else {
            self.node(false, false)?
        };
        let line = self.line()?;
        let ends = [Kind::FlowEntry, Kind::FlowSequenceEnd];
        let value = match self.take(&Kind::Value)? {
            true => self.node_unless(&ends, false, false, line)?,
            false => self.empty(line),
        };
        self.nodes[id].what = What::Mapping(vec![(key, value)]);
        Ok(id)
    }

    fn flow_mapping(&mut self) -> Result<Vec<(Id, Id)>, Fault> {
        let mut out = Vec::new();
        self.scanner.next()?;
        let mut first = true;
        loop {
            if self.take(&Kind::FlowMappingEnd)? {
                return Ok(out);
            }
            let line = self.line()?;
            if !first && !self.take(&Kind::FlowEntry)? {
                return Err(misfit(line, "did not find expected ',' or '}'"));
            }
            first = false;
            let pair = if self.take(&Kind::Key)? {
                let ends = [Kind::Value, Kind::FlowEntry, Kind::FlowMappingEnd];
                let line = self.line()?;
                let key = self.node_unless(&ends, false, false, line)?;
                let line = self.line()?;
                let value = match self.take(&Kind::Value)? {
                    true => self.node_unless(&ends[1..], false, false, line)?,
                    false => self.empty(line),
                };
                (key, value)
            } else if self.take(&Kind::FlowMappingEnd)? {
                return Ok(out);
            } else {
                let key = self.node(false, false)?;
                let line = self.line()?;
                (key, self.empty(line))
            };
            out.push(pair);
        }
    }
}
