//! Tells watchers what others write: new rows are read in order of their ids, and none is told before all
//! before it are there or will never be.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::session::{Fault, Purpose, Session};
use super::shared::{Pause, Shared};
use super::sql;
use crate::limits;

/// How often a missing row is looked for.
const LOOK: Duration = Duration::from_millis(20);

/// Follows the table until the task is ended.
pub async fn follow(shared: Arc<Shared>) {
    let mut follower = Follower {
        shared: shared.clone(),
        gap: None,
    };
    loop {
        let mut pause = Pause::new();
        let mut session = loop {
            match shared.connector.connect(Purpose::Listen).await {
                Ok(session) => break session,
                Err(fault) => tracing::debug!(%fault, "the database cannot be followed yet"),
            }
            pause.wait().await;
        };
        let fault = follower.run(&mut *session).await;
        tracing::warn!(%fault, "following the database broke off, it is resumed");
        pause.wait().await;
    }
}

struct Follower {
    shared: Arc<Shared>,
    /// A missing row, and since when it is missed.
    gap: Option<(i64, Instant)>,
}

impl Follower {
    /// Follows until the connection breaks.
    async fn run(&mut self, session: &mut dyn Session) -> Fault {
        loop {
            match timeout(limits::SQL_STATEMENT, self.step(session)).await {
                Ok(Ok(true)) => continue,
                Ok(Ok(false)) => {}
                Ok(Err(fault)) => return fault,
                Err(_) => return Fault::Lost("no answer in time".into()),
            }
            let wait = if self.gap.is_some() {
                LOOK
            } else {
                limits::SQL_POLL
            };
            tokio::select! {
                () = self.shared.poke.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Tells of one page; whether there may be more.
    async fn step(&mut self, s: &mut dyn Session) -> Result<bool, Fault> {
        let d = self.shared.dialect();
        let from = self.shared.position();
        let mut changes = sql::history(s, d, None, from).await?;
        let Some(found) = changes.first().map(|(r, _)| r.id) else {
            self.gap = None;
            return Ok(false);
        };
        if found != from + 1 {
            return self.missing(s, from, found).await;
        }
        self.gap = None;
        let whole = (from + 1..)
            .zip(&changes)
            .take_while(|(id, (r, _))| *id == r.id)
            .count();
        changes.truncate(whole);
        for (row, _) in &changes {
            self.shared.note(row);
        }
        let last = changes.last().map_or(from, |(r, _)| r.id);
        self.shared.publish_read(from, last, &sql::batches(changes));
        Ok(true)
    }

    /// Rows between `from` and `found` are not there: yet, any more, or ever.
    async fn missing(&mut self, s: &mut dyn Session, from: i64, found: i64) -> Result<bool, Fault> {
        let first = from + 1;
        if sql::compacted(s).await? >= first.unsigned_abs() || found - first > limits::SQL_GAP_ROWS
        {
            tracing::warn!(
                first,
                found,
                "rows were compacted before they could be read"
            );
            self.gap = None;
            self.shared.skip(found - 1);
            return Ok(true);
        }
        match self.gap {
            Some((missed, since)) if missed == first => {
                if since.elapsed() < limits::SQL_GAP {
                    return Ok(false);
                }
            }
            _ => {
                self.gap = Some((first, Instant::now()));
                return Ok(false);
            }
        }
        tracing::debug!(first, found, "rows that nobody wrote are filled");
        for id in first..found {
            sql::fill(s, self.shared.dialect(), id).await?;
        }
        Ok(true)
    }
}
