//! Where built-in groups and versions stand in discovery: what their APIServices say.
//! Upstream: controlplane/apiserver/aggregator.go, cmd/kube-apiserver/app/aggregator.go.

/// The priority of a group, and of a version within it.
pub type Priority = (i64, i64);

/// Of groups and versions that CRDs define.
pub const CUSTOM: Priority = (1_000, 100);
/// Of the APIServices' own group, which comes first and has no APIService itself.
const OWN: Priority = (20_001, 0);

/// A group, its priority, and its versions with theirs.
type Group = (&'static str, i64, &'static [(&'static str, i64)]);

/// Upstream's table; what is missing there gets no APIService.
static BUILT_IN: &[Group] = &[
    ("", 18_000, &[("v1", 1)]),
    ("apps", 17_800, &[("v1", 15)]),
    ("events.k8s.io", 17_750, &[("v1", 15)]),
    (
        "authentication.k8s.io",
        17_700,
        &[("v1", 15), ("v1beta1", 9), ("v1alpha1", 1)],
    ),
    ("authorization.k8s.io", 17_600, &[("v1", 15)]),
    ("autoscaling", 17_500, &[("v2", 30), ("v1", 15)]),
    ("batch", 17_400, &[("v1", 15)]),
    (
        "certificates.k8s.io",
        17_300,
        &[("v1", 15), ("v1beta1", 9), ("v1alpha1", 1)],
    ),
    ("networking.k8s.io", 17_200, &[("v1", 15), ("v1beta1", 9)]),
    ("policy", 17_100, &[("v1", 15)]),
    ("rbac.authorization.k8s.io", 17_000, &[("v1", 15)]),
    (
        "storage.k8s.io",
        16_800,
        &[("v1", 15), ("v1beta1", 9), ("v1alpha1", 1)],
    ),
    (
        "admissionregistration.k8s.io",
        16_700,
        &[("v1", 15), ("v1beta1", 12), ("v1alpha1", 9)],
    ),
    ("apiextensions.k8s.io", 16_700, &[("v1", 15)]),
    (
        "scheduling.k8s.io",
        16_600,
        &[("v1", 15), ("v1beta1", 9), ("v1alpha3", 3)],
    ),
    (
        "coordination.k8s.io",
        16_500,
        &[("v1", 15), ("v1beta1", 13), ("v1alpha2", 12)],
    ),
    ("node.k8s.io", 16_300, &[("v1", 15)]),
    ("discovery.k8s.io", 16_200, &[("v1", 15)]),
    (
        "resource.k8s.io",
        16_200,
        &[("v1", 21), ("v1beta2", 15), ("v1beta1", 9), ("v1alpha3", 1)],
    ),
    ("flowcontrol.apiserver.k8s.io", 16_100, &[("v1", 21)]),
    ("internal.apiserver.k8s.io", 16_000, &[("v1alpha1", 9)]),
    (
        "storagemigration.k8s.io",
        15_800,
        &[("v1", 15), ("v1beta1", 9)],
    ),
    ("lifecycle.k8s.io", 15_700, &[("v1alpha1", 1)]),
];

/// Of a group version of upstream's table.
pub fn built_in(group: &str, version: &str) -> Option<Priority> {
    let (_, of_group, versions) = BUILT_IN.iter().find(|(g, ..)| *g == group)?;
    let (_, of_version) = versions.iter().find(|(v, _)| *v == version)?;
    Some((*of_group, *of_version))
}

/// Of whatever is served here.
pub fn local(group: &str, version: &str) -> Priority {
    if group == super::GROUP {
        return OWN;
    }
    built_in(group, version).unwrap_or(CUSTOM)
}
