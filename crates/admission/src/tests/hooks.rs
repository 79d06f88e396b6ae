//! The webhook plugins against a real server on this machine: TLS, answers of every kind, rounds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use machinery::ApiError;
use machinery::descriptor::{Descriptor, Scope};
use machinery::request::{Admission, Attempt, Operation, User};
use parking_lot::Mutex;
use rustls_pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::{Plain, World};
use crate::mutating_admission_webhook::MutatingAdmissionWebhook;
use crate::validating_admission_webhook::ValidatingAdmissionWebhook;

const GROUP: &str = "admissionregistration.k8s.io";

/// A webhook server and what it was asked.
struct Server {
    ca: String,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Server {
    /// Serves the Service `n/s` of a world.
    async fn start(world: &World) -> Self {
        let made =
            rcgen::generate_simple_self_signed(vec!["s.n.svc".to_string()]).expect("a certificate");
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .expect("a server");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let asked: Arc<Mutex<Vec<(String, Value)>>> = Arc::default();
        let seen = asked.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, seen) = (acceptor.clone(), seen.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let service = service_fn(move |r| answer(r, seen.clone()));
                    let http = hyper::server::conn::http1::Builder::new();
                    // The client may go away in the midst of an answer.
                    let _ = http.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        world.put(
            "",
            "services",
            json!({"metadata": {"name": "s", "namespace": "n"}, "spec": {"type": "ClusterIP", "ports": [{"name": "", "port": 443}]}}),
        );
        world.put(
            "discovery.k8s.io",
            "endpointslices",
            json!({"metadata": {"name": "s-1", "namespace": "n", "labels": {"kubernetes.io/service-name": "s"}},
                "addressType": "IPv4", "ports": [{"name": "", "port": port}],
                "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": true}}]}),
        );
        Self {
            ca: BASE64_STANDARD.encode(made.cert.pem()),
            asked,
        }
    }

    /// A webhook of this server.
    fn hook(&self, name: &str, path: &str) -> Value {
        json!({"name": name, "failurePolicy": "Fail", "matchPolicy": "Equivalent",
            "namespaceSelector": {}, "objectSelector": {}, "timeoutSeconds": 10, "sideEffects": "None",
            "admissionReviewVersions": ["v1"], "reinvocationPolicy": "Never",
            "clientConfig": {"caBundle": self.ca,
                "service": {"namespace": "n", "name": "s", "port": 443, "path": path}},
            "rules": [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"], "scope": "*"}]})
    }

    fn paths(&self) -> Vec<String> {
        self.asked.lock().iter().map(|(p, _)| p.clone()).collect()
    }
}

/// What the server does is the request's path.
async fn answer(
    r: Request<Incoming>,
    seen: Arc<Mutex<Vec<(String, Value)>>>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let uri = r.uri().clone();
    let path = uri.path().to_string();
    let body = r.into_body().collect().await?.to_bytes();
    let review: Value = serde_json::from_slice(&body).unwrap_or_default();
    let asked = review["request"].clone();
    seen.lock().push((uri.to_string(), asked.clone()));
    let patch = |ops: Value| json!({"allowed": true, "patchType": "JSONPatch", "patch": BASE64_STANDARD.encode(ops.to_string())});
    let label = |key: &str| {
        let labels = &asked["object"]["metadata"]["labels"];
        let op = json!({"op": "add", "path": format!("/metadata/labels/{key}"), "value": "yes"});
        if labels.is_object() {
            patch(json!([op]))
        } else {
            patch(json!([{"op": "add", "path": "/metadata/labels", "value": {}}, op]))
        }
    };
    let mut response = match path.as_str() {
        "/allow" => json!({"allowed": true, "warnings": ["mind"], "auditAnnotations": {"k": "v"}}),
        "/deny" => {
            json!({"allowed": false, "status": {"message": "no", "code": 403, "reason": "Forbidden"}})
        }
        "/garbage" => return Ok(Response::new(Full::new(Bytes::from_static(b"<html>")))),
        "/bomb" => return Ok(Response::new(Full::new(Bytes::from(vec![b' '; 20 << 20])))),
        "/error" => {
            let mut answer = Response::new(Full::new(Bytes::from_static(b"boom")));
            *answer.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
            let kind = http::HeaderValue::from_static("text/plain");
            answer.headers_mut().insert("content-type", kind);
            return Ok(answer);
        }
        "/hang" => {
            tokio::time::sleep(Duration::from_secs(3_600)).await;
            json!({})
        }
        "/broken-patch" => patch(json!([{"op": "remove", "path": "/nowhere"}])),
        path => label(path.trim_start_matches('/')),
    };
    response["uid"] = asked["uid"].clone();
    let out = json!({"apiVersion": review["apiVersion"], "kind": "AdmissionReview", "response": response});
    Ok(Response::new(Full::new(Bytes::from(out.to_string()))))
}

fn put(world: &World, kind: &'static str, name: &str, hooks: &[Value]) {
    world.put(
        GROUP,
        kind,
        json!({"metadata": {"name": name}, "webhooks": hooks}),
    );
}

fn validate(world: &World, name: &str, hooks: &[Value]) {
    put(world, "validatingwebhookconfigurations", name, hooks);
}

fn mutate(world: &World, name: &str, hooks: &[Value]) {
    put(world, "mutatingwebhookconfigurations", name, hooks);
}

fn config_map() -> (Descriptor, User, Value) {
    let d = Descriptor::new(
        "",
        "v1",
        "ConfigMap",
        "configmaps",
        Scope::Namespaced,
        Plain,
    );
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "d"}});
    (d, User::new("u", &["g"]), object)
}

