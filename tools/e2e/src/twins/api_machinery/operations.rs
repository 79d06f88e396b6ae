//! Twins that run the sequence of API operations: flowcontrol.go, mutatingadmissionpolicy.go,
//! validatingadmissionpolicy.go, storage_version_migration.go.

use anyhow::Result;
use serde_json::json;

use super::super::Twin;
use crate::exercise::Exercise;
use crate::operations::Operations;
use crate::rest::Cx;

pub const TWINS: &[Twin] = &[
    twin!(
        "[sig-api-machinery] API priority and fairness should support FlowSchema API operations [Conformance]",
        "apf",
        flow_schema
    ),
    twin!(
        "[sig-api-machinery] API priority and fairness should support PriorityLevelConfiguration API operations [Conformance]",
        "apf",
        priority_level
    ),
    twin!(
        "[sig-api-machinery] MutatingAdmissionPolicy [Privileged:ClusterAdmin] should support MutatingAdmissionPolicy API operations [Conformance]",
        "mutating-admission-policy",
        mutating_policy
    ),
    twin!(
        "[sig-api-machinery] MutatingAdmissionPolicy [Privileged:ClusterAdmin] should support MutatingAdmissionPolicyBinding API operations [Conformance]",
        "mutating-admission-policy",
        mutating_binding
    ),
    twin!(
        "[sig-api-machinery] ValidatingAdmissionPolicy [Privileged:ClusterAdmin] should support ValidatingAdmissionPolicy API operations [Conformance]",
        "validating-admission-policy",
        validating_policy
    ),
    twin!(
        "[sig-api-machinery] ValidatingAdmissionPolicy [Privileged:ClusterAdmin] should support ValidatingAdmissionPolicyBinding API operations [Conformance]",
        "validating-admission-policy",
        validating_binding
    ),
    twin!(
        "[sig-api-machinery] StorageVersionMigration CRUD Tests storagemigration.k8s.io/v1 StorageVersionMigration [Conformance]",
        "storage-version-migration",
        storage_version_migration
    ),
];

const FLOW: &str = "flowcontrol.apiserver.k8s.io/v1";
const ADMISSION: &str = "admissionregistration.k8s.io/v1";

async fn flow_schema(cx: Cx) -> Result<()> {
    let subject = json!({"kind": "User", "user": {"name": "example-e2e-non-existent-user"}});
    let rule = json!({"subjects": [subject],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]});
    Operations {
        group: FLOW,
        plural: "flowschemas",
        kind: "FlowSchema",
        resources: &["flowschemas", "flowschemas/status"],
        generate_name: "e2e-example-fs-",
        label: "example-e2e-fs-label",
        spec: json!({"matchingPrecedence": 10_000, "distinguisherMethod": {"type": "ByUser"},
            "priorityLevelConfiguration": {"name": "global-default"}, "rules": [rule]}),
        patch: json!({"matchingPrecedence": 9999}),
        update: json!({"matchingPrecedence": 9000}),
        condition: Some(json!({"type": "PatchStatusFailed", "status": "False", "reason": "e2e"})),
    }
    .run(&cx)
    .await
}

async fn priority_level(cx: Cx) -> Result<()> {
    Operations {
        group: FLOW,
        plural: "prioritylevelconfigurations",
        kind: "PriorityLevelConfiguration",
        resources: &[
            "prioritylevelconfigurations",
            "prioritylevelconfigurations/status",
        ],
        generate_name: "e2e-example-pl-",
        label: "example-e2e-pl-label",
        spec: json!({"type": "Limited",
            "limited": {"nominalConcurrencyShares": 2, "limitResponse": {"type": "Reject"}}}),
        patch: json!({"limited": {"nominalConcurrencyShares": 4}}),
        update: json!({"limited": {"nominalConcurrencyShares": 6}}),
        condition: Some(json!({"type": "PatchStatusFailed", "status": "False", "reason": "e2e"})),
    }
    .run(&cx)
    .await
}

