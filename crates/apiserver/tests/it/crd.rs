//! CustomResourceDefinitions and their objects.

use serde_json::{Value, json};

use crate::env::{Env, kubectls};

const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const FOOS: &str = "/apis/example.com/v1/namespaces/default/foos";

fn crd() -> Value {
    let version = |name: &str, storage: bool| {
        json!({"name": name, "served": true, "storage": storage,
            "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.selector"}},
            "additionalPrinterColumns": [
                {"name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas"},
                {"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status"}],
            "selectableFields": [{"jsonPath": ".spec.color"}],
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                "spec": {"type": "object", "properties": {
                    "replicas": {"type": "integer", "minimum": 0, "default": 1},
                    "color": {"type": "string", "enum": ["red", "blue"]}}},
                "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}}})
    };
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "foos.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"plural": "foos", "kind": "Foo", "shortNames": ["fo"], "categories": ["all"]},
            "versions": [version("v1", true), version("v2", false)]}})
}

fn foo(name: &str) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Foo", "metadata": {"name": name}, "spec": {"color": "red"}})
}

fn established(body: &Value) -> bool {
    let conditions = body["status"]["conditions"].as_array();
    conditions.is_some_and(|c| {
        c.iter()
            .any(|c| c["type"] == "Established" && c["status"] == "True")
    })
}

async fn with_crd() -> Env {
    let env = Env::start().await;
    let made = env.post(CRDS, &crd()).await;
    assert_eq!(made.code, 201, "{made:?}");
    env.until(&format!("{CRDS}/foos.example.com"), |r| {
        established(&r.json())
    })
    .await;
    env
}

#[tokio::test(flavor = "multi_thread")]
async fn custom_objects_are_served_as_soon_as_the_crd_is_established() {
    let env = with_crd().await;
    let made = env.post(FOOS, &foo("a")).await;
    assert_eq!(made.code, 201, "{made:?}");
    let made = made.json();
    assert_eq!(made["spec"]["replicas"], 1, "defaults");
    assert_eq!(made["metadata"]["generation"], 1);
    let v2 = env
        .get("/apis/example.com/v2/namespaces/default/foos/a")
        .await
        .json();
    assert_eq!(v2["apiVersion"], "example.com/v2");
    let list = env.get("/apis/example.com/v2/foos").await.json();
    assert_eq!(list["kind"], "FooList");
    assert_eq!(list["items"][0]["apiVersion"], "example.com/v2");
    let blue = env
        .get(&format!("{FOOS}?fieldSelector=spec.color%3Dblue"))
        .await
        .json();
    assert_eq!(blue["items"], json!([]));
    let red = env
        .get(&format!("{FOOS}?fieldSelector=spec.color%3Dred"))
        .await
        .json();
    assert_eq!(red["items"].as_array().unwrap().len(), 1);
    let seen = env
        .watch("/apis/example.com/v2/foos?watch=1", |e| !e.is_empty())
        .await;
    assert_eq!(seen[0]["object"]["apiVersion"], "example.com/v2");
}

