//! The requests that wait and run, one by one, for `dump_requests`. There are never more than seats and places in queues.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;

use super::Level;
use crate::request_info::RequestInfo;

/// What is told of a request.
#[derive(Clone, Debug)]
pub struct Request {
    pub schema: String,
    /// By what it is told from others of its schema.
    pub flow: String,
    pub arrived: Timestamp,
    pub seats: usize,
    pub user: String,
    pub info: RequestInfo,
    pub state: State,
}

/// Where a request is.
#[derive(Clone, Copy, Debug)]
pub enum State {
    /// In a queue, under its ticket.
    Waits(u64),
    /// Since when, and from which queue, where its level has any.
    Runs(Timestamp, Option<u32>),
}

/// Those of one level, by numbers of their own.
#[derive(Default)]
pub struct Requests(Mutex<(u64, HashMap<u64, Request>)>);

/// A place among a level's requests, until it is dropped.
pub struct Entry {
    level: Arc<Level>,
    number: u64,
}

// === Requests ===

impl Requests {
    /// All of them, in the order in which they came.
    pub fn all(&self) -> Vec<Request> {
        let held = self.0.lock();
        let mut all: Vec<(&u64, &Request)> = held.1.iter().collect();
        all.sort_by_key(|(number, _)| **number);
        all.into_iter().map(|(_, r)| r.clone()).collect()
    }
}

// === Entry ===

impl Entry {
    /// Notes a request.
    pub fn new(level: &Arc<Level>, request: Request) -> Self {
        let mut held = level.requests.0.lock();
        let number = held.0;
        held.0 += 1;
        held.1.insert(number, request);
        drop(held);
        Self {
            level: level.clone(),
            number,
        }
    }

    /// It is its turn.
    pub fn runs(&self, queue: Option<u32>) {
        if let Some(request) = self.level.requests.0.lock().1.get_mut(&self.number) {
            request.state = State::Runs(Timestamp::now(), queue);
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.level.requests.0.lock().1.remove(&self.number);
    }
}
