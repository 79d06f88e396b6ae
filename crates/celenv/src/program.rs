//! Environments, and the programs compiled in them. Upstream: cel-go cel/env.go and cel/program.go with the
//! options of k8s.io/apiserver/pkg/cel/environment.

use std::collections::BTreeSet;
use std::fmt;

use cel::common::ast::SourceInfo;
use cel::parser::{Expression, Parser};

use crate::check::Checker;
use crate::estimate::{self, Range, Sizes, Sketch};
use crate::eval::{Evaluation, Lookup};
use crate::fold;
use crate::limits;
use crate::node::Node;
use crate::types::Type;
use crate::value::Value;

/// The variables and types that expressions may use.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    pub(crate) variables: Vec<(String, Type)>,
    pub(crate) patch_types: bool,
    /// Minor version whose libraries new expressions may use; all of them if 0.
    pub(crate) minor: u32,
}

/// A checked expression: immutable, shared by all who evaluate it.
#[derive(Debug)]
pub struct Program {
    pub(crate) root: Node,
    output: Type,
    source: String,
    used: BTreeSet<usize>,
    /// Of the expression, as `chained` counts.
    depth: usize,
}

/// Why an expression does not compile: one per place, in upstream's words.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CompileErrors {
    pub(crate) issues: Vec<Issue>,
    pub(crate) source: String,
    /// What a constant of a checked expression cannot be made into.
    pub(crate) instantiation: Option<String>,
}

/// Something wrong at a place.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Issue {
    /// From 1.
    pub line: usize,
    /// From 0.
    pub column: usize,
    pub message: String,
}

/// Why an evaluation gave no value.
#[derive(Clone, Debug, PartialEq)]
pub enum EvalError {
    Failed(String),
    /// The cost limit of one call.
    TooCostly,
}

/// A value or an error, and what it cost.
#[derive(Debug)]
pub struct Outcome {
    pub result: Result<Value, EvalError>,
    pub cost: u64,
}

// === Environment ===

impl Environment {
    /// The libraries alone.
    pub fn new() -> Self {
        Self::default()
    }

    /// Declares a variable.
    pub fn variable(mut self, name: &str, t: Type) -> Self {
        self.variables.push((name.to_string(), t));
        self
    }

    /// Lets expressions make `Object…` and `JSONPatch` values, as mutating policies do.
    pub fn patch_types(mut self) -> Self {
        self.patch_types = true;
        self
    }

    /// Holds expressions to the libraries of version 1.`minor`. Upstream: `NewExpressions` of an environment set.
    pub fn at_version(mut self, minor: u32) -> Self {
        self.minor = minor;
        self
    }

    /// Whether what version 1.`since` brought may be used.
    pub(crate) fn knows(&self, since: u32) -> bool {
        self.minor == 0 || since <= self.minor
    }

    /// Compiles an expression, and estimates its cost with what is known about the sizes of its variables.
    pub fn compile_and_estimate(
        &self,
        source: &str,
        sizes: &dyn Sizes,
    ) -> Result<(Program, Range), CompileErrors> {
        let depth = depth(source)?;
        with_stack(depth, limits::COMPILE_LEVEL_BYTES, || {
            let (program, sketch) = self.compiled(source, depth)?;
            let estimate = sketch.map_or(Range::default(), |s| estimate::cost(&s, sizes));
            Ok((program, estimate))
        })
    }

    /// Compiles an expression.
    pub fn compile(&self, source: &str) -> Result<Program, CompileErrors> {
        let depth = depth(source)?;
        with_stack(depth, limits::COMPILE_LEVEL_BYTES, || {
            self.compiled(source, depth).map(|(p, _)| p)
        })
    }

    fn compiled(
        &self,
        source: &str,
        depth: usize,
    ) -> Result<(Program, Option<Sketch>), CompileErrors> {
        let (expr, info) = self.parsed(source)?;
        let mut checker = Checker::new(self, &info, source);
        let (root, output) = checker.check_root(&expr);
        if !checker.issues.is_empty() {
            checker.issues.sort_by_key(|i| (i.line, i.column));
            return Err(CompileErrors {
                issues: checker.issues,
                source: source.to_string(),
                instantiation: None,
            });
        }
        let (used, sketch) = (checker.used, checker.sketches.pop());
        let root = fold::planned(root).map_err(|e| CompileErrors {
            issues: Vec::new(),
            source: source.to_string(),
            instantiation: Some(e.to_string()),
        })?;
        let program = Program {
            root,
            output,
            source: source.to_string(),
            used,
            depth,
        };
        Ok((program, sketch))
    }

