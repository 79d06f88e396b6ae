//! What files may hold, and upstream's words for what they may not.

use super::authentication::validate as validate_authentication;
use super::authorization::validate as validate_authorization;
use super::*;

const HEAD: &str = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n";

fn authentication(text: &str) -> String {
    let config = match AuthenticationConfiguration::parse(text) {
        Ok(config) => config,
        Err(e) => return e,
    };
    let own = ["https://kubernetes.default.svc".to_string()];
    let (_, causes) = validate_authentication(&config, &own);
    aggregate(&causes).err().unwrap_or_default()
}

/// An issuer that is good, and more fields of it.
fn issuer(fields: &str) -> String {
    format!(
        "{HEAD}jwt:\n- issuer: {{url: https://i, audiences: [a]{fields}}}\n  claimMappings: {{username: {{claim: sub, prefix: ''}}}}\n"
    )
}

/// A good issuer with these mappings and other rules.
fn mapped(mappings: &str, more: &str) -> String {
    format!(
        "{HEAD}jwt:\n- issuer: {{url: https://i, audiences: [a]}}\n  claimMappings: {mappings}\n{more}"
    )
}

#[test]
fn files_are_read_strictly() {
    let versions = ["v1", "v1beta1", "v1alpha1"];
    for version in versions {
        let text = HEAD.replace("/v1", &format!("/{version}"));
        assert_eq!(authentication(&text), "", "{version}");
    }
    for (text, wanted) in [
        ("kind: X", "Object 'apiVersion' is missing"),
        ("{}", "Object 'Kind' is missing"),
        (
            "kind: AuthenticationConfiguration\napiVersion: apiserver.config.k8s.io/v2",
            "no kind \"AuthenticationConfiguration\" is registered for version \"apiserver.config.k8s.io/v2\"",
        ),
        (
            "kind: AuthorizationConfiguration\napiVersion: apiserver.config.k8s.io/v1",
            "expected AuthenticationConfiguration, got *apiserver.AuthorizationConfiguration",
        ),
    ] {
        assert_eq!(authentication(text), wanted, "{text}");
    }
    let unknown = format!("{HEAD}foo: 1\njwt:\n- issuer: {{bar: 1}}\n");
    assert_eq!(
        authentication(&unknown),
        "strict decoding error: unknown field \"foo\", unknown field \"jwt[0].issuer.bar\""
    );
    let wrong = format!("{HEAD}jwt:\n- issuer: {{url: 1}}\n");
    assert_eq!(
        authentication(&wrong),
        "json: cannot unmarshal number into Go struct field Issuer.jwt.issuer.url of type string"
    );
    let twice = format!("{HEAD}jwt: []\njwt: []\n");
    assert!(authentication(&twice).starts_with("strict decoding error: "));
    assert!(authentication(&"x".repeat(2 << 20)).contains("longer than"));
    // A null is what is not there.
    assert_eq!(
        authentication(&format!("{HEAD}jwt: null\nanonymous: null\n")),
        ""
    );
}