/// Matches the creation of Deployments.
fn constraints() -> serde_json::Value {
    json!({"resourceRules": [{"operations": ["CREATE"], "apiGroups": ["apps"], "apiVersions": ["v1"],
        "resources": ["deployments"]}]})
}

async fn mutating_policy(cx: Cx) -> Result<()> {
    let expression = "Object{spec: Object.spec{replicas: 100}}";
    Operations {
        group: ADMISSION,
        plural: "mutatingadmissionpolicies",
        kind: "MutatingAdmissionPolicy",
        resources: &["mutatingadmissionpolicies"],
        generate_name: "e2e-example-map-",
        label: "example-e2e-map-label",
        spec: json!({"reinvocationPolicy": "Never", "matchConstraints": constraints(),
            "mutations": [{"patchType": "ApplyConfiguration",
                "applyConfiguration": {"expression": expression}}]}),
        patch: json!({"reinvocationPolicy": "IfNeeded"}),
        update: json!({"reinvocationPolicy": "Never"}),
        condition: None,
    }
    .run(&cx)
    .await
}

async fn mutating_binding(cx: Cx) -> Result<()> {
    Operations {
        group: ADMISSION,
        plural: "mutatingadmissionpolicybindings",
        kind: "MutatingAdmissionPolicyBinding",
        resources: &["mutatingadmissionpolicybindings"],
        generate_name: "e2e-example-mapb-",
        label: "example-e2e-mapb-label",
        spec: json!({"policyName": "replicalimit-policy.example.com"}),
        patch: json!({"policyName": "new-policy.example.com"}),
        update: json!({"policyName": "replicalimit-policy.example.com"}),
        condition: None,
    }
    .run(&cx)
    .await
}

async fn validating_policy(cx: Cx) -> Result<()> {
    Operations {
        group: ADMISSION,
        plural: "validatingadmissionpolicies",
        kind: "ValidatingAdmissionPolicy",
        resources: &[
            "validatingadmissionpolicies",
            "validatingadmissionpolicies/status",
        ],
        generate_name: "e2e-example-vap-",
        label: "example-e2e-vap-label",
        spec: json!({"matchConstraints": constraints(),
            "validations": [{"expression": "object.spec.replicas <= 100"}]}),
        patch: json!({"failurePolicy": "Ignore"}),
        update: json!({"failurePolicy": "Fail"}),
        condition: Some(
            json!({"type": "PatchStatusFailed", "status": "False", "reason": "e2e",
            "message": "Set from an e2e test", "lastTransitionTime": "2024-01-01T00:00:00Z"}),
        ),
    }
    .run(&cx)
    .await
}

async fn validating_binding(cx: Cx) -> Result<()> {
    Operations {
        group: ADMISSION,
        plural: "validatingadmissionpolicybindings",
        kind: "ValidatingAdmissionPolicyBinding",
        resources: &["validatingadmissionpolicybindings"],
        generate_name: "e2e-example-vapb-",
        label: "example-e2e-vapb-label",
        spec: json!({"policyName": "replicalimit-policy.example.com", "validationActions": ["Deny"]}),
        patch: json!({"validationActions": ["Warn"]}),
        update: json!({"validationActions": ["Deny"]}),
        condition: None,
    }
    .run(&cx)
    .await
}

async fn storage_version_migration(cx: Cx) -> Result<()> {
    let label = "test.storagemigration.example.com";
    let condition = json!({"type": "TestCondition", "status": "True", "reason": "TestReason",
        "message": "TestMessage", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    Exercise {
        group: "storagemigration.k8s.io/v1",
        plural: "storageversionmigrations",
        kind: "StorageVersionMigration",
        namespaced: false,
        name: format!("test-{}", cx.namespace),
        object: json!({"spec": {"resource": {"group": "", "resource": "foo"}}}),
        update: json!({"metadata": {"labels": {label: "test"}}}),
        json_patch: json!([{"op": "add", "path": format!("/metadata/labels/{label}"), "value": "test"}]),
        status: Some(json!({"conditions": [condition]})),
        status_json_patch: json!([{"op": "add", "path": "/status/conditions", "value": [condition]}]),
    }
    .run(&cx)
    .await
}
