//! Answers to writes that wait for a follower: who writes and then reads what the follower keeps would otherwise be woken
//! twice, once by the commit and once by the follower, and in between only to wait.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::error::Error;
use crate::types::{Range, WatchBatch};
use crate::work::{Outcome, Work};

/// A request and what it led to.
pub type Answer = (Work, Result<Outcome, Error>);

/// The answers of one store that are ready, and are not given yet.
#[derive(Default)]
pub struct Held(Mutex<State>);

#[derive(Default)]
struct State {
    follower: Option<Follower>,
    /// How many followers there have been.
    followers: u64,
    waiting: VecDeque<(u64, Vec<Answer>)>,
}

struct Follower {
    id: u64,
    range: Range,
    seen: u64,
}

/// Tells a store how far its follower is. As long as this is there, writes in the range are answered only then.
pub struct Acks {
    held: Arc<Held>,
    id: u64,
}

// === Held ===

impl Held {
    /// Begins to hold answers to what happens in a range, for the follower that gets this. A follower before it is forgotten.
    pub fn follow(self: &Arc<Self>, range: Range) -> Acks {
        let mut state = self.0.lock();
        state.followers += 1;
        let id = state.followers;
        state.follower = Some(Follower { id, range, seen: 0 });
        let held = self.clone();
        Acks { held, id }
    }

    /// Gives the answers of one commit, published before, or keeps them until the follower has seen the last revision that
    /// concerns it.
    pub fn answer(&self, batches: &[WatchBatch], answers: Vec<Answer>) {
        {
            let mut state = self.0.lock();
            let until = state.follower.as_ref().and_then(|f| f.concerned(batches));
            if let Some(revision) = until {
                state.waiting.push_back((revision, answers));
                return;
            }
        }
        give(answers);
    }

    /// Gives all answers, and holds none any more.
    pub fn release(&self) {
        let mut state = self.0.lock();
        state.follower = None;
        let all = std::mem::take(&mut state.waiting);
        drop(state);
        all.into_iter().for_each(|(_, answers)| give(answers));
    }
}

impl Follower {
    /// The last of these revisions that it will tell of and has not.
    fn concerned(&self, batches: &[WatchBatch]) -> Option<u64> {
        let concerns = |b: &&WatchBatch| b.events.iter().any(|e| self.range.contains(e.key()));
        let last = batches.iter().rev().find(concerns)?.revision;
        (last > self.seen).then_some(last)
    }
}

fn give(answers: Vec<Answer>) {
    for (work, outcome) in answers {
        work.answer(outcome);
    }
}

// === Acks ===

impl Acks {
    /// The follower has taken over everything up to a revision.
    pub fn seen(&self, revision: u64) {
        let mut state = self.held.0.lock();
        match state.follower.as_mut().filter(|f| f.id == self.id) {
            Some(follower) => follower.seen = follower.seen.max(revision),
            None => return,
        }
        let mut ready = Vec::new();
        while let Some((at, _)) = state.waiting.front()
            && *at <= revision
            && let Some((_, answers)) = state.waiting.pop_front()
        {
            ready.push(answers);
        }
        drop(state);
        ready.into_iter().for_each(give);
    }
}

impl Drop for Acks {
    fn drop(&mut self) {
        let mine = |f: &Follower| f.id == self.id;
        if self.held.0.lock().follower.as_ref().is_some_and(mine) {
            self.held.release();
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::sync::oneshot::{Receiver, channel, error::TryRecvError};

    use super::*;
    use crate::types::{Event, TxnResponse};

    fn batch(revision: u64, key: &'static str) -> WatchBatch {
        let key = Bytes::from_static(key.as_bytes());
        let before = None;
        WatchBatch {
            revision,
            events: vec![Event::Delete {
                key,
                revision,
                before,
            }],
        }
    }

    type Asked = Receiver<Result<TxnResponse, Error>>;

    fn write(held: &Held, batches: &[WatchBatch]) -> Asked {
        let (reply, asked) = channel();
        let response = TxnResponse {
            succeeded: true,
            revision: batches.last().map_or(0, |b| b.revision),
            results: Vec::new(),
        };
        let work = Work::Txn(crate::Txn::default(), reply);
        held.answer(batches, vec![(work, Ok(Outcome::Txn(response)))]);
        asked
    }

    fn waits(asked: &mut Asked) -> bool {
        matches!(asked.try_recv(), Err(TryRecvError::Empty))
    }

    #[test]
    fn without_a_follower_nothing_waits() {
        let held = Arc::new(Held::default());
        assert!(!waits(&mut write(&held, &[batch(2, "/a/x")])));
        drop(held.follow(Range::prefix("/a/")));
        assert!(!waits(&mut write(&held, &[batch(3, "/a/x")])));
    }

    #[test]
    fn answers_wait_until_the_follower_has_seen_what_concerns_it() {
        let held = Arc::new(Held::default());
        let acks = held.follow(Range::prefix("/a/"));
        let mut other = write(&held, &[batch(2, "/b/x")]);
        assert!(!waits(&mut other), "of another range");
        let mut failed = write(&held, &[]);
        assert!(!waits(&mut failed), "nothing happened");
        let mut first = write(&held, &[batch(3, "/a/x"), batch(4, "/b/x")]);
        let mut second = write(&held, &[batch(5, "/a/y")]);
        assert!(waits(&mut first) && waits(&mut second));
        acks.seen(3);
        assert!(!waits(&mut first) && waits(&mut second));
        acks.seen(9);
        assert!(!waits(&mut second));
        let mut known = write(&held, &[batch(8, "/a/z")]);
        assert!(
            !waits(&mut known),
            "the follower was faster than the writer"
        );
    }

    #[test]
    fn nobody_is_left_waiting() {
        let held = Arc::new(Held::default());
        let first = held.follow(Range::prefix("/a/"));
        let mut asked = write(&held, &[batch(3, "/a/x")]);
        let second = held.follow(Range::prefix("/a/"));
        first.seen(9);
        drop(first);
        assert!(waits(&mut asked), "the one before has no say");
        drop(second);
        assert!(!waits(&mut asked));
        let _third = held.follow(Range::prefix("/a/"));
        let mut asked = write(&held, &[batch(4, "/a/x")]);
        assert!(waits(&mut asked));
        held.release();
        assert!(!waits(&mut asked));
        assert!(!waits(&mut write(&held, &[batch(5, "/a/x")])));
    }
}
