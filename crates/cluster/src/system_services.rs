//! The Services that the control plane itself offers: `default/kubernetes`, whose endpoints are the API
//! servers, and `kube-system/kube-dns`, whose address the DNS server of each node answers on.
//! Upstream: controlplane kubernetesservice controller; k0s: coredns manifest.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use client::{Cache, Client};
use http::Method;
use machinery::GroupResource;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::rest;

const RETRY: Duration = Duration::from_secs(1);

/// What the Services point at.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Where this API server is reached.
    pub address: IpAddr,
    pub port: u16,
    pub api_service_ip: Ipv4Addr,
    pub dns_ip: Ipv4Addr,
}

/// One object to keep as it should be.
struct Wanted {
    collection: String,
    group: &'static str,
    resource: &'static str,
    object: Value,
    /// The fields that are put right when they differ.
    fields: &'static [&'static str],
}

/// Keeps the objects until `shutdown` becomes true. `client` must be allowed everything.
pub async fn run(client: Client, facts: Facts, mut shutdown: watch::Receiver<bool>) {
    let wanted = wanted(&facts);
    loop {
        let mut changes: Vec<_> = caches(&client, &wanted)
            .iter()
            .map(|c| c.subscribe().changes)
            .collect();
        let mut failed = false;
        for w in &wanted {
            if let Err(error) = ensure(&client, w).await {
                tracing::error!(%error, "a system service is not as it should be");
                failed = true;
            }
        }
        let ours = |e: &client::Entry| {
            wanted.iter().any(|w| {
                machinery::object::name(&w.object) == &*e.name
                    && machinery::object::namespace(&w.object) == &*e.namespace
            })
        };
        if changes.is_empty() {
            tokio::time::sleep(RETRY).await;
            continue;
        }
        loop {
            let next = futures::future::select_all(changes.iter_mut().map(|c| Box::pin(c.recv())));
            tokio::select! {
                _ = shutdown.wait_for(|s| *s) => return,
                () = tokio::time::sleep(RETRY), if failed => break,
                (change, ..) = next => match change {
                    Some(c) if !ours(&c.entry) => {}
                    _ => break,
                }
            }
        }
    }
}

fn caches(client: &Client, wanted: &[Wanted]) -> Vec<Arc<dyn Cache>> {
    let mut out = Vec::new();
    for (n, w) in wanted.iter().enumerate() {
        let seen = wanted[..n].iter().any(|o| o.resource == w.resource);
        let cache = client.cache(&GroupResource::new(w.group, w.resource));
        if let (false, Ok(cache)) = (seen, cache) {
            out.push(cache);
        }
    }
    out
}

/// Creates an object or puts its fields right.
async fn ensure(client: &Client, w: &Wanted) -> Result<(), rest::Error> {
    let path = format!("{}/{}", w.collection, machinery::object::name(&w.object));
    let Some(stored) = rest::get(client, &path).await? else {
        return rest::create(client, &w.collection, &w.object).await;
    };
    let mut patch = json!({});
    for field in w.fields {
        let value = machinery::object::at(&w.object, field).unwrap_or(&Value::Null);
        let now = machinery::object::at(&stored, field).unwrap_or(&Value::Null);
        if now != value {
            machinery::object::set(&mut patch, field, value.clone());
        }
    }
    if patch != json!({}) {
        rest::send(client, Method::PATCH, &path, Some(&patch)).await?;
    }
    Ok(())
}

fn wanted(f: &Facts) -> Vec<Wanted> {
    let port = f.port;
    let address = f.address.to_string();
    let of = |namespace: &str, resource: &str| match resource {
        "endpointslices" => {
            format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices")
        }
        r => format!("/api/v1/namespaces/{namespace}/{r}"),
    };
    let labels = json!({"component": "apiserver", "provider": "kubernetes"});
    let family = if f.address.is_ipv4() { "IPv4" } else { "IPv6" };
    vec![
        Wanted {
            collection: of("default", "services"),
            group: "",
            resource: "services",
            object: json!({"apiVersion": "v1", "kind": "Service",
                "metadata": {"name": "kubernetes", "namespace": "default", "labels": labels},
                "spec": {"type": "ClusterIP", "clusterIP": f.api_service_ip, "sessionAffinity": "None",
                    "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": port}]}}),
            fields: &["spec.ports"],
        },
        Wanted {
            collection: of("default", "endpoints"),
            group: "",
            resource: "endpoints",
            object: json!({"apiVersion": "v1", "kind": "Endpoints",
                "metadata": {"name": "kubernetes", "namespace": "default",
                    "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
                "subsets": [{"addresses": [{"ip": address}],
                    "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}]}),
            fields: &["subsets"],
        },
        Wanted {
            collection: of("default", "endpointslices"),
            group: "discovery.k8s.io",
            resource: "endpointslices",
            object: json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                "metadata": {"name": "kubernetes", "namespace": "default",
                    "labels": {"kubernetes.io/service-name": "kubernetes"}},
                "addressType": family,
                "endpoints": [{"addresses": [address], "conditions": {"ready": true}}],
                "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}),
            fields: &["endpoints", "ports"],
        },
        Wanted {
            collection: of("kube-system", "services"),
            group: "",
            resource: "services",
            object: json!({"apiVersion": "v1", "kind": "Service",
                "metadata": {"name": "kube-dns", "namespace": "kube-system",
                    "labels": {"k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true",
                        "kubernetes.io/name": "CoreDNS"}},
                "spec": {"type": "ClusterIP", "clusterIP": f.dns_ip,
                    "ports": [{"name": "dns", "protocol": "UDP", "port": 53, "targetPort": 53},
                        {"name": "dns-tcp", "protocol": "TCP", "port": 53, "targetPort": 53}]}}),
            fields: &[],
        },
    ]
}
