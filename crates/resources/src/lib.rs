//! The built-in resources: one file per kind, one line per kind in `RESOURCES`.
//! Everything here is pure: defaults, preparation, validation, table rows.

#![forbid(unsafe_code)]

mod admissionregistration;
mod apiregistration;
mod apiserverinternal;
mod apps;
mod authentication;
mod authorization;
mod autoscaling;
mod batch;
#[allow(dead_code)] // The kinds that use all of it follow in the next commits.
mod cells;
mod certificates;
mod checks;
mod coordination;
mod core;
mod creators;
mod diff;
mod discovery;
mod enablement;
mod events;
mod fields;
mod flowcontrol;
mod late;
mod networking;
mod node;
mod policy;
mod rbac;
mod resource;
mod review;
mod scheduling;
mod storage;
mod storagemigration;
mod time;
mod versions;

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use machinery::Descriptor;
use versions::Older;

pub use creators::{Entry, creators};
pub use enablement::Enablement;
pub use late::LateReads;

/// What the kinds must know of the cluster.
#[derive(Clone)]
pub struct Options {
    /// Networks of cluster IPs as (address, prefix length), one of each family, the default first.
    pub service_networks: Vec<(IpAddr, u8)>,
    /// Ports that services may have on every node.
    pub node_ports: RangeInclusive<u16>,
    /// Must be given the caches before the first service is written.
    pub reads: LateReads,
    /// Which versions and resources are served.
    pub enablement: Enablement,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            service_networks: vec![(IpAddr::from([10, 96, 0, 0]), 12)],
            node_ports: 30000..=32767,
            reads: LateReads::default(),
            enablement: Enablement::default(),
        }
    }
}

/// Every built-in kind, in the order of discovery.
static RESOURCES: &[fn() -> Descriptor] = &[
    core::binding::resource,
    core::component_status::resource,
    core::config_map::resource,
    core::endpoints::resource,
    core::event::resource,
    core::limit_range::resource,
    core::namespace::resource,
    core::node::resource,
    core::persistent_volume::resource,
    core::persistent_volume_claim::resource,
    core::pod::resource,
    core::pod_template::resource,
    core::replication_controller::resource,
    core::resource_quota::resource,
    core::secret::resource,
    core::service::resource,
    core::service_account::resource,
    admissionregistration::mutating_admission_policy::resource,
    admissionregistration::mutating_admission_policy_binding::resource,
    admissionregistration::mutating_webhook_configuration::resource,
    admissionregistration::validating_admission_policy::resource,
    admissionregistration::validating_admission_policy_binding::resource,
    admissionregistration::validating_webhook_configuration::resource,
    apiregistration::api_service::resource,
    apiserverinternal::storage_version::resource,
    apps::controller_revision::resource,
    apps::daemon_set::resource,
    apps::deployment::resource,
    apps::replica_set::resource,
    apps::stateful_set::resource,
    authentication::self_subject_review::resource,
    authentication::token_review::resource,
    authorization::local_subject_access_review::resource,
    authorization::self_subject_access_review::resource,
    authorization::self_subject_rules_review::resource,
    authorization::subject_access_review::resource,
    autoscaling::horizontal_pod_autoscaler::resource,
    autoscaling::horizontal_pod_autoscaler_v1::resource,
    batch::cron_job::resource,
    batch::job::resource,
    certificates::certificate_signing_request::resource,
    certificates::cluster_trust_bundle::resource,
    certificates::pod_certificate_request::resource,
    coordination::lease::resource,
    coordination::lease_candidate::resource,
    discovery::endpoint_slice::resource,
    events::event::resource,
    flowcontrol::flow_schema::resource,
    flowcontrol::priority_level_configuration::resource,
    networking::ingress::resource,
    networking::ingress_class::resource,
    networking::ip_address::resource,
    networking::network_policy::resource,
    networking::service_cidr::resource,
    node::runtime_class::resource,
    policy::pod_disruption_budget::resource,
    rbac::cluster_role::resource,
    rbac::cluster_role_binding::resource,
    rbac::role::resource,
    rbac::role_binding::resource,
    resource::device_class::resource,
    resource::device_taint_rule::resource,
    resource::resource_claim::resource,
    resource::resource_claim_template::resource,
    resource::resource_pool_status_request::resource,
    resource::resource_slice::resource,
    scheduling::priority_class::resource,
    storage::csi_driver::resource,
    storage::csi_node::resource,
    storage::csi_storage_capacity::resource,
    storage::storage_class::resource,
    storage::volume_attachment::resource,
    storage::volume_attributes_class::resource,
    storagemigration::storage_version_migration::resource,
];

