//! Namespaces being deleted lose their content, pods first, and then their finalizer.
//! Upstream: pkg/controller/namespace, deletion/namespaced_resources_deleter.go.

mod plan;

use std::sync::Arc;
use std::time::Duration;

use api::core::v1::{Namespace, Pod};
use async_trait::async_trait;
use client::api::{DeleteParams, ListParams};
use client::{Client, Entry};
use kube::api::{Api, ApiResource, DynamicObject};
use machinery::{Descriptor, Verb};
use reconciler::{Clock, During, Error, Key, Next, Reconcile, Reconciler, Trigger, Wake};

use self::plan::{FINALIZER, Outcome};
use crate::common::act;
use crate::common::aggregated::{self, Foreign};
use crate::common::object::Object;
use crate::{Controller, Setup, limits};

pub static CONTROLLER: Controller = Controller {
    name: "namespace-controller",
    account: "namespace-controller",
    component: "namespace-controller",
    needs: &[("", "namespaces")],
    build: |setup| Ok(build(setup)),
};

fn build(setup: &Setup) -> Reconciler {
    let this = Namespaces {
        client: setup.client.clone(),
        clock: setup.clock.clone(),
    };
    let pods = setup.client.clone();
    Reconciler::new("namespace-controller", 10, this)
        .backoff(Duration::from_millis(5), Duration::from_secs(60))
        .on(Trigger::map("", "namespaces", |e| {
            let deleting = e.typed::<Namespace>().is_some_and(|n| n.deleting());
            if !deleting || e.deleted() {
                return Vec::new();
            }
            vec![Wake {
                key: Key::of(e.entry),
                after: limits::NAMESPACE_GRACE,
            }]
        }))
        .on(Trigger::map("", "pods", move |e| {
            // The last pod that goes makes way for everything else.
            let Ok(namespaces) = pods.lister::<Namespace>() else {
                return Vec::new();
            };
            let name = &e.entry.namespace;
            let waits = e.deleted() && namespaces.get("", name).is_some_and(|n| n.deleting());
            if waits {
                vec![Key::new("", name).into()]
            } else {
                Vec::new()
            }
        }))
}

struct Namespaces {
    client: Client,
    clock: Clock,
}

#[async_trait]
impl Reconcile for Namespaces {
    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let live = Api::<Namespace>::all(self.client.kube().clone())
            .get_opt(&key.name)
            .await
            .during("get the namespace")?;
        let Some(namespace) = live.filter(Object::deleting) else {
            return Ok(Next::Done);
        };
        let finalizers = namespace.spec.as_ref().and_then(|s| s.finalizers.as_ref());
        if !finalizers.is_some_and(|f| f.iter().any(|f| f == FINALIZER)) {
            return Ok(Next::Done);
        }
        let outcome = self.delete_content(&namespace).await;
        let namespace = self.tell(namespace, &outcome).await?;
        if let Some(error) = outcome.errors.first() {
            return Err(Error::Other(error.clone()));
        }
        if let Some(seconds) = outcome.estimate {
            return Ok(Next::After(Duration::from_secs(seconds / 2 + 1)));
        }
        self.finalize(namespace).await?;
        Ok(Next::Done)
    }
}

impl Namespaces {
    async fn delete_content(&self, namespace: &Namespace) -> Outcome {
        let mut all = self.client.reads().resources();
        all.retain(|d| d.namespaced() && d.stored && d.verbs.contains(&Verb::Delete));
        let name = namespace.name();
        let mut outcome = Outcome::default();
        let pods = all
            .iter()
            .find(|d| d.group.is_empty() && d.resource == "pods");
        if let Some(pods) = pods {
            if let Err(e) = self.delete_all(pods, name).await {
                let why = client::message(&e);
                let text = format!("failed to delete pods for namespace: {name}, err: {why}");
                outcome.errors.push(text);
            }
            let left = self.left(pods, name);
            if !left.is_empty() || !outcome.errors.is_empty() {
                let typed = left.iter().filter_map(|e| client::lister::typed::<Pod>(e));
                let typed: Vec<Arc<Pod>> = typed.collect();
                outcome.pods_remain(&typed, self.clock.now());
                return outcome;
            }
        }
        for d in all
            .iter()
            .filter(|d| d.resource != "pods" || !d.group.is_empty())
        {
            if self.left(d, name).is_empty() {
                continue;
            }
            if let Err(e) = self.delete_all(d, name).await {
                outcome.errors.push(client::message(&e));
            }
            let left = self.left(d, name);
            let held: Vec<_> = left.iter().map(|e| plan::finalizers(&e.bytes)).collect();
            outcome.remain((&d.group, &d.version, &d.resource), name, &held);
        }
        self.delete_aggregated(name, &mut outcome).await;
        outcome
    }

