//! The pod security level that upstream's suites give their namespaces, by the base of the namespace's name.

const BASELINE: &[&str] = &[
    "aggregator",
    "controllerrevisions",
    "crd-webhook",
    "cronjob",
    "daemonsets",
    "deployment",
    "field-validation",
    "gc",
    "kubectl",
    "kubectl-logs",
    "mutating-admission-policy",
    "namespacedeletion",
    "namespaces",
    "nsdeletetest",
    "projected-clustertrustbundle",
    "projected-podcertificate",
    "replicaset",
    "replication-controller",
    "resourcequota",
    "svcaccounts",
    "tables",
    "validating-admission-policy",
    "webhook",
];

const RESTRICTED: &[&str] = &["podcertificaterequest", "subjectreview"];

/// The level of a suite; suites that are not listed run privileged pods.
pub fn of(base: &str) -> &'static str {
    if RESTRICTED.contains(&base) {
        "restricted"
    } else if BASELINE.contains(&base) {
        "baseline"
    } else {
        "privileged"
    }
}
