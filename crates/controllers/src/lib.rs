//! The controllers of kube-controller-manager: one file each, in folders named by API group.
//! Each runs under its own service account, reads the shared caches, and writes through the API.
//!
//! Mechanism (queue, retries, triggers) is in crate `reconciler`. A controller decides in pure functions
//! (plan) and then does what was decided (act). Upstream: pkg/controller, cmd/kube-controller-manager.

#![forbid(unsafe_code)]

mod admissionregistration;
mod apps;
mod autoscaling;
mod batch;
mod certificates;
mod common;
mod context;
mod core;
mod discovery;
pub mod limits;
mod networking;
mod node;
mod policy;
mod rbac;
mod resource;
mod storage;
mod storagemigration;

pub use context::{Context, Controller, Facts, Setup, Signing};

/// All controllers. Names are those of kube-controller-manager's `--controllers`.
pub static CONTROLLERS: &[&Controller] = &[
    &core::service_account_token::CONTROLLER,
    &apps::replica_set::CONTROLLER,
    &apps::deployment::CONTROLLER,
    &apps::daemon_set::CONTROLLER,
    &apps::stateful_set::CONTROLLER,
    &core::replication_controller::CONTROLLER,
    &core::garbage_collector::CONTROLLER,
    &batch::job::CONTROLLER,
    &batch::cron_job::CONTROLLER,
    &batch::ttl_after_finished::CONTROLLER,
    &core::namespace::CONTROLLER,
    &core::service_account::CONTROLLER,
    &core::resource_quota::CONTROLLER,
    &core::root_ca_certificate_publisher::CONTROLLER,
    &core::endpoints::CONTROLLER,
    &discovery::endpoint_slice::CONTROLLER,
    &discovery::endpoint_slice_mirroring::CONTROLLER,
    &node::ipam::CONTROLLER,
    &node::lifecycle::CONTROLLER,
    &node::taint_eviction::CONTROLLER,
    &node::pod_gc::CONTROLLER,
    &node::ttl::CONTROLLER,
    &rbac::cluster_role_aggregation::CONTROLLER,
    &storage::persistent_volume_binder::CONTROLLER,
    &storage::pvc_protection::CONTROLLER,
    &storage::pv_protection::CONTROLLER,
    &storage::vac_protection::CONTROLLER,
    &storage::ephemeral_volume::CONTROLLER,
    &policy::disruption::CONTROLLER,
    &autoscaling::horizontal_pod_autoscaler::CONTROLLER,
    &certificates::approver::CONTROLLER,
    &certificates::signer::CONTROLLER,
    &certificates::cleaner::CONTROLLER,
    &certificates::pod_certificate_cleaner::CONTROLLER,
    &certificates::trust_bundle_publisher::CONTROLLER,
    &core::bootstrap_signer::CONTROLLER,
    &core::token_cleaner::CONTROLLER,
    &networking::service_cidr::CONTROLLER,
    &storage::persistent_volume_expander::CONTROLLER,
    &storagemigration::storage_version_migrator::CONTROLLER,
    &admissionregistration::validating_admission_policy_status::CONTROLLER,
    &resource::resource_claim::CONTROLLER,
];

/// Runs all controllers until `context.shutdown` turns true. A controller whose resources the server
/// does not serve waits for them.
pub async fn run(context: Context, signing: Signing) {
    let mut running = tokio::task::JoinSet::new();
    for controller in CONTROLLERS {
        let signing = signing.clone();
        running.spawn(context::supervise(controller, context.clone(), signing));
    }
    while let Some(ended) = running.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a controller ended by a panic");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_a_controller_is_in_the_list() {
        let src = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let list = std::fs::read_to_string(src.join("lib.rs")).unwrap();
        let mut files = 0;
        for group in std::fs::read_dir(&src).unwrap().flatten() {
            let folder = group.path();
            let Ok(entries) = std::fs::read_dir(&folder) else {
                continue;
            };
            for path in entries.flatten().map(|e| e.path()) {
                let text = std::fs::read_to_string(&path).unwrap_or_default();
                if !text.contains("pub static CONTROLLER: Controller") {
                    continue;
                }
                files += 1;
                let name =
                    |p: &std::path::Path| p.file_stem().unwrap().to_str().unwrap().to_string();
                let line = format!("&{}::{}::CONTROLLER,", name(&folder), name(&path));
                assert!(list.contains(&line), "{line}");
            }
        }
        assert_eq!(files, CONTROLLERS.len());
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<&str> = CONTROLLERS.iter().map(|c| c.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), CONTROLLERS.len());
    }
}