    /// Deletes what other servers hold of the namespace; those that do not answer hold it up.
    async fn delete_aggregated(&self, namespace: &str, outcome: &mut Outcome) {
        let found = match aggregated::discover(&self.client).await {
            Ok(found) => found,
            Err(e) => {
                outcome.discovery_failed(client::message(&e), 0);
                return;
            }
        };
        if let Some(failure) = found.failure() {
            outcome.discovery_failed(failure, found.stale.len());
        }
        let content = |f: &&Foreign| f.namespaced && f.can("delete") && f.can("list");
        for foreign in found.resources.iter().filter(content) {
            match self.delete_foreign(foreign, namespace).await {
                Ok(held) => {
                    let name = (&*foreign.group, &*foreign.version, &*foreign.resource);
                    outcome.remain(name, namespace, &held);
                }
                Err(e) => outcome.errors.push(client::message(&e)),
            }
        }
    }

    /// Deletes all objects of another server's resource; gives the finalizers of each that is left.
    async fn delete_foreign(
        &self,
        foreign: &Foreign,
        namespace: &str,
    ) -> Result<Vec<Vec<String>>, client::Error> {
        let kube = self.client.kube().clone();
        let api: Api<DynamicObject> =
            Api::namespaced_with(kube, namespace, &foreign.api_resource());
        let params = DeleteParams::background();
        let there = api.list_metadata(&ListParams::default()).await?;
        if there.items.is_empty() {
            return Ok(Vec::new());
        }
        if foreign.can("deletecollection") {
            api.delete_collection(&params, &ListParams::default())
                .await?;
        } else {
            for object in &there.items {
                let name = object.metadata.name.as_deref().unwrap_or_default();
                match api.delete(name, &params).await {
                    Err(e) if !client::is_not_found(&e) => return Err(e),
                    _ => {}
                }
            }
        }
        let left = api.list_metadata(&ListParams::default()).await?;
        let finalizers = left.items.into_iter().map(|o| o.metadata.finalizers);
        Ok(finalizers.map(Option::unwrap_or_default).collect())
    }

    /// What the shared cache has of a resource in a namespace. It is current as to our own writes.
    fn left(&self, d: &Descriptor, namespace: &str) -> Vec<Arc<Entry>> {
        let cache = self.client.cache(&d.group_resource());
        cache.map(|c| c.list(Some(namespace))).unwrap_or_default()
    }

    async fn delete_all(&self, d: &Descriptor, namespace: &str) -> Result<(), client::Error> {
        let resource = ApiResource {
            group: d.group.to_string(),
            version: d.version.to_string(),
            api_version: d.api_version(),
            kind: d.kind.to_string(),
            plural: d.resource.to_string(),
        };
        let kube = self.client.kube().clone();
        let api: Api<DynamicObject> = Api::namespaced_with(kube, namespace, &resource);
        let params = DeleteParams::background();
        if d.verbs.contains(&Verb::DeleteCollection) {
            let done = api.delete_collection(&params, &ListParams::default()).await;
            return done.map(|_| ());
        }
        for entry in self.left(d, namespace) {
            match api.delete(&entry.name, &params).await {
                Err(e) if !client::is_not_found(&e) => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes the conditions where they differ.
    async fn tell(&self, mut namespace: Namespace, outcome: &Outcome) -> Result<Namespace, Error> {
        let status = namespace.status.get_or_insert_default();
        let changed = plan::set_conditions(status, outcome, self.clock.seconds());
        if !changed {
            return Ok(namespace);
        }
        status.phase = Some("Terminating".into());
        let name = namespace.name().to_string();
        Api::<Namespace>::all(self.client.kube().clone())
            .replace_status(&name, &act::post_params(), &namespace)
            .await
            .during("update the conditions")
    }

    async fn finalize(&self, mut namespace: Namespace) -> Result<(), Error> {
        if let Some(finalizers) = namespace.spec.as_mut().and_then(|s| s.finalizers.as_mut()) {
            finalizers.retain(|f| f != FINALIZER);
        }
        let api = Api::<Namespace>::all(self.client.kube().clone());
        let name = namespace.name().to_string();
        let params = act::post_params();
        match api
            .replace_subresource("finalize", &name, &params, &namespace)
            .await
        {
            Err(e) if client::is_not_found(&e) => Ok(()),
            done => done.map(|_| ()).during("finalize the namespace"),
        }
    }
}
