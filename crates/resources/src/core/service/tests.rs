use std::sync::Arc;

use client::memory::MemoryCache;
use client::{Cache, Reads};
use machinery::descriptor::Allocator;
use machinery::{ApiError, GroupResource};

use super::allocate::Services;
use super::*;
use crate::late::LateReads;

struct OneCache(Arc<MemoryCache>);

impl Reads for OneCache {
    fn cache(&self, _resource: &GroupResource) -> Option<Arc<dyn Cache>> {
        Some(self.0.clone())
    }

    fn resources(&self) -> Vec<Arc<Descriptor>> {
        Vec::new()
    }

    fn resources_changed(&self) -> tokio::sync::watch::Receiver<u64> {
        tokio::sync::watch::channel(0).1
    }
}

fn allocator(stored: &[Value]) -> Services {
    let cache = Arc::new(MemoryCache::default());
    for s in stored {
        cache.apply(s.clone()).expect("an object");
    }
    let reads = LateReads::default();
    reads.set(Arc::new(OneCache(cache)));
    let networks = [([10, 96, 0, 0].into(), 12)];
    Services::new(&networks, &(30000..=32767), reads)
}

fn service(mut spec: Value) -> Value {
    if spec.get("ports").is_none() && spec.get("externalName").is_none() {
        spec["ports"] = json!([{"port": 80}]);
    }
    json!({"metadata": {"name": "s", "namespace": "d"}, "spec": spec})
}

/// A create as the server does it.
async fn create(a: &Services, spec: Value) -> Result<Value, ApiError> {
    let mut obj = service(spec);
    Service.set_defaults(&mut obj);
    prepare::create(&mut obj);
    let taken = a.begin(&mut obj, None, false).await?;
    let mut c = Causes::new();
    Service.validate(&obj, &mut c);
    if !c.is_empty() {
        return Err(ApiError::invalid("", "Service", "s", c.as_slice()));
    }
    taken.finish(true);
    Ok(obj)
}

/// An update as the server does it.
async fn update(a: &Services, before: &Value, mut obj: Value) -> Result<Value, ApiError> {
    Service.set_defaults(&mut obj);
    prepare::update(&mut obj, before);
    let taken = a.begin(&mut obj, Some(before), false).await?;
    let mut c = Causes::new();
    Service.validate_update(&obj, before, &mut c);
    if !c.is_empty() {
        taken.finish(false);
        return Err(ApiError::invalid("", "Service", "s", c.as_slice()));
    }
    taken.finish(true);
    Ok(obj)
}

#[tokio::test]
async fn addresses_are_given_once_also_after_a_restart() {
    let stored = create(&allocator(&[]), json!({"clusterIP": "10.96.0.10"}))
        .await
        .expect("a service");
    assert_eq!(stored["spec"]["clusterIPs"], json!(["10.96.0.10"]));
    assert_eq!(stored["spec"]["ipFamilies"], json!(["IPv4"]));
    assert_eq!(stored["spec"]["ipFamilyPolicy"], "SingleStack");
    let a = allocator(std::slice::from_ref(&stored));
    let e = create(&a, json!({"clusterIP": "10.96.0.10"}))
        .await
        .expect_err("taken");
    assert_eq!(
        e.message,
        "Service \"s\" is invalid: spec.clusterIPs: Invalid value: [\"10.96.0.10\"]: failed to allocate IP 10.96.0.10: provided IP is already allocated"
    );
    a.release(&stored).await;
    create(&a, json!({"clusterIP": "10.96.0.10"}))
        .await
        .expect("free again");
}

#[tokio::test]
async fn what_a_refused_write_took_is_free_again() {
    let a = allocator(&[]);
    let mut obj = service(
        json!({"type": "NodePort", "clusterIP": "10.96.0.9", "ports": [{"port": 80, "nodePort": 30000}]}),
    );
    Service.set_defaults(&mut obj);
    prepare::create(&mut obj);
    let taken = a.begin(&mut obj, None, false).await.expect("taken");
    assert!(create(&a, json!({"clusterIP": "10.96.0.9"})).await.is_err());
    taken.finish(false);
    create(&a, json!({"clusterIP": "10.96.0.9"}))
        .await
        .expect("free again");
}

#[tokio::test]
async fn node_ports_follow_the_type() {
    let a = allocator(&[]);
    let s = create(&a, json!({"type": "NodePort", "ports": [
        {"name": "a", "port": 53, "protocol": "TCP", "nodePort": 30053}, {"name": "b", "port": 53, "protocol": "UDP"},
        {"name": "c", "port": 80}]})).await.expect("a service");
    let ports: Vec<i64> = list_at(&s, "spec.ports")
        .iter()
        .map(|p| i64_at(p, "nodePort").unwrap_or(0))
        .collect();
    assert_eq!(ports[..2], [30053, 30053]);
    assert!((30086..=32767).contains(&ports[2]));
    let mut plain = s.clone();
    plain["spec"]["type"] = json!("ClusterIP");
    let now = update(&a, &s, plain).await.expect("a cluster IP");
    assert_eq!(now["spec"]["ports"][0].get("nodePort"), None);
    assert_eq!(now["spec"].get("externalTrafficPolicy"), None);
    assert_eq!(now["spec"]["clusterIP"], s["spec"]["clusterIP"]);
    create(
        &a,
        json!({"type": "NodePort", "ports": [{"port": 1, "nodePort": 30053}]}),
    )
    .await
    .expect("free again");
    let e = create(
        &a,
        json!({"type": "NodePort", "ports": [{"port": 1, "nodePort": 80}]}),
    )
    .await
    .expect_err("range");
    assert_eq!(
        e.message,
        "Service \"s\" is invalid: spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-32767"
    );
}