    /// The syntax tree of an expression.
    fn parsed(&self, source: &str) -> Result<(Expression, SourceInfo), CompileErrors> {
        let max = u16::try_from(limits::EXPRESSION_DEPTH_MAX).unwrap_or(u16::MAX);
        let parser = Parser::new()
            .max_recursion_depth(max)
            .enable_optional_syntax(self.knows(28))
            .enable_ident_escape_syntax(true);
        let done = parser.parse_with_source_info(source);
        done.map_err(|e| syntax_errors(&e, source))
    }
}

/// Works on a stack of its own where the thread's might not hold an expression of this depth: every step from the parser to
/// the evaluation recurses on its tree.
fn with_stack<T>(depth: usize, level: usize, work: impl FnOnce() -> T) -> T {
    let needed = limits::STACK_BASE_BYTES + depth * level;
    stacker::maybe_grow(needed, needed, work)
}

/// At most how deep the tree of an expression is; an error if it is too long or too deep to be looked at.
fn depth(source: &str) -> Result<usize, CompileErrors> {
    let alone = |message: String| CompileErrors {
        issues: vec![Issue {
            line: 1,
            column: 0,
            message,
        }],
        source: source.to_string(),
        instantiation: None,
    };
    let points = source.chars().count();
    if points > limits::EXPRESSION_CODE_POINTS_MAX {
        return Err(alone(format!(
            "expression code point size exceeds limit: size: {points}, limit {}",
            limits::EXPRESSION_CODE_POINTS_MAX
        )));
    }
    let depth = chained(source);
    if nesting(source) > limits::EXPRESSION_DEPTH_MAX || depth > limits::EXPRESSION_CHAIN_MAX {
        let max = limits::EXPRESSION_DEPTH_MAX;
        return Err(alone(format!("expression recursion limit exceeded: {max}")));
    }
    Ok(depth)
}

