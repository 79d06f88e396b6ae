//! Tables of what is decided: availability, routes, identity headers.

use http::HeaderMap;
use machinery::request::User;
use serde_json::{Value, json};

use super::availability::{self, Condition};
use super::remote::{Reference, Remote};
use super::{Aggregator, headers};

#[test]
fn the_caches_tell_why_a_server_cannot_be_there() {
    let to = Reference {
        namespace: "ns".into(),
        name: "s".into(),
        port: 443,
    };
    let service = |kind: &str, port: u16| json!({"spec": {"type": kind, "ports": [{"name": "https", "port": port}]}});
    let slice = |ready: Value, port: &str| {
        json!({"endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": ready}}],
        "ports": [{"name": port, "port": 8443}]})
    };
    for (service, slices, expected) in [
        (
            None,
            vec![],
            "ServiceNotFound: service/s in \"ns\" is not present",
        ),
        (
            Some(service("ClusterIP", 80)),
            vec![],
            "ServicePortError: service/s in \"ns\" is not listening on port 443",
        ),
        (
            Some(service("ClusterIP", 443)),
            vec![],
            "EndpointsNotFound: cannot find endpointslices for service/s in \"ns\"",
        ),
        (
            Some(service("ClusterIP", 443)),
            vec![slice(json!(false), "https"), slice(json!(true), "other")],
            "MissingEndpoints: endpointslices for service/s in \"ns\" have no addresses with port name \"https\"",
        ),
        (
            Some(service("ClusterIP", 443)),
            vec![slice(json!(null), "https")],
            "",
        ),
        (Some(service("ExternalName", 80)), vec![], ""),
    ] {
        let found = availability::seen(&to, service.as_ref(), &slices);
        let text = found.map_or(String::new(), |c| format!("{}: {}", c.reason, c.message));
        assert_eq!(text, expected);
    }
}

#[test]
fn a_condition_keeps_its_time_while_its_status_stays() {
    let now = "2026-01-02T00:00:00Z".parse().unwrap();
    let other = json!({"type": "StatusUpdated", "status": "True"});
    let object = json!({"status": {"conditions": [{"type": "Available", "status": "False", "reason": "ServiceNotFound",
        "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"}, other]}});
    let silent = Condition::silent("why".into());
    let all = availability::with(&object, &silent, now).unwrap();
    assert_eq!(all[0]["lastTransitionTime"], "2026-01-01T00:00:00Z");
    assert_eq!(
        (&all[0]["reason"], &all[1]),
        (&json!("FailedDiscoveryCheck"), &other)
    );
    let again = json!({"status": {"conditions": all}});
    assert_eq!(availability::with(&again, &silent, now), None);
    let all = availability::with(&again, &Condition::passed(), now).unwrap();
    assert_eq!(all[0]["lastTransitionTime"], "2026-01-02T00:00:00Z");
    assert!(availability::is_available(
        &json!({"status": {"conditions": all}})
    ));
    let first = availability::with(&json!({}), &Condition::local(), now).unwrap();
    assert_eq!(first[0]["reason"], "Local");
}

#[test]
fn requests_are_routed_by_their_group_version() {
    let aggregator = Aggregator::default();
    let remote = |group: &str, version: &str| {
        let object = json!({"metadata": {"name": format!("{version}.{group}")}, "spec": {"group": group,
            "version": version, "insecureSkipTLSVerify": true, "service": {"namespace": "n", "name": "s"}}});
        let remote = Remote::of(&object, None, &aggregator).unwrap();
        (
            (group.to_string(), version.to_string()),
            std::sync::Arc::new(remote),
        )
    };
    let own = remote("apiregistration.k8s.io", "v1");
    aggregator.replace([remote("g.io", "v1"), own].into());
    for (path, found) in [
        ("/apis/g.io/v1", true),
        ("/apis/g.io/v1/", true),
        ("/apis/g.io/v1/namespaces/n/things/t/exec", true),
        ("/apis/g.io/v10", false),
        ("/apis/g.io", false),
        ("/apis", false),
        ("/api/v1/pods", false),
        ("//apis/g.io/v1", false),
        ("/apis/apiregistration.k8s.io/v1/apiservices", false),
        ("/healthz", false),
    ] {
        assert_eq!(aggregator.route(path).is_some(), found, "{path}");
    }
}

#[test]
fn only_this_server_says_who_asks() {
    let mut client = HeaderMap::new();
    for (name, value) in [
        ("authorization", "Bearer secret"),
        ("x-remote-user", "admin"),
        ("x-remote-group", "system:masters"),
        ("x-remote-extra-scopes", "all"),
        ("impersonate-user", "admin"),
        ("connection", "Upgrade"),
        ("upgrade", "SPDY/3.1"),
        ("transfer-encoding", "chunked"),
        ("host", "api"),
        ("accept", "application/json"),
        (
            "sec-websocket-protocol",
            "base64url.bearer.authorization.k8s.io.c2VjcmV0, v4.channel.k8s.io",
        ),
    ] {
        client.insert(name, value.parse().unwrap());
    }
    let mut user = User::new("jane", &["dev", "system:authenticated"]);
    user.uid = "u1".into();
    user.extra
        .insert("a/b%c".into(), vec!["1".into(), "2".into()]);
    let text = |upgrade| {
        let mut lines: Vec<String> = headers::carried(&client, &user, upgrade)
            .iter()
            .map(|(n, v)| format!("{n}: {}", v.to_str().unwrap()))
            .collect();
        lines.sort();
        lines
    };
    let plain = [
        "accept: application/json",
        "sec-websocket-protocol: v4.channel.k8s.io",
        "x-remote-extra-a%2fb%25c: 1",
        "x-remote-extra-a%2fb%25c: 2",
        "x-remote-group: dev",
        "x-remote-group: system:authenticated",
        "x-remote-uid: u1",
        "x-remote-user: jane",
    ];
    assert_eq!(text(false), plain);
    let upgrade = text(true);
    assert!(upgrade.contains(&"connection: Upgrade".to_string()));
    assert_eq!(upgrade.len(), plain.len() + 2);
}
