//! Writes whose answer does not come are asked for again where that is safe.
//!
//! A member that sent a write on to a leader that went says so only after 7 s (etcd's `ReqTimeout`), and one that went itself
//! never does. A transaction that holds only while a key is at one revision, and that changes this very key, can be carried
//! out once at most, however often it is asked for: no key comes to the same revision twice. It is asked for again, of another
//! member, and the first is not given up. What creates a key has no such guard: its key may be deleted in between, and a late
//! first request would bring it back.

use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, sleep_until};
use tonic::Status;

use super::call::{Caller, FIRST_PAUSE, LAST_PAUSE, Method, failure, not_sent, told};
use super::members::is_leaderless;
use super::proto::{Compare, CompareTo, Request, RequestOp, TxnRequest, TxnResponse};
use crate::error::Error;
use crate::limits;

/// How long an answer may take before another member is asked; etcd's election takes one to two seconds.
const PATIENCE: Duration = Duration::from_secs(1);
/// Requests of one write that are under way at a time.
const AT_ONCE: usize = 5;

/// Whether a second request of the same cannot be carried out after a first one was.
pub fn is_guarded(txn: &TxnRequest) -> bool {
    let reads = |op: &RequestOp| matches!(op.request, Some(Request::Range(_)));
    txn.failure.iter().all(reads) && txn.compare.iter().any(|c| ends(c, &txn.success))
}

/// Whether operations end what a compare holds for.
fn ends(compare: &Compare, ops: &[RequestOp]) -> bool {
    // EQUAL, MOD.
    let revision = match (compare.result, compare.target, &compare.to) {
        (0, 2, Some(CompareTo::ModRevision(n))) => *n,
        _ => 0,
    };
    let changes = |op: &RequestOp| match &op.request {
        Some(Request::Put(r)) => r.key == compare.key,
        Some(Request::DeleteRange(r)) => r.range_end.is_empty() && r.key == compare.key,
        _ => false,
    };
    revision > 0 && ops.iter().any(changes)
}

/// Asks until one of the requests is carried out, or none can be any more, or the time is up.
pub async fn answer(
    caller: &Caller,
    method: Method,
    request: &TxnRequest,
) -> Result<TxnResponse, Error> {
    let deadline = Instant::now() + limits::ETCD_CALL;
    let mut pending = FuturesUnordered::new();
    let mut course = Course::default();
    let (mut due, mut pause, mut asked) = (Instant::now(), FIRST_PAUSE, None);
    loop {
        tokio::select! {
            Some(came) = pending.next(), if !pending.is_empty() => {
                let came = Came::of(method, came);
                if matches!(came, Came::Unsent(_) | Came::Lost(_)) {
                    due = due.min(Instant::now() + pause);
                    pause = (pause * 2).min(LAST_PAUSE);
                }
                if let Some(done) = course.came(came) {
                    return done.map_err(|e| e.of(method));
                }
            }
            () = sleep_until(due), if course.goes_on() && pending.len() < AT_ONCE => {
                let (member, call) = caller.attempt(asked, method, request.clone());
                if course.pending > 0 {
                    tracing::debug!(member, "etcd write without an answer is asked for again");
                }
                pending.push(call);
                course.pending += 1;
                asked = Some(member);
                due = Instant::now() + PATIENCE;
            }
            () = sleep_until(deadline) => return Err(course.late().of(method)),
        }
    }
}

/// What came of one request.
enum Came {
    Done(TxnResponse),
    /// It was not carried out, and would not be another time.
    Refused(Error),
    /// It reached nobody who could carry it out.
    Unsent(String),
    /// Nobody knows.
    Lost(String),
}

impl Came {
    fn of(method: Method, came: Result<TxnResponse, Status>) -> Self {
        let status = match came {
            Ok(answer) => return Self::Done(answer),
            Err(status) => status,
        };
        if let Some(error) = super::call::known(&status) {
            return Self::Refused(error);
        }
        let untrusted = super::call::untrusted(&status);
        if !untrusted && (not_sent(&status) || is_leaderless(&status)) {
            return Self::Unsent(told(&status));
        }
        match failure(method, &status) {
            Error::Uncertain { message, .. } => Self::Lost(message),
            error => Self::Refused(error),
        }
    }
}

/// Why there is no answer.
#[derive(Debug)]
enum Why {
    Told(Error),
    /// Nothing was carried out.
    Unsent(String),
    /// Something may have been.
    Lost(String),
}

impl Why {
    fn of(self, method: Method) -> Error {
        let operation = method.operation();
        match self {
            Self::Told(error) => error,
            Self::Unsent(message) => Error::Backend { operation, message },
            Self::Lost(message) => Error::Uncertain { operation, message },
        }
    }
}

/// The course of the requests of one write.
#[derive(Default)]
struct Course {
    pending: usize,
    /// The newest of those that reached nobody.
    unsent: Option<String>,
    /// The newest whose fate is not known.
    lost: Option<String>,
    /// One that was not carried out: its compare did not hold, or etcd refused it.
    refused: Option<Result<TxnResponse, Error>>,
}

