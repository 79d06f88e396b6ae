use serde_json::{Value, json};

use super::*;
use crate::limits;

fn problems_of(text: &str) -> String {
    match ClusterConfig::parse(text) {
        Ok(_) => "fine".into(),
        Err(e) => e.to_string(),
    }
}

#[test]
fn every_mistake_is_named_with_its_path() {
    for (text, expected) in [
        ("", "fine"),
        ("spec: {}", "fine"),
        ("spec:\n  api:\n    port: 7443\n", "fine"),
        (
            "spec:\n  api:\n    prot: 7443\n",
            "spec.api.prot: unknown field",
        ),
        (
            "spec:\n  api:\n    port: 99999\n",
            "spec.api.port: invalid value: 99999: must be a whole number from 1 to 65535",
        ),
        (
            "spec:\n  network:\n    calico:\n      mode: vxlan\n",
            "spec.network.calico: is a known field that is not supported yet",
        ),
        (
            "spec:\n  network:\n    provider: calico\n",
            "spec.network.provider: is a known field that is not supported yet",
        ),
        ("spec:\n  network:\n    provider: kuberouter\n", "fine"),
        (
            "spec:\n  storage:\n    type: mongo\n",
            "spec.storage.type: invalid value: \"mongo\": must be one of \"etcd\", \"kine\"",
        ),
        (
            "spec:\n  network:\n    podCIDR: 10.0.0.0/33\n",
            "spec.network.podCIDR: invalid value: \"10.0.0.0/33\": the prefix length must be between 1 and 30",
        ),
        (
            "spec:\n  api:\n    address: nowhere\n",
            "spec.api.address: invalid value: \"nowhere\": invalid IP address",
        ),
        (
            "spec:\n  storage:\n    etcd:\n      externalCluster:\n        endpoints: [http://127.0.0.1:2379]\n",
            "spec.storage.etcd.externalCluster.etcdPrefix: required value",
        ),
        ("spec:\n  podSecurityPolicy: {defaultPolicy: x}\n", "fine"),
        (
            "kind: Pod",
            "kind: invalid value: \"Pod\": must be one of \"ClusterConfig\"",
        ),
        ("spec: 5", "spec: invalid value: 5: must be an object"),
        (
            "[1, 2]",
            "the configuration: invalid value: [1,2]: must be an object",
        ),
    ] {
        assert_eq!(problems_of(text), expected, "{text}");
    }
}

#[test]
fn text_that_is_not_yaml_is_an_error() {
    for text in [
        "spec: [",
        "a: b: c",
        "\t- x",
        "%YAML 9\n",
        "spec: {api: {sans: [a, b}}",
    ] {
        assert_ne!(problems_of(text), "fine", "{text}");
    }
}

/// Texts that would cost more than they are worth end early.
#[test]
fn hostile_yaml_is_an_error() {
    let mut laughs = String::from("a0: &a0 ha\n");
    for n in 1..12 {
        let before = format!("*a{}, ", n - 1).repeat(10);
        laughs.push_str(&format!("a{n}: &a{n} [{before}]\n"));
    }
    for text in [
        laughs,
        "spec: &a [*a]".into(),
        "spec: *nobody".into(),
        "[".repeat(100_000),
        "{a: ".repeat(100_000),
        "- ".repeat(100_000),
        "spec: {}\nspec: {}".into(),
        "spec: {}\n---\nspec: {}".into(),
        "spec: !!binary xx".into(),
        "spec: \u{0}".into(),
        "#".repeat(limits::CONFIG_BYTES + 1),
    ] {
        let said = problems_of(&text);
        let short: String = text.chars().take(40).collect();
        assert_ne!(said, "fine", "{short}");
        assert!(
            said.len() < 10_000,
            "{short}: {} bytes of error",
            said.len()
        );
    }
}

/// Whatever stands in whatever place: an answer that names the place.
#[test]
fn no_wrong_value_panics() {
    let text = ClusterConfig::default_yaml("192.0.2.7", &[], false);
    let whole: Value = serde_saphyr::from_str(&text).expect("YAML");
    let mut places = vec![String::new()];
    let mut at = 0;
    while at < places.len() {
        let here = places[at].clone();
        match whole.pointer(&here) {
            Some(Value::Object(map)) => places.extend(map.keys().map(|k| format!("{here}/{k}"))),
            Some(Value::Array(list)) => {
                places.extend((0..list.len()).map(|n| format!("{here}/{n}")));
            }
            _ => {}
        }
        at += 1;
    }
    assert!(places.len() > 50, "{}", places.len());
    for place in &places {
        for value in [
            json!(null),
            json!(-1),
            json!(1e300),
            json!(""),
            json!("\u{0}"),
            json!("../../x"),
            json!("0.0.0.0/0"),
            json!("::/0"),
            json!(true),
            json!([[]]),
            json!({"x": {}}),
        ] {
            let mut changed = whole.clone();
            if let Some(spot) = changed.pointer_mut(place) {
                *spot = value.clone();
            }
            let said = problems_of(&changed.to_string());
            let named = place.trim_start_matches('/').replace('/', ".");
            let named = named.split(".0").next().unwrap_or_default();
            assert!(
                said == "fine" || said.contains(named),
                "{place} = {value}: {said}"
            );
            // What is taken is used without a panic.
            if let Ok(config) = ClusterConfig::parse(&changed.to_string()) {
                let _ = (
                    config.dns_ip(),
                    config.api_service_ip(),
                    config.service_cidr(),
                );
            }
        }
    }
}

#[test]
fn what_config_create_prints_is_valid() {
    let text = ClusterConfig::default_yaml("192.0.2.7", &["192.0.2.7".into()], true);
    let config = ClusterConfig::parse(&text).expect("the default configuration");
    assert_eq!(config.spec.api.address, "192.0.2.7");
    assert_eq!(config.dns_ip().to_string(), "10.96.0.10");
    assert_eq!(config.api_service_ip().to_string(), "10.96.0.1");
}

#[test]
fn a_tiny_service_network_has_its_dns_at_the_second_address() {
    let config = ClusterConfig::parse("spec: {network: {serviceCIDR: 10.9.8.0/29}}")
        .expect("a tiny network");
    assert_eq!(config.dns_ip().to_string(), "10.9.8.2");
}