/// The version that an object is stored in gives it its defaults, and no other does, whatever selects it.
#[tokio::test(flavor = "multi_thread")]
async fn selected_objects_have_no_defaults_of_another_version() {
    let env = Env::start().await;
    let mut crd = crd();
    let spec = "/schema/openAPIV3Schema/properties/spec/properties";
    let fields = crd["spec"]["versions"][1].pointer_mut(spec).unwrap();
    fields["size"] = json!({"type": "integer", "default": 7});
    // The same in all versions they would be upstream's `spec.selectableFields`, which want one schema for all.
    crd["spec"]["versions"][1]["selectableFields"] =
        json!([{"jsonPath": ".spec.color"}, {"jsonPath": ".spec.replicas"}]);
    let made = env.post(CRDS, &crd).await;
    assert_eq!(made.code, 201, "{made:?}");
    let definition = format!("{CRDS}/foos.example.com");
    env.until(&definition, |r| established(&r.json())).await;
    assert_eq!(env.post(FOOS, &foo("a")).await.code, 201);
    let all = FOOS.replace("/v1/", "/v2/");
    for list in [all.clone(), format!("{all}?fieldSelector=spec.color%3Dred")] {
        let items = env.get(&list).await.json()["items"].clone();
        assert_eq!(items[0]["apiVersion"], "example.com/v2", "{list}");
        assert_eq!(
            items[0]["spec"],
            json!({"color": "red", "replicas": 1}),
            "{list}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn custom_objects_are_checked_against_their_schema() {
    let env = with_crd().await;
    let mut bad = foo("a");
    bad["spec"] = json!({"color": "green", "replicas": -1});
    let reply = env.post(FOOS, &bad).await;
    assert_eq!(reply.code, 422);
    assert_eq!(
        reply.json()["message"],
        "Foo.example.com \"a\" is invalid: [spec.color: Unsupported value: \"green\": supported values: \"red\", \"blue\", spec.replicas: Invalid value: -1: spec.replicas in body should be greater than or equal to 0, .spec.replicas: Invalid value: -1: should be a non-negative integer]"
    );
    let mut odd = foo("a");
    odd["spec"]["odd"] = json!(1);
    let reply = env
        .post(&format!("{FOOS}?fieldValidation=Strict"), &odd)
        .await;
    assert_eq!(reply.code, 400);
    assert!(
        reply.json()["message"]
            .as_str()
            .unwrap()
            .ends_with("strict decoding error: unknown field \"spec.odd\"")
    );
    let reply = env.post(FOOS, &odd).await;
    assert_eq!(reply.code, 201);
    assert_eq!(
        reply.headers["warning"],
        "299 - \"unknown field \\\"spec.odd\\\"\""
    );
    assert!(reply.json()["spec"].get("odd").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn status_and_scale_are_subresources() {
    let env = with_crd().await;
    let mut new = foo("a");
    new["status"] = json!({"replicas": 9});
    let made = env.post(FOOS, &new).await.json();
    assert!(
        made.get("status").is_none(),
        "status is not taken on create"
    );
    let path = format!("{FOOS}/a");
    let status = json!({"status": {"replicas": 4, "selector": "a=b"}, "spec": {"color": "blue"}});
    let done = env
        .patch(&format!("{path}/status"), "merge", &status)
        .await
        .json();
    assert_eq!(
        (&done["status"]["replicas"], &done["spec"]["color"]),
        (&json!(4), &json!("red"))
    );
    assert_eq!(done["metadata"]["generation"], 1);
    let scale = env.get(&format!("{path}/scale")).await.json();
    assert_eq!(scale["status"], json!({"replicas": 4, "selector": "a=b"}));
    let scaled = env
        .patch(
            &format!("{path}/scale"),
            "merge",
            &json!({"spec": {"replicas": 7}}),
        )
        .await;
    assert_eq!(scaled.code, 200, "{scaled:?}");
    let now = env.get(&path).await.json();
    assert_eq!(
        (&now["spec"]["replicas"], &now["metadata"]["generation"]),
        (&json!(7), &json!(2))
    );
    assert_eq!(now["status"]["replicas"], 4);
    let odd = json!({"spec": {"odd": 1}});
    let ask = async |validation: &str| {
        let to = format!("{path}/scale?fieldValidation={validation}");
        env.patch(&to, "merge", &odd).await
    };
    let warned = ask("Warn").await;
    let warning = warned.headers["warning"].to_str().unwrap();
    assert_eq!(
        (warned.code, warning),
        (200, "299 - \"unknown field \\\"spec.odd\\\"\"")
    );
    assert!(!ask("Ignore").await.headers.contains_key("warning"));
    let refused = ask("Strict").await;
    let cause = refused.json()["details"]["causes"][0].take();
    assert_eq!((refused.code, &cause["field"]), (422, &json!("patch")));
    let why = cause["message"].as_str().unwrap();
    assert!(
        why.ends_with(": strict decoding error: unknown field \"spec.odd\""),
        "{why}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_without_a_status_of_its_own_takes_the_status_and_its_owners_away() {
    let env = Env::start().await;
    let mut crd = crd();
    crd["spec"]["versions"][1]["subresources"] = json!({});
    let made = env.post(CRDS, &crd).await;
    assert_eq!(made.code, 201, "{made:?}");
    let definition = format!("{CRDS}/foos.example.com");
    env.until(&definition, |r| established(&r.json())).await;
    assert_eq!(env.post(FOOS, &foo("a")).await.code, 201);
    let status = json!({"status": {"phase": "x"}});
    let patched = env
        .patch(&format!("{FOOS}/a/status"), "merge", &status)
        .await
        .json();
    let owners = |o: &Value| {
        let all = o["metadata"]["managedFields"].as_array().unwrap();
        let subs = all.iter().map(|e| e["subresource"] == "status");
        subs.collect::<Vec<bool>>()
    };
    assert_eq!(owners(&patched), [false, true]);
    let mut other = foo("a");
    other["apiVersion"] = json!("example.com/v2");
    other["metadata"]["resourceVersion"] = patched["metadata"]["resourceVersion"].clone();
    let to = format!("{}/a", FOOS.replace("/v1/", "/v2/"));
    let put = env.put(&to, &other).await.json();
    assert!(put.get("status").is_none(), "{put}");
    assert!(!owners(&put).contains(&true), "{put}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_without_a_kind_is_shown_without_the_space_around_it_where_nothing_is_validated() {
    let env = with_crd().await;
    let json = "application/json";
    for (validation, shown) in [("Ignore", "'null'"), ("Strict", "'\n null '")] {
        let to = format!("{FOOS}/a?fieldValidation={validation}");
        let refused = env.send("PUT", &to, json, b"\n null ".to_vec()).await;
        let message = refused.json()["message"].to_string();
        let told: Value = serde_json::from_str(&message).unwrap();
        let wanted = format!("Object 'Kind' is missing in {shown}");
        assert!(
            told.as_str().unwrap().contains(&wanted),
            "{validation}: {told}"
        );
    }
}

/// What a Scale gives back to its object has no times: whoever owned the replicas loses its own, unless all entries stay
/// where they were, for then nothing is written.
#[tokio::test(flavor = "multi_thread")]
async fn a_scale_that_changes_nothing_is_written_where_it_moves_an_owner() {
    let env = with_crd().await;
    let entry = |manager: &str, year: &str, fields: Value| {
        json!({"manager": manager, "operation": "Update", "apiVersion": "example.com/v1",
            "time": format!("{year}-01-01T00:00:00Z"), "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": fields}})
    };
    for (name, replicas_since, color_since, written) in [
        ("first", "2020", "2021", false),
        ("last", "2021", "2020", true),
    ] {
        let path = format!("{FOOS}/{name}");
        assert_eq!(env.post(FOOS, &foo(name)).await.code, 201);
        let mut owners = vec![
            entry("replicas", replicas_since, json!({"f:replicas": {}})),
            entry("color", color_since, json!({"f:color": {}})),
        ];
        owners.sort_by_key(|e| e["time"].to_string());
        let owned = json!({"metadata": {"managedFields": owners}});
        let before = env.patch(&path, "merge", &owned).await.json();
        assert_eq!(before["metadata"]["managedFields"], json!(owners), "{name}");
        let to = format!("{path}/scale?fieldManager=other");
        let patch = json!({"status": {"replicas": 5}});
        let scaled = env.patch(&to, "merge", &patch).await;
        assert_eq!(scaled.code, 200, "{scaled:?}");
        let after = env.get(&path).await.json();
        let moved = after["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"];
        assert_eq!(moved, written, "{name}");
        let owners = after["metadata"]["managedFields"].as_array().unwrap();
        assert_eq!(owners[0]["manager"], "replicas", "{name}");
        assert_eq!(owners[0].get("time").is_none(), written, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_crd_takes_its_objects_with_it() {
    let env = with_crd().await;
    let mut held = foo("held");
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    assert_eq!(env.post(FOOS, &held).await.code, 201);
    assert_eq!(env.post(FOOS, &foo("a")).await.code, 201);
    let path = format!("{CRDS}/foos.example.com");
    assert_eq!(env.delete(&path).await.code, 200);
    env.until(&format!("{FOOS}/a"), |r| r.code == 404).await;
    let refused = env.until(FOOS, |r| r.code == 200).await;
    assert_eq!(refused.json()["items"].as_array().unwrap().len(), 1);
    let refused = env.post(FOOS, &foo("b")).await;
    assert_eq!(refused.code, 403);
    assert_eq!(
        refused.json()["message"],
        "foos.example.com \"b\" is forbidden: create not allowed while custom resource definition is terminating"
    );
    let freed = env
        .patch(
            &format!("{FOOS}/held"),
            "merge",
            &json!({"metadata": {"finalizers": null}}),
        )
        .await;
    assert_eq!(freed.code, 200, "{freed:?}");
    env.until(&path, |r| r.code == 404).await;
    env.until(FOOS, |r| r.code == 404).await;
    assert_eq!(env.post(CRDS, &crd()).await.code, 201, "it can come back");
    env.until(&path, |r| established(&r.json())).await;
    let list = env.get(FOOS).await.json();
    assert_eq!(list["items"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_crds_are_refused() {
    let env = Env::start().await;
    for (path, value, text) in [
        (
            "metadata.name",
            json!("x.example.com"),
            "metadata.name: Invalid value: \"x.example.com\": must be spec.names.plural+\".\"+spec.group",
        ),
        (
            "spec.scope",
            json!("Both"),
            "spec.scope: Unsupported value: \"Both\": supported values: \"Cluster\", \"Namespaced\"",
        ),
        (
            "spec.names.kind",
            json!("foo_"),
            "spec.names.kind: Invalid value: \"foo_\": may have mixed case",
        ),
    ] {
        let mut wrong = crd();
        machinery::object::set(&mut wrong, path, value);
        let reply = env.post(CRDS, &wrong).await;
        assert_eq!(reply.code, 422);
        let message = reply.json()["message"].as_str().unwrap().to_string();
        assert!(message.contains(text), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_handles_custom_objects() {
    for program in kubectls() {
        let env = with_crd().await;
        let object = foo("a").to_string();
        for (args, stdin, text) in [
            ("apply -f -", object.as_str(), "foo.example.com/a created"),
            ("apply -f -", object.as_str(), "foo.example.com/a unchanged"),
            ("get fo", "", "REPLICAS"),
            ("get foos a -o jsonpath={.spec.replicas}", "", "1"),
            ("scale foo a --replicas=3", "", "foo.example.com/a scaled"),
            ("get all", "", "REPLICAS"),
            ("explain foo.spec", "", "replicas"),
            ("get crd", "", "foos.example.com"),
            ("delete foo a", "", "deleted"),
            ("delete crd foos.example.com", "", "deleted"),
        ] {
            let (ok, out) = env.kubectl(&program, args, stdin).await;
            assert!(ok && out.contains(text), "{program} {args}: {out}");
        }
    }
}
