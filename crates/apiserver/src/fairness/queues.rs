//! The seats and queues of one priority level as a value: no clock, no tasks. It is told the time and
//! says who runs, who waits and who is refused. Upstream: flowcontrol/fairqueuing/queueset; fair queuing
//! by virtual time, over queues that flows are dealt to by shuffle sharding.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::demand::Demand;

/// How long a request is taken to run until it is known.
const SERVICE: f64 = 0.003;

/// What a level does with requests beyond its seats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// There are no bounds.
    Exempt,
    Reject,
    Queue {
        queues: u32,
        hand: usize,
        length: usize,
    },
}

/// Why a request is refused, as the metric says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    QueueFull,
    ConcurrencyLimit,
    TimeOut,
    Cancelled,
}

/// A request that has its seats. It must come back through `finish`.
#[derive(Debug, PartialEq)]
pub struct Running {
    queue: Option<u32>,
    seats: usize,
    since: Duration,
}

/// What becomes of a request.
#[derive(Debug, PartialEq)]
pub enum Arrival {
    Run(Running),
    /// Under this ticket; its waker is handed out by `dispatch` when its turn comes.
    Wait(u64),
    Refused(Refusal),
}

struct Waiting<W> {
    ticket: u64,
    seats: usize,
    /// Virtual time of arrival.
    arrival: f64,
    waker: W,
}

/// A queue with requests that wait or run; others are not kept.
struct Queue<W> {
    waiting: VecDeque<Waiting<W>>,
    executing: usize,
    seats_in_use: usize,
    seats_waiting: usize,
    /// Virtual time at which its next request would start.
    next: f64,
}

/// The state of one priority level.
pub struct QueueSet<W> {
    shape: Shape,
    limit: usize,
    queues: BTreeMap<u32, Queue<W>>,
    /// Virtual time in seat-seconds for each active queue, and the real time it was brought up to.
    virtual_now: f64,
    real_now: Duration,
    pub executing: usize,
    pub waiting: usize,
    pub seats_in_use: usize,
    pub seats_waiting: usize,
    robin: u32,
    enqueues: usize,
    tickets: u64,
    demand: Demand,
}

/// A queue as people are shown it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Dump {
    pub index: u32,
    pub waiting: usize,
    pub executing: usize,
    pub seats_in_use: usize,
    pub seats_waiting: usize,
    /// Virtual time at which its next request would start.
    pub next: f64,
    /// Seat-seconds of what waits.
    pub work: f64,
}

impl Running {
    /// The queue it came from, where its level has any.
    pub fn queue(&self) -> Option<u32> {
        self.queue
    }
}

fn work(seats: usize) -> f64 {
    seats as f64 * SERVICE
}

/// The hand of distinct queues that a hash is dealt. Upstream: util/shufflesharding.
pub fn deal(mut hash: u64, queues: u32, hand: usize) -> Vec<u32> {
    let hand = hand.min(queues as usize).max(1);
    let mut remainders = Vec::with_capacity(hand);
    for i in 0..hand as u64 {
        let left = u64::from(queues).saturating_sub(i).max(1);
        remainders.push((hash % left) as u32);
        hash /= left;
    }
    let mut cards = remainders.clone();
    for (i, card) in cards.iter_mut().enumerate() {
        for before in remainders[..i].iter().rev() {
            if *card >= *before {
                *card += 1;
            }
        }
    }
    cards
}

impl<W> Queue<W> {
    fn new(next: f64) -> Self {
        Self {
            waiting: VecDeque::new(),
            executing: 0,
            seats_in_use: 0,
            seats_waiting: 0,
            next,
        }
    }

    /// A queue gains nothing from the time before its oldest request came.
    fn bound(&mut self) {
        if let Some(oldest) = self.waiting.front() {
            self.next = self.next.max(oldest.arrival);
        }
    }
}

impl<W> QueueSet<W> {
    /// A level at rest.
    pub fn new(shape: Shape, limit: usize, now: Duration) -> Self {
        Self {
            shape,
            limit,
            queues: BTreeMap::new(),
            virtual_now: 0.0,
            real_now: now,
            executing: 0,
            waiting: 0,
            seats_in_use: 0,
            seats_waiting: 0,
            robin: 0,
            enqueues: 0,
            tickets: 0,
            demand: Demand::new(now),
        }
    }

