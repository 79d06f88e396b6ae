//! What is recorded of requests.

use std::sync::Arc;
use std::time::Duration;

use apiserver::audit::{Audit, LogOptions, Mode, Policy, Post, SinkOptions};
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::env::{Env, ask};

const POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  nonResourceURLs: ["/metrics"]
- level: RequestResponse
  omitManagedFields: true
  resources: [{group: "", resources: [configmaps]}]
- level: Metadata
  resources: [{group: "", resources: [secrets]}]
- level: Request
  resources: [{group: "", resources: [serviceaccounts]}]
"#;

struct Log(tempfile::TempDir);

impl Log {
    async fn env() -> (Self, Env) {
        let log = Self(tempfile::tempdir().unwrap());
        let options = LogOptions {
            path: log.path().display().to_string(),
            max_bytes: 1 << 20,
            max_backups: 1,
            max_age_days: 0,
            legacy: false,
            compress: false,
        };
        let audit = Audit::new(Policy::parse(POLICY).unwrap());
        let audit = audit.log(options, SinkOptions::queued()).unwrap();
        let env = Env::with(|p| p.audit = Some(Arc::new(audit))).await;
        (log, env)
    }

    fn path(&self) -> std::path::PathBuf {
        self.0.path().join("audit.log")
    }

