use machinery::request::{Authenticator, Credentials};
use pki::token::Kubernetes;
use pki::{Ca, Claims, LeafRequest, ObjectRef, TokenSigner, TokenVerifier};

use super::*;
use crate::Authenticators;
use crate::anonymous::{Anonymous, HEALTH_PATHS};
use crate::bootstrap_token::BootstrapTokens;
use crate::service_account::ServiceAccounts;
use crate::x509::{self, X509};

const ISSUER: &str = "https://kubernetes.default.svc";

pub(crate) fn signer() -> (Arc<TokenSigner>, Arc<TokenVerifier>) {
    let key = pki::key::generate().unwrap().serialize_pem();
    let signer = TokenSigner::new(&key, ISSUER).unwrap();
    let keys = vec![signer.public().clone()];
    let verifier = TokenVerifier::new(keys, vec![ISSUER.into()], vec![ISSUER.into()]);
    (Arc::new(signer), Arc::new(verifier))
}

fn object(name: &str, namespace: &str, uid: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": namespace, "uid": uid}})
}

fn claims() -> Claims {
    let reference = |name: &str, uid: &str| ObjectRef {
        name: name.into(),
        uid: uid.into(),
    };
    Claims {
        sub: "system:serviceaccount:d:s".into(),
        aud: vec![ISSUER.into()],
        exp: Some(pki::now() + 600),
        jti: "j".into(),
        kubernetes: Kubernetes {
            namespace: "d".into(),
            serviceaccount: reference("s", "su"),
            pod: Some(reference("p", "pu")),
            node: Some(reference("n", "nu")),
            ..Kubernetes::default()
        },
        ..Claims::default()
    }
}

#[test]
fn bound_token_lives_as_long_as_its_objects() {
    let reads = reads();
    let (signer, verifier) = signer();
    let auth = ServiceAccounts::new(verifier, reads.clone());
    let token = signer.sign(&claims()).unwrap();
    let now = pki::now();
    let check = || {
        auth.check(&token, &[], now)
            .map(|f| f.map(|f| f.user))
            .map_err(|e| e.message)
    };
    assert_eq!(check(), Err("serviceaccounts \"s\" not found".into()));
    put(&reads, "", "serviceaccounts", object("s", "d", "other"));
    assert_eq!(
        check(),
        Err("service account UID (other) does not match claim (su)".into())
    );
    put(&reads, "", "serviceaccounts", object("s", "d", "su"));
    assert_eq!(
        check(),
        Err("service account token has been invalidated".into())
    );
    put(&reads, "", "pods", object("p", "d", "new"));
    assert_eq!(
        check(),
        Err("pod UID (new) does not match service account pod ref claim (pu)".into())
    );
    put(&reads, "", "pods", object("p", "d", "pu"));
    let user = check().unwrap().unwrap();
    assert_eq!(user.name, "system:serviceaccount:d:s");
    assert_eq!(user.uid, "su");
    assert_eq!(
        user.groups,
        ["system:serviceaccounts", "system:serviceaccounts:d"]
    );
    assert_eq!(
        user.extra["authentication.kubernetes.io/credential-id"],
        ["JTI=j"]
    );
    assert_eq!(user.extra["authentication.kubernetes.io/pod-name"], ["p"]);
    assert_eq!(user.extra["authentication.kubernetes.io/node-uid"], ["nu"]);
    let mut deleted = object("p", "d", "pu");
    deleted["metadata"]["deletionTimestamp"] = json!("2020-01-01T00:00:00Z");
    put(&reads, "", "pods", deleted);
    assert_eq!(
        check(),
        Err("service account token has been invalidated".into())
    );
    assert_eq!(
        auth.check("not.a.token", &[], now).unwrap().map(|f| f.user),
        None
    );
}

#[test]
fn certificate_names_user_and_groups() {
    let ca = Ca::generate("c", pki::now()).unwrap();
    let leaf = ca
        .issue(&LeafRequest::client(
            "system:node:n",
            &["system:nodes", "x"],
        ))
        .unwrap();
    let der = leaf.chain().unwrap().remove(0);
    let user = x509::user_of(&der).unwrap().unwrap();
    assert_eq!(user.name, "system:node:n");
    assert_eq!(user.groups, ["system:nodes", "x"]);
    assert!(user.extra[x509::CREDENTIAL_ID][0].starts_with("X509SHA256="));
    for i in 0..der.len() {
        let mut broken = der.to_vec();
        broken[i] ^= 0x55;
        // Any answer will do; it must be an answer.
        let _ = x509::user_of(&broken).is_ok();
        let _ = x509::user_of(&der[..i]).is_ok();
    }
}

