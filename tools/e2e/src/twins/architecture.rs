//! Twins of [sig-architecture].

use std::time::Duration;

use anyhow::{Result, ensure};

use super::Twin;
use crate::rest::Cx;
use crate::waits;

pub const TWINS: &[Twin] = &[twin!(
    "[sig-architecture] Conformance Tests should have at least two untainted nodes [Conformance]",
    "conformance-tests",
    two_nodes
)];

async fn two_nodes(cx: Cx) -> Result<()> {
    waits::nodes_schedulable(&cx, Duration::from_secs(600)).await?;
    let nodes = cx.items(waits::SCHEDULABLE).await?;
    let usable = nodes.iter().filter(|n| waits::node_is_usable(n)).count();
    ensure!(
        usable >= 2,
        "{usable} untainted nodes, conformance needs two"
    );
    Ok(())
}
