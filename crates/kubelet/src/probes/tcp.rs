//! A port that accepts connections. Upstream: pkg/probe/tcp.

use std::time::Duration;

use super::Outcome;
use crate::http_client::{dial, join};

/// Connects.
pub async fn probe(host: &str, port: u16, limit: Duration) -> Outcome {
    let address = join(host, port);
    match tokio::time::timeout(limit, dial(host, port)).await {
        Ok(Ok(_)) => Outcome::Success,
        Ok(Err(e)) => Outcome::Failure(e),
        Err(_) => Outcome::Failure(format!("dial tcp {address}: i/o timeout")),
    }
}
