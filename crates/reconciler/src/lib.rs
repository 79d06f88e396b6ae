//! How every controller runs: a queue of keys without duplicates, retries with back-off, triggers from
//! the shared caches, bounded workers, a leader gate. Upstream: client-go util/workqueue and the run
//! loops that each controller of kube-controller-manager repeats.
//!
//! A reconciler is given a key, never an event. The overall bucket of upstream's rate limiter (10/s,
//! burst 100) is left out: keys are in one process with the server, only a key's own failures slow it.

#![forbid(unsafe_code)]

mod clock;
mod error;
mod key;
pub mod limits;
mod queue;
mod run;
mod stats;
mod trigger;

pub use clock::Clock;
pub use error::{During, Error};
pub use key::Key;
pub use queue::{Backoff, Queue};
pub use run::{Env, Next, Reconcile, Reconciler, Source, Waker};
pub use stats::{Board, Numbers, Stats};
pub use trigger::{Event, Trigger, Wake, owners};