#[test]
fn issuers_are_validated() {
    let url = |url: &str| issuer("").replace("https://i", url);
    for (text, wanted) in [
        (issuer(""), ""),
        (issuer(", discoveryURL: https://d/x"), ""),
        (url("''"), "jwt[0].issuer.url: Required value"),
        (
            url("http://i"),
            "jwt[0].issuer.url: Invalid value: \"http://i\": URL scheme must be https",
        ),
        (
            url("https://u:p@i"),
            "jwt[0].issuer.url: Invalid value: \"https://u:p@i\": URL must not contain a username or password",
        ),
        (
            url("https://i?a"),
            "jwt[0].issuer.url: Invalid value: \"https://i?a\": URL must not contain a query",
        ),
        (
            url("'https://i#a'"),
            "jwt[0].issuer.url: Invalid value: \"https://i#a\": URL must not contain a fragment",
        ),
        (
            url("https://kubernetes.default.svc"),
            "jwt[0].issuer.url: Invalid value: \"https://kubernetes.default.svc\": URL must not overlap with disallowed issuers: [https://kubernetes.default.svc]",
        ),
        (
            issuer(", discoveryURL: https://i/"),
            "jwt[0].issuer.discoveryURL: Invalid value: \"https://i/\": discoveryURL must be different from URL",
        ),
        (
            issuer("").replace("[a]", "[]"),
            "jwt[0].issuer.audiences: Required value: at least one jwt[0].issuer.audiences is required",
        ),
        (
            issuer("").replace("[a]", "[a, a]"),
            "[jwt[0].issuer.audiences[1]: Duplicate value: \"a\", jwt[0].issuer.audienceMatchPolicy: Invalid value: \"\": audienceMatchPolicy must be MatchAny for multiple audiences]",
        ),
        (
            issuer(", audienceMatchPolicy: All"),
            "jwt[0].issuer.audienceMatchPolicy: Invalid value: \"All\": audienceMatchPolicy must be empty or MatchAny for single audience",
        ),
        (
            issuer(", certificateAuthority: x"),
            "jwt[0].issuer.certificateAuthority: Invalid value: \"<omitted>\": data does not contain any valid RSA or ECDSA certificates",
        ),
        (
            issuer(", egressSelectorType: x"),
            "jwt[0].issuer.egressSelectorType: Invalid value: \"x\": egress selector must be either controlplane or cluster",
        ),
        (
            format!(
                "{}{}",
                issuer(""),
                issuer("").split_once("jwt:\n").unwrap().1
            ),
            "jwt[1].issuer.url: Duplicate value: \"https://i\"",
        ),
        (
            format!("{HEAD}anonymous: {{enabled: false, conditions: [{{path: /x}}]}}"),
            "anonymous.conditions: Invalid value: [{\"Path\":\"/x\"}]: enabled should be set to true when conditions are defined",
        ),
    ] {
        assert_eq!(authentication(&text), wanted, "{text}");
    }
    let one = issuer("").split_once("jwt:\n").unwrap().1.to_string();
    let many = format!("{HEAD}jwt:\n{}", one.repeat(65));
    assert_eq!(
        authentication(&many),
        "jwt: Too many: 65: must have at most 64 items"
    );
}

