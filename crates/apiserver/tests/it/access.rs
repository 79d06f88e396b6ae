//! Tokens of foreign issuers and webhooks that know tokens or decide: good ones, and such as hang, lie or send garbage.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use auth::chain::{Chain, Lasting};
use auth::config::{AuthenticationConfiguration, AuthorizationConfiguration};
use auth::jwt::{Context, JwtAuthenticators};
use auth::token_cache::{TokenAuthenticator, TokenCache, Ttl};
use auth::token_webhook::TokenWebhook;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use machinery::request::{Attributes, Authorizer, Decision, User};
use machinery::series::Registry;
use pki::jwt::SigningKey;
use pki::{Ca, LeafRequest};
use serde_json::{Value, json};
use webhook::{Fetcher, Verification};

use crate::env::Env;
use crate::fakes;

type Body = http_body_util::combinators::BoxBody<Bytes, Infallible>;

/// An issuer, or a webhook: a CA, where it is, and how often it was asked.
struct Server {
    ca: Ca,
    url: String,
    asked: Arc<AtomicUsize>,
}

fn whole(value: &Value) -> Body {
    http_body_util::Full::new(Bytes::from(value.to_string())).boxed()
}

/// A body without an end.
fn endless() -> Body {
    let chunk = Bytes::from(vec![b' '; 64 << 10]);
    let frames = futures::stream::repeat_with(move || Ok(Frame::data(chunk.clone())));
    BodyExt::boxed(StreamBody::new(frames))
}

