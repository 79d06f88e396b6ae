//! What is sent and remembered: apiserver/tests/it/access.rs has a webhook.

use super::*;

fn pods() -> Attributes {
    Attributes {
        user: User::new("jane", &["dev"]),
        verb: "list".into(),
        version: "v1".into(),
        resource: "pods".into(),
        namespace: "d".into(),
        is_resource: true,
        field_selector: Some("spec.nodeName=n,status.phase!=Failed".into()),
        label_selector: Some("a in (b,c),!d,e,f>1".into()),
        ..Attributes::default()
    }
}

#[test]
fn reviews_are_written_as_upstream_writes_them() {
    let spec = spec(&pods());
    assert_eq!(spec["resourceAttributes"]["group"], "");
    let selectors = json!({
        "fieldSelector": {"requirements": [
            {"key": "spec.nodeName", "operator": "In", "values": ["n"]},
            {"key": "status.phase", "operator": "NotIn", "values": ["Failed"]},
        ]},
        "labelSelector": {"requirements": [
            {"key": "a", "operator": "In", "values": ["b", "c"]},
            {"key": "d", "operator": "DoesNotExist"},
            {"key": "e", "operator": "Exists"},
        ]},
    });
    let mut wanted = json!({
        "user": "jane", "groups": ["dev"],
        "resourceAttributes": {"namespace": "d", "verb": "list", "version": "v1", "resource": "pods"},
    });
    for (key, value) in selectors.as_object().unwrap() {
        wanted["resourceAttributes"][key] = value.clone();
    }
    assert_eq!(wire(&spec, "v1"), wanted);
    let groups = wanted.as_object_mut().unwrap().remove("groups").unwrap();
    wanted["group"] = groups;
    assert_eq!(wire(&spec, "v1beta1"), wanted);
    let path = Attributes {
        path: "/x".into(),
        verb: "get".into(),
        ..Attributes::default()
    };
    let wanted = json!({"nonResourceAttributes": {"path": "/x", "verb": "get"}});
    assert_eq!(wire(&super::spec(&path), "v1"), wanted);
    // A selector that cannot be read narrows nothing.
    let broken = Attributes {
        field_selector: Some("a".into()),
        label_selector: Some("a in".into()),
        ..pods()
    };
    assert!(
        super::spec(&broken)["resourceAttributes"]
            .get("fieldSelector")
            .is_none()
    );
    assert!(
        super::spec(&broken)["resourceAttributes"]
            .get("labelSelector")
            .is_none()
    );
}

#[test]
fn what_is_long_is_not_remembered() {
    assert!(short(&pods()));
    let long = Attributes {
        name: "x".repeat(10_000),
        ..pods()
    };
    assert!(!short(&long));
}

#[test]
fn match_conditions_choose_what_is_asked() {
    let metrics: Arc<Registry> = Arc::default();
    for (conditions, wanted) in [
        (&["true"][..], Ok(true)),
        (
            &["has(request.resourceAttributes) && request.resourceAttributes.namespace == 'd'"],
            Ok(true),
        ),
        (&["!('dev' in request.groups)"], Ok(false)),
        (
            &[
                "request.resourceAttributes.fieldSelector.requirements.exists(r, r.key == 'spec.nodeName')",
            ],
            Ok(true),
        ),
        (&["has(request.nonResourceAttributes)"], Ok(false)),
        (
            &["request.nonResourceAttributes.path == '/x'"],
            Err(
                "cel evaluation error: expression 'request.nonResourceAttributes.path == '/x'' resulted in error: no such key: nonResourceAttributes",
            ),
        ),
        // One that is false decides, whatever the others come to.
        (
            &["request.nonResourceAttributes.path == '/x'", "false"],
            Ok(false),
        ),
        (
            &["request.uid == '' && request.extra.size() == 0"],
            Ok(true),
        ),
    ] {
        let all = MatchConditions::compile(conditions, "w", metrics.clone()).unwrap();
        let got = all.matches(&spec(&pods()));
        assert_eq!(got, wanted.map_err(str::to_string), "{conditions:?}");
    }
    let text = metrics.text();
    for line in [
        "apiserver_authorization_match_condition_exclusions_total{type=\"Webhook\",name=\"w\"} 3",
        "apiserver_authorization_match_condition_evaluation_errors_total{type=\"Webhook\",name=\"w\"} 1",
        "apiserver_authorization_match_condition_evaluation_seconds_count{type=\"Webhook\",name=\"w\"} 8",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[test]
fn answers_mean_what_upstream_takes_them_for() {
    let api = "authorization.k8s.io/v1";
    let of = |status: Value| {
        let review = json!({"kind": "SubjectAccessReview", "apiVersion": api, "status": status});
        read(review.to_string().as_bytes(), api).map(Webhook::decision)
    };
    let reason = || "r".to_string();
    assert_eq!(
        of(json!({"allowed": true, "reason": "r"})),
        Ok(Decision::Allow(reason()))
    );
    assert_eq!(
        of(json!({"denied": true, "reason": "r"})),
        Ok(Decision::Deny(reason()))
    );
    assert_eq!(
        of(json!({"reason": "r"})),
        Ok(Decision::NoOpinion(reason()))
    );
    assert_eq!(of(Value::Null), Ok(Decision::NoOpinion(String::new())));
    let both = of(json!({"allowed": true, "denied": true})).unwrap();
    assert!(
        matches!(both, Decision::Failed { denied: true, .. }),
        "{both:?}"
    );
    assert!(of(json!({"allowed": "yes"})).is_err());
    assert!(read(b"{}", api).is_err());
    assert!(read(b"<html>", api).is_err());
}
