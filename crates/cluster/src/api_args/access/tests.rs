use std::collections::BTreeMap;

use super::*;

fn args(all: &[(&str, &str)]) -> BTreeMap<String, String> {
    let text = |(k, v): &(&str, &str)| ((*k).to_string(), (*v).to_string());
    all.iter().map(text).collect()
}

#[test]
fn wrong_flags_are_named() {
    let table: &[(&[(&str, &str)], &str)] = &[
        (&[], ""),
        (&[("authorization-mode", "Node,RBAC")], ""),
        (
            &[("authorization-mode", "AlwaysAllow")],
            "AlwaysAllow is not allowed: nothing turns authorization off",
        ),
        (
            &[("authorization-mode", "Node")],
            "RBAC must be one of the modes",
        ),
        (
            &[("authorization-mode", "Node,RBAC,Foo")],
            "authorization-mode \"Foo\" is not a valid mode",
        ),
        (
            &[("authorization-mode", "Node,RBAC,Webhook")],
            "authorization-mode Webhook's authorization config file not passed",
        ),
        (
            &[("authorization-mode", "Node,RBAC,RBAC")],
            "has mode specified more than once",
        ),
        (
            &[("authorization-webhook-config-file", "/f")],
            "cannot specify --authorization-webhook-config-file without mode Webhook",
        ),
        (
            &[
                ("authorization-config", "/f"),
                ("authorization-mode", "RBAC,Node"),
            ],
            "--authorization-config can not be specified when",
        ),
        (
            &[("oidc-issuer-url", "https://i")],
            "oidc-issuer-url and oidc-client-id must be specified together",
        ),
        (
            &[
                ("oidc-issuer-url", "https://i"),
                ("authentication-config", "/f"),
            ],
            "authentication-config file and oidc-* flags are mutually exclusive",
        ),
        (
            &[
                ("oidc-issuer-url", "https://i"),
                ("oidc-client-id", "c"),
                ("oidc-signing-algs", "RS256,none"),
            ],
            "oidc: unsupported signing alg: \"none\"",
        ),
        (
            &[
                ("oidc-issuer-url", "https://i"),
                ("oidc-client-id", "c"),
                ("oidc-required-claim", "a"),
            ],
            "malformed pair, expect string=string",
        ),
        (&[("anonymous-auth", "false")], ""),
        (&[("anonymous-auth", "true")], "only false is supported"),
        (
            &[("authentication-token-webhook-cache-ttl", "soon")],
            "invalid duration",
        ),
        (
            &[("authentication-token-webhook-version", "v2")],
            "supported versions are",
        ),
    ];
    for (given, wanted) in table {
        let args = args(given);
        let problems = ApiArgs(&args).problems();
        match *wanted {
            "" => assert!(problems.is_empty(), "{given:?}: {problems:?}"),
            wanted => assert!(
                problems.iter().any(|(_, why)| why.contains(wanted)),
                "{given:?}: {problems:?}"
            ),
        }
    }
}

#[test]
fn oidc_flags_become_an_issuer() {
    let issuer = [("oidc-issuer-url", "https://i"), ("oidc-client-id", "c")];
    for (more, prefix) in [
        (("oidc-username-claim", "sub"), "https://i#"),
        (("oidc-username-claim", "email"), ""),
        (("oidc-username-prefix", "-"), ""),
        (("oidc-username-prefix", "x:"), "x:"),
    ] {
        let mut all = issuer.to_vec();
        all.push(more);
        all.extend([
            ("oidc-groups-claim", "g"),
            ("oidc-required-claim", "a=b,c="),
        ]);
        let args = args(&all);
        let found = ApiArgs(&args).authentication().unwrap();
        let jwt = &found.config.jwt[0];
        let username = &jwt.claim_mappings.username;
        assert_eq!(username.prefix.as_deref(), Some(prefix), "{more:?}");
        assert_eq!(jwt.claim_mappings.groups.claim, "g");
        assert_eq!(jwt.claim_validation_rules.len(), 2);
        assert_eq!(found.algorithms, ["RS256"]);
        let (_, causes) = auth::config::authentication::validate(&found.config, &[]);
        assert!(causes.is_empty(), "{causes:?}");
    }
}

#[test]
fn modes_and_files_become_one_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let kubeconfig = path("webhook");
    std::fs::write(&kubeconfig, "x").unwrap();
    let given = args(&[
        ("authorization-mode", "Webhook,Node,RBAC"),
        ("authorization-webhook-config-file", &kubeconfig),
        ("authorization-webhook-cache-authorized-ttl", "0s"),
    ]);
    let found = ApiArgs(&given).authorization().unwrap().config;
    let names: Vec<&str> = found.authorizers.iter().map(|a| a.name.as_str()).collect();
    assert_eq!(names, ["default", "node", "rbac"]);
    let webhook = found.authorizers[0].webhook.as_ref().unwrap();
    assert_eq!(webhook.cache_authorized_requests, Some(false));
    assert_eq!(auth::config::authorization::validate(&found, &[]), Ok(()));
    let file = path("config");
    std::fs::write(
        &file,
        "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\nauthorizers: [{type: RBAC, name: rbac}]",
    )
    .unwrap();
    let given = args(&[("authorization-config", &file)]);
    let e = ApiArgs(&given).authorization().map(drop).unwrap_err();
    assert!(e.ends_with("authorizers: Node must be one of them"), "{e}");
}
