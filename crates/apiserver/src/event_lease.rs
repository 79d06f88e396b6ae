//! Leases under which events expire, shared by events that come close to each other.
//! Upstream: apiserver/pkg/storage/etcd3/lease_manager.go; `--event-ttl`.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::limits;

/// A lease that was granted.
#[derive(Clone, Copy, Debug)]
struct Granted {
    id: i64,
    /// Until when events are put under it.
    until: Instant,
    events: usize,
}

/// The last lease.
#[derive(Default)]
pub struct EventLease(Mutex<Option<Granted>>);

/// How long a lease is given to further events: a twentieth of their time, a minute at most.
fn shared(ttl: Duration) -> Duration {
    Duration::from_secs(ttl.as_secs() / 20).min(limits::EVENT_LEASE_SHARED)
}

// === EventLease ===

impl EventLease {
    /// The last lease, if one more event may have it.
    fn again(&self, now: Instant) -> Option<i64> {
        let mut last = self.0.lock();
        let last = last.as_mut()?;
        if now >= last.until || last.events >= limits::EVENT_LEASE_EVENTS {
            return None;
        }
        last.events += 1;
        Some(last.id)
    }

    /// The lease of an event that lives this long; 0, none, where events live forever.
    pub async fn take(&self, store: &store::Store, ttl: Duration) -> Result<i64, store::Error> {
        // Upstream counts whole seconds.
        let ttl = Duration::from_secs(ttl.as_secs());
        if ttl.is_zero() {
            return Ok(0);
        }
        let now = Instant::now();
        if let Some(id) = self.again(now) {
            return Ok(id);
        }
        let shared = shared(ttl);
        let id = store.lease_grant(0, ttl + shared).await?;
        *self.0.lock() = Some(Granted {
            id,
            until: now + shared,
            events: 1,
        });
        Ok(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_are_shared_for_a_minute_at_most() {
        for (ttl, expected) in [(3600, 60), (1200, 60), (100, 5), (19, 0), (1, 0)] {
            assert_eq!(
                shared(Duration::from_secs(ttl)),
                Duration::from_secs(expected)
            );
        }
    }

    #[test]
    fn a_lease_holds_so_many_events() {
        let lease = EventLease::default();
        let now = Instant::now();
        assert_eq!(lease.again(now), None);
        let until = now + Duration::from_secs(60);
        *lease.0.lock() = Some(Granted {
            id: 7,
            until,
            events: limits::EVENT_LEASE_EVENTS - 1,
        });
        assert_eq!(lease.again(until), None);
        assert_eq!(lease.again(now), Some(7));
        assert_eq!(lease.again(now), None);
    }
}