#[test]
fn mappings_and_rules_are_validated() {
    let good = "{username: {claim: sub, prefix: ''}}";
    for (mappings, more, wanted) in [
        (good, "", ""),
        (
            "{}",
            "",
            "jwt[0].claimMappings.username: Required value: claim or expression is required",
        ),
        (
            "{username: {claim: sub}}",
            "",
            "jwt[0].claimMappings.username.prefix: Required value: prefix is required when claim is set. It can be set to an empty string to disable prefixing",
        ),
        (
            "{username: {claim: sub, expression: claims.sub}}",
            "",
            "jwt[0].claimMappings.username: Invalid value: \"\": claim and expression can't both be set",
        ),
        (
            "{username: {prefix: x, expression: claims.sub}}",
            "",
            "jwt[0].claimMappings.username.prefix: Invalid value: \"x\": may not be specified when expression is set",
        ),
        (
            "{username: {expression: 'claims.email + string(claims.?email_verified.orValue(true))'}}",
            "",
            "",
        ),
        (
            "{username: {expression: claims.email}}",
            "",
            "jwt[0].claimMappings.username.expression: Invalid value: \"claims.email\": claims.email_verified must be used in claimMappings.username.expression or claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is used in claimMappings.username.expression",
        ),
        (
            "{username: {expression: claims.email}}",
            "  claimValidationRules: [{expression: 'claims.?email_verified.orValue(true) == true'}]",
            "",
        ),
        (
            "{username: {claim: sub, prefix: ''}, uid: {claim: a, expression: b}}",
            "",
            "jwt[0].claimMappings.uid: Invalid value: \"\": claim and expression can't both be set",
        ),
        (
            "{username: {claim: sub, prefix: ''}, extra: [{key: foo, valueExpression: claims.a}]}",
            "",
            "jwt[0].claimMappings.extra[0].key: Invalid value: \"foo\": must be a domain-prefixed path (such as \"acme.io/foo\")",
        ),
        (
            "{username: {claim: sub, prefix: ''}, extra: [{key: k8s.io/Foo, valueExpression: ''}]}",
            "",
            "[jwt[0].claimMappings.extra[0].key: Invalid value: \"k8s.io/Foo\": must be lowercase, jwt[0].claimMappings.extra[0].key: Invalid value: \"k8s.io/Foo\": k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use, jwt[0].claimMappings.extra[0].valueExpression: Required value]",
        ),
        (
            good,
            "  claimValidationRules: [{claim: a, message: m}, {claim: a}, {}, {expression: 'true', requiredValue: v}, {claim: b, expression: c}]",
            "[jwt[0].claimValidationRules[0].message: Invalid value: \"m\": may not be specified when claim is set, jwt[0].claimValidationRules[1].claim: Duplicate value: \"a\", jwt[0].claimValidationRules[2]: Required value: claim or expression is required, jwt[0].claimValidationRules[3].requiredValue: Invalid value: \"v\": may not be specified when expression is set, jwt[0].claimValidationRules[4]: Invalid value: \"b\": claim and expression can't both be set]",
        ),
        (
            good,
            "  claimValidationRules: [{expression: claims.a}]",
            "jwt[0].claimValidationRules[0].expression: Invalid value: \"claims.a\": must evaluate to bool",
        ),
        (
            good,
            "  userValidationRules: [{}, {expression: '!user.username.startsWith(''system:'')'}, {expression: user.foo == 1}]",
            "[jwt[0].userValidationRules[0].expression: Required value, jwt[0].userValidationRules[2].expression: Invalid value: \"user.foo == 1\": compilation failed: ERROR: <input>:1:5: undefined field 'foo'\n | user.foo == 1\n | ....^]",
        ),
    ] {
        let text = mapped(mappings, more);
        assert_eq!(authentication(&text), wanted, "{text}");
    }
}

