//! Each namespace has a ConfigMap `kube-root-ca.crt`, by which pods verify the API server.
//! Upstream: pkg/controller/certificates/rootcacertpublisher.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::core::v1::{ConfigMap, Namespace};
use api::meta::ObjectMeta;
use async_trait::async_trait;
use client::Client;
use reconciler::{During, Error, Key, Next, Reconcile, Reconciler, Trigger};

use super::service_account::is_active;
use crate::common::act;
use crate::common::object::Object;
use crate::context::Facts;
use crate::{Controller, Setup};

pub static CONTROLLER: Controller = Controller {
    name: "root-ca-certificate-publisher-controller",
    account: "root-ca-cert-publisher",
    component: "root-ca-cert-publisher",
    needs: &[("", "namespaces"), ("", "configmaps")],
    build: |setup| Ok(build(setup)),
};

const NAME: &str = "kube-root-ca.crt";
const KEY: &str = "ca.crt";
const ANNOTATION: &str = "kubernetes.io/description";
const DESCRIPTION: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.";

fn build(setup: &Setup) -> Reconciler {
    let this = Publisher {
        client: setup.client.clone(),
        facts: setup.facts.clone(),
    };
    Reconciler::new("root-ca-certificate-publisher-controller", 1, this)
        .on(Trigger::own("", "namespaces"))
        .on(Trigger::map("", "configmaps", |e| {
            if &*e.entry.name == NAME {
                vec![Key::new("", &e.entry.namespace).into()]
            } else {
                Vec::new()
            }
        }))
}

struct Publisher {
    client: Client,
    facts: Arc<Facts>,
}

#[async_trait]
impl Reconcile for Publisher {
    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let namespace = self.client.lister::<Namespace>()?.get("", &key.name);
        if !namespace.is_some_and(|n| is_active(&n)) {
            return Ok(Next::Done);
        }
        let data = BTreeMap::from([(KEY.to_string(), self.facts.root_ca.clone())]);
        let known = self.client.lister::<ConfigMap>()?.get(&key.name, NAME);
        let done = match known {
            None => {
                let map = ConfigMap {
                    metadata: ObjectMeta {
                        name: Some(NAME.into()),
                        namespace: Some(key.name.to_string()),
                        annotations: Some(BTreeMap::from([(
                            ANNOTATION.into(),
                            DESCRIPTION.into(),
                        )])),
                        ..ObjectMeta::default()
                    },
                    data: Some(data),
                    ..ConfigMap::default()
                };
                act::create(&self.client, &map).await
            }
            Some(known) => {
                let good = known.data.as_ref() == Some(&data)
                    && known.binary_data.as_ref().is_none_or(BTreeMap::is_empty)
                    && known.annotation(ANNOTATION) == DESCRIPTION;
                if good {
                    return Ok(Next::Done);
                }
                let mut map = (*known).clone();
                map.data = Some(data);
                map.binary_data = None;
                let annotations = map.metadata.annotations.get_or_insert_default();
                annotations.insert(ANNOTATION.into(), DESCRIPTION.into());
                act::update(&self.client, &map).await
            }
        };
        match done {
            Err(e) if client::is_namespace_terminating(&e) => {}
            done => {
                done.during("publish the root CA")?;
            }
        }
        Ok(Next::Done)
    }
}
