//! API priority and fairness: each request is classified by the first FlowSchema that matches it, takes
//! seats of that schema's priority level, waits for them in a queue it shares with few other flows, or
//! is refused with 429. Levels lend each other what they do not use.
//! Upstream: apiserver/pkg/util/flowcontrol and server/filters/priority-and-fairness.go.
//!
//! The decisions are values: `rules` (which schema), `width` (how many seats), `queues` (who runs next),
//! `allocate` (how many seats a level has). Here is what ties them to time, tasks and objects.

mod allocate;
mod config;
mod debug;
mod demand;
mod drops;
mod metrics;
mod queues;
mod requests;
mod rules;
mod run;
mod status;
mod width;

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderValue;
use http::header::RETRY_AFTER;
use machinery::request::User;
use parking_lot::{Mutex, RwLock};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;

use crate::limits;
use crate::query::Query;
use crate::request_info::RequestInfo;
use crate::response::{self, Answer};
use crate::server::Inner;
use allocate::{Claim, Limits, Shares, Smoothed};
use config::{Config, Flow, Schema};
use drops::Drops;
use metrics::{All, Counters};
use queues::{Arrival, QueueSet, Refusal, Running, Shape};
use requests::{Entry, Request, Requests};

pub use debug::serve as debug;
pub use run::{load, run};
pub use width::Stored;

/// The time all levels count from.
#[derive(Clone, Copy)]
pub struct Epoch(Instant);

type Wakers = QueueSet<oneshot::Sender<Running>>;

/// A priority level.
pub struct Level {
    pub name: String,
    epoch: Epoch,
    set: Mutex<Wakers>,
    state: Mutex<State>,
    drops: Mutex<Drops>,
    requests: Requests,
}

/// What a level has at the moment.
#[derive(Clone, Copy, Default)]
pub struct State {
    shape: Option<Shape>,
    shares: Shares,
    pub limits: Limits,
    pub seats: usize,
    pub demand: Smoothed,
    pub target: f64,
    /// Most seats of one request; 0 is any.
    widest: usize,
}

/// All levels and schemas.
pub struct Fairness {
    seats: usize,
    epoch: Epoch,
    config: RwLock<Arc<Config>>,
    counters: All,
    fair_fraction: Mutex<f64>,
}

/// How a request was classified, for the headers of its answer.
#[derive(Default)]
pub struct Marks(Option<(HeaderValue, HeaderValue)>);

/// The seats of a request that runs; given back when dropped.
pub struct Seat {
    level: Arc<Level>,
    counters: Arc<Counters>,
    running: Running,
    seats: usize,
    watch: bool,
    begun: Instant,
    _entry: Entry,
}

/// A request in a queue. Dropped, it leaves.
struct Waiting {
    level: Arc<Level>,
    counters: Arc<Counters>,
    ticket: u64,
    turn: oneshot::Receiver<Running>,
    seats: usize,
    since: Instant,
    done: bool,
}

// === Fairness ===

impl Fairness {
    /// A server with this many seats, and no levels but those that must be.
    pub fn new(seats: usize) -> Self {
        let made = Self {
            seats,
            epoch: Epoch(Instant::now()),
            config: RwLock::default(),
            counters: All::default(),
            fair_fraction: Mutex::new(0.0),
        };
        made.configure(&[], &[]);
        made
    }

    /// Takes over the objects of flow control.
    fn configure(&self, schemas: &[Value], levels: &[Value]) {
        let specs = config::levels(levels);
        let before = self.config.read().clone();
        let objects = (schemas, specs.as_slice());
        let next = Arc::new(Config::new(&before, objects, &self.counters, self.epoch));
        let shares: Vec<Shares> = next.levels.iter().map(|l| l.state().shares).collect();
        let limits = allocate::limits(self.seats, &shares);
        for (level, limits) in next.levels.iter().zip(limits) {
            level.limit(limits);
        }
        *self.config.write() = next;
        self.share_out();
    }

    /// Shares out the seats by what was wanted since the last time.
    fn share_out(&self) {
        let levels = self.config.read().levels.clone();
        let claims: Vec<Claim> = levels.iter().map(|l| l.claim()).collect();
        let made = allocate::allocate(&claims);
        for (i, level) in levels.iter().enumerate() {
            level.give(made.seats[i], made.targets[i]);
        }
        *self.fair_fraction.lock() = made.fair_fraction;
    }

    /// Whether a level without an object has nobody waiting any more.
    fn has_leftovers(&self, names: &[String]) -> bool {
        let stays = |l: &Level| names.contains(&l.name) || config::MANDATORY.contains(&&*l.name);
        let config = self.config.read();
        config.levels.iter().any(|l| !stays(l) && l.is_idle())
    }