#[test]
fn authorizers_are_validated() {
    let head = HEAD.replace("Authentication", "Authorization");
    let dir = tempfile::tempdir().unwrap();
    let kubeconfig = dir.path().join("k");
    std::fs::write(&kubeconfig, "x").unwrap();
    let path = kubeconfig.display().to_string();
    let webhook = |fields: &str| {
        format!(
            "{{type: Webhook, name: w, webhook: {{timeout: 3s, subjectAccessReviewVersion: v1, failurePolicy: Deny, connectionInfo: {{type: KubeConfigFile, kubeConfigFile: {path}}}{fields}}}}}"
        )
    };
    let check = |authorizers: &str, required: &[String]| {
        let text = format!("{head}authorizers: [{authorizers}]\n");
        match AuthorizationConfiguration::parse(&text) {
            Ok(config) => validate_authorization(&config, required)
                .err()
                .unwrap_or_default(),
            Err(e) => e,
        }
    };
    let own = "{type: Node, name: node}, {type: RBAC, name: rbac}";
    for (authorizers, wanted) in [
        (own.to_string(), ""),
        (format!("{own}, {}", webhook("")), ""),
        (
            String::new(),
            "authorizers: Required value: at least one authorization mode must be defined",
        ),
        (
            "{type: Foo, name: foo}".into(),
            "authorizers[0].type: Unsupported value: \"Foo\": supported values: \"ABAC\", \"AlwaysAllow\", \"AlwaysDeny\", \"Node\", \"RBAC\", \"Webhook\"",
        ),
        (
            "{type: RBAC, name: foo}".into(),
            "expected name rbac for authorizer RBAC instead of foo",
        ),
        (
            "{type: AlwaysAllow, name: alwaysallow}".into(),
            "authorization mode AlwaysAllow is not allowed: nothing turns authorization off",
        ),
        ("{name: x}".into(), "authorizers[0].type: Required value"),
        (
            format!("{own}, {{type: RBAC, name: other}}"),
            "authorizers[2].type: Duplicate value: \"RBAC\"",
        ),
        (
            "{type: RBAC, name: rbac, webhook: {}}".into(),
            "authorizers[0].webhook: Invalid value: \"non-null\": may only be specified when type=Webhook",
        ),
        (
            "{type: Webhook, name: w}".into(),
            "authorizers[0].webhook: Required value: required when type=Webhook",
        ),
        (
            format!("{}, {}", webhook(""), webhook("")),
            "authorizers[1].name: Duplicate value: \"w\"",
        ),
        (
            webhook("").replace("3s", "31s"),
            "authorizers[0].timeout: Invalid value: \"31s\": must be > 0s and <= 30s",
        ),
        (
            webhook("").replace("3s", "soon"),
            "time: invalid duration \"soon\"",
        ),
        (
            webhook(", authorizedTTL: -1s"),
            "authorizers[0].authorizedTTL: Invalid value: \"-1s\": must be > 0s",
        ),
        (
            webhook("").replace("v1", "v2"),
            "authorizers[0].subjectAccessReviewVersion: Unsupported value: \"v2\": supported values: \"v1\", \"v1beta1\"",
        ),
        (
            webhook("").replace("Deny", "Allow"),
            "authorizers[0].failurePolicy: Unsupported value: \"Allow\": supported values: \"NoOpinion\", \"Deny\"",
        ),
        (
            webhook(", matchConditions: [{expression: 'true'}]"),
            "authorizers[0].matchConditionSubjectAccessReviewVersion: Required value: required if match conditions are specified",
        ),
        (
            webhook(
                ", matchConditionSubjectAccessReviewVersion: v1, matchConditions: [{expression: request.user}]",
            ),
            "authorizers[0].matchConditions[0].expression: Invalid value: \"request.user\": must evaluate to bool but got string",
        ),
        (
            webhook("").replace(&path, "relative"),
            "authorizers[0].connectionInfo.kubeConfigFile: Invalid value: \"relative\": must be an absolute path",
        ),
        (
            webhook("").replace(&path, "/none"),
            "authorizers[0].connectionInfo.kubeConfigFile: Invalid value: \"/none\": error loading file: stat /none: no such file or directory",
        ),
        (
            webhook("").replace(&path, "/"),
            "authorizers[0].connectionInfo.kubeConfigFile: Invalid value: \"/\": must be a regular file",
        ),
    ] {
        assert_eq!(check(&authorizers, &[]), wanted, "{authorizers}");
    }
    let required = ["Node".to_string(), "RBAC".to_string()];
    assert_eq!(
        check("{type: RBAC, name: rbac}", &required),
        "missing required types: [Node]"
    );
}

/// Texts made of what such files are made of, by a generator with a seed: nothing of it makes the reader panic.
#[test]
fn no_text_makes_the_readers_panic() {
    let parts = [
        HEAD,
        "jwt:",
        "- issuer:",
        "authorizers:",
        "- type: Webhook",
        "webhook:",
        "{",
        "}",
        "[",
        "]",
        "\n",
        "  ",
        ": ",
        "url: https://",
        "claims.",
        "expression: ",
        "audiences: [a]",
        "timeout: 9223372036854775807h",
        "-1s",
        "null",
        "&a ",
        "*a",
        "!!binary ",
        "\u{0}",
        "é",
        "'",
        "\"",
        "|",
        "<<: ",
        "certificateAuthority: ",
        "'%zz'",
        "size(",
        "? :",
        "authorizedTTL: ",
        "1e400",
        "0x",
        "\t",
        "#",
        "---\n",
        "extra: [{key: '/'}]",
    ];
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = |n: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed % n as u64).unwrap()
    };
    for _ in 0..3_000 {
        let mut text = if next(2) == 0 {
            HEAD.to_string()
        } else {
            HEAD.replace("Authentication", "Authorization")
        };
        for _ in 0..next(25) {
            text.push_str(parts[next(parts.len())]);
        }
        authentication(&text);
        if let Ok(config) = AuthorizationConfiguration::parse(&text) {
            // Whether it is valid is no matter here.
            let _ = validate_authorization(&config, &[]);
        }
    }
}
