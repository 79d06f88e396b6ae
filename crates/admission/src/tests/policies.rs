//! Admission policies: what they refuse, warn of and change.

use serde_json::{Value, json};

use super::{World, Write, run, text};

const GROUP: &str = "admissionregistration.k8s.io";

/// A world with a policy of a kind and its binding.
fn world(kind: &'static str, rules: Value, actions: Value) -> World {
    let world = World::new();
    let mut spec = rules;
    spec["matchConstraints"] = json!({"resourceRules": [{"operations": ["*"], "apiGroups": [""],
        "apiVersions": ["*"], "resources": ["pods"]}]});
    let (policies, bindings) = match kind {
        "MutatingAdmissionPolicy" => (
            "mutatingadmissionpolicies",
            "mutatingadmissionpolicybindings",
        ),
        _ => (
            "validatingadmissionpolicies",
            "validatingadmissionpolicybindings",
        ),
    };
    let policy = json!({"kind": kind, "metadata": {"name": "p"}, "spec": spec});
    world.put(GROUP, policies, policy);
    let binding = json!({"policyName": "p", "validationActions": actions});
    world.put(
        GROUP,
        bindings,
        json!({"metadata": {"name": "b"}, "spec": binding}),
    );
    world
}

fn pod() -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", "namespace": "d", "labels": {"a": "1"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

async fn validated(rules: Value, actions: Value) -> (u16, String, Vec<String>) {
    let world = world("ValidatingAdmissionPolicy", rules, actions);
    match run(
        &world,
        "ValidatingAdmissionPolicy",
        Write::create("-/pods", pod()),
    )
    .await
    {
        Ok(outcome) => (200, String::new(), outcome.warnings),
        Err(e) => (e.code, e.message, Vec::new()),
    }
}

#[tokio::test]
async fn validations_refuse_with_upstreams_texts() {
    let prefix =
        "pods \"x\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: ";
    for (validation, code, message) in [
        (
            json!({"expression": "object.metadata.name == 'x'"}),
            200,
            None,
        ),
        (
            json!({"expression": "object.metadata.name == 'y'"}),
            422,
            Some("failed expression: object.metadata.name == 'y'"),
        ),
        (
            json!({"expression": "false", "message": " no ", "reason": "Forbidden"}),
            403,
            Some("no"),
        ),
        (
            json!({"expression": "false", "message": "no", "messageExpression": "'name ' + object.metadata.name"}),
            422,
            Some("name x"),
        ),
        (
            json!({"expression": "object.nope == 1"}),
            422,
            Some("expression 'object.nope == 1' resulted in error: no such key: nope"),
        ),
        (
            json!({"expression": "namespaceObject.metadata.name == 'd' && request.userInfo.username == 'u'"}),
            200,
            None,
        ),
        (
            json!({"expression": "authorizer.requestResource.check('create').allowed()", "message": "may not"}),
            422,
            Some("may not"),
        ),
    ] {
        let rules = json!({"validations": [validation]});
        let wanted = message.map_or(String::new(), |m| format!("{prefix}{m}"));
        assert_eq!(
            validated(rules, json!(["Deny"])).await,
            (code, wanted, Vec::new())
        );
    }
}

#[tokio::test]
async fn failures_are_warned_of_ignored_or_never_met() {
    let rules = json!({"validations": [{"expression": "false"}]});
    let text = "Validation failed for ValidatingAdmissionPolicy 'p' with binding 'b': failed expression: false";
    assert_eq!(
        validated(rules, json!(["Warn"])).await,
        (200, String::new(), vec![text.to_string()])
    );
    let rules =
        json!({"failurePolicy": "Ignore", "validations": [{"expression": "object.nope == 1"}]});
    assert_eq!(validated(rules, json!(["Deny"])).await.0, 200);
    let rules = json!({"matchConditions": [{"name": "c", "expression": "request.operation == 'DELETE'"}],
        "validations": [{"expression": "false"}]});
    assert_eq!(validated(rules, json!(["Deny"])).await.0, 200);
    let rules = json!({"paramKind": {"apiVersion": "v1", "kind": "Nope"},
        "validations": [{"expression": "true"}]});
    let (code, message, _) = validated(rules, json!(["Deny"])).await;
    let text = "ValidatingAdmissionPolicy 'p' denied request: failed to configure policy: failed to find resource referenced by paramKind: '/v1, Kind=Nope'";
    assert!(code == 422 && message.ends_with(text), "{code} {message}");
}