/// How deep brackets nest: the parser recurses on them.
fn nesting(source: &str) -> usize {
    let (mut depth, mut deepest) = (0usize, 0);
    for b in source.bytes() {
        match b {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// At most how deep the tree of an expression is: operators, selections and indexes that follow one another nest as brackets
/// do. Texts and comments do not count, and neither does what a comma or a logical operator ended.
fn chained(source: &str) -> usize {
    let bytes = source.as_bytes();
    let (mut open, mut depth, mut deepest, mut i) = (vec![(0usize, 0usize)], 0, 0, 0);
    while let Some(b) = bytes.get(i) {
        let twice = bytes.get(i + 1) == Some(b);
        match b {
            b'\'' | b'"' => {
                i = after_text(bytes, i);
                continue;
            }
            b'/' if twice => {
                i += bytes[i..].iter().take_while(|b| **b != b'\n').count();
                continue;
            }
            b')' | b']' | b'}' if open.len() > 1 => {
                let (chain, logical) = open.pop().unwrap_or_default();
                depth -= chain + logical;
            }
            b',' | b'&' | b'|' => {
                if let Some((chain, logical)) = open.last_mut() {
                    depth -= std::mem::take(chain);
                    match b {
                        b',' => depth -= std::mem::take(logical),
                        _ => (*logical, depth) = (*logical + 1, depth + 1),
                    }
                }
                i += usize::from(twice && *b != b',');
            }
            b'+' | b'-' | b'*' | b'/' | b'%' | b'.' | b'!' | b'?' | b':' | b'<' | b'>' | b'='
            | b'(' | b'[' | b'{' | b'i' => {
                // The operator `in` is a word; no other ends so between blanks.
                let word = *b == b'i' && !bytes[i..].starts_with(b"in ");
                if let Some((chain, _)) = open.last_mut().filter(|_| !word) {
                    (*chain, depth) = (*chain + 1, depth + 1);
                }
                if matches!(b, b'(' | b'[' | b'{') {
                    open.push((0, 0));
                }
                i += usize::from(twice && *b == b'=');
            }
            _ => {}
        }
        deepest = deepest.max(depth);
        i += 1;
    }
    deepest
}

/// Where a text that begins here ended.
fn after_text(bytes: &[u8], begin: usize) -> usize {
    let quote = bytes[begin];
    let raw = begin > 0 && matches!(bytes[begin - 1], b'r' | b'R');
    let three = bytes[begin..].starts_with(&[quote; 3]);
    let mut i = begin + if three { 3 } else { 1 };
    while i < bytes.len() {
        match bytes[i] {
            b'\\' if !raw => i += 1,
            b if b == quote && !three => return i + 1,
            _ if three && bytes[i..].starts_with(&[quote; 3]) => return i + 3,
            _ => {}
        }
        i += 1;
    }
    bytes.len()
}

fn syntax_errors(errors: &cel::parser::ParseErrors, source: &str) -> CompileErrors {
    let issue = |e: &cel::parser::ParseError| {
        let line = usize::try_from(e.pos.0).unwrap_or(1).max(1);
        let column = usize::try_from(e.pos.1 - 1).unwrap_or(0);
        // Upstream words the same mistake in two ways.
        let message = match e.msg.as_str() {
            "argument must be a simple name" if in_map_or_filter(source, line, column) => {
                "argument is not an identifier".to_string()
            }
            m if m.starts_with("invalid bytes literal")
                || m.starts_with("invalid string literal") =>
            {
                "unable to unescape string".to_string()
            }
            m => closed(m).unwrap_or_else(|| m.to_string()),
        };
        Issue {
            line,
            column,
            message,
        }
    };
    // What follows from an incomplete expression is the parser's own.
    let told = |e: &&cel::parser::ParseError| !e.msg.starts_with("Incomplete `");
    let mut issues: Vec<Issue> = errors.errors.iter().filter(told).map(issue).collect();
    if issues.is_empty() {
        issues = errors.errors.iter().map(issue).collect();
    }
    // Upstream's parser gives up with the next.
    issues.truncate(limits::ISSUES_MAX + 1);
    CompileErrors {
        issues,
        source: source.to_string(),
        instantiation: None,
    }
}

/// A bracket that is not closed: upstream's parser names what closes it, not all that might go on.
fn closed(message: &str) -> Option<String> {
    let (start, expected) = message.split_once(" expecting {")?;
    let closers = ["':'", "']'", "')'", "'}'"];
    let mut closers = closers.into_iter().filter(|c| expected.contains(c));
    let (closer, more) = (closers.next()?, closers.next());
    let goes_on = start.starts_with("Syntax error: mismatched") && expected.contains("'=='");
    (goes_on && more.is_none()).then(|| format!("{start} expecting {closer}"))
}

/// Whether the argument at a place is the first of `map` or `filter`.
fn in_map_or_filter(source: &str, line: usize, column: usize) -> bool {
    let line = source.lines().nth(line - 1).unwrap_or_default();
    let before: String = line.chars().take(column).collect();
    let before = before.trim_end();
    [".map(", ".filter("].iter().any(|m| before.ends_with(m))
}

// === Program ===

impl Program {
    /// The type of the result.
    pub fn output(&self) -> &Type {
        &self.output
    }

    /// Whether the variable at this place among the declarations is asked for.
    pub fn uses(&self, variable: usize) -> bool {
        self.used.contains(&variable)
    }

    /// Whether a field of the variable at this place among the declarations is selected by its name somewhere:
    /// `v.field`, `v.?field`, `has(v.field)`.
    pub fn selects(&self, variable: usize, field: &str) -> bool {
        let mut found = false;
        self.root.visit(&mut |node| {
            if let Node::Select(of, name) | Node::Has(of, name) | Node::OptionalSelect(of, name) =
                node
            {
                let is_it = matches!(**of, Node::Variable(i) if i == variable);
                found |= is_it && **name == *field;
            }
        });
        found
    }

    /// The expression's text.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Evaluates. `lookup` gives the values of variables by the order of their declarations.
    pub fn evaluate(&self, lookup: &dyn Lookup) -> Outcome {
        with_stack(self.depth, limits::EVALUATE_LEVEL_BYTES, || {
            let mut e = Evaluation::new(lookup, limits::PER_CALL_COST);
            let result = e.run(&self.root);
            Outcome {
                result,
                cost: e.cost(),
            }
        })
    }
}

// === CompileErrors ===

impl CompileErrors {
    /// The errors, and what failed, as upstream's callers put it.
    pub fn detail(&self) -> String {
        match self.instantiation {
            None => format!("compilation failed: {self}"),
            Some(_) => self.to_string(),
        }
    }
}

impl fmt::Display for CompileErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(why) = &self.instantiation {
            return write!(f, "program instantiation failed: {why}");
        }
        for (n, i) in self.issues.iter().enumerate() {
            if n == limits::ISSUES_MAX {
                let more = self.issues.len() - n;
                return write!(f, "\n{more} more errors were truncated");
            }
            if n > 0 {
                f.write_str("\n")?;
            }
            write!(
                f,
                "ERROR: <input>:{}:{}: {}",
                i.line,
                i.column + 1,
                i.message
            )?;
            let line = self.source.lines().nth(i.line - 1);
            if let Some(line) = line.filter(|l| l.len() <= limits::SNIPPET_BYTES_MAX) {
                let line = line.replace('\t', " ");
                let dots = line.chars().take(i.column);
                let dots: String = dots
                    .map(|c| if c.len_utf8() > 1 { '\u{ff0e}' } else { '.' })
                    .collect();
                let wide = line.chars().nth(i.column).is_some_and(|c| c.len_utf8() > 1);
                write!(
                    f,
                    "\n | {line}\n | {dots}{}",
                    if wide { '\u{ff3e}' } else { '^' }
                )?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for CompileErrors {}

// === EvalError ===

impl EvalError {
    pub(crate) fn of(text: impl Into<String>) -> Self {
        Self::Failed(text.into())
    }
}

impl fmt::Display for EvalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(text) => f.write_str(text),
            Self::TooCostly => f.write_str("operation cancelled: actual cost limit exceeded"),
        }
    }
}

impl std::error::Error for EvalError {}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a worker thread has it.
    const STACK: usize = 2 << 20;

    struct Nothing;

    impl Lookup for Nothing {
        fn variable(&self, _: usize) -> Result<Value, EvalError> {
            Err(EvalError::of("no such variable"))
        }
    }

    #[test]
    fn errors_are_told_within_bounds() {
        let told = |source: String| {
            let wrong = Environment::new().compile(&source).expect_err("nonsense");
            wrong.to_string()
        };
        let many = told("a,".repeat(150));
        assert!(many.len() < 200_000, "{} bytes", many.len());
        let names = told(format!("[{}]", "a,".repeat(150)));
        assert!(
            names.ends_with("\n50 more errors were truncated"),
            "{names}"
        );
        let long = told(format!("[{} b]", "1,".repeat(20_000)));
        assert!(
            long.contains("undeclared reference to 'b'") && !long.contains('|'),
            "{long}"
        );
    }

    #[test]
    fn long_chains_are_refused_before_the_stack_ends() {
        let compiled = |source: String| {
            let work = move || {
                let program = Environment::new().compile(&source)?;
                // What it gives is no matter: that it ends is.
                drop(program.evaluate(&Nothing));
                Ok::<_, CompileErrors>(())
            };
            let thread = std::thread::Builder::new().stack_size(STACK).spawn(work);
            thread.expect("a thread").join().expect("no panic")
        };
        for link in [
            "1+", "!", "-", "a.", "true?1:", "1-", "[0][", "a in ", "1==",
        ] {
            let long = compiled(link.repeat(10_000) + "1")
                .expect_err(link)
                .to_string();
            assert!(
                long.contains("recursion limit exceeded: 250"),
                "{link}: {long}"
            );
        }
        let long = compiled("1+".repeat(limits::EXPRESSION_CHAIN_MAX) + "1");
        assert_eq!(long.map_err(|e| e.to_string()), Ok(()));
        for link in ["!!", "true?true:", "1*", "'a.b-c'+"] {
            let end = if link.contains('!') { "true" } else { "1" };
            let end = if link.contains('\'') { "'x'" } else { end };
            let end = if link.contains('?') { "true" } else { end };
            let done = compiled(link.repeat(190) + end);
            assert_eq!(done.map_err(|e| e.to_string()), Ok(()), "{link}");
        }
        // As deep as brackets may nest.
        for (open, inside, close) in [("(", "1", ")"), ("{1:", "1", "}"), ("[1].map(x,", "x", ")")]
        {
            // A macro takes more than a level.
            let n = if open.contains('.') { 100 } else { 249 };
            let done = compiled(open.repeat(n) + inside + &close.repeat(n));
            assert_eq!(done.map_err(|e| e.to_string()), Ok(()), "{open}");
        }
        // What logical operators and commas join is no chain; texts count for nothing.
        let many = "'a.b.c.d'.size() == 7 && ".repeat(150) + "true";
        assert_eq!(compiled(many).map_err(|e| e.to_string()), Ok(()));
        let list = format!("[{}1].size() > 0", "1+2+3,".repeat(300));
        assert_eq!(compiled(list).map_err(|e| e.to_string()), Ok(()));
    }
}
