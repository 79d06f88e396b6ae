use machinery::ApiError;

use super::authenticators::signer;
use super::*;
use crate::creators::{Parts, all};
use crate::service_account::ServiceAccounts;
use crate::{Authorizers, Link, Rbac};

async fn ask(
    reads: &Arc<MemoryReads>,
    user: &User,
    what: &str,
    body: Value,
) -> Result<Value, ApiError> {
    let (signer, verifier) = signer();
    ask_with(reads, (signer, verifier), user, what, body).await
}

async fn ask_with(
    reads: &Arc<MemoryReads>,
    keys: (Arc<pki::TokenSigner>, Arc<pki::TokenVerifier>),
    user: &User,
    what: &str,
    body: Value,
) -> Result<Value, ApiError> {
    let parts = Parts {
        reads: reads.clone(),
        signer: keys.0,
        accounts: Arc::new(ServiceAccounts::new(keys.1, reads.clone())),
        tokens: Vec::new(),
        authorizer: Arc::new(Authorizers(vec![Link::uncounted(Arc::new(Rbac::new(
            reads.clone(),
        )))])),
    };
    let (resource, subresource) = what.split_once('/').unwrap_or((what, ""));
    let entries = all(&parts);
    let entry = entries
        .iter()
        .find(|e| e.resource == resource && e.subresource == subresource)
        .expect("an answerer");
    let (namespace, name) = if subresource.is_empty() {
        ("", "")
    } else {
        ("d", "s")
    };
    entry
        .creator
        .create(user, namespace, name, body, false)
        .await
}

fn world() -> Arc<MemoryReads> {
    let reads = with_bootstrap();
    put(
        &reads,
        "",
        "serviceaccounts",
        json!({"metadata": {"name": "s", "namespace": "d", "uid": "su"}}),
    );
    put(
        &reads,
        "",
        "pods",
        json!({
            "metadata": {"name": "p", "namespace": "d", "uid": "pu"},
            "spec": {"serviceAccountName": "s", "nodeName": "n"},
        }),
    );
    put(
        &reads,
        "",
        "nodes",
        json!({"metadata": {"name": "n", "uid": "nu"}}),
    );
    reads
}

#[tokio::test]
async fn token_made_is_token_reviewed() {
    let reads = world();
    let keys = signer();
    let user = User::new("u", &[]);
    let body = json!({"spec": {"expirationSeconds": 3607,
        "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "pu"}}});
    let made = ask_with(&reads, keys.clone(), &user, "serviceaccounts/token", body)
        .await
        .unwrap();
    assert_eq!(made["kind"], "TokenRequest");
    assert_eq!(
        made["spec"]["audiences"],
        json!(["https://kubernetes.default.svc"])
    );
    let token = made["status"]["token"].as_str().unwrap();
    let claims = keys.1.authentic(token).unwrap();
    assert_eq!(claims.kubernetes.node.unwrap().uid, "nu");
    assert_eq!(claims.exp.unwrap() - claims.iat.unwrap(), 365 * 24 * 3600);
    assert_eq!(
        claims.kubernetes.warnafter.unwrap() - claims.iat.unwrap(),
        3607
    );
    let review = json!({"spec": {"token": token}});
    let seen = ask_with(&reads, keys.clone(), &user, "tokenreviews", review)
        .await
        .unwrap();
    assert_eq!(seen["status"]["authenticated"], true);
    assert_eq!(
        seen["status"]["user"]["username"],
        "system:serviceaccount:d:s"
    );
    let groups = seen["status"]["user"]["groups"].as_array().unwrap();
    assert!(groups.contains(&json!("system:authenticated")));
    let other = json!({"spec": {"token": token, "audiences": ["vault"]}});
    let seen = ask_with(&reads, keys, &user, "tokenreviews", other)
        .await
        .unwrap();
    assert_eq!(seen["status"].get("authenticated"), None);
    assert_eq!(
        seen["status"]["error"],
        "[invalid bearer token, token audiences [\"https://kubernetes.default.svc\"] is invalid for the target audiences [\"vault\"]]"
    );
}

#[tokio::test]
async fn token_requests_are_refused_with_upstreams_texts() {
    let reads = world();
    let table = [
        (
            json!({"spec": {"expirationSeconds": 599}}),
            422,
            "TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 10 minutes",
        ),
        (
            json!({"metadata": {"name": "x"}}),
            422,
            "TokenRequest.authentication.k8s.io \"s\" is invalid: metadata.name: Invalid value: \"x\": must match the service account name if specified",
        ),
        (
            json!({"spec": {"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "q"}}}),
            404,
            "pods \"q\" not found",
        ),
        (
            json!({"spec": {"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "z"}}}),
            409,
            "Operation cannot be fulfilled on Pod \"p\": the UID in the bound object reference (z) does not match the UID in record. The object might have been deleted and then recreated",
        ),
        (
            json!({"spec": {"boundObjectRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "p"}}}),
            400,
            "cannot bind token to object of type apps/v1, Kind=Deployment",
        ),
    ];
    for (body, code, text) in table {
        let e = ask(&reads, &User::new("u", &[]), "serviceaccounts/token", body)
            .await
            .unwrap_err();
        assert_eq!((e.code, e.message.as_str()), (code, text));
    }
}

#[tokio::test]
async fn access_reviews_answer_and_validate() {
    let reads = world();
    let user = User::new("u", &["system:authenticated"]);
    let question = |extra: Value| {
        let mut spec =
            json!({"resourceAttributes": {"verb": "get", "resource": "nodes", "name": "n"}});
        spec.as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        json!({"spec": spec})
    };
    let body = question(json!({"groups": ["system:masters"]}));
    let answer = ask(&reads, &user, "subjectaccessreviews", body)
        .await
        .unwrap();
    assert_eq!(answer["status"]["allowed"], true);
    assert_eq!(
        answer["status"]["reason"],
        "RBAC: allowed by ClusterRoleBinding \"cluster-admin\" of ClusterRole \"cluster-admin\" to Group \"system:masters\""
    );
    let answer = ask(
        &reads,
        &user,
        "selfsubjectaccessreviews",
        question(json!({})),
    )
    .await
    .unwrap();
    assert_eq!(answer["status"], json!({"allowed": false}));
    let e = ask(&reads, &user, "subjectaccessreviews", question(json!({})))
        .await
        .unwrap_err();
    assert_eq!(
        e.message,
        "SubjectAccessReview.authorization.k8s.io \"\" is invalid: spec.user: Invalid value: \"\": at least one of user or group must be specified"
    );
    let rules = ask(
        &reads,
        &user,
        "selfsubjectrulesreviews",
        json!({"spec": {"namespace": "d"}}),
    )
    .await
    .unwrap();
    assert_eq!(rules["status"]["incomplete"], false);
    assert!(
        !rules["status"]["resourceRules"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    let me = ask(&reads, &user, "selfsubjectreviews", json!({}))
        .await
        .unwrap();
    assert_eq!(
        me["status"]["userInfo"],
        json!({"username": "u", "groups": ["system:authenticated"]})
    );
}
