//! Bootstrap tokens go when they end. Upstream: pkg/controller/bootstrap/tokencleaner.go.

use std::time::Duration;

use api::core::v1::Secret;
use async_trait::async_trait;
use client::Client;
use client::api::DeleteParams;
use reconciler::{Clock, During, Error, Key, Next, Reconcile, Reconciler, Trigger};

use crate::common::act;
use crate::common::bootstrap_token::{self, NAMESPACE};
use crate::common::object::Object;
use crate::{Controller, Setup};

pub static CONTROLLER: Controller = Controller {
    name: "token-cleaner-controller",
    account: "token-cleaner",
    component: "token-cleaner",
    needs: &[("", "secrets")],
    build: |setup| Ok(build(setup)),
};

fn build(setup: &Setup) -> Reconciler {
    let this = Cleaner {
        client: setup.client.clone(),
        clock: setup.clock.clone(),
    };
    Reconciler::new("token-cleaner-controller", 1, this).on(Trigger::map("", "secrets", |e| {
        let token = &*e.entry.namespace == NAMESPACE
            && !e.deleted()
            && e.typed::<Secret>()
                .is_some_and(|s| bootstrap_token::is_token(&s));
        if token {
            vec![Key::of(e.entry).into()]
        } else {
            Vec::new()
        }
    }))
}

struct Cleaner {
    client: Client,
    clock: Clock,
}

#[async_trait]
impl Reconcile for Cleaner {
    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let found = self.client.lister::<Secret>()?;
        let found = found.get(&key.namespace, &key.name);
        let found = found.filter(|s| bootstrap_token::is_token(s));
        let Some((secret, end)) = found.and_then(|s| bootstrap_token::ends(&s).map(|e| (s, e)))
        else {
            return Ok(Next::Done);
        };
        let left = end.as_nanosecond() - self.clock.now().as_nanosecond();
        if let Some(left) = u64::try_from(left).ok().filter(|l| *l > 0) {
            return Ok(Next::After(Duration::from_nanos(left)));
        }
        let params = DeleteParams {
            preconditions: client::only_uid(secret.uid()),
            ..DeleteParams::default()
        };
        tracing::info!(
            secret = secret.name(),
            "an expired bootstrap token is deleted"
        );
        match act::delete::<Secret>(&self.client, &key.namespace, &key.name, &params).await {
            Err(e) if client::is_conflict(&e) => {}
            done => done.during("delete the token")?,
        }
        Ok(Next::Done)
    }
}
