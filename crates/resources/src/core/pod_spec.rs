//! Defaults of a pod spec, in pods and in templates. Upstream: core/v1 defaults.go; validation-pod §6.
//! The spec's validation is in `pod_checks`.

use machinery::object::{at_mut, set, set_default, str_at};
use serde_json::{Map, Value, json};

use super::amounts;

/// The three lists of containers.
pub const LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// Defaults of every pod spec.
pub fn set_defaults(spec: &mut Value) {
    if !spec.is_object() {
        return;
    }
    set_default(spec, "dnsPolicy", json!("ClusterFirst"));
    set_default(spec, "restartPolicy", json!("Always"));
    set_default(spec, "securityContext", json!({}));
    set_default(spec, "terminationGracePeriodSeconds", json!(30));
    set_default(spec, "schedulerName", json!("default-scheduler"));
    // Both names of the service account carry the same value.
    let account = match str_at(spec, "serviceAccountName") {
        "" => str_at(spec, "serviceAccount").to_string(),
        name => name.to_string(),
    };
    if !account.is_empty() {
        set(spec, "serviceAccountName", json!(account));
        set(spec, "serviceAccount", json!(account));
    }
    for list in LISTS {
        each(spec, list, container);
    }
    each(spec, "volumes", volume);
    for path in ["overhead", "resources.limits", "resources.requests"] {
        amounts::canonical_list(spec, path);
    }
}

/// Defaults that only pods have, not templates.
pub fn set_pod_defaults(spec: &mut Value) {
    if !spec.is_object() {
        return;
    }
    for list in ["containers", "initContainers"] {
        each(spec, list, requests_from_limits);
    }
    if spec.get("resources").is_some_and(Value::is_object) {
        pod_level_resources(spec);
    }
    set_default(spec, "enableServiceLinks", json!(true));
    if machinery::object::i64_at(spec, "terminationGracePeriodSeconds").is_some_and(|n| n < 0) {
        set(spec, "terminationGracePeriodSeconds", json!(1));
    }
    if machinery::object::bool_at(spec, "hostNetwork") == Some(true) {
        for list in ["containers", "initContainers"] {
            each(spec, list, |c| {
                each(c, "ports", |p| {
                    if machinery::object::i64_at(p, "hostPort").unwrap_or(0) == 0
                        && let Some(n) = p.get("containerPort").cloned()
                    {
                        set(p, "hostPort", n);
                    }
                });
            });
        }
    }
}

/// Runs `f` over the items of a list field.
pub fn each(obj: &mut Value, field: &str, f: impl Fn(&mut Value)) {
    if let Some(Value::Array(list)) = obj.get_mut(field) {
        list.iter_mut().for_each(f);
    }
}

fn requests_from_limits(c: &mut Value) {
    let Some(limits) = machinery::object::map_at(c, "resources.limits").cloned() else {
        return;
    };
    let requests = machinery::object::map_mut(c, "resources.requests");
    for (name, quantity) in limits {
        requests.entry(name).or_insert(quantity);
    }
}

/// Pod-level limits and requests that follow from those of the containers. validation-pod §6.1.
fn pod_level_resources(spec: &mut Value) {
    let has = |spec: &Value, path: &str| {
        machinery::object::map_at(spec, path).is_some_and(|m| !m.is_empty())
    };
    let known = |spec: &Value, path: &str, name: &str| {
        machinery::object::map_at(spec, path).is_some_and(|m| m.contains_key(name))
    };
    let (limits, requests) = ("resources.limits", "resources.requests");
    if has(spec, limits) || has(spec, requests) {
        for (name, q) in amounts::aggregate(spec, "limits") {
            let huge = name.starts_with("hugepages-");
            if huge && !known(spec, limits, &name) && !known(spec, requests, &name) {
                machinery::object::map_mut(spec, limits).insert(name, json!(q.to_string()));
            }
        }
    }
    if !has(spec, limits) {
        return;
    }
    let asked = amounts::aggregate(spec, "requests");
    let whole = machinery::object::map_at(spec, limits)
        .cloned()
        .unwrap_or_default();
    let map = machinery::object::map_mut(spec, requests);
    for (name, q) in asked {
        if name == "cpu" || name == "memory" {
            map.entry(name).or_insert(json!(q.to_string()));
        }
    }
    for (name, q) in whole {
        if name == "cpu" || name == "memory" || name.starts_with("hugepages-") {
            map.entry(name).or_insert(q);
        }
    }
}