#[tokio::test]
async fn certificate_ends_even_on_an_open_connection() {
    let ca = Ca::generate("c", pki::now()).unwrap();
    let mut request = LeafRequest::client("u", &[]);
    request.validity_seconds = -10;
    let chain = ca.issue(&request).unwrap().chain().unwrap();
    let chain: Vec<Vec<u8>> = chain.iter().map(|c| c.to_vec()).collect();
    let credentials = Credentials {
        certificates: &chain,
        proxy_certificates: &[],
        bearer: None,
        audiences: &[],
        headers: &http::HeaderMap::new(),
        path: "/",
    };
    let auth = X509::default();
    for _ in 0..2 {
        let e = auth.authenticate(&credentials).await.unwrap_err();
        assert_eq!(
            e.message,
            "x509: certificate has expired or is not yet valid"
        );
    }
}

#[test]
fn bootstrap_token_is_checked_in_all_its_parts() {
    use base64::Engine as _;
    let b64 = |s: &str| base64::engine::general_purpose::STANDARD.encode(s);
    let good = |change: fn(&mut Value)| {
        let mut o = json!({
            "metadata": {"name": "bootstrap-token-abcdef", "namespace": "kube-system"},
            "type": "bootstrap.kubernetes.io/token",
            "data": {
                "token-id": b64("abcdef"), "token-secret": b64("0123456789abcdef"),
                "usage-bootstrap-authentication": b64("true"),
                "expiration": b64("2100-01-01T00:00:00Z"),
                "auth-extra-groups": b64("system:bootstrappers:worker"),
            },
        });
        change(&mut o);
        o
    };
    type Change = fn(&mut Value);
    let table: &[(&str, Change, bool)] = &[
        ("abcdef.0123456789abcdef", |_| {}, true),
        ("abcdef.0123456789abcdeg", |_| {}, false),
        ("abcdef0123456789abcdef", |_| {}, false),
        ("ABCDEF.0123456789abcdef", |_| {}, false),
        (
            "abcdef.0123456789abcdef",
            |o| o["type"] = json!("Opaque"),
            false,
        ),
        (
            "abcdef.0123456789abcdef",
            |o| o["data"]["expiration"] = json!("MjAwMC0wMS0wMVQwMDowMDowMFo="),
            false,
        ),
        (
            "abcdef.0123456789abcdef",
            |o| o["data"]["expiration"] = json!("eA=="),
            false,
        ),
        (
            "abcdef.0123456789abcdef",
            |o| o["data"]["usage-bootstrap-authentication"] = json!("eA=="),
            false,
        ),
        (
            "abcdef.0123456789abcdef",
            |o| o["data"]["auth-extra-groups"] = json!("c3lzdGVtOm1hc3RlcnM="),
            false,
        ),
        (
            "abcdef.0123456789abcdef",
            |o| o["metadata"]["deletionTimestamp"] = json!("2020-01-01T00:00:00Z"),
            false,
        ),
    ];
    for (i, (token, change, expected)) in table.iter().enumerate() {
        let reads = reads();
        put(&reads, "", "secrets", good(*change));
        let user = BootstrapTokens::new(reads).check(token, pki::now());
        assert_eq!(user.is_some(), *expected, "case {i}");
        if let Some(user) = user {
            assert_eq!(user.name, "system:bootstrap:abcdef");
            assert_eq!(
                user.groups,
                ["system:bootstrappers", "system:bootstrappers:worker"]
            );
        }
    }
}

#[tokio::test]
async fn union_adds_the_group_and_keeps_errors() {
    let reads = reads();
    let (signer, verifier) = signer();
    let union = Authenticators(vec![
        Arc::new(X509::default()),
        Arc::new(ServiceAccounts::new(verifier, reads.clone())),
        Arc::new(BootstrapTokens::new(reads)),
        Arc::new(Anonymous::new(HEALTH_PATHS)),
    ]);
    let ca = Ca::generate("c", pki::now()).unwrap();
    let chain = ca
        .issue(&LeafRequest::client("u", &["g"]))
        .unwrap()
        .chain()
        .unwrap();
    let chain: Vec<Vec<u8>> = chain.iter().map(|c| c.to_vec()).collect();
    let headers = http::HeaderMap::new();
    let nobody = Credentials {
        certificates: &[],
        proxy_certificates: &[],
        bearer: None,
        audiences: &[],
        headers: &headers,
        path: "/api",
    };
    let with = Credentials {
        certificates: &chain,
        ..nobody
    };
    let user = union.authenticate(&with).await.unwrap().unwrap().user;
    assert_eq!(user.groups, ["g", "system:authenticated"]);
    assert!(union.authenticate(&nobody).await.unwrap().is_none());
    let health = Credentials {
        path: "/readyz",
        ..nobody
    };
    let user = union.authenticate(&health).await.unwrap().unwrap().user;
    assert_eq!(
        (user.name.as_str(), user.groups),
        ("system:anonymous", vec!["system:unauthenticated".into()])
    );
    let mut old = claims();
    old.exp = Some(1);
    let token = signer.sign(&old).unwrap();
    let expired = Credentials {
        bearer: Some(&token),
        audiences: &[],
        ..nobody
    };
    let e = union.authenticate(&expired).await.unwrap_err();
    assert_eq!(e.code, 401);
    assert_eq!(
        e.message,
        "[invalid bearer token, service account token has expired]"
    );
}