    /// The counters as text.
    pub fn text(&self) -> String {
        let levels = self.config.read().levels.clone();
        self.counters.text(&levels, *self.fair_fraction.lock())
    }
}

/// Gives a request its seats, or the answer that refuses it. Streams other than watches pass freely.
pub async fn enter(
    server: &Inner,
    info: &RequestInfo,
    (query, user): (&Query, &User),
    deadline: Option<Instant>,
) -> Result<(Marks, Option<Seat>), Answer> {
    let watch = info.verb == "watch";
    if info.is_long_running() && !watch {
        return Ok((Marks::default(), None));
    }
    let config = server.fairness.config.read().clone();
    let matching = config.schemas.iter().find(|s| s.spec.matches(info, user));
    let Some(schema) = matching.or(config.schemas.last()) else {
        return Ok((Marks::default(), None));
    };
    let marks = Marks(Some((schema.uid.clone(), schema.level_uid.clone())));
    let state = schema.level.state();
    let seats = width::seats(server, info, query, state.widest);
    schema.counters.width.observe(seats as f64);
    let hash = match state.shape {
        Some(Shape::Queue { queues: 2.., .. }) => schema.hash(info, user),
        _ => 0,
    };
    let request = Request {
        schema: schema.name.clone(),
        flow: schema.told(info, user).to_string(),
        arrived: jiff::Timestamp::now(),
        seats,
        user: user.name.clone(),
        info: info.clone(),
        state: requests::State::Waits(0),
    };
    let seated = schema.seat(request, hash, watch, patience(deadline)).await;
    match seated {
        Ok(seat) => Ok((marks, Some(seat))),
        Err(why) => Err(schema.refuse(why, &marks)),
    }
}

/// How long a request may wait: a quarter of the time it has, at most a minute.
fn patience(deadline: Option<Instant>) -> Duration {
    let left = match deadline {
        Some(at) => at.saturating_duration_since(Instant::now()),
        None => limits::REQUEST_TIMEOUT,
    };
    (left / 4).min(limits::QUEUE_WAIT)
}

// === Schema ===

impl Schema {
    /// By what flows are told apart.
    fn told<'a>(&self, info: &'a RequestInfo, user: &'a User) -> &'a str {
        match self.flow {
            Flow::One => "",
            Flow::ByUser => &user.name,
            Flow::ByNamespace => &info.namespace,
        }
    }

    /// Which of the hands a request's flow is dealt.
    fn hash(&self, info: &RequestInfo, user: &User) -> u64 {
        let told = self.told(info, user);
        let mut hasher = Sha256::new();
        hasher.update(self.name.as_bytes());
        hasher.update([0]);
        hasher.update(told.as_bytes());
        let digest = hasher.finalize();
        let mut first = [0; 8];
        first.copy_from_slice(&digest[..8]);
        u64::from_le_bytes(first)
    }

    async fn seat(
        &self,
        mut request: Request,
        hash: u64,
        watch: bool,
        patience: Duration,
    ) -> Result<Seat, Refusal> {
        let level = &self.level;
        let seats = request.seats;
        let (arrival, turn) = level.arrive(seats, hash);
        let seat = |running: Running, entry: Entry| {
            entry.runs(running.queue());
            self.counters.execute(1, seats);
            let dispatched = &self.counters.dispatched;
            dispatched.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Seat {
                level: level.clone(),
                counters: self.counters.clone(),
                running,
                seats,
                watch,
                begun: Instant::now(),
                _entry: entry,
            }
        };
        let (ticket, turn) = match (arrival, turn) {
            (Arrival::Run(running), _) => {
                if level.name != "exempt" {
                    self.counters.waited(true, Duration::ZERO);
                }
                return Ok(seat(running, Entry::new(level, request)));
            }
            (Arrival::Wait(ticket), Some(turn)) => (ticket, turn),
            (Arrival::Refused(why), _) => return Err(why),
            (Arrival::Wait(_), None) => return Err(Refusal::Cancelled),
        };
        self.counters.queue(1, seats);
        request.state = requests::State::Waits(ticket);
        let entry = Entry::new(level, request);
        let mut waiting = Waiting {
            level: level.clone(),
            counters: self.counters.clone(),
            ticket,
            turn,
            seats,
            since: Instant::now(),
            done: false,
        };
        let turn = tokio::time::timeout(patience, &mut waiting.turn).await;
        let running = match turn {
            Ok(Ok(running)) => Some(running),
            _ => waiting.leave(),
        };
        waiting.end(running.is_some());
        let seated = running.map(|running| seat(running, entry));
        seated.ok_or(Refusal::TimeOut)
    }