#[tokio::test]
async fn types_change_both_ways() {
    let a = allocator(&[]);
    let s = create(&a, json!({"type": "ExternalName", "externalName": "a.b"}))
        .await
        .expect("a name");
    assert_eq!(s["spec"].get("clusterIP"), None);
    let mut plain = service(json!({}));
    plain["spec"]["type"] = json!("ClusterIP");
    let now = update(&a, &s, plain.clone()).await.expect("a cluster IP");
    let ip = str_at(&now, "spec.clusterIP").to_string();
    assert!(ip.starts_with("10."), "{ip}");
    // What was allocated stays where the client does not send it.
    let again = update(&a, &now, plain).await.expect("unchanged");
    assert_eq!(str_at(&again, "spec.clusterIP"), ip);
    let name = service(json!({"type": "ExternalName", "externalName": "a.b"}));
    let last = update(&a, &again, name).await.expect("a name again");
    assert_eq!(last["spec"].get("clusterIPs"), None);
    create(&a, json!({"clusterIP": ip}))
        .await
        .expect("free again");
    let mut moved = now.clone();
    moved["spec"]["clusterIP"] = json!("10.96.0.77");
    moved["spec"]["clusterIPs"] = json!(["10.96.0.77"]);
    let e = update(&a, &now, moved).await.expect_err("addresses stay");
    assert_eq!(
        e.message,
        "Service \"s\" is invalid: spec.clusterIPs[0]: Invalid value: [\"10.96.0.77\"]: may not change once set"
    );
}

#[tokio::test]
async fn headless_and_local_services() {
    let a = allocator(&[]);
    let s = create(&a, json!({"clusterIP": "None", "selector": {"a": "b"}}))
        .await
        .expect("headless");
    assert_eq!(
        (&s["spec"]["clusterIPs"], &s["spec"]["ipFamilies"]),
        (&json!(["None"]), &json!(["IPv4"]))
    );
    let s = create(&a, json!({"clusterIP": "None"}))
        .await
        .expect("headless");
    assert_eq!(
        (&s["spec"]["ipFamilyPolicy"], &s["spec"]["ipFamilies"]),
        (&json!("RequireDualStack"), &json!(["IPv4", "IPv6"]))
    );
    let s = create(
        &a,
        json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local"}),
    )
    .await
    .expect("local");
    assert!(i64_at(&s, "spec.healthCheckNodePort").is_some_and(|n| n >= 30000));
    let e = create(&a, json!({"ipFamilyPolicy": "RequireDualStack"}))
        .await
        .expect_err("one family");
    assert_eq!(
        e.message,
        "Service \"s\" is invalid: spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services"
    );
}

#[test]
fn mistakes_are_named_as_upstream_names_them() {
    for (spec, expected) in [
        (json!({"ports": []}), "spec.ports: Required value"),
        (
            json!({"ports": [{"port": 0}]}),
            "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
        ),
        (
            json!({"ports": [{"port": 1}, {"port": 2, "name": "b"}]}),
            "spec.ports[0].name: Required value",
        ),
        (
            json!({"ports": [{"port": 1, "name": "a"}, {"port": 1, "name": "b"}]}),
            "spec.ports[1]: Duplicate value: {\"Name\":\"\",\"Protocol\":\"TCP\",\"AppProtocol\":null,\"Port\":1,\"TargetPort\":0,\"NodePort\":0}",
        ),
        (
            json!({"type": "Odd"}),
            "spec.type: Unsupported value: \"Odd\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
        ),
        (
            json!({"ports": [{"port": 1, "nodePort": 30000}]}),
            "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
        ),
        (
            json!({"externalIPs": ["127.0.0.1"]}),
            "spec.externalIPs[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
        ),
        (
            json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 0}}}),
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 0: must be greater than 0 and less than 86400",
        ),
        (
            json!({"loadBalancerSourceRanges": ["10.0.0.0/8"]}),
            "spec.LoadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'",
        ),
        (
            json!({"externalTrafficPolicy": "Local"}),
            "spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible services",
        ),
    ] {
        let mut obj = service(spec);
        Service.set_defaults(&mut obj);
        let mut c = Causes::new();
        Service.validate(&obj, &mut c);
        let texts: Vec<String> = c.as_slice().iter().map(|c| c.text()).collect();
        assert!(
            texts.iter().any(|t| t == expected),
            "{expected} not in {texts:?}"
        );
    }
}

#[test]
fn the_row_shows_what_kubectl_prints() {
    let obj = json!({"metadata": {"name": "s"}, "spec": {"type": "LoadBalancer", "clusterIPs": ["10.0.0.1"],
        "ports": [{"port": 80, "nodePort": 30000, "protocol": "TCP"}]}});
    let row = Service.row(&obj, Timestamp::UNIX_EPOCH);
    assert_eq!(
        row[1..5],
        [
            json!("LoadBalancer"),
            json!("10.0.0.1"),
            json!("<pending>"),
            json!("80:30000/TCP")
        ]
    );
}