    /// The events, once one is like this.
    async fn until(&self, last: impl Fn(&Value) -> bool) -> Vec<Value> {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        loop {
            let text = std::fs::read_to_string(self.path()).unwrap();
            let whole = text.lines().filter(|l| l.ends_with('}'));
            let all: Vec<Value> = whole.filter_map(|l| serde_json::from_str(l).ok()).collect();
            if all.iter().any(&last) {
                return all;
            }
            assert!(tokio::time::Instant::now() < deadline, "{text}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test]
async fn requests_are_recorded_as_the_policy_says() {
    let (log, env) = Log::env().await;
    let maps = "/api/v1/namespaces/default/configmaps";
    let secrets = "/api/v1/namespaces/default/secrets";
    env.post(
        maps,
        &json!({"metadata": {"name": "c"}, "data": {"a": "b"}}),
    )
    .await;
    env.patch(&format!("{maps}/c"), "merge", &json!({"data": {"a": "c"}}))
        .await;
    env.get(&format!("{maps}/none")).await;
    env.post(
        secrets,
        &json!({"metadata": {"name": "s"}, "stringData": {"a": "hidden"}}),
    )
    .await;
    let json = [
        ("content-type", "application/json"),
        ("audit-id", "mine"),
        ("x-forwarded-for", "10.1.2.3"),
    ];
    let body = json!({"metadata": {"name": "sa"}}).to_string();
    let accounts = "/api/v1/namespaces/default/serviceaccounts?pretty=false";
    env.ask("POST", accounts, &json, body.into_bytes()).await;
    let nobody = env.client_of("nobody", &[]);
    ask(&nobody, "GET", &format!("{secrets}/s"), &[], Vec::new()).await;
    env.get("/metrics").await;
    let all = log.until(|e| e["user"]["username"] == "nobody").await;
    assert!(
        all.iter().all(|e| e["stage"] == "ResponseComplete"),
        "{all:?}"
    );
    let of = |verb: &str, resource: &str| {
        let like = |e: &&Value| e["verb"] == verb && e["objectRef"]["resource"] == resource;
        all.iter()
            .find(like)
            .unwrap_or_else(|| panic!("no {verb} {resource}: {all:?}"))
    };
    let made = of("create", "configmaps");
    assert_eq!(made["level"], "RequestResponse");
    assert_eq!(
        made["objectRef"],
        json!({"resource": "configmaps", "namespace": "default", "name": "c", "apiVersion": "v1"})
    );
    assert_eq!(made["responseStatus"], json!({"metadata": {}, "code": 201}));
    assert_eq!(made["requestObject"]["data"], json!({"a": "b"}));
    assert_eq!(made["responseObject"]["kind"], "ConfigMap");
    assert_eq!(
        made["responseObject"]["metadata"].get("managedFields"),
        None
    );
    assert_eq!(
        made["annotations"]["authorization.k8s.io/decision"],
        "allow"
    );
    let patched = of("patch", "configmaps");
    assert_eq!(patched["requestObject"], json!({"data": {"a": "c"}}));
    let missing = of("get", "configmaps");
    assert_eq!(missing["responseStatus"]["reason"], "NotFound");
    assert_eq!(missing["responseStatus"]["code"], 404);
    assert_eq!(missing["responseStatus"]["status"], "Failure");
    let secret = of("create", "secrets");
    assert_eq!(secret["level"], "Metadata");
    assert!(!secret.to_string().contains("hidden"));
    let account = of("create", "serviceaccounts");
    assert_eq!(account["auditID"], "mine");
    assert_eq!(account["sourceIPs"], json!(["10.1.2.3", "127.0.0.1"]));
    assert_eq!(account["requestURI"], accounts);
    assert_eq!(account.get("responseObject"), None);
    let refused = of("get", "secrets");
    assert_eq!(refused["responseStatus"]["code"], 403);
    assert_eq!(
        refused["annotations"]["authorization.k8s.io/decision"],
        "forbid"
    );
    assert!(!all.iter().any(|e| e["requestURI"] == "/metrics"));
    let metrics = env.get("/metrics").await;
    let text = String::from_utf8_lossy(&metrics.body).into_owned();
    assert!(
        text.contains("apiserver_audit_level_total{level=\"Request\"} 1"),
        "{text}"
    );
    assert!(text.contains("apiserver_audit_error_total{plugin=\"buffered\"} 0"));
}

#[tokio::test]
async fn a_watch_is_recorded_when_it_begins_and_when_it_ends() {
    let (log, env) = Log::env().await;
    env.watch("/api/v1/secrets?watch=true&timeoutSeconds=1", |_| false)
        .await;
    let all = log
        .until(|e| e["verb"] == "watch" && e["stage"] == "ResponseComplete")
        .await;
    let stages: Vec<&str> = all
        .iter()
        .filter(|e| e["verb"] == "watch")
        .filter_map(|e| e["stage"].as_str())
        .collect();
    assert_eq!(stages, ["ResponseStarted", "ResponseComplete"]);
}

/// Takes events, or does not.
#[derive(Default)]
struct Sink {
    refuses: Mutex<bool>,
    events: Mutex<Vec<Value>>,
}

#[async_trait]
impl Post for Sink {
    async fn post(&self, body: Bytes) -> Result<(), String> {
        if *self.refuses.lock() {
            return Err("not today".into());
        }
        let list: Value = serde_json::from_slice(&body).unwrap();
        let items = list["items"].as_array().unwrap();
        self.events.lock().extend(items.iter().cloned());
        Ok(())
    }
}

#[tokio::test]
async fn a_strict_backend_lets_nothing_happen_unseen() {
    let sink = Arc::new(Sink::default());
    let policy = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n- level: Metadata\n  verbs: [create]\n  resources: [{group: \"\", resources: [configmaps]}]\n";
    let options = SinkOptions {
        mode: Mode::BlockingStrict,
        ..SinkOptions::queued()
    };
    let audit = Audit::new(Policy::parse(policy).unwrap());
    let audit = audit.webhook(sink.clone(), Duration::from_millis(1), options);
    let env = Env::with(|p| p.audit = Some(Arc::new(audit))).await;
    let maps = "/api/v1/namespaces/default/configmaps";
    let named = |name: &str| json!({"metadata": {"name": name}});
    assert_eq!(env.post(maps, &named("seen")).await.code, 201);
    let stages: Vec<String> = sink
        .events
        .lock()
        .iter()
        .map(|e| e["stage"].as_str().unwrap().to_string())
        .collect();
    assert_eq!(stages, ["RequestReceived", "ResponseComplete"]);
    *sink.refuses.lock() = true;
    let refused = env.post(maps, &named("unseen")).await;
    assert_eq!(refused.code, 500);
    assert_eq!(
        refused.json()["message"],
        "Internal error occurred: failed to store audit event"
    );
    assert_eq!(env.get(&format!("{maps}/unseen")).await.code, 404);
    let metrics = String::from_utf8(env.get("/metrics").await.body).unwrap();
    for line in [
        "apiserver_audit_requests_rejected_total 1",
        "apiserver_audit_error_total{plugin=\"webhook\"} 1",
    ] {
        assert!(
            metrics.lines().any(|l| l == line),
            "{line} not in {metrics}"
        );
    }
}
