//! What clients show of themselves, and ask about others.

use std::sync::{Arc, LazyLock};

use api::schema;
use client::Reads;
use client::memory::MemoryReads;
use machinery::conform;
use pki::{Claims, Csr, TokenSigner, TokenVerifier};
use serde_json::json;

use super::{BODY, TEXT, TREE, text};
use crate::{Memory, Target};

/// A signer of this process, and who trusts it.
static TOKENS: LazyLock<Option<(TokenSigner, TokenVerifier)>> = LazyLock::new(|| {
    let key = pki::key::generate().ok()?.serialize_pem();
    let signer = TokenSigner::new(&key, "https://issuer").ok()?;
    let (keys, issuers) = (vec![signer.public().clone()], vec!["https://issuer".into()]);
    let verifier = TokenVerifier::new(keys, issuers, vec!["api".into()]);
    Some((signer, verifier))
});

fn token() -> Option<String> {
    let (signer, _) = TOKENS.as_ref()?;
    let claims = Claims {
        sub: "system:serviceaccount:default:default".into(),
        aud: vec!["api".into()],
        exp: Some(i64::MAX),
        iat: Some(0),
        ..Claims::default()
    };
    signer.sign(&claims).ok()
}

pub const JWT: Target = Target {
    name: "jwt",
    run: |data| {
        let text = text(data);
        let _ = pki::jwt::parse(&text);
        if let Some((_, verifier)) = TOKENS.as_ref() {
            let _ = verifier.verify(&text, &[], 1 << 40);
        }
        let _ = pki::jwt::PublicJwk::parse_all(&text);
    },
    seeds: || {
        // {"alg":"ES256","kid":""} and {"iss":"https://issuer","aud":"api","exp":1e300}, signed by nobody.
        let forged = "eyJhbGciOiJFUzI1NiIsImtpZCI6IiJ9.eyJpc3MiOiJodHRwczovL2lzc3VlciIsImF1ZCI6ImFwaSIsImV4cCI6MWUzMDB9.AAAA";
        let none = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.";
        let mut all = vec![forged.into(), none.into()];
        all.extend(token().map(String::into_bytes));
        all
    },
    input_max: 64 << 10,
    memory: TEXT,
};

pub const CERTIFICATE: Target = Target {
    name: "certificate",
    run: |data| {
        auth::untrusted::certificate(data);
        let text = text(data);
        if let Ok(csr) = Csr::parse(&text) {
            assert!(csr.dns_names.len() <= data.len(), "names out of nothing");
        }
        let bundle = webhook::Verification::of_bundle(data);
        if !data.is_empty() {
            let _ = webhook::client_config(&bundle, None);
        }
        let _ = pki::key::parse(&text);
    },
    seeds: certificates,
    input_max: 1 << 20,
    memory: Memory {
        base: 1 << 20,
        per_byte: 64,
    },
};

fn certificates() -> Vec<Vec<u8>> {
    let Ok(key) = rcgen::KeyPair::generate() else {
        return Vec::new();
    };
    let Ok(mut params) = rcgen::CertificateParams::new(vec!["a.example".into(), "10.0.0.1".into()])
    else {
        return Vec::new();
    };
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "user");
    params
        .distinguished_name
        .push(rcgen::DnType::OrganizationName, "system:masters");
    let mut all = vec![key.serialize_pem().into_bytes()];
    if let Ok(request) = params.serialize_request(&key).and_then(|r| r.pem()) {
        all.push(request.into());
    }
    if let Ok(cert) = params.self_signed(&key) {
        all.extend([cert.der().to_vec(), cert.pem().into_bytes()]);
    }
    all
}

/// A Secret with a bootstrap token.
static SECRETS: LazyLock<Arc<dyn Reads>> = LazyLock::new(|| {
    let reads = MemoryReads::new(&[("", "secrets")]);
    // "abcdef", "0123456789abcdef", "true", "system:bootstrappers:a,system:bootstrappers:b"
    let secret = json!({"metadata": {"name": "bootstrap-token-abcdef", "namespace": "kube-system"}, "type": "bootstrap.kubernetes.io/token",
        "data": {"token-id": "YWJjZGVm", "token-secret": "MDEyMzQ1Njc4OWFiY2RlZg==", "usage-bootstrap-authentication": "dHJ1ZQ==",
            "auth-extra-groups": "c3lzdGVtOmJvb3RzdHJhcHBlcnM6YSxzeXN0ZW06Ym9vdHN0cmFwcGVyczpi"}});
    if let Some(cache) = reads.memory("", "secrets") {
        let _ = cache.apply(secret);
    }
    Arc::new(reads)
});

pub const BOOTSTRAP_TOKEN: Target = Target {
    name: "bootstrap_token",
    run: |data| {
        let token = text(data);
        let known = auth::untrusted::bootstrap_token(&token, SECRETS.clone());
        assert_eq!(known, token == "abcdef.0123456789abcdef", "who is let in");
    },
    seeds: || {
        vec![
            b"abcdef.0123456789abcdef".to_vec(),
            b"abcdef.0123456789abcdeg".to_vec(),
        ]
    },
    input_max: 64 << 10,
    memory: TEXT,
};

pub const ACCESS_REVIEW: Target = Target {
    name: "access_review",
    run: |data| {
        let Ok((mut body, _)) = conform::parse(data, None) else {
            return;
        };
        let kind = schema::lookup("authorization.k8s.io", "v1", "SubjectAccessReview");
        if body.is_object() && kind.is_some_and(|k| conform::conform(k, &mut body).is_ok()) {
            auth::untrusted::access_review(&body);
        }
    },
    seeds: || {
        vec![
            br#"{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview","metadata":{"namespace":"n"},"spec":{"user":"u","groups":["a"],"extra":{"A":["b"]},"resourceAttributes":{"namespace":"n","verb":"list","group":"apps","version":"*","resource":"deployments","subresource":"status","name":"x","fieldSelector":{"requirements":[{"key":"spec.nodeName","operator":"In","values":["a"]}]},"labelSelector":{"rawSelector":"a in (b)"}}}}"#.to_vec(),
            br#"{"spec":{"uid":"1","nonResourceAttributes":{"path":"/healthz","verb":"get"}}}"#.to_vec(),
        ]
    },
    input_max: BODY,
    memory: TREE,
};
