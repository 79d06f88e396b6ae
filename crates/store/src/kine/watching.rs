//! A watch: what lies in the past is read from the table page by page, then what watchers are told.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::{FutureExt, StreamExt};

use super::plan::to_i64;
use super::shared::Shared;
use super::sql;
use crate::backend::WatchStream;
use crate::error::Error;
use crate::hub;
use crate::types::{Range, WatchBatch};

/// Opens a watch from a revision on.
pub fn open(shared: &Arc<Shared>, range: Range, start: u64) -> Result<WatchStream, Error> {
    let (after, live) = shared.hub.subscribe(range.clone())?;
    let live = hub::live(live, start);
    if start > after {
        return Ok(live.boxed());
    }
    let past = Past {
        shared: shared.clone(),
        range,
        start,
        // A revision's first row has its number.
        next: to_i64(start) - 1,
        until: after,
        ready: VecDeque::new(),
        ended: false,
    };
    let past = futures::stream::unfold(past, |mut past| async move {
        let item = past.next().await?;
        Some((item, past))
    });
    Ok(hub::until_error(past.chain(live)).boxed())
}

/// The part of a watch that lies in the past.
struct Past {
    shared: Arc<Shared>,
    range: Range,
    start: u64,
    /// Rows up to this one have been read.
    next: i64,
    /// The last revision of the past.
    until: u64,
    ready: VecDeque<WatchBatch>,
    ended: bool,
}

impl Past {
    async fn next(&mut self) -> Option<Result<WatchBatch, Error>> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Some(Ok(batch));
            }
            if self.ended {
                return None;
            }
            if let Err(e) = self.page().await {
                self.ended = true;
                return Some(Err(e));
            }
        }
    }

    async fn page(&mut self) -> Result<(), Error> {
        let (range, after) = (self.range.clone(), self.next);
        let read = self.shared.read("watch", move |s, d| {
            let range = range.clone();
            async move {
                let changes = sql::history(s, d, Some(&range), after).await?;
                Ok((sql::compacted(s).await?, changes))
            }
            .boxed()
        });
        let (compact_revision, changes) = read.await?;
        if after.unsigned_abs() + 1 < compact_revision {
            return Err(Error::Compacted { compact_revision });
        }
        match changes.last() {
            Some((row, _)) if row.revision() < self.until => self.next = row.id,
            _ => self.ended = true,
        }
        let batches = sql::batches(changes).into_iter();
        let wanted = |b: &WatchBatch| b.revision >= self.start && b.revision <= self.until;
        self.ready = batches
            .filter(|b| wanted(b) && !b.events.is_empty())
            .collect();
        Ok(())
    }
}
