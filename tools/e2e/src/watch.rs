//! Events of a watch, one line of JSON each.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use futures::StreamExt;
use futures::stream::BoxStream;
use serde_json::Value;

/// How long upstream's watch tests wait for an event.
pub const EVENT: Duration = Duration::from_secs(60);
/// How long they wait to be sure that none comes.
pub const NO_EVENT: Duration = Duration::from_secs(10);

/// Events of a watch.
pub struct Watch {
    lines: BoxStream<'static, std::io::Result<String>>,
}

// === Watch ===

impl Watch {
    /// A watch of these lines.
    pub fn new(lines: BoxStream<'static, std::io::Result<String>>) -> Self {
        Self { lines }
    }

    /// The next event's type and object.
    pub async fn next(&mut self, within: Duration) -> Result<(String, Value)> {
        let line = tokio::time::timeout(within, self.lines.next()).await;
        let line = line.map_err(|_| anyhow!("no event within {within:?}"))?;
        let mut event: Value = serde_json::from_str(&line.context("the watch ended")??)?;
        let kind = event["type"].as_str().unwrap_or_default().to_string();
        Ok((kind, event["object"].take()))
    }

    /// The next event, which must be of a type, and its object equal to a reply if one is given.
    pub async fn expect(&mut self, kind: &str, object: Option<&Value>) -> Result<Value> {
        let (found, seen) = self
            .next(EVENT)
            .await
            .with_context(|| format!("waiting for {kind}"))?;
        ensure!(found == kind, "expected {kind}, got {found} {seen}");
        if let Some(object) = object {
            ensure!(&seen == object, "{kind} shows {seen}, expected {object}");
        }
        Ok(seen)
    }

    /// The first event that fits; others are skipped.
    pub async fn until(
        &mut self,
        within: Duration,
        what: &str,
        fits: impl Fn(&str, &Value) -> bool,
    ) -> Result<Value> {
        let end = tokio::time::Instant::now() + within;
        let mut last = Value::Null;
        loop {
            let left = end.saturating_duration_since(tokio::time::Instant::now());
            let (kind, seen) = self
                .next(left)
                .await
                .with_context(|| format!("waiting for {what}, last seen {last}"))?;
            if fits(&kind, &seen) {
                return Ok(seen);
            }
            last = seen;
        }
    }

    /// No event may come.
    pub async fn expect_none(&mut self) -> Result<()> {
        match tokio::time::timeout(NO_EVENT, self.lines.next()).await {
            Err(_) => Ok(()),
            Ok(line) => bail!("unexpected event {line:?}"),
        }
    }
}