    /// The queues with requests that wait or run.
    pub fn dump(&self) -> Vec<Dump> {
        let one = |(index, q): (&u32, &Queue<W>)| Dump {
            index: *index,
            waiting: q.waiting.len(),
            executing: q.executing,
            seats_in_use: q.seats_in_use,
            seats_waiting: q.seats_waiting,
            next: q.next,
            work: work(q.seats_waiting),
        };
        self.queues.iter().map(one).collect()
    }

    /// The tickets of those who wait, by their queues, in their order.
    pub fn tickets(&self) -> Vec<(u32, Vec<u64>)> {
        let one = |(index, q): (&u32, &Queue<W>)| {
            let tickets = q.waiting.iter().map(|w| w.ticket);
            (*index, tickets.collect())
        };
        self.queues.iter().map(one).collect()
    }

    /// Whether nothing runs or waits.
    pub fn is_idle(&self) -> bool {
        self.waiting == 0 && self.executing == 0
    }

    /// Virtual time.
    pub fn virtual_now(&self) -> f64 {
        self.virtual_now
    }

    /// Changes the seats; who fits now is handed out.
    pub fn configure(&mut self, now: Duration, shape: Shape, limit: usize) -> Vec<(W, Running)> {
        self.advance(now);
        (self.shape, self.limit) = (shape, limit);
        self.dispatch()
    }

    /// The demand since the last call.
    pub fn take_demand(&mut self, now: Duration) -> super::demand::Seen {
        self.demand.take(now)
    }

    /// A request comes. `waker` is asked for only if it does not run at once.
    pub fn arrive(
        &mut self,
        now: Duration,
        (seats, hash): (usize, u64),
        waker: impl FnOnce() -> W,
    ) -> (Arrival, Vec<(W, Running)>) {
        self.advance(now);
        let (queues, hand, length) = match self.shape {
            Shape::Queue {
                queues,
                hand,
                length,
            } => (queues, hand, length),
            Shape::Reject if !self.fits(seats) => {
                return (Arrival::Refused(Refusal::ConcurrencyLimit), Vec::new());
            }
            Shape::Reject | Shape::Exempt => {
                return (Arrival::Run(self.start(None, seats)), Vec::new());
            }
        };
        let index = self.choose(hash, queues, hand);
        let waits = self.queues.get(&index).map_or(0, |q| q.waiting.len());
        if self.seats_in_use >= self.limit && waits >= length {
            return (Arrival::Refused(Refusal::QueueFull), Vec::new());
        }
        let begin = self.virtual_now;
        self.queues
            .entry(index)
            .or_insert_with(|| Queue::new(begin));
        if self.waiting == 0 && self.seats_in_use < self.limit && self.fits_beside(seats) {
            if let Some(queue) = self.queues.get_mut(&index) {
                queue.next = queue.next.max(begin) + work(seats);
            }
            self.robin = index;
            return (Arrival::Run(self.start(Some(index), seats)), Vec::new());
        }
        self.tickets += 1;
        if let Some(queue) = self.queues.get_mut(&index) {
            queue.waiting.push_back(Waiting {
                ticket: self.tickets,
                seats,
                arrival: begin,
                waker: waker(),
            });
            queue.seats_waiting += seats;
            queue.bound();
        }
        self.waiting += 1;
        self.seats_waiting += seats;
        self.note_demand();
        (Arrival::Wait(self.tickets), self.dispatch())
    }

    /// A request gives up; false where it has its turn already.
    pub fn leave(&mut self, now: Duration, ticket: u64) -> bool {
        self.advance(now);
        for (index, queue) in &mut self.queues {
            let Some(at) = queue.waiting.iter().position(|w| w.ticket == ticket) else {
                continue;
            };
            let Some(gone) = queue.waiting.remove(at) else {
                return false;
            };
            queue.seats_waiting -= gone.seats;
            queue.bound();
            self.waiting -= 1;
            self.seats_waiting -= gone.seats;
            let index = *index;
            self.forget_idle(index);
            self.note_demand();
            return true;
        }
        false
    }

