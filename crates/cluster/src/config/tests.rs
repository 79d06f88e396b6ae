use super::*;

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
