//! Requests go some time after they were decided, or when nobody decided them.
//! Upstream: pkg/controller/certificates/cleaner.

use std::time::Duration;

use api::certificates::v1::CertificateSigningRequest;
use async_trait::async_trait;
use client::Client;
use client::api::DeleteParams;
use jiff::Timestamp;
use reconciler::{Clock, During, Error, Key, Next, Reconcile, Reconciler, Trigger};

use super::approver;
use crate::common::object::Object;
use crate::{Controller, Setup};

pub static CONTROLLER: Controller = Controller {
    name: "certificatesigningrequest-cleaner-controller",
    account: "certificate-controller",
    component: "certificate-controller",
    needs: &[("certificates.k8s.io", "certificatesigningrequests")],
    build: |setup| Ok(build(setup)),
};

const HOUR: i64 = 3600;
const DAY: i64 = 86_400;

fn build(setup: &Setup) -> Reconciler {
    let this = Cleaner {
        client: setup.client.clone(),
        clock: setup.clock.clone(),
    };
    Reconciler::new("certificatesigningrequest-cleaner-controller", 1, this).on(Trigger::own(
        "certificates.k8s.io",
        "certificatesigningrequests",
    ))
}

struct Cleaner {
    client: Client,
    clock: Clock,
}

/// When a request goes. Upstream also removes issued requests whose certificate has expired: with
/// an hour for issued ones that never comes first.
fn end(csr: &CertificateSigningRequest) -> Timestamp {
    let mut all = csr
        .status
        .iter()
        .flat_map(|s| s.conditions.iter().flatten());
    let decided = all.find(|c| matches!(c.type_.as_str(), "Denied" | "Failed"));
    let mut all = csr
        .status
        .iter()
        .flat_map(|s| s.conditions.iter().flatten());
    let approved = all.find(|c| c.type_ == "Approved");
    let (from, stay) = match (decided, approved) {
        (Some(c), _) => (c.last_update_time.as_ref(), HOUR),
        (None, Some(c)) if approver::issued(csr) => (c.last_update_time.as_ref(), HOUR),
        (None, Some(c)) => (c.last_update_time.as_ref(), DAY),
        (None, None) => (None, DAY),
    };
    let from = from.map_or_else(|| csr.created(), |t| t.0);
    Timestamp::from_second(from.as_second() + stay).unwrap_or(from)
}

#[async_trait]
impl Reconcile for Cleaner {
    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let lister = self.client.lister::<CertificateSigningRequest>()?;
        let Some(csr) = lister.get("", &key.name) else {
            return Ok(Next::Done);
        };
        let left = end(&csr).as_second() - self.clock.now().as_second();
        if let Some(left) = u64::try_from(left).ok().filter(|l| *l > 0) {
            return Ok(Next::After(Duration::from_secs(left)));
        }
        let api = self.client.all::<CertificateSigningRequest>();
        match api.delete(&key.name, &DeleteParams::default()).await {
            Err(e) if client::is_not_found(&e) => {}
            done => {
                done.during("delete the request")?;
            }
        }
        Ok(Next::Done)
    }
}