/// Other versions of kinds above, with since when they are deprecated, when they go, and whether v1 replaces them.
static OLDER: &[Older] = &[
    Older::new(
        admissionregistration::mutating_admission_policy::resource,
        "v1beta1",
        Some((37, 40, true)),
    ),
    Older::new(
        admissionregistration::mutating_admission_policy::resource,
        "v1alpha1",
        Some((35, 38, false)),
    ),
    Older::new(
        admissionregistration::mutating_admission_policy_binding::resource,
        "v1beta1",
        Some((37, 40, true)),
    ),
    Older::new(
        admissionregistration::mutating_admission_policy_binding::resource,
        "v1alpha1",
        Some((35, 38, false)),
    ),
    Older::new(
        certificates::cluster_trust_bundle::resource,
        "v1beta1",
        Some((37, 40, true)),
    ),
    Older::new(
        certificates::pod_certificate_request::resource,
        "v1beta1",
        Some((37, 40, true)),
    ),
    Older::new(
        coordination::lease_candidate::resource,
        "v1alpha2",
        Some((35, 38, false)),
    ),
    Older::new(
        resource::device_class::resource,
        "v1beta2",
        Some((36, 39, false)),
    ),
    Older::new(
        resource::device_class::resource,
        "v1beta1",
        Some((35, 38, false)),
    ),
    Older::new(resource::device_taint_rule::resource, "v1beta2", None),
    Older::new(
        resource::device_taint_rule::resource,
        "v1alpha3",
        Some((36, 39, false)),
    ),
    Older::new(
        resource::resource_claim::resource,
        "v1beta2",
        Some((36, 39, false)),
    ),
    Older::new(
        resource::resource_claim::resource,
        "v1beta1",
        Some((35, 38, false)),
    )
    .shaped(resource::v1beta1::CLAIM),
    Older::new(
        resource::resource_claim_template::resource,
        "v1beta2",
        Some((36, 39, false)),
    ),
    Older::new(
        resource::resource_claim_template::resource,
        "v1beta1",
        Some((35, 38, false)),
    )
    .shaped(resource::v1beta1::TEMPLATE),
    Older::new(
        resource::resource_slice::resource,
        "v1beta2",
        Some((36, 39, false)),
    ),
    Older::new(
        resource::resource_slice::resource,
        "v1beta1",
        Some((35, 38, false)),
    )
    .shaped(resource::v1beta1::SLICE),
    Older::new(
        storagemigration::storage_version_migration::resource,
        "v1beta1",
        Some((37, 40, true)),
    ),
];

/// All that can be served, the stored version of a kind before its others.
fn every() -> Vec<Descriptor> {
    let mut all: Vec<Descriptor> = RESOURCES.iter().map(|make| make()).collect();
    all.extend(OLDER.iter().map(Older::descriptor));
    all
}

/// The descriptors of the built-in kinds that are served.
pub fn all(options: &Options) -> Vec<Descriptor> {
    let mut all = every();
    all.retain(|d| options.enablement.serves(&d.group, &d.version, &d.resource));
    let services = core::service::allocate::Services::new(
        &options.service_networks,
        &options.node_ports,
        options.reads.clone(),
    );
    let core_services = |d: &&mut Descriptor| d.group.is_empty() && d.resource == "services";
    for d in all.iter_mut().filter(core_services) {
        d.allocators.push(Arc::new(services.clone()));
    }
    all
}

