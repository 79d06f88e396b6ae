//! Upstream's stable and beta metrics, each there once what it counts has happened, with upstream's labels.

use serde_json::json;

use crate::env::Env;
use crate::fakes::Slow;

/// Name, labels in the order of the text, stability. Not here: `apiserver_storage_objects`, which upstream hides
/// since 1.37, and those of admission webhooks.
const FAMILIES: &[(&str, &str, &str)] = &[
    (
        "apiserver_admission_controller_admission_duration_seconds",
        "name operation rejected type",
        "STABLE",
    ),
    (
        "apiserver_admission_step_admission_duration_seconds",
        "operation rejected type",
        "STABLE",
    ),
    (
        "apiserver_current_inflight_requests",
        "request_kind",
        "STABLE",
    ),
    (
        "apiserver_longrunning_requests",
        "component group resource scope subresource verb version",
        "STABLE",
    ),
    (
        "apiserver_request_duration_seconds",
        "component dry_run group resource scope subresource verb version",
        "STABLE",
    ),
    (
        "apiserver_request_total",
        "code component dry_run group resource scope subresource verb version",
        "STABLE",
    ),
    (
        "apiserver_requested_deprecated_apis",
        "group removed_release resource subresource version",
        "STABLE",
    ),
    (
        "apiserver_response_sizes",
        "component group resource scope subresource verb version",
        "STABLE",
    ),
    (
        "apiserver_storage_size_bytes",
        "storage_cluster_id",
        "STABLE",
    ),
    (
        "apiserver_storage_events_received_total",
        "group resource",
        "BETA",
    ),
    (
        "apiserver_watch_events_sizes",
        "group resource version",
        "BETA",
    ),
    (
        "apiserver_watch_events_total",
        "group resource version",
        "BETA",
    ),
    (
        "apiserver_watch_list_duration_seconds",
        "group resource scope version",
        "BETA",
    ),
    (
        "apiserver_flowcontrol_current_executing_requests",
        "flow_schema priority_level",
        "BETA",
    ),
    (
        "apiserver_flowcontrol_current_executing_seats",
        "flow_schema priority_level",
        "BETA",
    ),
    (
        "apiserver_flowcontrol_current_inqueue_requests",
        "flow_schema priority_level",
        "BETA",
    ),
    (
        "apiserver_flowcontrol_dispatched_requests_total",
        "flow_schema priority_level",
        "BETA",
    ),
    (
        "apiserver_flowcontrol_nominal_limit_seats",
        "priority_level",
        "BETA",
    ),
    ("apiserver_cel_compilation_duration_seconds", "", "BETA"),
    ("apiserver_cel_evaluation_duration_seconds", "", "BETA"),
    ("apiserver_webhooks_x509_insecure_sha1_total", "", "BETA"),
    ("apiserver_webhooks_x509_missing_san_total", "", "BETA"),
    (
        "kubernetes_build_info",
        "build_date compiler git_commit git_tree_state git_version go_version major minor platform",
        "BETA",
    ),
];

/// The names of a sample's labels, but for the bound of a histogram's bucket.
fn labels(line: &str) -> String {
    let inside = line.split_once('{').map_or("", |(_, rest)| rest);
    let inside = inside.rsplit_once('}').map_or("", |(rest, _)| rest);
    let names = inside.split("\",").filter_map(|l| l.split_once("=\""));
    let names: Vec<&str> = names.map(|(n, _)| n).filter(|n| *n != "le").collect();
    names.join(" ")
}