impl Course {
    /// Whether more may be asked.
    fn goes_on(&self) -> bool {
        self.refused.is_none()
    }

    /// Takes in what came; gives the end where that is known.
    fn came(&mut self, came: Came) -> Option<Result<TxnResponse, Why>> {
        self.pending -= 1;
        match came {
            Came::Done(answer) if answer.succeeded => return Some(Ok(answer)),
            // That the compare did not hold may be the work of an earlier request.
            Came::Done(answer) => self.refused = Some(Ok(answer)),
            Came::Refused(error) => {
                self.refused.get_or_insert(Err(error));
            }
            Came::Unsent(text) => self.unsent = Some(text),
            Came::Lost(text) => self.lost = Some(text),
        }
        if self.pending > 0 {
            return None;
        }
        let refused = self.refused.take()?;
        Some(match self.lost.take() {
            None => refused.map_err(Why::Told),
            Some(text) => Err(Why::Lost(text)),
        })
    }

    /// When the time is up.
    fn late(&mut self) -> Why {
        match (self.pending, self.lost.take(), self.unsent.take()) {
            (0, None, Some(text)) => Why::Unsent(text),
            (_, Some(text), _) => Why::Lost(text),
            _ => Why::Lost("no answer in time".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::etcd::convert::Prefix;
    use crate::types::{Compare, Op, Txn};

    fn guarded(compare: Compare, success: Op, failure: Op) -> bool {
        let prefix = Prefix::new(Bytes::from_static(b"/x/"), Bytes::new());
        is_guarded(&prefix.txn_request(&Txn {
            compares: vec![compare],
            success: vec![success],
            failure: vec![failure],
        }))
    }

    #[test]
    fn only_a_change_of_what_is_compared_is_guarded() {
        let key = || Bytes::from_static(b"k");
        let put = |key: &'static str| Op::Put {
            key: key.into(),
            value: Bytes::new(),
            lease: 0,
        };
        let get = || Op::Get { key: key() };
        let at = |n| Compare::unchanged(key(), n);
        assert!(guarded(at(7), put("k"), get()));
        assert!(guarded(at(7), Op::Delete { key: key() }, get()));
        // A key that is created may be deleted and come back; another key's change guards nothing; a second request would write.
        assert!(!guarded(at(0), put("k"), get()));
        assert!(!guarded(at(7), put("l"), get()));
        assert!(!guarded(at(7), put("k"), put("l")));
        let mut newer = at(7);
        newer.comparison = crate::types::Comparison::Greater;
        assert!(!guarded(newer, put("k"), get()));
    }

    fn course(all: Vec<Came>, pending: usize) -> (Course, Option<Result<TxnResponse, Why>>) {
        let mut course = Course {
            pending: pending + all.len(),
            ..Course::default()
        };
        let mut end = None;
        for came in all {
            assert!(end.is_none(), "more came after the end");
            end = course.came(came);
        }
        (course, end)
    }

    fn done(succeeded: bool) -> Came {
        Came::Done(TxnResponse {
            succeeded,
            ..TxnResponse::default()
        })
    }

    #[test]
    fn one_that_is_carried_out_is_the_answer() {
        for before in [vec![], vec![Came::Lost("reset".into())], vec![done(false)]] {
            let all = before.into_iter().chain([done(true)]).collect();
            let (_, end) = course(all, 1);
            assert!(matches!(end, Some(Ok(a)) if a.succeeded));
        }
    }

    #[test]
    fn a_compare_that_did_not_hold_counts_when_no_other_request_may_be_the_cause() {
        let (_, end) = course(vec![done(false)], 0);
        assert!(matches!(end, Some(Ok(a)) if !a.succeeded));
        let (_, end) = course(vec![Came::Unsent("refused".into()), done(false)], 0);
        assert!(matches!(end, Some(Ok(a)) if !a.succeeded));
        let (mut waits, end) = course(vec![done(false)], 1);
        assert!(end.is_none() && !waits.goes_on());
        assert!(matches!(waits.came(done(false)), Some(Ok(_))));
        let (_, end) = course(vec![done(false), Came::Lost("reset".into())], 0);
        assert!(matches!(end, Some(Err(Why::Lost(_)))));
        let (_, end) = course(
            vec![Came::Lost("reset".into()), Came::Refused(Error::NoSpace)],
            0,
        );
        assert!(matches!(end, Some(Err(Why::Lost(_)))));
        let (_, end) = course(vec![Came::Refused(Error::NoSpace)], 0);
        assert!(matches!(end, Some(Err(Why::Told(Error::NoSpace)))));
    }

    #[test]
    fn what_reached_nobody_took_no_effect() {
        let (mut all, end) = course(vec![Came::Unsent("refused".into())], 0);
        assert!(end.is_none() && all.goes_on());
        assert!(matches!(all.late(), Why::Unsent(_)));
        let (mut some, _) = course(vec![Came::Unsent("refused".into())], 1);
        assert!(matches!(some.late(), Why::Lost(_)));
    }
}