/// Runs both plugins over the creation of a config map.
async fn create(
    world: &World,
    change: impl FnOnce(&mut Attempt<'_>),
) -> Result<(Value, Vec<String>), ApiError> {
    let (d, user, object) = config_map();
    let options = json!({"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"});
    let mut a = Attempt {
        namespace: "d",
        name: "c",
        object: Some(object),
        options: &options,
        ..Attempt::new(Operation::Create, &d, &user)
    };
    change(&mut a);
    let mutating = MutatingAdmissionWebhook(world.context.clone());
    mutating.mutate(&mut a).await?;
    if a.reinvocation.wanted {
        a.reinvocation.again = true;
        mutating.mutate(&mut a).await?;
    }
    let validating = ValidatingAdmissionWebhook(world.context.clone());
    validating.validate(&a).await?;
    let warnings = a.warnings.take();
    Ok((a.object.unwrap_or_default(), warnings))
}

async fn refusal(world: &World) -> (u16, String) {
    let e = create(world, |_| {}).await.expect_err("a refusal");
    (e.code, e.message)
}

#[tokio::test]
async fn webhooks_are_asked_as_upstream_asks_them() {
    let world = World::new();
    let server = Server::start(&world).await;
    validate(&world, "v", &[server.hook("a.b.c", "/allow")]);
    let (_, warnings) = create(&world, |_| {}).await.expect("allowed");
    assert_eq!(warnings, ["mind"]);
    let asked = server.asked.lock().clone();
    let (url, mut request) = asked[0].clone();
    assert_eq!(url, "/allow?timeout=10s");
    assert!(request["uid"].as_str().is_some_and(|u| u.len() == 36));
    request["uid"] = json!("");
    let gvk = json!({"group": "", "version": "v1", "kind": "ConfigMap"});
    let gvr = json!({"group": "", "version": "v1", "resource": "configmaps"});
    let (_, _, object) = config_map();
    let expected = json!({"uid": "", "kind": gvk, "resource": gvr, "requestKind": gvk, "requestResource": gvr,
        "name": "c", "namespace": "d", "operation": "CREATE", "dryRun": false, "object": object, "oldObject": null,
        "userInfo": {"username": "u", "groups": ["g"]},
        "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"}});
    assert_eq!(request, expected);
    validate(&world, "v", &[server.hook("a.b.c", "/deny")]);
    let text = "admission webhook \"a.b.c\" denied the request: no";
    assert_eq!(refusal(&world).await, (403, text.into()));
}

