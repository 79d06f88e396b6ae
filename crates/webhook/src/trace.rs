//! The trace that work belongs to: a request's span goes with the task that answers it, calls to other servers are
//! spans below it and tell them so. W3C Trace Context; OpenTelemetry's words.

use std::future::Future;
use std::sync::Arc;
use std::time::SystemTime;

use rand::RngCore;

/// The header that tells another server.
pub const TRACEPARENT: &str = "traceparent";

/// Which span of which trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    pub trace: [u8; 16],
    pub span: [u8; 8],
    pub sampled: bool,
}

/// What a span is to those on the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Server,
    Client,
}

/// An attribute's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Text(String),
    Number(i64),
}

/// A span that is over.
#[derive(Clone, Debug)]
pub struct Finished {
    pub context: Context,
    pub parent: Option<[u8; 8]>,
    /// Whom it follows without being a part of their trace.
    pub link: Option<Context>,
    pub name: String,
    pub kind: Kind,
    pub started: SystemTime,
    pub ended: SystemTime,
    pub attributes: Vec<(&'static str, Value)>,
    pub error: Option<String>,
}

/// Takes spans that are over; must not wait.
pub trait Sink: Send + Sync {
    fn finish(&self, span: Finished);
}

/// A span under way; over when it is dropped.
pub struct Span {
    data: Finished,
    sink: Arc<dyn Sink>,
}

#[derive(Clone)]
struct Current(Context, Arc<dyn Sink>);

tokio::task_local! {
    static CURRENT: Current;
}

/// New random bytes that are not all zero, which would stand for nothing.
pub fn random<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    while out == [0; N] {
        rand::rng().fill_bytes(&mut out);
    }
    out
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let lower = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if text.len() != 2 * N || !text.bytes().all(lower) {
        return None;
    }
    let mut out = [0; N];
    for (to, pair) in out.iter_mut().zip(text.as_bytes().chunks(2)) {
        *to = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    (out != [0; N]).then_some(out)
}

// === Context ===

impl Context {
    /// From a `traceparent` header.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim().split('-');
        let version = parts.next()?;
        let (trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?);
        // Later versions may say more behind what is known.
        let known = version == "00" && parts.next().is_none();
        let later = version != "00" && version != "ff" && version.len() == 2;
        let flags = u8::from_str_radix(flags, 16)
            .ok()
            .filter(|_| flags.len() == 2)?;
        (known || later).then_some(Self {
            trace: bytes(trace)?,
            span: bytes(span)?,
            sampled: flags & 1 == 1,
        })
    }

    /// As a `traceparent` header.
    pub fn header(&self) -> String {
        let flags = u8::from(self.sampled);
        format!("00-{}-{}-{flags:02x}", hex(&self.trace), hex(&self.span))
    }
}

// === Span ===

impl Span {
    /// Begins a span.
    pub fn begin(data: Finished, sink: Arc<dyn Sink>) -> Self {
        Self { data, sink }
    }

    /// Which span it is.
    pub fn context(&self) -> Context {
        self.data.context
    }

    /// Adds an attribute.
    pub fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        self.data.attributes.push((name, value.into()));
    }

    /// It came to nothing.
    pub fn fail(&mut self, why: impl Into<String>) {
        self.data.error = Some(why.into());
    }

    /// Does work as a part of this span.
    pub async fn within<F: Future>(&self, work: F) -> F::Output {
        let current = Current(self.data.context, self.sink.clone());
        CURRENT.scope(current, work).await
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        self.data.ended = SystemTime::now();
        self.sink.finish(self.data.clone());
    }
}

/// A span below the one that the task is in, if it is in one.
pub fn child(name: &str, kind: Kind) -> Option<Span> {
    let Current(parent, sink) = CURRENT.try_with(Clone::clone).ok()?;
    let now = SystemTime::now();
    let data = Finished {
        context: Context {
            span: random(),
            ..parent
        },
        parent: Some(parent.span),
        link: None,
        name: name.into(),
        kind,
        started: now,
        ended: now,
        attributes: Vec::new(),
        error: None,
    };
    Some(Span::begin(data, sink))
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<u16> for Value {
    fn from(n: u16) -> Self {
        Self::Number(n.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_and_written_as_the_standard_has_them() {
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let context = Context::parse(text).expect("a context");
        assert!(context.sampled);
        assert_eq!(context.header(), text);
        for bad in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert_eq!(Context::parse(bad), None, "{bad}");
        }
    }
}