    /// A request is answered; who fits now is handed out.
    pub fn finish(&mut self, now: Duration, running: &Running) -> Vec<(W, Running)> {
        self.advance(now);
        self.executing -= 1;
        self.seats_in_use -= running.seats;
        if let Some(index) = running.queue
            && let Some(queue) = self.queues.get_mut(&index)
        {
            let took = now.saturating_sub(running.since).as_secs_f64();
            queue.executing -= 1;
            queue.seats_in_use -= running.seats;
            queue.next -= running.seats as f64 * (SERVICE - took);
            queue.bound();
            self.forget_idle(index);
        }
        self.note_demand();
        self.dispatch()
    }

    fn start(&mut self, queue: Option<u32>, seats: usize) -> Running {
        if let Some(q) = queue.and_then(|i| self.queues.get_mut(&i)) {
            q.executing += 1;
            q.seats_in_use += seats;
        }
        self.executing += 1;
        self.seats_in_use += seats;
        self.note_demand();
        Running {
            queue,
            seats,
            since: self.real_now,
        }
    }

    fn note_demand(&mut self) {
        let seats = self.seats_in_use + self.seats_waiting;
        self.demand.set(self.real_now, seats as f64);
    }

    /// Virtual time runs as fast as the seats serve one active queue.
    fn advance(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.real_now).as_secs_f64();
        self.real_now = self.real_now.max(now);
        if self.queues.is_empty() {
            return;
        }
        let wanted = (self.seats_in_use + self.seats_waiting).min(self.limit);
        self.virtual_now += passed * wanted as f64 / self.queues.len() as f64;
    }

    fn forget_idle(&mut self, index: u32) {
        let idle = |q: &Queue<W>| q.executing == 0 && q.waiting.is_empty();
        if self.queues.get(&index).is_some_and(idle) {
            self.queues.remove(&index);
        }
        if self.queues.is_empty() {
            // Nobody remembers a time: numbers stay small.
            self.virtual_now = 0.0;
        }
    }

    /// The queue of a hand with the least work waiting.
    fn choose(&mut self, hash: u64, queues: u32, hand: usize) -> u32 {
        let cards = deal(hash, queues, hand);
        let offset = self.enqueues % cards.len();
        self.enqueues = self.enqueues.wrapping_add(1);
        let waits = |i: &u32| self.queues.get(i).map_or(0, |q| q.seats_waiting);
        let rotated = cards[offset..].iter().chain(&cards[..offset]);
        rotated.min_by_key(|i| waits(i)).copied().unwrap_or(0)
    }

    fn fits(&self, seats: usize) -> bool {
        match self.shape {
            Shape::Exempt => true,
            _ => self.fits_beside(seats),
        }
    }

    /// A request wider than all seats may run alone.
    fn fits_beside(&self, seats: usize) -> bool {
        if seats > self.limit {
            return self.executing == 0;
        }
        self.seats_in_use + seats <= self.limit
    }

    fn dispatch(&mut self) -> Vec<(W, Running)> {
        let mut out = Vec::new();
        while self.waiting > 0 && self.seats_in_use < self.limit {
            let Some(index) = self.next_queue() else {
                break;
            };
            let head = |q: &Queue<W>| q.waiting.front().map_or(0, |w| w.seats);
            let seats = self.queues.get(&index).map_or(0, head);
            // Nothing narrower overtakes: it would starve the wide ones.
            if !self.fits(seats) {
                break;
            }
            let Some(queue) = self.queues.get_mut(&index) else {
                break;
            };
            let Some(one) = queue.waiting.pop_front() else {
                break;
            };
            queue.seats_waiting -= one.seats;
            queue.next += work(one.seats);
            queue.bound();
            self.waiting -= 1;
            self.seats_waiting -= one.seats;
            self.robin = index;
            let running = self.start(Some(index), one.seats);
            out.push((one.waker, running));
        }
        out
    }

    /// The queue whose oldest request would end first; equals take turns.
    fn next_queue(&self) -> Option<u32> {
        let after = self.queues.range(self.robin.saturating_add(1)..);
        let upto = self.queues.range(..=self.robin);
        let mut best: Option<(f64, u32)> = None;
        for (index, queue) in after.chain(upto) {
            let Some(oldest) = queue.waiting.front() else {
                continue;
            };
            let end = queue.next + work(oldest.seats);
            if best.is_none_or(|(b, _)| end < b) {
                best = Some((end, *index));
            }
        }
        best.map(|(_, index)| index)
    }
}

#[cfg(test)]
mod tests;