#[tokio::test]
async fn failures_follow_the_failure_policy() {
    let world = World::new();
    let server = Server::start(&world).await;
    for (path, why) in [
        (
            "/garbage",
            "failed to call webhook: couldn't get version/kind; json parse error: ",
        ),
        (
            "/bomb",
            "failed to call webhook: response is longer than 8388608 bytes",
        ),
        (
            "/error",
            "failed to call webhook: an error on the server (\"boom\") has prevented the request from succeeding",
        ),
    ] {
        let mut hook = server.hook("a.b.c", path);
        validate(&world, "v", std::slice::from_ref(&hook));
        let (code, text) = refusal(&world).await;
        let expected = format!("Internal error occurred: failed calling webhook \"a.b.c\": {why}");
        assert_eq!(code, 500);
        assert!(text.starts_with(&expected), "{text}");
        hook["failurePolicy"] = json!("Ignore");
        validate(&world, "v", &[hook]);
        create(&world, |_| {}).await.expect("ignored");
    }
    let mut hook = server.hook("a.b.c", "/allow");
    hook["clientConfig"]["caBundle"] = json!(null);
    validate(&world, "v", std::slice::from_ref(&hook));
    let (_, text) = refusal(&world).await;
    let expected = "Post \"https://s.n.svc:443/allow?timeout=10s\": tls: failed to verify certificate: x509: certificate signed by unknown authority";
    assert!(text.ends_with(expected), "{text}");
    hook["clientConfig"]["service"]["name"] = json!("t");
    validate(&world, "v", &[hook]);
    let (_, text) = refusal(&world).await;
    assert!(
        text.ends_with("timeout=10s\": service \"t\" not found"),
        "{text}"
    );
}

#[tokio::test]
async fn a_webhook_that_hangs_is_left_when_its_time_or_the_requests_is_over() {
    let world = World::new();
    let server = Server::start(&world).await;
    let mut hook = server.hook("a.b.c", "/hang");
    hook["timeoutSeconds"] = json!(1);
    validate(&world, "v", std::slice::from_ref(&hook));
    let (code, text) = refusal(&world).await;
    let end = "failed to call webhook: Post \"https://s.n.svc:443/hang?timeout=1s\": context deadline exceeded";
    assert!(code == 500 && text.ends_with(end), "{text}");
    hook["timeoutSeconds"] = json!(30);
    validate(&world, "v", &[hook]);
    let soon = Instant::now() + Duration::from_millis(200);
    let e = create(&world, |a| a.deadline = Some(soon))
        .await
        .expect_err("late");
    assert!(
        e.message
            .ends_with("timeout=1s\": context deadline exceeded"),
        "{e}"
    );
}

#[tokio::test]
async fn patches_apply_in_order_and_defaults_come_again() {
    let world = World::new();
    let server = Server::start(&world).await;
    mutate(
        &world,
        "m",
        &[
            server.hook("one.b.c", "/one"),
            server.hook("two.b.c", "/two"),
        ],
    );
    let (object, _) = create(&world, |_| {}).await.expect("allowed");
    assert_eq!(
        object["metadata"]["labels"],
        json!({"one": "yes", "two": "yes"})
    );
    let seen = server.asked.lock()[1].1["object"]["metadata"]["labels"].clone();
    assert_eq!(
        seen,
        json!({"one": "yes"}),
        "the second sees what the first did"
    );
    mutate(&world, "m", &[server.hook("one.b.c", "/broken-patch")]);
    let (code, text) = refusal(&world).await;
    let expected = "Internal error occurred: error in remove for path: '/nowhere': Unable to remove nonexistent key: nowhere: missing value";
    assert_eq!((code, text.as_str()), (500, expected));
    mutate(&world, "m", &[server.hook("one.b.c", "/one")]);
    let e = create(&world, |a| {
        a.operation = Operation::Delete;
        a.object = None;
    });
    let e = e.await.expect_err("nothing to patch");
    let expected = "Internal error occurred: admission webhook \"one.b.c\" attempted to modify the object, which is not supported for this operation";
    assert_eq!(e.message, expected);
}

