//! kube-scheduler: finds a node for every pod that names this scheduler. Upstream: pkg/scheduler with
//! its default profile. Plugins live in `plugins`, one file each.
//!
//! Not done yet: extenders, several profiles, allocation of devices (DynamicResources), gangs, metrics.

#![forbid(unsafe_code)]

mod act;
pub mod cache;
pub mod cycle;
pub mod diagnosis;
pub mod event;
mod events;
mod feeds;
pub mod framework;
pub mod labels;
pub mod limits;
pub mod node;
pub mod nominator;
pub mod plugins;
pub mod pod;
pub mod queue;
pub mod resource;
mod scheduler;
pub mod snapshot;
mod taint;
#[cfg(test)]
mod testing;
pub mod world;

use std::time::Duration;

use client::Client;
use tokio::sync::watch;

/// What can be set. Defaults are KubeSchedulerConfiguration's.
#[derive(Clone, Debug)]
pub struct Config {
    /// Pods with this `spec.schedulerName` are scheduled, others ignored.
    pub scheduler_name: String,
    /// `percentageOfNodesToScore`: 0 adapts to the size of the cluster.
    pub percentage_of_nodes_to_score: usize,
    /// `podInitialBackoffSeconds`.
    pub backoff_initial: Duration,
    /// `podMaxBackoffSeconds`.
    pub backoff_max: Duration,
    /// Host name, for the `reportingInstance` of events.
    pub host: String,
}

impl Config {
    /// The default configuration on a host.
    pub fn new(host: &str) -> Self {
        Self {
            scheduler_name: "default-scheduler".into(),
            percentage_of_nodes_to_score: 0,
            backoff_initial: limits::BACKOFF_INITIAL,
            backoff_max: limits::BACKOFF_MAX,
            host: host.into(),
        }
    }
}

/// Why the scheduler does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("follow pods and nodes")]
    Cache(#[source] client::NotServed),
}

/// Schedules pods until `shutdown` becomes true. The client's identity is `system:kube-scheduler`.
pub async fn run(
    client: Client,
    config: Config,
    shutdown: watch::Receiver<bool>,
) -> Result<(), Error> {
    scheduler::run(client, config, shutdown).await
}