#[tokio::test]
async fn stable_metrics_are_there_after_a_few_requests() {
    let (slow, gate, _) = Slow::new();
    gate.send_replace(true);
    let env = Env::with(|p| p.admission = vec![slow]).await;
    let maps = "/api/v1/namespaces/default/configmaps";
    let made = env.post(maps, &json!({"metadata": {"name": "c"}})).await;
    assert_eq!(made.code, 201);
    let rule = json!([{"rule": "self.a > 0"}]);
    let schema = json!({"type": "object", "properties": {"a": {"type": "integer"}}, "x-kubernetes-validations": rule});
    let definition = json!({"metadata": {"name": "foos.example.com"}, "spec": {"group": "example.com",
        "scope": "Cluster", "names": {"plural": "foos", "kind": "Foo"}, "versions": [{"name": "v1",
            "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]}});
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let made = env.post(definitions, &definition).await;
    assert_eq!(made.code, 201, "{made:?}");
    let foos = "/apis/example.com/v1/foos";
    env.until(foos, |r| r.code == 200).await;
    let foo =
        json!({"apiVersion": "example.com/v1", "kind": "Foo", "metadata": {"name": "x"}, "a": 1});
    assert_eq!(env.post(foos, &foo).await.code, 201);
    env.get("/api/v1/componentstatuses").await;
    env.get("/livez").await;
    let list = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    env.watch(&format!("{maps}?{list}&timeoutSeconds=5"), |frames| {
        frames.iter().any(|f| f["type"] == "BOOKMARK")
    })
    .await;
    let reply = env.get("/metrics").await;
    let text = String::from_utf8(reply.body).unwrap();
    for (name, wanted, stability) in FAMILIES {
        let help = format!("# HELP {name} [{stability}] ");
        assert!(text.contains(&help), "no {help}");
        let mut samples = text.lines().filter(|l| {
            let rest = l.strip_prefix(name).unwrap_or_default();
            rest.starts_with(['{', ' ']) || rest.starts_with("_count")
        });
        let sample = samples
            .next()
            .unwrap_or_else(|| panic!("no sample of {name}"));
        assert_eq!(labels(sample), *wanted, "{sample}");
    }
    for line in [
        "apiserver_requested_deprecated_apis{group=\"\",removed_release=\"\",resource=\"componentstatuses\",subresource=\"\",version=\"v1\"} 1",
        "apiserver_storage_events_received_total{group=\"\",resource=\"configmaps\"} 1",
        "apiserver_watch_events_total{group=\"\",resource=\"configmaps\",version=\"v1\"} 2",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} not in {text}");
    }
    let slis = String::from_utf8(env.get("/metrics/slis").await.body).unwrap();
    for line in [
        "# HELP kubernetes_healthcheck [STABLE] 1 for each health check that succeeded when it was made last.",
        "kubernetes_healthcheck{name=\"ping\",type=\"livez\"} 1",
        "kubernetes_healthchecks_total{name=\"etcd\",status=\"success\",type=\"livez\"} 1",
    ] {
        assert!(slis.lines().any(|l| l == line), "{line} not in {slis}");
    }
}

#[tokio::test]
async fn pages_for_people_say_what_runs() {
    let flag = ("audit-log-mode".to_string(), "batch".to_string());
    let env = Env::with(|p| p.flags = [flag].into()).await;
    let reply = env.get("/statusz").await;
    assert_eq!(reply.headers["content-type"], "text/plain; charset=utf-8");
    let text = String::from_utf8(reply.body).unwrap();
    assert!(text.starts_with("\napiserver statusz\nWarning: "), "{text}");
    assert!(text.contains("\nBinary version: 1.37\n"), "{text}");
    let accept = "application/json;v=v1beta1;g=config.k8s.io;as=Flagz";
    let accepts = [("accept", accept)];
    let reply = env.ask("GET", "/flagz", &accepts, Vec::new()).await;
    assert_eq!(
        reply.json(),
        json!({"kind": "Flagz", "apiVersion": "config.k8s.io/v1beta1", "metadata": {"name": "apiserver"},
            "flags": {"audit-log-mode": "batch"}})
    );
    let plain = [("accept", "application/json")];
    let reply = env.ask("GET", "/statusz", &plain, Vec::new()).await;
    assert_eq!(reply.code, 406);
    // As with profiling off.
    assert_eq!(env.get("/debug/pprof/").await.code, 404);
    let queues = env
        .get("/debug/api_priority_and_fairness/dump_queues")
        .await;
    assert!(queues.body.starts_with(b"PriorityLevelName, Index, "));
}