/// The objects every cluster has from its start on, besides namespaces and RBAC: the priority classes
/// of the system, priority levels and flow schemas.
pub fn bootstrap_objects() -> Vec<serde_json::Value> {
    let mut out = scheduling::priority_class::system_objects();
    out.extend(flowcontrol::bootstrap::objects());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_a_kind_is_in_the_list() {
        let src = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let list = std::fs::read_to_string(src.join("lib.rs")).expect("lib.rs");
        let mut files = 0;
        for group in std::fs::read_dir(&src)
            .expect("src")
            .flatten()
            .filter(|e| e.path().is_dir())
        {
            for file in std::fs::read_dir(group.path()).expect("group").flatten() {
                let text = std::fs::read_to_string(file.path()).unwrap_or_default();
                if !text.contains("pub fn resource()") {
                    continue;
                }
                files += 1;
                let path = file.path();
                let stem = path.file_stem().and_then(|s| s.to_str()).expect("a name");
                let group = group.file_name().into_string().expect("a name");
                let line = format!("{group}::{stem}::resource,");
                assert!(list.contains(&line), "{line} is missing in RESOURCES");
            }
        }
        assert_eq!(files, RESOURCES.len());
    }

    #[test]
    fn paths_and_prefixes_are_unique_and_rows_fit_columns() {
        let all = every();
        for (i, d) in all.iter().enumerate() {
            let columns = d.strategy.columns().len();
            let row = d
                .strategy
                .row(&serde_json::json!({}), jiff::Timestamp::UNIX_EPOCH);
            assert_eq!(row.len(), columns, "{d:?}");
            for other in &all[i + 1..] {
                assert!(
                    (&d.group, &d.version, &d.resource)
                        != (&other.group, &other.version, &other.resource),
                    "{d:?} twice"
                );
            }
        }
    }

    /// The group whose kind is in crate `apiserver`.
    const ELSEWHERE: &str = "apiextensions.k8s.io";

    #[test]
    fn kinds_are_named_as_upstream_names_them() {
        let table = include_str!("../data/discovery.tsv");
        let all = all(&Options::default());
        let mut rows = 0;
        for line in table.lines().filter(|l| !l.starts_with('#')) {
            let c: Vec<&str> = line.split('\t').collect();
            let [group, version, resource] = [c[0], c[1], c[2]];
            let here = all
                .iter()
                .find(|d| d.group == group && d.version == version && d.resource == resource);
            let Some(d) = here else {
                assert_eq!(group, ELSEWHERE, "missing: {group}/{version} {resource}");
                continue;
            };
            rows += 1;
            let verbs = match (c[8], d.verbs.len()) {
                ("full", n) => n == 8,
                (text, n) => text.split(',').count() == n,
            };
            let mut subs: Vec<&str> = d.subresources.iter().map(|s| &*s.name).collect();
            subs.sort_unstable();
            let name = |s: &str| s.split([':', '=']).next().map(str::to_string);
            let expected: Vec<String> = c[9].split(' ').filter_map(name).collect();
            assert_eq!(
                [
                    &*d.kind,
                    &*d.singular,
                    &d.short_names.join(","),
                    &d.categories.join(","),
                    if d.namespaced() { "y" } else { "n" },
                    &subs.join(","),
                ],
                [c[3], c[4], c[5], c[6], c[7], &expected.join(",")],
                "{group}/{version} {resource}"
            );
            assert!(verbs, "{group}/{version} {resource}: {:?}", d.verbs);
        }
        let known = all.len();
        assert_eq!(rows, known, "kinds that upstream does not serve");
    }

    #[test]
    fn other_versions_are_seen_through_the_stored_one() {
        let every = every();
        let of = |version: &str| {
            let named = |d: &&Descriptor| d.resource == "resourceclaims" && d.version == version;
            every.iter().find(named).expect("served")
        };
        let (old, new) = (of("v1beta1"), of("v1"));
        let mut claim = serde_json::json!({"apiVersion": "resource.k8s.io/v1beta1", "spec": {"devices":
            {"requests": [{"name": "r", "deviceClassName": "c"}]}}});
        old.strategy.set_defaults(&mut claim);
        let request = &claim["spec"]["devices"]["requests"][0];
        assert_eq!(request["allocationMode"], "ExactCount");
        old.strategy.to_stored(&mut claim);
        assert_eq!(claim["apiVersion"], "resource.k8s.io/v1");
        let mut causes = machinery::Causes::new();
        new.strategy.validate(&claim, &mut causes);
        assert!(causes.is_empty());
        assert_eq!(
            old.strategy.deprecation(),
            Some(
                "resource.k8s.io/v1beta1 ResourceClaim is deprecated in v1.35+, unavailable in v1.38+"
            )
        );
    }
}