fn container(c: &mut Value) {
    if !c.is_object() {
        return;
    }
    let policy = pull_policy(str_at(c, "image"));
    set_default(c, "imagePullPolicy", json!(policy));
    set_default(c, "terminationMessagePath", json!("/dev/termination-log"));
    set_default(c, "terminationMessagePolicy", json!("File"));
    set_default(c, "resources", json!({}));
    for which in ["limits", "requests"] {
        amounts::canonical_list(c, &format!("resources.{which}"));
    }
    each(c, "ports", |p| set_default(p, "protocol", json!("TCP")));
    each(c, "env", |e| {
        if at_mut(e, "valueFrom.fieldRef").is_some() {
            set_default(e, "valueFrom.fieldRef.apiVersion", json!("v1"));
        }
        if let Some(resource) = at_mut(e, "valueFrom.resourceFieldRef") {
            divisor(resource);
        }
        if at_mut(e, "valueFrom.fileKeyRef").is_some() {
            set_default(e, "valueFrom.fileKeyRef.optional", json!(false));
        }
    });
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = c.get_mut(name).filter(|p| p.is_object()) {
            for (field, n) in [
                ("timeoutSeconds", 1),
                ("periodSeconds", 10),
                ("successThreshold", 1),
                ("failureThreshold", 3),
            ] {
                if machinery::object::i64_at(probe, field).unwrap_or(0) == 0 {
                    set(probe, field, json!(n));
                }
            }
            http_get(probe);
            if let Some(grpc) = probe.get_mut("grpc").filter(|g| g.is_object()) {
                set_default(grpc, "service", json!(""));
            }
        }
    }
    for path in ["lifecycle.postStart", "lifecycle.preStop"] {
        if let Some(handler) = at_mut(c, path) {
            http_get(handler);
        }
    }
}

/// Upstream writes a divisor that is not set as zero.
fn divisor(resource: &mut Value) {
    set_default(resource, "divisor", json!("0"));
    amounts::canonical(resource, "divisor");
}

fn http_get(handler: &mut Value) {
    let Some(get) = handler.get_mut("httpGet").filter(|g| g.is_object()) else {
        return;
    };
    for (field, text) in [("path", "/"), ("scheme", "HTTP")] {
        if str_at(get, field).is_empty() {
            set(get, field, json!(text));
        }
    }
}

/// `Always` for images tagged `latest` or not at all.
fn pull_policy(image: &str) -> &'static str {
    if image.is_empty() || image.contains('@') || image.contains(char::is_whitespace) {
        return "IfNotPresent";
    }
    let last = image.rsplit('/').next().unwrap_or(image);
    match last.split_once(':') {
        None | Some((_, "latest")) => "Always",
        Some(_) => "IfNotPresent",
    }
}