#[tokio::test]
async fn params_must_be_readable_by_who_names_them() {
    let world = World::new();
    let policy = json!({"metadata": {"name": "p"},
        "spec": {"paramKind": {"apiVersion": "rules.example.com/v1", "kind": "Limit"}}});
    let create = |what: &'static str, o: &Value| Write::create(what, o.clone());
    let policies = "admissionregistration.k8s.io/validatingadmissionpolicies";
    let refused = "K.admissionregistration.k8s.io \"p\" is invalid: spec.paramKind: Forbidden: user &{u  [] map[]} must have \"get\" permission on all objects of the referenced paramKind (kind=Limit, apiVersion=rules.example.com/v1)";
    assert_eq!(
        text(&world, "ParamAccess", create(policies, &policy)).await,
        refused
    );
    let mut write = create(policies, &policy);
    write.user = machinery::request::User::new("root", &["system:masters"]);
    assert_eq!(text(&world, "ParamAccess", write).await, "ok");
    let update = Write::update(policies, policy.clone(), policy.clone());
    assert_eq!(
        text(&world, "ParamAccess", update).await,
        "ok",
        "the kind was there before"
    );
    let binding = json!({"metadata": {"name": "b"},
        "spec": {"policyName": "p", "paramRef": {"name": "n", "namespace": "d"}}});
    let bindings = "admissionregistration.k8s.io/validatingadmissionpolicybindings";
    let start = "K.admissionregistration.k8s.io \"b\" is invalid: spec.paramRef: Forbidden: ";
    assert_eq!(
        text(&world, "ParamAccess", create(bindings, &binding)).await,
        format!(
            "{start}unable to get policy p to determine minimum required permissions and user &{{u  [] map[]}} does not have \"get\" permission for all groups, versions and resources"
        )
    );
    world.put(
        GROUP,
        "validatingadmissionpolicies",
        json!({"metadata": {"name": "p"}, "spec": {}}),
    );
    assert_eq!(
        text(&world, "ParamAccess", create(bindings, &binding)).await,
        format!(
            "{start}user &{{u  [] map[]}} does not have \"get\" permission on the object referenced by paramRef"
        )
    );
}

async fn mutated(mutation: Value) -> Result<Value, String> {
    let world = world(
        "MutatingAdmissionPolicy",
        json!({"mutations": [mutation]}),
        json!([]),
    );
    let outcome = run(
        &world,
        "MutatingAdmissionPolicy",
        Write::create("-/pods", pod()),
    )
    .await;
    outcome
        .map(|o| o.object["metadata"]["labels"].clone())
        .map_err(|e| e.message)
}

#[tokio::test]
async fn mutations_apply_and_patch() {
    let apply = |text: &str| json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": text}});
    let patch = |text: &str| json!({"patchType": "JSONPatch", "jsonPatch": {"expression": text}});
    assert_eq!(
        mutated(apply(
            "Object{metadata: Object.metadata{labels: {'b': object.metadata.name}}}"
        ))
        .await,
        Ok(json!({"a": "1", "b": "x"}))
    );
    assert_eq!(
        mutated(patch(
            "[JSONPatch{op: 'replace', path: '/metadata/labels/a', value: '2'}]"
        ))
        .await,
        Ok(json!({"a": "2"}))
    );
    assert_eq!(
        mutated(patch("[JSONPatch{op: 'test', path: '/metadata/labels/a', value: 'z'}, JSONPatch{op: 'remove', path: '/metadata/labels'}]")).await,
        Ok(json!({"a": "1"})),
        "a test that fails"
    );
    assert_eq!(
        mutated(apply("Object{metadata: Object.wrong{}}")).await,
        Err("policy 'p' with binding 'b' denied request: type mismatch: unexpected type name \"Object.wrong\", expected \"Object.metadata\", which matches field name path from root Object type".to_string())
    );
}
