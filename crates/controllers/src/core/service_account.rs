//! Each namespace has a service account `default`: pods without another one run as it.
//! Upstream: pkg/controller/serviceaccount/serviceaccounts_controller.go.

use api::core::v1::{Namespace, ServiceAccount};
use api::meta::ObjectMeta;
use async_trait::async_trait;
use client::Client;
use reconciler::{During, Error, Key, Next, Reconcile, Reconciler, Trigger};

use crate::common::act;
use crate::{Controller, Setup};

pub static CONTROLLER: Controller = Controller {
    name: "serviceaccount-controller",
    account: "service-account-controller",
    component: "service-account-controller",
    needs: &[("", "namespaces"), ("", "serviceaccounts")],
    build: |setup| Ok(build(setup)),
};

const NAME: &str = "default";

fn build(setup: &Setup) -> Reconciler {
    let this = ServiceAccounts {
        client: setup.client.clone(),
    };
    Reconciler::new("serviceaccount-controller", 1, this)
        .on(Trigger::own("", "namespaces"))
        .on(Trigger::map("", "serviceaccounts", |e| {
            if e.deleted() && &*e.entry.name == NAME {
                vec![Key::new("", &e.entry.namespace).into()]
            } else {
                Vec::new()
            }
        }))
}

struct ServiceAccounts {
    client: Client,
}

/// Whether a namespace takes new objects.
pub fn is_active(namespace: &Namespace) -> bool {
    let phase = namespace.status.as_ref().and_then(|s| s.phase.as_deref());
    phase != Some("Terminating") && namespace.metadata.deletion_timestamp.is_none()
}

#[async_trait]
impl Reconcile for ServiceAccounts {
    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let namespace = self.client.lister::<Namespace>()?.get("", &key.name);
        if !namespace.is_some_and(|n| is_active(&n)) {
            return Ok(Next::Done);
        }
        let accounts = self.client.lister::<ServiceAccount>()?;
        if accounts.get(&key.name, NAME).is_some() {
            return Ok(Next::Done);
        }
        let account = ServiceAccount {
            metadata: ObjectMeta {
                name: Some(NAME.into()),
                namespace: Some(key.name.to_string()),
                ..ObjectMeta::default()
            },
            ..ServiceAccount::default()
        };
        match act::create(&self.client, &account).await {
            Err(e) if client::is_already_exists(&e) || client::is_namespace_terminating(&e) => {}
            done => {
                done.during("create the default service account")?;
            }
        }
        Ok(Next::Done)
    }
}