#[tokio::test]
async fn who_wants_to_see_later_changes_is_called_once_more() {
    let world = World::new();
    let server = Server::start(&world).await;
    let mut first = server.hook("one.b.c", "/one");
    first["reinvocationPolicy"] = json!("IfNeeded");
    mutate(
        &world,
        "m",
        &[first.clone(), server.hook("two.b.c", "/two")],
    );
    create(&world, |_| {}).await.expect("allowed");
    let t = |p: &str| format!("/{p}?timeout=10s");
    assert_eq!(server.paths(), [t("one"), t("two"), t("one")]);
    server.asked.lock().clear();
    // Nothing came after its own change.
    mutate(&world, "m", &[first]);
    create(&world, |_| {}).await.expect("allowed");
    assert_eq!(server.paths(), [t("one")]);
}

#[tokio::test]
async fn rules_and_selectors_decide_who_is_asked() {
    let world = World::new();
    let server = Server::start(&world).await;
    let rule = |field: &str, value: Value| {
        let mut hook = server.hook("a.b.c", "/deny");
        hook["rules"][0][field] = value;
        hook
    };
    let set = |field: &str, value: Value| {
        let mut hook = server.hook("a.b.c", "/deny");
        hook[field] = value;
        hook
    };
    for (hook, asked) in [
        (rule("operations", json!(["UPDATE", "DELETE"])), false),
        (rule("operations", json!(["UPDATE", "CREATE"])), true),
        (rule("apiGroups", json!(["apps"])), false),
        (rule("apiVersions", json!(["v2"])), false),
        (rule("resources", json!(["configmaps"])), true),
        (rule("resources", json!(["configmaps/status"])), false),
        (rule("resources", json!(["*"])), true),
        (rule("scope", json!("Cluster")), false),
        (rule("scope", json!("Namespaced")), true),
        (
            set("namespaceSelector", json!({"matchLabels": {"x": "y"}})),
            false,
        ),
        (
            set(
                "namespaceSelector",
                json!({"matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]}),
            ),
            true,
        ),
        (
            set("objectSelector", json!({"matchLabels": {"x": "y"}})),
            false,
        ),
    ] {
        validate(&world, "v", std::slice::from_ref(&hook));
        let refused = create(&world, |_| {}).await.is_err();
        assert_eq!(refused, asked, "{hook}");
    }
    let mut hook = server.hook("a.b.c", "/allow");
    hook["sideEffects"] = json!("Some");
    validate(&world, "v", &[hook]);
    let e = create(&world, |a| a.dry_run = true)
        .await
        .expect_err("no dry run");
    let text = "admission webhook \"a.b.c\" does not support dry run";
    assert_eq!((e.code, e.message.as_str()), (400, text));
    // Conditions that nobody can evaluate are told, never passed over.
    let conditions = json!([{"name": "x", "expression": "true"}]);
    validate(&world, "v", &[set("matchConditions", conditions)]);
    let (code, text) = refusal(&world).await;
    assert!(
        code == 403 && text.contains("matchConditions cannot be evaluated"),
        "{text}"
    );
}

#[tokio::test]
async fn configurations_themselves_are_never_asked_about() {
    let world = World::new();
    let server = Server::start(&world).await;
    validate(&world, "v", &[server.hook("a.b.c", "/deny")]);
    let kind = "ValidatingWebhookConfiguration";
    let resource = "validatingwebhookconfigurations";
    let d = Descriptor::new(GROUP, "v1", kind, resource, Scope::Cluster, Plain);
    let user = User::default();
    let a = Attempt {
        name: "v",
        ..Attempt::new(Operation::Delete, &d, &user)
    };
    let plugin = ValidatingAdmissionWebhook(world.context.clone());
    plugin.validate(&a).await.expect("not asked");
    assert_eq!(server.paths(), [""; 0]);
}
