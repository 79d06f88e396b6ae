//! Where connections from the network are served: a runtime of one worker for each processor. A connection stays with its
//! worker, so that nobody is woken to look for work that is done meanwhile; on a runtime of several workers that is a
//! write, a switch and a search for most requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::{Builder, Handle, Runtime};

use crate::limits;

/// The runtimes. They end when the last owner is gone; each connection is one.
pub struct Lanes(Vec<Lane>);

struct Lane {
    /// There until `drop`.
    runtime: Option<Runtime>,
    connections: AtomicUsize,
}

/// A connection's place in a lane, counted as long as it is kept.
pub struct Place {
    lanes: Arc<Lanes>,
    at: usize,
}

// === Lanes ===

impl Lanes {
    /// One for each processor, within bounds.
    pub fn start() -> std::io::Result<Arc<Self>> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self::start_some(processors.min(limits::LANES))
    }

    fn start_some(n: usize) -> std::io::Result<Arc<Self>> {
        let all: std::io::Result<Vec<Lane>> = (0..n).map(|_| Lane::start()).collect();
        Ok(Arc::new(Self(all?)))
    }

    /// A place where the fewest connections are.
    pub fn place(self: &Arc<Self>) -> Place {
        let count = |at: &usize| self.0[*at].connections.load(Ordering::Relaxed);
        let at = (0..self.0.len()).min_by_key(count).unwrap_or(0);
        self.0[at].connections.fetch_add(1, Ordering::Relaxed);
        let lanes = self.clone();
        Place { lanes, at }
    }
}

impl Lane {
    fn start() -> std::io::Result<Self> {
        // Not of the kind without workers: large bodies are read beside the worker (`filters::apart`).
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("api-lane")
            .enable_all()
            .build()?;
        runtime.spawn(tick());
        Ok(Self {
            runtime: Some(runtime),
            connections: AtomicUsize::new(0),
        })
    }
}

/// A timer that ends before the worker would look for timers again wakes it, even from itself: a write and a look at the
/// sockets for each request's deadline, unless there is a timer that ends earlier.
async fn tick() {
    loop {
        tokio::time::sleep(limits::LANE_TICK).await;
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // The last owner is a task, which must not wait.
            runtime.shutdown_background();
        }
    }
}

impl Place {
    /// Where the connection is served.
    pub fn handle(&self) -> Handle {
        let lane = self.lanes.0[self.at].runtime.as_ref();
        lane.map_or_else(Handle::current, |r| r.handle().clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.lanes.0[self.at]
            .connections
            .fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn connections_go_where_the_fewest_are() {
        let lanes = Lanes::start_some(3).expect("threads");
        let counts = || -> Vec<usize> {
            let of = |l: &Lane| l.connections.load(Ordering::Relaxed);
            lanes.0.iter().map(of).collect()
        };
        let mut places: Vec<Place> = (0..7).map(|_| lanes.place()).collect();
        assert_eq!(counts(), [3, 2, 2]);
        // The second one's are the places 1 and 4.
        places.remove(4);
        places.remove(1);
        assert_eq!(counts(), [3, 0, 2]);
        let next = [lanes.place(), lanes.place()];
        assert_eq!(counts(), [3, 2, 2]);
        drop((places, next));
        assert_eq!(counts(), [0, 0, 0]);
    }

    #[tokio::test]
    async fn a_lane_runs_tasks_and_ends_within_one_of_its_own() {
        let lanes = Lanes::start_some(1).expect("threads");
        let place = lanes.place();
        let (told, tell) = (lanes.0[0].connections.load(Ordering::Relaxed), lanes);
        let ran = place.handle().spawn(async move {
            let name = std::thread::current().name().map(str::to_string);
            // A runtime that waited for its tasks here would panic.
            drop((tell, place));
            name
        });
        assert_eq!(told, 1);
        match ran.await {
            Ok(name) => assert_eq!(name.as_deref(), Some("api-lane")),
            // The lane ended before it could tell.
            Err(e) => assert!(e.is_cancelled(), "{e}"),
        }
    }
}
