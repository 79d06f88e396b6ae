//! The ConfigMap by which aggregated servers know whom to trust: clients of the cluster's CA, and the front proxy,
//! who tells users by headers. What others put in is kept beside ours.
//! Upstream: controlplane/controller/clusterauthenticationtrust.

use std::time::Duration;

use auth::request_header as headers;
use client::{Client, is_conflict};
use http::Method;
use machinery::GroupResource;
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use crate::control_plane::FRONT_PROXY;
use crate::rest;

const NAME: &str = "extension-apiserver-authentication";
const NAMESPACE: &str = "kube-system";
/// Between two looks without a change, as upstream.
const EVERY: Duration = Duration::from_secs(60);
/// After a failure.
const AGAIN: Duration = Duration::from_secs(1);

const CLIENT_CA: &str = "client-ca-file";
const PROXY_CA: &str = "requestheader-client-ca-file";

/// Whom this API server trusts, as PEM.
pub struct Trust {
    pub client_ca: String,
    pub front_proxy_ca: String,
}

/// Keeps the ConfigMap until `shutdown` becomes true. `client` must be allowed everything.
pub async fn run(client: Client, trust: Trust, mut shutdown: watch::Receiver<bool>) {
    loop {
        let cache = client.cache(&GroupResource::new("", "configmaps"));
        let mut changes = cache.ok().map(|c| c.subscribe().changes);
        let mut wait = EVERY;
        if let Err(error) = ensure(&client, &trust).await {
            if !is_conflict(&error.source) {
                tracing::error!(%error, "the authentication of aggregated servers is not published");
            }
            wait = AGAIN;
        }
        let touched = async {
            let Some(changes) = &mut changes else {
                return std::future::pending().await;
            };
            while let Some(c) = changes.recv().await {
                if *c.entry.name == *NAME && *c.entry.namespace == *NAMESPACE {
                    return;
                }
            }
        };
        tokio::select! {
            _ = shutdown.wait_for(|s| *s) => return,
            () = tokio::time::sleep(wait) => {}
            () = touched => {}
        }
    }
}

async fn ensure(client: &Client, trust: &Trust) -> Result<(), rest::Error> {
    let all = format!("/api/v1/namespaces/{NAMESPACE}/configmaps");
    let one = format!("{all}/{NAME}");
    let stored = rest::get(client, &one).await?;
    let data = combined(stored.as_ref().unwrap_or(&Value::Null), trust, pki::now());
    match stored {
        None => {
            let object = json!({"apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": NAME, "namespace": NAMESPACE}, "data": data});
            rest::create(client, &all, &object).await
        }
        Some(stored) if stored["data"] == json!(data) => Ok(()),
        Some(mut stored) => {
            stored["data"] = json!(data);
            let sent = rest::send(client, Method::PUT, &one, Some(&stored)).await;
            sent.map(drop)
        }
    }
}

/// The ConfigMap's data: what is stored, with ours added where it is missing.
fn combined(stored: &Value, trust: &Trust, now: i64) -> Map<String, Value> {
    let mut data = stored["data"].as_object().cloned().unwrap_or_default();
    let before = |key: &str| stored["data"][key].as_str().unwrap_or_default();
    for (key, ours) in [
        (CLIENT_CA, &trust.client_ca),
        (PROXY_CA, &trust.front_proxy_ca),
    ] {
        data.insert(key.into(), json!(certificates(before(key), ours, now)));
    }
    for (key, ours) in [
        ("requestheader-username-headers", headers::USER),
        ("requestheader-uid-headers", headers::UID),
        ("requestheader-group-headers", headers::GROUP),
        ("requestheader-extra-headers-prefix", headers::EXTRA),
        ("requestheader-allowed-names", FRONT_PROXY),
    ] {
        let known: Vec<String> = serde_json::from_str(before(key)).unwrap_or_default();
        let mut names = known;
        if !names.iter().any(|n| n == ours) {
            names.push(ours.into());
        }
        data.insert(key.into(), json!(json!(names).to_string()));
    }
    data
}

const END: &str = "-----END CERTIFICATE-----";

/// All certificates of both, each once, those that have ended left out.
fn certificates(stored: &str, ours: &str, now: i64) -> String {
    let mut kept: Vec<String> = Vec::new();
    for block in stored.split_inclusive(END).chain(ours.split_inclusive(END)) {
        let block = format!("{}\n", block.trim());
        let certificate = pki::ca::Identity {
            cert_pem: block.clone(),
            key_pem: String::new(),
        };
        let valid = certificate.not_after().is_ok_and(|end| end > now);
        if valid && !kept.contains(&block) {
            kept.push(block);
        }
    }
    kept.concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pki::ca::Ca;

    #[test]
    fn what_others_trust_stays() {
        let (now, year) = (pki::now(), 366 * 86_400);
        let ca = |at| Ca::generate("ca", at).unwrap().pem().to_string();
        let (ours, theirs, old) = (ca(now), ca(now), ca(now - 100 * year));
        let trust = Trust {
            client_ca: ours.clone(),
            front_proxy_ca: ours.clone(),
        };
        let data = combined(&Value::Null, &trust, now);
        assert_eq!(data[CLIENT_CA], ours);
        assert_eq!(
            data["requestheader-username-headers"],
            "[\"X-Remote-User\"]"
        );
        assert_eq!(
            data["requestheader-allowed-names"],
            "[\"front-proxy-client\"]"
        );
        // Again changes nothing.
        let stored = json!({"data": data});
        assert_eq!(json!(combined(&stored, &trust, now)), stored["data"]);
        let stored = json!({"data": {CLIENT_CA: format!("{old}{theirs}garbage"), "other": "x",
            "requestheader-allowed-names": "[\"mine\"]"}});
        let data = combined(&stored, &trust, now);
        assert_eq!(data[CLIENT_CA], format!("{theirs}{ours}"));
        assert_eq!(data["other"], "x");
        assert_eq!(
            data["requestheader-allowed-names"],
            "[\"mine\",\"front-proxy-client\"]"
        );
    }
}
