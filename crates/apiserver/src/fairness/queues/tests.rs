use super::*;

const QUEUES: Shape = Shape::Queue {
    queues: 8,
    hand: 2,
    length: 3,
};

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A level on which named requests run and wait.
struct Level {
    set: QueueSet<&'static str>,
    running: Vec<(&'static str, Running)>,
    tickets: Vec<(&'static str, u64)>,
    now: Duration,
}

impl Level {
    fn new(shape: Shape, limit: usize) -> Self {
        Self {
            set: QueueSet::new(shape, limit, at(0)),
            running: Vec::new(),
            tickets: Vec::new(),
            now: at(0),
        }
    }

    fn come(&mut self, name: &'static str, seats: usize, flow: u64) -> &'static str {
        let (arrival, woken) = self.set.arrive(self.now, (seats, flow), || name);
        let said = match arrival {
            Arrival::Run(r) => {
                self.running.push((name, r));
                "runs"
            }
            Arrival::Wait(ticket) => {
                self.tickets.push((name, ticket));
                "waits"
            }
            Arrival::Refused(Refusal::QueueFull) => "queue-full",
            Arrival::Refused(_) => "concurrency-limit",
        };
        self.running.extend(woken);
        said
    }

    /// Ends a request; gives the names of those that run now because of it.
    fn end(&mut self, name: &str) -> Vec<&'static str> {
        let at = self.running.iter().position(|(n, _)| *n == name).unwrap();
        let (_, running) = self.running.remove(at);
        let woken = self.set.finish(self.now, &running);
        let names = woken.iter().map(|(n, _)| *n).collect();
        self.running.extend(woken);
        names
    }
}

#[test]
fn hands_are_distinct_and_stable() {
    for hash in [0, 1, 99, u64::MAX, 0x1234_5678_9abc_def0] {
        let hand = deal(hash, 64, 6);
        let mut sorted = hand.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), 6, "{hash}: {hand:?}");
        assert!(sorted.iter().all(|c| *c < 64));
        assert_eq!(hand, deal(hash, 64, 6));
    }
    // As upstream deals: remainders 3, 3, 3 of 10, 9 and 8.
    assert_eq!(deal(3 + 10 * (3 + 9 * 3), 10, 3), [3, 4, 5]);
    assert_eq!(deal(7, 1, 1), [0]);
}

#[test]
fn without_queues_what_does_not_fit_is_refused() {
    let mut level = Level::new(Shape::Reject, 2);
    assert_eq!(level.come("a", 1, 0), "runs");
    assert_eq!(level.come("b", 1, 0), "runs");
    assert_eq!(level.come("c", 1, 0), "concurrency-limit");
    level.end("a");
    assert_eq!(level.come("wide", 5, 0), "concurrency-limit");
    level.end("b");
    assert_eq!(level.come("wide", 5, 0), "runs");
}

#[test]
fn an_exempt_level_never_refuses() {
    let mut level = Level::new(Shape::Exempt, 0);
    for _ in 0..100 {
        assert_eq!(level.come("x", 3, 0), "runs");
    }
    let seen = level.set.take_demand(at(10));
    assert_eq!(seen.high, 300.0);
}

#[test]
fn requests_wait_up_to_the_queues_length_and_run_in_order() {
    let mut level = Level::new(
        Shape::Queue {
            queues: 1,
            hand: 1,
            length: 2,
        },
        1,
    );
    assert_eq!(level.come("a", 1, 0), "runs");
    assert_eq!(level.come("b", 1, 0), "waits");
    assert_eq!(level.come("c", 1, 0), "waits");
    assert_eq!(level.come("d", 1, 0), "queue-full");
    assert_eq!(level.end("a"), ["b"]);
    assert_eq!(level.end("b"), ["c"]);
    assert!(level.end("c").is_empty());
    assert!(level.set.is_idle());
}

#[test]
fn a_greedy_flow_does_not_hold_up_another() {
    let mut level = Level::new(QUEUES, 2);
    // Two flows whose hands share no queue.
    let (greedy, modest) = (0, 4 + 8 * 4);
    assert!(
        deal(greedy, 8, 2)
            .iter()
            .all(|q| !deal(modest, 8, 2).contains(q))
    );
    for name in ["g1", "g2", "g3", "g4", "g5", "g6"] {
        level.come(name, 1, greedy);
        level.now += at(1);
    }
    assert_eq!(level.come("m1", 1, modest), "waits");
    level.now += at(5);
    let mut next = level.end("g1");
    level.now += at(5);
    next.extend(level.end("g2"));
    assert!(next.contains(&"m1"), "{next:?}");
}

#[test]
fn a_wide_request_is_not_overtaken_for_ever() {
    let mut level = Level::new(
        Shape::Queue {
            queues: 1,
            hand: 1,
            length: 9,
        },
        3,
    );
    for name in ["a", "b", "c"] {
        assert_eq!(level.come(name, 1, 0), "runs");
    }
    assert_eq!(level.come("wide", 3, 0), "waits");
    assert_eq!(level.come("late", 1, 0), "waits");
    assert!(level.end("a").is_empty());
    assert!(level.end("b").is_empty());
    assert_eq!(level.end("c"), ["wide"]);
    assert_eq!(level.end("wide"), ["late"]);
}

#[test]
fn who_gives_up_leaves_no_trace() {
    let mut level = Level::new(QUEUES, 1);
    level.come("a", 1, 0);
    level.come("b", 1, 0);
    let (_, ticket) = level.tickets[0];
    assert!(level.set.leave(at(5), ticket));
    assert!(!level.set.leave(at(5), ticket));
    assert!(level.end("a").is_empty());
    assert!(level.set.is_idle());
    assert_eq!(level.set.seats_waiting, 0);
}

#[test]
fn more_seats_let_those_that_wait_run() {
    let mut level = Level::new(QUEUES, 1);
    level.come("a", 1, 0);
    level.come("b", 1, 0);
    let woken = level.set.configure(at(1), QUEUES, 4);
    assert_eq!(woken.len(), 1);
    assert_eq!((level.set.executing, level.set.waiting), (2, 0));
}
