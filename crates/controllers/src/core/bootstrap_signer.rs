//! The ConfigMap `cluster-info` carries a signature of each bootstrap token that may sign, so that a machine
//! that knows a token can trust what it reads there. Upstream: pkg/controller/bootstrap/bootstrapsigner.go.

use std::collections::BTreeMap;

use api::core::v1::{ConfigMap, Secret};
use async_trait::async_trait;
use client::Client;
use jiff::Timestamp;
use reconciler::{Clock, During, Error, Key, Next, Reconcile, Reconciler, Trigger};

use crate::common::act;
use crate::common::bootstrap_token::{self, NAMESPACE};
use crate::common::object::Object;
use crate::{Controller, Setup};

pub static CONTROLLER: Controller = Controller {
    name: "bootstrap-signer-controller",
    account: "bootstrap-signer",
    component: "bootstrap-signer",
    needs: &[("", "configmaps"), ("", "secrets")],
    build: |setup| Ok(build(setup)),
};

const PUBLIC: &str = "kube-public";
const INFO: &str = "cluster-info";
const CONTENT: &str = "kubeconfig";
const PREFIX: &str = "jws-kubeconfig-";

fn build(setup: &Setup) -> Reconciler {
    let this = Signer {
        client: setup.client.clone(),
        clock: setup.clock.clone(),
    };
    let own = || vec![Key::new(PUBLIC, INFO).into()];
    Reconciler::new("bootstrap-signer-controller", 1, this)
        .on(Trigger::map("", "configmaps", move |e| {
            if &*e.entry.namespace == PUBLIC && &*e.entry.name == INFO {
                own()
            } else {
                Vec::new()
            }
        }))
        .on(Trigger::map("", "secrets", move |e| {
            let token = &*e.entry.namespace == NAMESPACE
                && e.typed::<Secret>()
                    .is_some_and(|s| bootstrap_token::is_token(&s));
            if token { own() } else { Vec::new() }
        }))
}

struct Signer {
    client: Client,
    clock: Clock,
}

/// The data as it should be; `None` where nothing is to be signed.
fn signed(
    data: &BTreeMap<String, String>,
    secrets: &[&Secret],
    now: Timestamp,
) -> Option<BTreeMap<String, String>> {
    let content = data.get(CONTENT)?;
    let mut new = data.clone();
    new.retain(|key, _| !key.starts_with(PREFIX));
    for secret in secrets {
        if let Some((id, token)) = bootstrap_token::signing(secret, now) {
            let signature = pki::jwt::detached(content, &id, &token);
            new.entry(format!("{PREFIX}{id}")).or_insert(signature);
        }
    }
    Some(new)
}

#[async_trait]
impl Reconcile for Signer {
    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let found = self.client.lister::<ConfigMap>()?;
        let Some(info) = found.get(&key.namespace, &key.name) else {
            return Ok(Next::Done);
        };
        let all = self.client.lister::<Secret>()?.list(Some(NAMESPACE));
        let tokens: Vec<&Secret> = all
            .iter()
            .map(AsRef::as_ref)
            .filter(|s| bootstrap_token::is_token(s))
            .collect();
        let old = info.data.clone().unwrap_or_default();
        let Some(new) = signed(&old, &tokens, self.clock.now()).filter(|n| *n != old) else {
            return Ok(Next::Done);
        };
        let mut info = (*info).clone();
        info.data = Some(new);
        tracing::debug!(name = info.name(), "cluster-info signed");
        match act::update(&self.client, &info).await {
            Err(e) if client::is_conflict(&e) || client::is_not_found(&e) => {}
            done => {
                done.during("write the signatures")?;
            }
        }
        Ok(Next::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::bootstrap_token::tests::token;

    #[test]
    fn signatures_come_and_go_with_their_tokens() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let data = BTreeMap::from([
            (CONTENT.to_string(), "the config".to_string()),
            ("jws-kubeconfig-zzzzzz".into(), "old".into()),
        ]);
        let good = token("abcdef", "true", "");
        let silent = token("ghijkl", "false", "");
        let old = token("mnopqr", "true", "2025-12-31T23:59:59Z");
        let new = signed(&data, &[&good, &silent, &old], now).unwrap();
        let keys: Vec<&str> = new.keys().map(String::as_str).collect();
        assert_eq!(keys, ["jws-kubeconfig-abcdef", CONTENT]);
        let signature = &new["jws-kubeconfig-abcdef"];
        // {"alg":"HS256","kid":"abcdef"}
        assert!(
            signature.starts_with("eyJhbGciOiJIUzI1NiIsImtpZCI6ImFiY2RlZiJ9.."),
            "{signature}"
        );
        assert_eq!(signed(&BTreeMap::new(), &[&good], now), None);
    }
}
