//! The members of an etcd cluster, each with a connection of its own: calls go to them in turn, and past one that is silent,
//! gone or without a leader until it answers again. Upstream: etcd client/v3, which has gRPC balance in turn.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use hyper_util::client::legacy::connect::HttpConnector;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::limits;

/// How often a member that is left out is asked.
const PROBE_EVERY: Duration = Duration::from_millis(500);

/// What etcd says whose majority is out of its reach.
const NO_LEADER: &str = "etcdserver: no leader";

pub struct Members {
    all: Vec<Member>,
    next: AtomicUsize,
}

struct Member {
    channel: Channel,
    up: AtomicBool,
}

impl Members {
    pub fn new(endpoints: &[Endpoint], connect: Duration) -> Arc<Self> {
        let member = |e: &Endpoint| Member {
            channel: e.connect_with_connector_lazy(connector(connect)),
            up: AtomicBool::new(true),
        };
        Arc::new(Self {
            all: endpoints.iter().map(member).collect(),
            next: AtomicUsize::new(0),
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// The member whose turn it is among those that are up, or among all where none is.
    pub fn next(&self) -> (usize, Channel) {
        self.next_but(None)
    }

    /// The same, past one where another is up.
    pub fn next_but(&self, past: Option<usize>) -> (usize, Channel) {
        let begin = self.next.fetch_add(1, Ordering::Relaxed);
        let all = self.all.iter().enumerate();
        let mut up: Vec<bool> = all.map(|(n, m)| m.is_up() && past != Some(n)).collect();
        if let (Some(n), true) = (past, !up.contains(&true)) {
            up[n] = self.all[n].is_up();
        }
        let n = turn(begin, &up);
        (n, self.all[n].channel.clone())
    }

    /// Leaves a member out from now on if that is what its error means; `probe` tells when it answers again.
    pub fn failed<P, F>(self: &Arc<Self>, n: usize, status: &Status, probe: P)
    where
        P: Fn(Channel) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), Status>> + Send + 'static,
    {
        if self.all.len() < 2
            || !is_of_member(status)
            || !self.all[n].up.swap(false, Ordering::Relaxed)
        {
            return;
        }
        tracing::warn!(member = n, %status, "etcd member is left out until it answers");
        tokio::spawn(until_up(Arc::downgrade(self), n, probe));
    }
}

impl Member {
    fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }
}

/// Asks a member until it answers or nobody needs it.
async fn until_up<P, F>(members: Weak<Members>, n: usize, probe: P)
where
    P: Fn(Channel) -> F,
    F: Future<Output = Result<(), Status>>,
{
    loop {
        tokio::time::sleep(PROBE_EVERY).await;
        let Some(channel) = members.upgrade().map(|m| m.all[n].channel.clone()) else {
            return;
        };
        let answered = tokio::time::timeout(limits::ETCD_CALL, probe(channel)).await;
        let Some(members) = members.upgrade() else {
            return;
        };
        if let Ok(Ok(())) = answered {
            tracing::info!(member = n, "etcd member answers again");
            members.all[n].up.store(true, Ordering::Relaxed);
            return;
        }
    }
}

/// The next that is up, from a place on; the place itself where none is.
fn turn(begin: usize, up: &[bool]) -> usize {
    let mut places = (0..up.len()).map(|i| begin.wrapping_add(i) % up.len());
    places.find(|n| up[*n]).unwrap_or(begin % up.len().max(1))
}

/// Whether the member refused because it knows no leader: it has handed nothing on.
pub fn is_leaderless(status: &Status) -> bool {
    status.code() == Code::Unavailable && status.message() == NO_LEADER
}

/// Whether the connection broke or was not made, or the member is cut off from the others.
fn is_of_member(status: &Status) -> bool {
    let broken = std::error::Error::source(status).is_some();
    broken || is_leaderless(status)
}

/// Connections that break when what was sent is not acknowledged by the other machine for a while.
fn connector(connect: Duration) -> HttpConnector {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(connect));
    http.set_tcp_user_timeout(Some(limits::ETCD_SILENT));
    http
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_go_in_turn_and_past_those_that_are_down() {
        let three = |up: [bool; 3]| [0, 1, 2, 3].map(|n| turn(n, &up));
        assert_eq!(three([true, true, true]), [0, 1, 2, 0]);
        assert_eq!(three([true, false, true]), [0, 2, 2, 0]);
        assert_eq!(three([false, true, false]), [1, 1, 1, 1]);
        // One of those that are down may be up again.
        assert_eq!(three([false, false, false]), [0, 1, 2, 0]);
    }

    #[test]
    fn only_what_a_member_cannot_help_leaves_it_out() {
        assert!(is_of_member(&Status::unavailable(NO_LEADER)));
        let busy = Status::unavailable("etcdserver: request timed out");
        assert!(!is_of_member(&busy));
        let gone = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        assert!(is_of_member(&Status::from_error(gone.into())));
    }
}