/// A server over TLS that answers so; what hangs, hangs for ever.
async fn serve<F>(answer: impl Fn(String, Value) -> F + Clone + Send + Sync + 'static) -> Server
where
    F: Future<Output = Body> + Send + 'static,
{
    let ca = Ca::generate("foreign", pki::now()).unwrap();
    let leaf = LeafRequest::server("foreign", &[], vec!["127.0.0.1".into()]);
    let identity = ca.issue(&leaf).unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let address = fakes::serve(&identity, None, move |r: Request<Incoming>| {
        let (count, answer) = (count.clone(), answer.clone());
        async move {
            count.fetch_add(1, Ordering::SeqCst);
            let path = r.uri().path().to_string();
            let body = r.into_body().collect().await.unwrap().to_bytes();
            let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
            Ok::<_, Infallible>(Response::new(answer(path, body).await))
        }
    })
    .await;
    Server {
        ca,
        url: format!("https://{address}"),
        asked,
    }
}

fn key() -> SigningKey {
    SigningKey::parse(&rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap()
}

/// Issuers under several paths: `/good`, and others whose keys are not what they should be. `/lies` says it is another.
async fn issuers(key: Arc<SigningKey>) -> Server {
    let url: Arc<std::sync::OnceLock<String>> = Arc::default();
    let known = url.clone();
    let server = serve(move |path, _| {
        let (key, url) = (key.clone(), known.clone());
        async move {
            let base = url.get().cloned().unwrap_or_default();
            let parts: Vec<&str> = path.trim_matches('/').splitn(2, '/').collect();
            let (issuer, rest) = (parts[0], parts.get(1).copied().unwrap_or_default());
            match (issuer, rest) {
                (_, ".well-known/openid-configuration") => {
                    let named = if issuer == "lies" { "good" } else { issuer };
                    let keys = format!("{base}/{issuer}/keys");
                    whole(&json!({"issuer": format!("{base}/{named}"), "jwks_uri": keys}))
                }
                ("hang", _) => std::future::pending().await,
                ("huge", _) => endless(),
                ("garbage", _) => whole(&json!({"keys": [{"kty": "RSA", "n": 1}]})),
                _ => whole(&pki::jwt::jwks(&[key.public().clone()])),
            }
        }
    })
    .await;
    url.set(server.url.clone()).unwrap();
    server
}

fn configuration(server: &Server, paths: &[&str]) -> AuthenticationConfiguration {
    let one = |path: &&str| {
        json!({
            "issuer": {"url": format!("{}/{path}", server.url), "audiences": ["k0s"], "certificateAuthority": server.ca.pem()},
            "claimMappings": {
                "username": {"expression": "'oidc:' + claims.sub"},
                "groups": {"claim": "groups", "prefix": "oidc:"},
            },
        })
    };
    let jwt: Vec<Value> = paths.iter().map(one).collect();
    let config = json!({
        "apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration", "jwt": jwt,
    });
    AuthenticationConfiguration::parse(&config.to_string()).unwrap()
}

fn context(metrics: &Arc<Registry>) -> Context {
    Context {
        algorithms: pki::jwk::ALGORITHMS.map(str::to_string).to_vec(),
        disallowed: Vec::new(),
        server_id: "test".into(),
        metrics: metrics.clone(),
    }
}

fn token(key: &SigningKey, issuer: &str, lives: i64) -> String {
    let claims = json!({
        "iss": issuer, "aud": "k0s", "sub": "jane", "groups": ["dev"], "exp": pki::now() + lives,
    });
    key.sign(&claims).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_an_issuer_are_users_and_bad_issuers_stop_nobody() {
    let key_ = Arc::new(key());
    let server = issuers(key_.clone()).await;
    let metrics = Arc::new(Registry::default());
    let none = AuthenticationConfiguration::default();
    let jwt = JwtAuthenticators::new(&none, context(&metrics)).unwrap();
    let all = ["good", "hang", "huge", "garbage"];
    jwt.replace(&configuration(&server, &all)).await.unwrap();
    let jwt = Arc::new(jwt);
    let ttl = Ttl {
        success: Duration::from_secs(10),
        failure: Duration::ZERO,
        errors: true,
    };
    let cache = Arc::new(TokenCache::new(jwt.clone(), ttl, metrics.clone()).unwrap());
    let env = Env::with(|p| {
        p.authenticators.push(cache);
        p.metrics = Some(metrics.clone());
    })
    .await;
    let of = |path: &str, lives| token(&key_, &format!("{}/{path}", server.url), lives);
    // Somebody waits for keys that never come; nobody else does.
    let (waiting, hanging) = (jwt.clone(), of("hang", 60));
    let waits = tokio::spawn(async move { waiting.authenticate(&hanging).await });
    let ca = Verification::Bundle(env.pki.ca.pem().as_bytes().to_vec());
    let client = Fetcher::new(&ca).unwrap();
    let get = async |token: &str| {
        let url = format!("https://{}/api/v1/namespaces/default", env.address);
        let got = client
            .get(&url, Some(token), Duration::from_secs(10), 1 << 20)
            .await;
        let got = got.unwrap();
        (
            got.status.as_u16(),
            String::from_utf8(got.body.to_vec()).unwrap(),
        )
    };
    let (code, text) = get(&of("good", 60)).await;
    assert_eq!(code, 403, "{text}");
    assert!(
        text.contains("User \\\"oidc:jane\\\" cannot get resource"),
        "{text}"
    );
    let found = jwt.authenticate(&of("good", 60)).await.unwrap().unwrap();
    assert_eq!(found.user.groups, ["oidc:dev"]);
    for (token, wanted) in [
        (
            of("good", -60),
            "oidc: verify token: oidc: token is expired",
        ),
        (
            token(&key(), &format!("{}/good", server.url), 60),
            "oidc: verify token: failed to verify signature: failed to verify id token signature",
        ),
        (of("huge", 60), "response is longer than 1048576 bytes"),
        (of("garbage", 60), "oidc: failed to decode keys"),
    ] {
        assert_eq!(get(&token).await.0, 401);
        let e = jwt.authenticate(&token).await.unwrap_err();
        assert!(e.contains(wanted), "{e}");
    }
    assert!(jwt.authenticate(&of("other", 60)).await.unwrap().is_none());
    assert!(!waits.is_finished());
    waits.abort();
    let text = env.get("/metrics").await;
    let text = String::from_utf8(text.body).unwrap();
    for family in [
        "apiserver_authentication_jwt_authenticator_latency_seconds_count{result=\"success\"",
        "apiserver_authentication_jwt_authenticator_jwks_fetch_last_timestamp_seconds{result=\"failure\"",
        "apiserver_authentication_jwt_authenticator_jwks_fetch_last_key_set_info{",
        "authentication_token_cache_request_total{status=\"miss\"}",
        "authentication_attempts{result=\"error\"}",
        "authorization_attempts_total{result=\"no-opinion\"}",
    ] {
        assert!(text.contains(family), "{family}\n{text}");
    }
    // Another configuration takes the old one's place.
    jwt.replace(&configuration(&server, &["other"]))
        .await
        .unwrap();
    assert!(jwt.authenticate(&of("good", 60)).await.unwrap().is_none());
    assert!(jwt.authenticate(&of("other", 60)).await.unwrap().is_some());
    let one =
        JwtAuthenticators::new(&configuration(&server, &["lies"]), context(&metrics)).unwrap();
    let e = one.authenticate(&of("lies", 60)).await.unwrap_err();
    assert_eq!(e, "oidc: authenticator not initialized");
}

/// A file that says where a webhook is.
fn kubeconfig(server: &Server, dir: &std::path::Path, path: &str) -> std::path::PathBuf {
    let file = dir.join(path.replace('/', "-"));
    let credential = pki::kubeconfig::Credential::Token("secret");
    let text = pki::kubeconfig::render(
        &format!("{}{path}", server.url),
        server.ca.pem(),
        &credential,
    );
    std::fs::write(&file, text).unwrap();
    file
}

#[tokio::test]
async fn a_webhook_knows_tokens() {
    let server = serve(|path, review: Value| async move {
        let status = match review["spec"]["token"].as_str() {
            Some("good") => json!({
                "authenticated": true, "user": {"username": "jane", "groups": ["dev"], "extra": {"a": ["b"]}},
                "audiences": review["spec"]["audiences"],
            }),
            Some("other") => json!({"authenticated": true, "user": {"username": "x"}, "audiences": ["elsewhere"]}),
            Some("bad") => json!({"authenticated": false, "error": "no"}),
            Some("garbage") => return whole(&json!("?")),
            _ => json!({"authenticated": false}),
        };
        assert_eq!(path, "/review");
        let version = review["apiVersion"].clone();
        whole(&json!({"kind": "TokenReview", "apiVersion": version, "status": status}))
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let file = kubeconfig(&server, dir.path(), "/review");
    assert!(TokenWebhook::open(&file, "v2", Vec::new()).is_err());
    for version in ["v1", "v1beta1"] {
        let webhook = TokenWebhook::open(&file, version, vec!["api".into()]).unwrap();
        let found = webhook.check("good", &[]).await.unwrap().unwrap();
        assert_eq!(
            (found.user.name.as_str(), found.audiences),
            ("jane", vec!["api".to_string()])
        );
        assert_eq!(found.user.extra["a"], ["b"]);
        let other = ["vault".to_string()];
        let found = webhook.check("good", &other).await.unwrap().unwrap();
        assert_eq!(found.audiences, other);
        assert!(webhook.check("other", &[]).await.unwrap().is_none());
        assert!(webhook.check("unknown", &[]).await.unwrap().is_none());
        assert_eq!(webhook.check("bad", &[]).await.unwrap_err(), "no");
        assert!(webhook.check("garbage", &[]).await.is_err());
    }
}

fn pods(user: &str) -> Attributes {
    Attributes {
        user: User::new(user, &[]),
        verb: "get".into(),
        version: "v1".into(),
        resource: "pods".into(),
        namespace: "d".into(),
        name: "p".into(),
        is_resource: true,
        ..Attributes::default()
    }
}

#[tokio::test]
async fn webhooks_decide_in_order_and_bad_ones_by_their_policy() {
    let server = serve(|path, review: Value| async move {
        let status = match (path.as_str(), review["spec"]["user"].as_str()) {
            ("/hang", _) => std::future::pending().await,
            ("/huge", _) => return endless(),
            ("/garbage", _) => return whole(&json!({"kind": "Pod"})),
            (_, Some("jane")) => json!({"allowed": true, "reason": "she may"}),
            (_, Some("joe")) => json!({"allowed": false, "denied": true, "reason": "he may not"}),
            _ => json!({"allowed": false, "reason": "who?"}),
        };
        whole(&json!({"kind": "SubjectAccessReview", "apiVersion": review["apiVersion"], "status": status}))
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let metrics = Arc::new(Registry::default());
    let config = |path: &str, policy: &str, conditions: &[&str]| {
        let file = kubeconfig(&server, dir.path(), path);
        let conditions: Vec<Value> = conditions
            .iter()
            .map(|c| json!({"expression": c}))
            .collect();
        let webhook = json!({
            "timeout": "300ms", "subjectAccessReviewVersion": "v1", "matchConditionSubjectAccessReviewVersion": "v1",
            "failurePolicy": policy, "matchConditions": conditions,
            "connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": file},
        });
        let config = json!({
            "apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthorizationConfiguration",
            "authorizers": [{"type": "Webhook", "name": "hook", "webhook": webhook}, {"type": "RBAC", "name": "rbac"}],
        });
        AuthorizationConfiguration::parse(&config.to_string()).unwrap()
    };
    let nobody: Arc<dyn Authorizer> = Arc::new(auth::masters::Masters);
    let lasting = Lasting {
        node: nobody.clone(),
        rbac: nobody,
        metrics: metrics.clone(),
    };
    let chain = Chain::new(&config("/good", "NoOpinion", &[]), lasting).unwrap();
    let asked = || server.asked.load(Ordering::SeqCst);
    for _ in 0..2 {
        // The second time it is remembered.
        assert_eq!(
            chain.authorize(&pods("jane")).await,
            Decision::Allow("she may".into())
        );
        assert_eq!(
            chain.authorize(&pods("joe")).await,
            Decision::Deny("he may not".into())
        );
        let none = Decision::NoOpinion("hook: who?".into());
        assert_eq!(chain.authorize(&pods("x")).await, none);
        assert_eq!(asked(), 3);
    }
    // Members of the privileged group are not asked about.
    let mut master = pods("root");
    master.user.groups.push("system:masters".into());
    assert!(matches!(chain.authorize(&master).await, Decision::Allow(_)));
    chain
        .replace(&config("/good", "NoOpinion", &["request.user != 'jane'"]))
        .unwrap();
    assert_eq!(
        chain.authorize(&pods("jane")).await,
        Decision::NoOpinion(String::new())
    );
    assert_eq!(asked(), 3);
    for (path, wanted) in [
        ("/hang", "context deadline exceeded"),
        ("/huge", "response is longer than 1048576 bytes"),
        (
            "/garbage",
            "expected authorization.k8s.io/v1, Kind=SubjectAccessReview",
        ),
    ] {
        for policy in ["NoOpinion", "Deny"] {
            chain.replace(&config(path, policy, &[])).unwrap();
            match chain.authorize(&pods("jane")).await {
                Decision::Failed { denied, error, .. } => {
                    assert_eq!(denied, policy == "Deny");
                    assert!(error.contains(wanted), "{path}: {error}");
                }
                other => panic!("{path}: {other:?}"),
            }
        }
    }
    let e = chain.replace(&AuthorizationConfiguration::of_modes(
        &["Node", "RBAC"],
        None,
    ));
    assert_eq!(
        e.unwrap_err(),
        "authorizer type Node is not allowed if it was not enabled at initial server startup"
    );
    let text = metrics.text();
    for line in [
        "apiserver_authorization_webhook_evaluations_total{name=\"hook\",result=\"success\"} 3",
        "apiserver_authorization_webhook_evaluations_total{name=\"hook\",result=\"timeout\"} 2",
        "apiserver_authorization_webhook_evaluations_total{name=\"hook\",result=\"error\"} 4",
        "apiserver_authorization_webhook_evaluations_fail_open_total{name=\"hook\",result=\"timeout\"} 1",
        "apiserver_authorization_decisions_total{type=\"Webhook\",name=\"hook\",decision=\"allowed\"} 2",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

/// Allows what is in its list, and fails where it says so.
struct Listed(Vec<&'static str>);

#[async_trait::async_trait]
impl Authorizer for Listed {
    fn name(&self) -> &'static str {
        "listed"
    }

    async fn authorize(&self, a: &Attributes) -> Decision {
        let line = format!("{} {} {} {}", a.user.name, a.verb, a.resource, a.name);
        let line = line.trim_end().to_string();
        match line.starts_with("broken") {
            true => Decision::Failed {
                denied: false,
                reason: String::new(),
                error: "no answer".into(),
            },
            false if self.0.contains(&line.as_str()) => Decision::Allow(String::new()),
            false => Decision::NoOpinion(String::new()),
        }
    }

    async fn rules(&self, _: &User, _: &str) -> (Vec<Value>, Vec<Value>, bool) {
        (Vec::new(), Vec::new(), false)
    }
}

#[tokio::test]
async fn acting_as_another_may_be_constrained() {
    let allowed = vec![
        "a impersonate users jane",
        "b impersonate:user-info users jane",
        "b impersonate-on:user-info:get namespaces default",
        "c impersonate:arbitrary-node nodes n1",
        "c impersonate-on:arbitrary-node:get namespaces default",
        "jane get namespaces default",
        "system:node:n1 get namespaces default",
    ];
    let env = Env::with(|p| p.authorizers.push(Arc::new(Listed(allowed)))).await;
    let get = async |who: &str, path: &str, headers: &[(&str, &str)]| {
        let client = env.client_of(who, &[]);
        crate::env::ask(&client, "GET", path, headers, Vec::new()).await
    };
    let default = "/api/v1/namespaces/default";
    let jane = ("impersonate-user", "jane");
    let node = ("impersonate-user", "system:node:n1");
    let group = ("impersonate-group", "x");
    for (who, path, headers, code, wanted) in [
        ("a", default, &[jane][..], 200, ""),
        ("b", default, &[jane], 200, ""),
        // Only while it does what it may do so.
        (
            "b",
            "/api/v1/namespaces/other",
            &[jane],
            403,
            "cannot impersonate-on:user-info:get resource",
        ),
        (
            "b",
            default,
            &[jane, group],
            403,
            "cannot impersonate:user-info resource \\\"groups\\\" in API group \\\"authentication.k8s.io\\\"",
        ),
        ("c", default, &[node], 200, ""),
        (
            "c",
            default,
            &[jane],
            403,
            "cannot impersonate-on:user-info:get resource",
        ),
        (
            "a",
            default,
            &[group],
            400,
            "without impersonating a user name",
        ),
    ] {
        let reply = get(who, path, headers).await;
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        assert_eq!(reply.code, code, "{who} {path} {headers:?}: {text}");
        assert!(text.contains(wanted), "{who} {path}: {text}");
    }
    // An authorizer that fails is no refusal.
    let reply = get("broken", "/api/v1/namespaces/default?x", &[]).await;
    assert_eq!(reply.code, 500);
    let text = String::from_utf8_lossy(&reply.body);
    assert_eq!(
        text,
        "Internal Server Error: \"/api/v1/namespaces/default?x\": no answer\n"
    );
    let text = String::from_utf8(env.get("/metrics").await.body).unwrap();
    for line in [
        "apiserver_impersonation_attempts_total{mode=\"user-info\",decision=\"allowed\"} 1",
        "apiserver_impersonation_attempts_total{mode=\"legacy\",decision=\"allowed\"} 1",
        "apiserver_impersonation_attempts_total{mode=\"arbitrary-node\",decision=\"allowed\"} 1",
        "apiserver_impersonation_attempts_total{mode=\"\",decision=\"denied\"} 3",
    ] {
        assert!(text.contains(line), "{line}");
    }
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_401_in_words() {
    let env = Env::with(|p| {
        let health = auth::anonymous::HEALTH_PATHS;
        p.authenticators
            .push(Arc::new(auth::anonymous::Anonymous::new(health)));
    })
    .await;
    let foreign = Ca::generate("foreign", pki::now()).unwrap();
    let admin = LeafRequest::client("admin", &["system:masters"]);
    let own = env.pki.ca.issue(&admin).unwrap();
    let stranger = foreign.issue(&admin).unwrap();
    let ca = Verification::Bundle(env.pki.ca.pem().as_bytes().to_vec());
    for (identity, path, wanted) in [
        (Some(&own), "/api/v1/namespaces/default", 200),
        (Some(&stranger), "/api/v1/namespaces/default", 401),
        (Some(&stranger), "/livez", 401),
        (None, "/api/v1/namespaces/default", 401),
        (None, "/livez", 403),
    ] {
        let identity = identity.map(|i| (i.chain().unwrap(), i.key().unwrap()));
        let tls = webhook::client_config(&ca, identity).unwrap();
        let client = webhook::pool(&webhook::Names::default(), tls, "127.0.0.1").unwrap();
        let url = format!("https://{}{path}", env.address);
        let answer = client.get(url.parse().unwrap()).await.unwrap();
        assert_eq!(answer.status().as_u16(), wanted, "{path}");
        if wanted == 401 {
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            let status: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(status["message"], "Unauthorized");
        }
    }
}