fn volume(v: &mut Value) {
    let Some(map) = v.as_object_mut() else { return };
    if map.keys().all(|k| k == "name") {
        map.insert("emptyDir".into(), Value::Object(Map::new()));
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(s) = v.get_mut(source).filter(|s| s.is_object()) {
            set_default(s, "defaultMode", json!(420));
        }
    }
    source_defaults(v);
    if v.pointer("/ephemeral/volumeClaimTemplate/spec").is_some() {
        set_default(
            v,
            "ephemeral.volumeClaimTemplate.spec.volumeMode",
            json!("Filesystem"),
        );
    }
    amounts::canonical(v, "emptyDir.sizeLimit");
    for which in ["limits", "requests"] {
        let path = "ephemeral.volumeClaimTemplate.spec.resources";
        amounts::canonical_list(v, &format!("{path}.{which}"));
    }
    let field_ref = |item: &mut Value| {
        if let Some(resource) = item.get_mut("resourceFieldRef") {
            divisor(resource);
        }
        if item.get("fieldRef").is_some() {
            set_default(item, "fieldRef.apiVersion", json!("v1"));
        }
    };
    if let Some(down) = v.get_mut("downwardAPI") {
        each(down, "items", field_ref);
    }
    if let Some(projected) = v.get_mut("projected") {
        each(projected, "sources", |s| {
            if s.get("serviceAccountToken").is_some() {
                set_default(s, "serviceAccountToken.expirationSeconds", json!(3600));
            }
            if let Some(down) = s.get_mut("downwardAPI") {
                each(down, "items", field_ref);
            }
        });
    }
    let reference = str_at(v, "image.reference").to_string();
    if v.get("image").is_some() {
        set_default(v, "image.pullPolicy", json!(pull_policy(&reference)));
    }
}

/// Defaults of the sources that volumes of pods and persistent volumes share.
pub fn source_defaults(v: &mut Value) {
    let defaults: &[(&str, &[(&str, Value)])] = &[
        ("hostPath", &[("type", json!(""))]),
        ("iscsi", &[("iscsiInterface", json!("default"))]),
        (
            "rbd",
            &[
                ("pool", json!("rbd")),
                ("user", json!("admin")),
                ("keyring", json!("/etc/ceph/keyring")),
            ],
        ),
        (
            "azureDisk",
            &[
                ("cachingMode", json!("ReadWrite")),
                ("kind", json!("Shared")),
                ("fsType", json!("ext4")),
                ("readOnly", json!(false)),
            ],
        ),
        (
            "scaleIO",
            &[
                ("storageMode", json!("ThinProvisioned")),
                ("fsType", json!("xfs")),
            ],
        ),
    ];
    for (source, fields) in defaults {
        if let Some(s) = v.get_mut(*source).filter(|s| s.is_object()) {
            for (field, value) in *fields {
                set_default(s, field, value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pull_policies_follow_the_tag() {
        for (image, expected) in [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("nginx:1", "IfNotPresent"),
            ("localhost:5000/nginx", "Always"),
            ("localhost:5000/nginx:1", "IfNotPresent"),
            ("nginx@sha256:abc", "IfNotPresent"),
            ("", "IfNotPresent"),
        ] {
            assert_eq!(pull_policy(image), expected, "{image}");
        }
    }

    #[test]
    fn defaults_are_upstreams_and_stay() {
        let mut spec = json!({"containers": [{"name": "c", "image": "i:1", "ports": [{"containerPort": 80}],
            "resources": {"limits": {"cpu": "1"}}, "livenessProbe": {"httpGet": {"port": 80}}}],
            "volumes": [{"name": "v"}, {"name": "s", "secret": {"secretName": "x"}}], "hostNetwork": true});
        set_pod_defaults(&mut spec);
        set_defaults(&mut spec);
        let c = &spec["containers"][0];
        assert_eq!(c["resources"]["requests"]["cpu"], "1");
        assert_eq!(
            (&c["ports"][0]["protocol"], &c["ports"][0]["hostPort"]),
            (&json!("TCP"), &json!(80))
        );
        assert_eq!(
            c["livenessProbe"]["httpGet"],
            json!({"port": 80, "path": "/", "scheme": "HTTP"})
        );
        assert_eq!(c["livenessProbe"]["failureThreshold"], 3);
        assert_eq!(spec["volumes"][0], json!({"name": "v", "emptyDir": {}}));
        assert_eq!(spec["volumes"][1]["secret"]["defaultMode"], 420);
        assert_eq!(spec["enableServiceLinks"], true);
        let once = spec.clone();
        set_pod_defaults(&mut spec);
        set_defaults(&mut spec);
        assert_eq!(spec, once);
    }
}
