//! Names, labels and volumes that make a pod the pod of its ordinal.
//! Upstream: pkg/controller/statefulset/stateful_set_utils.go.

use api::apps::v1::StatefulSet;
use api::core::v1::{PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume};

use super::REVISION;
use crate::common::object::{self, Object};
use crate::common::pods;

const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

/// The ordinal in a pod's name, if it is one of the set's.
pub fn ordinal(set: &str, pod: &str) -> Option<i32> {
    let tail = pod.strip_prefix(set)?.strip_prefix('-')?;
    tail.parse()
        .ok()
        .filter(|n: &i32| *n >= 0 && n.to_string() == tail)
}

/// The name of an ordinal's claim.
pub fn claim_name(set: &StatefulSet, template: &str, ordinal: i32) -> String {
    format!("{template}-{}-{ordinal}", set.name())
}

/// The pod of an ordinal.
pub fn pod(set: &StatefulSet, template: &PodTemplateSpec, revision: &str, ordinal: i32) -> Pod {
    let mut pod = pods::from_template(template, set.namespace(), object::controller_ref(set));
    let name = format!("{}-{ordinal}", set.name());
    pod.metadata.name = Some(name.clone());
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(REVISION.into(), revision.into());
    identify(&mut pod, ordinal);
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(name);
    spec.subdomain = set.spec.service_name.clone().filter(|s| !s.is_empty());
    let mut volumes: Vec<Volume> = Vec::new();
    for claim in set.spec.volume_claim_templates.iter().flatten() {
        volumes.push(Volume {
            name: claim.name().into(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: claim_name(set, claim.name(), ordinal),
                read_only: Some(false),
            }),
            ..Volume::default()
        });
    }
    let others = spec.volumes.take().unwrap_or_default();
    let replaced = |v: &Volume| volumes.iter().any(|c| c.name == v.name);
    let others: Vec<Volume> = others.into_iter().filter(|v| !replaced(v)).collect();
    volumes.extend(others);
    spec.volumes = (!volumes.is_empty()).then_some(volumes);
    pod
}

fn identify(pod: &mut Pod, ordinal: i32) {
    let name = pod.name().to_string();
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(POD_NAME.into(), name);
    labels.insert(POD_INDEX.into(), ordinal.to_string());
}

/// The pod with its labels put right, if they are not.
pub fn corrected(pod: &Pod, ordinal: i32) -> Option<Pod> {
    let mut wanted = pod.clone();
    identify(&mut wanted, ordinal);
    (wanted.labels() != pod.labels()).then_some(wanted)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ordinals_are_read_exactly() {
        assert_eq!(ordinal("web", "web-0"), Some(0));
        assert_eq!(ordinal("web", "web-12"), Some(12));
        for wrong in ["web", "web-", "web-01", "web-x", "web-1-2", "other-1"] {
            assert_eq!(ordinal("web", wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_pod_has_its_names_and_its_claims_volumes_first() {
        let set: StatefulSet = serde_json::from_value(
            json!({"metadata": {"name": "web", "namespace": "d"}, "spec": {
            "selector": {}, "serviceName": "svc",
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [], "volumes": [
                {"name": "data", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}]}},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}]}}),
        )
        .unwrap();
        let p = pod(&set, &set.spec.template, "web-abc", 3);
        assert_eq!(p.name(), "web-3");
        assert_eq!(p.labels()[REVISION], "web-abc");
        assert_eq!(p.labels()[POD_INDEX], "3");
        let spec = p.spec.as_ref().unwrap();
        assert_eq!(
            (spec.hostname.as_deref(), spec.subdomain.as_deref()),
            (Some("web-3"), Some("svc"))
        );
        let volumes = spec.volumes.as_ref().unwrap();
        assert_eq!(volumes.len(), 2);
        assert_eq!(
            volumes[0]
                .persistent_volume_claim
                .as_ref()
                .unwrap()
                .claim_name,
            "data-web-3"
        );
        assert_eq!(corrected(&p, 3), None);
    }
}
