//! Endpoints of services with a selector: the older form of EndpointSlices.
//! Upstream: pkg/controller/endpoint.

mod subsets;

use std::collections::BTreeMap;

use api::core::v1::{Endpoints, Service};
use api::meta::ObjectMeta;
use async_trait::async_trait;
use client::api::DeleteParams;
use client::recorder::reference;
use client::{Client, EventType, Recorder};
use reconciler::{Error, Key, Next, Reconcile, Reconciler, Trigger};

use crate::common::act;
use crate::common::object::Object;
use crate::common::service::{self, TriggerTimes};
use crate::discovery::slices::{HEADLESS, TRIGGER_TIME};
use crate::{Controller, Setup, limits};

pub static CONTROLLER: Controller = Controller {
    name: "endpoints-controller",
    account: "endpoint-controller",
    component: "endpoint-controller",
    needs: &[("", "services"), ("", "pods"), ("", "endpoints")],
    build: |setup| Ok(build(setup)),
};

const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";

fn build(setup: &Setup) -> Reconciler {
    let this = EndpointsOf {
        client: setup.client.clone(),
        recorder: setup.recorder.clone(),
        times: TriggerTimes::default(),
    };
    let pods = setup.client.clone();
    Reconciler::new("endpoints-controller", 5, this)
        .retries(15)
        .on(Trigger::own("", "services"))
        .on(Trigger::map("", "pods", move |e| service::of_pod(&pods, e)))
        .on(Trigger::map("", "endpoints", |e| {
            // Everything at the start, so that leftovers go; later only what others delete.
            let first = e.before.is_none() && !e.deleted();
            let elects = |k: &Endpoints| k.annotations().contains_key(LEADER);
            let wanted =
                e.deleted() || (first && !e.typed::<Endpoints>().is_some_and(|k| elects(&k)));
            if wanted {
                vec![Key::of(e.entry).into()]
            } else {
                Vec::new()
            }
        }))
}

struct EndpointsOf {
    client: Client,
    recorder: Recorder,
    times: TriggerTimes,
}

#[async_trait]
impl Reconcile for EndpointsOf {
    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let known = self
            .client
            .lister::<Endpoints>()?
            .get(&key.namespace, &key.name);
        let service = self
            .client
            .lister::<Service>()?
            .get(&key.namespace, &key.name);
        let Some(service) = service else {
            self.times.forget(key);
            if known.is_some_and(|k| k.labels().contains_key(MANAGED_BY)) {
                let params = DeleteParams::default();
                let done =
                    act::delete::<Endpoints>(&self.client, &key.namespace, &key.name, &params);
                done.await.map_err(|source| Error::Api {
                    operation: "delete the endpoints",
                    source,
                })?;
            }
            return Ok(Next::Done);
        };
        if service::selects(&service).is_none() {
            return Ok(Next::Done);
        }
        let pods = service::selected(&self.client, &service)?;
        let (subsets, truncated) = subsets::of(&service, &pods, limits::ENDPOINTS_ADDRESSES);
        let labels = labels(&service);
        let old = known.as_deref().cloned().unwrap_or_default();
        let capacity = truncated.then_some("truncated");
        let same = known.is_some()
            && subsets::canonical(old.subsets.as_deref().unwrap_or(&[])) == subsets
            && *old.labels() == labels
            && old.annotations().get(CAPACITY).map(String::as_str) == capacity;
        let time = self.times.next(key, &service, &pods);
        if same {
            return Ok(Next::Done);
        }
        let mut annotations = old.annotations().clone();
        set(&mut annotations, TRIGGER_TIME, time);
        set(&mut annotations, CAPACITY, capacity.map(String::from));
        let new = Endpoints {
            metadata: ObjectMeta {
                name: Some(key.name.to_string()),
                namespace: Some(key.namespace.to_string()),
                labels: Some(labels),
                annotations: (!annotations.is_empty()).then_some(annotations),
                ..old.metadata.clone()
            },
            subsets: (!subsets.is_empty()).then_some(subsets),
        };
        self.write(&service, &new, known.is_none()).await?;
        Ok(Next::Done)
    }
}

impl EndpointsOf {
    async fn write(&self, service: &Service, new: &Endpoints, create: bool) -> Result<(), Error> {
        let done = if create {
            act::create(&self.client, new).await
        } else {
            act::update(&self.client, new).await
        };
        let Err(source) = done else {
            return Ok(());
        };
        if client::is_namespace_terminating(&source) {
            return Ok(());
        }
        let (namespace, name, why) = (new.namespace(), new.name(), client::message(&source));
        let (reason, message) = if create {
            (
                "FailedToCreateEndpoint",
                format!("Failed to create endpoint for service {namespace}/{name}: {why}"),
            )
        } else {
            (
                "FailedToUpdateEndpoint",
                format!("Failed to update endpoint {namespace}/{name}: {why}"),
            )
        };
        let mut about = reference(new);
        about.uid = about.uid.or_else(|| Some(service.uid().into()));
        self.recorder
            .event(about, EventType::Warning, reason, &message);
        Err(Error::Api {
            operation: "write the endpoints",
            source,
        })
    }
}

fn set(map: &mut BTreeMap<String, String>, key: &str, value: Option<String>) {
    match value {
        Some(value) => {
            map.insert(key.into(), value);
        }
        None => {
            map.remove(key);
        }
    }
}

fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.labels().clone();
    labels.insert(MANAGED_BY.into(), "endpoint-controller".into());
    if service::headless(service) {
        labels.insert(HEADLESS.into(), String::new());
    } else {
        labels.remove(HEADLESS);
    }
    labels
}
