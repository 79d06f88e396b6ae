//! The CA of the API server as a ClusterTrustBundle of signer `kubernetes.io/kube-apiserver-serving`.
//! Upstream: pkg/controller/certificates/clustertrustbundlepublisher.

use std::sync::Arc;

use api::certificates::v1::{ClusterTrustBundle, ClusterTrustBundleSpec};
use api::meta::ObjectMeta;
use async_trait::async_trait;
use client::Client;
use client::api::DeleteParams;
use reconciler::{During, Error, Key, Next, Reconcile, Reconciler, Trigger, Wake};

use crate::common::act;
use crate::common::object::Object;
use crate::context::Facts;
use crate::{Controller, Setup};

pub static CONTROLLER: Controller = Controller {
    name: "kube-apiserver-serving-clustertrustbundle-publisher-controller",
    account: "kube-apiserver-serving-clustertrustbundle-publisher",
    component: "kube-apiserver-serving-clustertrustbundle-publisher",
    needs: &[("certificates.k8s.io", "clustertrustbundles")],
    build: |setup| Ok(build(setup)),
};

const SIGNER: &str = "kubernetes.io/kube-apiserver-serving";

fn build(setup: &Setup) -> Reconciler {
    let this = Publisher {
        client: setup.client.clone(),
        facts: setup.facts.clone(),
    };
    let pass = || Wake::from(Key::new("", SIGNER));
    Reconciler::new(CONTROLLER.name, 1, this)
        .source(move |waker| Box::pin(async move { waker.wake(pass().key, pass().after) }))
        .on(Trigger::map(
            "certificates.k8s.io",
            "clustertrustbundles",
            move |e| {
                let bundle = e.typed::<ClusterTrustBundle>();
                let own = bundle.is_some_and(|b| b.spec.signer_name.as_deref() == Some(SIGNER));
                if own { vec![pass()] } else { Vec::new() }
            },
        ))
}

struct Publisher {
    client: Client,
    facts: Arc<Facts>,
}

/// The bundle's name: the first twelve bytes of the SHA-256 of its text.
fn name(bundle: &str) -> String {
    format!("{}:{}", SIGNER.replace('/', ":"), pki::sha256(bundle, 12))
}

#[async_trait]
impl Reconcile for Publisher {
    async fn reconcile(&self, _key: &Key) -> Result<Next, Error> {
        let wanted = name(&self.facts.root_ca);
        let lister = self.client.lister::<ClusterTrustBundle>()?;
        let api = self.client.all::<ClusterTrustBundle>();
        let spec = ClusterTrustBundleSpec {
            signer_name: Some(SIGNER.into()),
            trust_bundle: self.facts.root_ca.clone(),
        };
        match lister.get("", &wanted) {
            None => {
                let bundle = ClusterTrustBundle {
                    metadata: ObjectMeta {
                        name: Some(wanted.clone()),
                        ..ObjectMeta::default()
                    },
                    spec,
                };
                match api.create(&act::post_params(), &bundle).await {
                    Err(e) if client::is_already_exists(&e) => {}
                    done => {
                        done.during("publish the trust bundle")?;
                    }
                }
            }
            Some(found) if found.spec != spec => {
                let mut bundle = (*found).clone();
                bundle.spec = spec;
                let done = api.replace(&wanted, &act::post_params(), &bundle).await;
                done.during("correct the trust bundle")?;
            }
            Some(_) => {}
        }
        for other in lister.list(None) {
            let own = other.spec.signer_name.as_deref() == Some(SIGNER);
            if !own || other.name() == wanted {
                continue;
            }
            match api.delete(other.name(), &DeleteParams::default()).await {
                Err(e) if client::is_not_found(&e) => {}
                done => {
                    done.during("delete an old trust bundle")?;
                }
            }
        }
        Ok(Next::Done)
    }
}
