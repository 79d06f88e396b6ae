use super::*;

#[test]
fn every_table_text_is_a_rule() {
    for spec in CLUSTER_ROLES.iter().chain(CONTROLLER_ROLES) {
        for rule in parse_rules(spec.rules) {
            let resources = !(rule.api_groups.is_empty() || rule.resources.is_empty());
            assert!(!rule.verbs.is_empty(), "{}", spec.name);
            assert!(resources == rule.urls.is_empty(), "{}: {rule:?}", spec.name);
            let all = [&rule.verbs, &rule.api_groups, &rule.resources, &rule.urls];
            for text in all.into_iter().flatten() {
                let odd = |c: char| c.is_whitespace() || ",#\"`·".contains(c);
                assert!(!text.contains(odd), "{}: {text}", spec.name);
            }
        }
    }
}

#[test]
fn objects_have_upstreams_shape() {
    let all = objects();
    let find = |kind: &str, name: &str| {
        all.iter()
            .find(|o| o["kind"] == kind && o["metadata"]["name"] == name)
            .unwrap_or_else(|| panic!("{kind} {name}"))
    };
    let admin = find("ClusterRole", "cluster-admin");
    assert_eq!(
        admin["rules"],
        json!([
            {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]},
            {"verbs": ["*"], "nonResourceURLs": ["*"]},
        ])
    );
    let view = find("ClusterRole", "view");
    assert_eq!(view["rules"], Value::Null);
    assert_eq!(
        view["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-edit"],
        "true"
    );
    let selector = &view["aggregationRule"]["clusterRoleSelectors"][0]["matchLabels"];
    assert_eq!(
        selector["rbac.authorization.k8s.io/aggregate-to-view"],
        "true"
    );
    let node = find("ClusterRoleBinding", "system:node");
    assert!(node.get("subjects").is_none());
    let gc = find(
        "ClusterRoleBinding",
        "system:controller:generic-garbage-collector",
    );
    assert_eq!(
        gc["subjects"],
        json!([{"kind": "ServiceAccount", "name": "generic-garbage-collector", "namespace": "kube-system"}])
    );
    let mut keys: Vec<String> = all
        .iter()
        .map(|o| {
            format!(
                "{}/{}/{}",
                o["kind"], o["metadata"]["namespace"], o["metadata"]["name"]
            )
        })
        .collect();
    let count = keys.len();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), count, "names are unique");
}

#[test]
fn reconcile_adds_what_is_missing_and_keeps_the_rest() {
    let expected = objects()
        .into_iter()
        .find(|o| o["metadata"]["name"] == "system:basic-user" && o["kind"] == "ClusterRole")
        .unwrap();
    assert_eq!(reconcile(&expected, None), Step::Create(expected.clone()));
    assert_eq!(reconcile(&expected, Some(&expected)), Step::Keep);
    let mut less = expected.clone();
    less["rules"].as_array_mut().unwrap().pop();
    less["rules"]
        .as_array_mut()
        .unwrap()
        .push(json!({"verbs": ["get"], "apiGroups": ["x"], "resources": ["y"]}));
    less["metadata"]["labels"] = json!({"mine": "1"});
    let Step::Update(updated) = reconcile(&expected, Some(&less)) else {
        panic!("an update")
    };
    assert_eq!(updated["rules"].as_array().unwrap().len(), 3);
    assert_eq!(updated["metadata"]["labels"]["mine"], "1");
    assert_eq!(
        updated["metadata"]["labels"]["kubernetes.io/bootstrapping"],
        "rbac-defaults"
    );
    less["metadata"]["annotations"][AUTOUPDATE] = json!("false");
    assert_eq!(reconcile(&expected, Some(&less)), Step::Keep);
}

#[test]
fn reconcile_recreates_a_binding_with_another_role() {
    let expected = binding("", "b", "ClusterRole", "r", subjects_of(&["U u", "G g"]));
    let mut other = expected.clone();
    other["roleRef"]["name"] = json!("q");
    assert_eq!(
        reconcile(&expected, Some(&other)),
        Step::Recreate(expected.clone())
    );
    let mut fewer = expected.clone();
    fewer["subjects"] = json!([{"kind": "User", "name": "z"}, {"kind": "User", "name": "u"}]);
    let Step::Update(updated) = reconcile(&expected, Some(&fewer)) else {
        panic!("an update")
    };
    let names: Vec<&str> = updated["subjects"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["z", "u", "g"]);
}