    fn refuse(&self, why: Refusal, marks: &Marks) -> Answer {
        self.counters.refuse(why);
        let now = jiff::Timestamp::now().as_second();
        let seconds = (self.level.drops.lock()).record(u64::try_from(now).unwrap_or(0));
        let mut answer = response::text(429, "Too many requests, please try again later.");
        answer.headers_mut().insert(RETRY_AFTER, seconds.into());
        marks.put(&mut answer);
        answer
    }
}

// === Marks ===

impl Marks {
    /// Sets the headers that say how the request was classified.
    pub fn put(&self, answer: &mut Answer) {
        if let Some((schema, level)) = &self.0 {
            let headers = answer.headers_mut();
            headers.insert("x-kubernetes-pf-flowschema-uid", schema.clone());
            headers.insert("x-kubernetes-pf-prioritylevel-uid", level.clone());
        }
    }
}

// === Level ===

impl Level {
    fn new(name: &str, shape: Shape, epoch: Epoch) -> Self {
        Self {
            name: name.into(),
            epoch,
            set: Mutex::new(QueueSet::new(shape, 0, epoch.now())),
            state: Mutex::default(),
            drops: Mutex::default(),
            requests: Requests::default(),
        }
    }

    /// What it has at the moment.
    pub fn state(&self) -> State {
        *self.state.lock()
    }

    /// Virtual time.
    pub fn virtual_now(&self) -> f64 {
        self.set.lock().virtual_now()
    }

    fn is_idle(&self) -> bool {
        self.set.lock().is_idle()
    }

    fn specify(&self, shape: Shape, shares: Shares) {
        let mut state = self.state.lock();
        (state.shape, state.shares) = (Some(shape), shares);
    }

    fn limit(&self, limits: Limits) {
        let mut state = self.state.lock();
        state.limits = limits;
        let hand = match state.shape {
            Some(Shape::Queue { hand, .. }) => Some(hand),
            _ => None,
        };
        state.widest = allocate::widest(limits.nominal, hand);
    }

    fn claim(&self) -> Claim {
        let seen = self.set.lock().take_demand(self.epoch.now());
        let mut state = self.state.lock();
        state.demand = state.demand.after(seen);
        Claim {
            exempt: state.shape == Some(Shape::Exempt),
            limits: state.limits,
            demand: state.demand,
        }
    }

    fn give(&self, seats: usize, target: f64) {
        let shape = {
            let mut state = self.state.lock();
            (state.seats, state.target) = (seats, target);
            state.shape.unwrap_or(Shape::Reject)
        };
        let mut set = self.set.lock();
        let woken = set.configure(self.epoch.now(), shape, seats);
        self.wake(&mut set, woken);
    }

    fn arrive(&self, seats: usize, hash: u64) -> (Arrival, Option<oneshot::Receiver<Running>>) {
        let mut turn = None;
        let waker = || {
            let (tell, told) = oneshot::channel();
            turn = Some(told);
            tell
        };
        let mut set = self.set.lock();
        let (arrival, woken) = set.arrive(self.epoch.now(), (seats, hash), waker);
        self.wake(&mut set, woken);
        drop(set);
        (arrival, turn)
    }

    fn finish(&self, running: &Running) {
        let mut set = self.set.lock();
        let woken = set.finish(self.epoch.now(), running);
        self.wake(&mut set, woken);
    }

    /// Tells requests that it is their turn. This happens under the lock, so that one which leaves
    /// finds itself either in its queue or told.
    fn wake(&self, set: &mut Wakers, mut woken: Vec<(oneshot::Sender<Running>, Running)>) {
        while let Some((waker, running)) = woken.pop() {
            if let Err(running) = waker.send(running) {
                woken.extend(set.finish(self.epoch.now(), &running));
            }
        }
    }
}

impl Epoch {
    fn now(self) -> Duration {
        self.0.elapsed()
    }
}

// === Seat and Waiting ===

impl Drop for Seat {
    fn drop(&mut self) {
        self.counters.execute(-1, self.seats);
        self.counters.executed(self.watch, self.begun.elapsed());
        self.level.finish(&self.running);
    }
}

impl Waiting {
    /// Leaves the queue; gives the turn that came in this very moment.
    fn leave(&mut self) -> Option<Running> {
        let mut set = self.level.set.lock();
        if set.leave(self.level.epoch.now(), self.ticket) {
            return None;
        }
        drop(set);
        self.turn.try_recv().ok()
    }

    fn end(&mut self, ran: bool) {
        self.done = true;
        self.counters.queue(-1, self.seats);
        self.counters.waited(ran, self.since.elapsed());
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        if let Some(running) = self.leave() {
            self.level.finish(&running);
        }
        self.end(false);
        self.counters.refuse(Refusal::Cancelled);
    }
}
