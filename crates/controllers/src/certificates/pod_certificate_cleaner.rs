//! PodCertificateRequests go fifteen minutes after they were made: by then their kubelet has read the answer.
//! Upstream: pkg/controller/certificates/cleaner/pcrcleaner.go, which looks every five minutes.

use std::time::Duration;

use api::certificates::v1::PodCertificateRequest;
use async_trait::async_trait;
use client::Client;
use client::api::DeleteParams;
use reconciler::{Clock, During, Error, Key, Next, Reconcile, Reconciler, Trigger};

use crate::common::act;
use crate::common::object::Object;
use crate::{Controller, Setup};

pub static CONTROLLER: Controller = Controller {
    name: "podcertificaterequest-cleaner-controller",
    account: "podcertificaterequestcleaner",
    component: "podcertificaterequestcleaner",
    needs: &[("certificates.k8s.io", "podcertificaterequests")],
    build: |setup| Ok(build(setup)),
};

/// How long a request stays, decided or not.
const STAY: i64 = 15 * 60;

fn build(setup: &Setup) -> Reconciler {
    let this = Cleaner {
        client: setup.client.clone(),
        clock: setup.clock.clone(),
    };
    let own = Trigger::own("certificates.k8s.io", "podcertificaterequests");
    Reconciler::new("podcertificaterequest-cleaner-controller", 1, this).on(own)
}

struct Cleaner {
    client: Client,
    clock: Clock,
}

#[async_trait]
impl Reconcile for Cleaner {
    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let lister = self.client.lister::<PodCertificateRequest>()?;
        let Some(request) = lister.get(&key.namespace, &key.name) else {
            return Ok(Next::Done);
        };
        let left = request.created().as_second() + STAY - self.clock.now().as_second();
        if let Some(left) = u64::try_from(left).ok().filter(|l| *l > 0) {
            return Ok(Next::After(Duration::from_secs(left)));
        }
        let params = DeleteParams {
            preconditions: client::only_uid(request.uid()),
            ..DeleteParams::default()
        };
        act::delete::<PodCertificateRequest>(&self.client, &key.namespace, &key.name, &params)
            .await
            .during("delete the request")?;
        Ok(Next::Done)
    }
}
