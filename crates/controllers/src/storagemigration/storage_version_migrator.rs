//! StorageVersionMigrations: every object of a resource is written once more, so that the store holds it in the
//! version (and under the key) of today. Upstream: pkg/controller/storageversionmigrator, whose three loops are
//! one here; the objects come from the shared cache.

use std::sync::Arc;
use std::time::Duration;

use api::meta::Condition;
use api::storagemigration::v1::{StorageVersionMigration, StorageVersionMigrationStatus};
use async_trait::async_trait;
use client::api::{Patch, PatchParams};
use client::{Client, Entry};
use kube::api::{Api, ApiResource, DynamicObject};
use machinery::{Descriptor, GroupResource};
use reconciler::{Clock, During, Error, Key, Next, Reconcile, Reconciler, Trigger, Wake};
use serde_json::{Value, json};

use crate::common::act;
use crate::common::object::{Object, time};
use crate::{Controller, Setup};

pub static CONTROLLER: Controller = Controller {
    name: "storage-version-migrator-controller",
    account: "storage-version-migrator-controller",
    component: "storage-version-migrator-controller",
    needs: &[("storagemigration.k8s.io", "storageversionmigrations")],
    build: |setup| Ok(build(setup)),
};

/// So long a resource that is not served may still come.
const YOUNG: i64 = 60;
const RETRY: Duration = Duration::from_secs(1);
const CRDS: &str = "customresourcedefinitions";

fn build(setup: &Setup) -> Reconciler {
    let this = Migrator {
        client: setup.client.clone(),
        clock: setup.clock.clone(),
    };
    let reads = setup.client.clone();
    Reconciler::new(CONTROLLER.name, 5, this).on(Trigger::map(
        "storagemigration.k8s.io",
        "storageversionmigrations",
        move |e| {
            // The end of one is the turn of another.
            let lister = reads.lister::<StorageVersionMigration>();
            let all = lister.map(|l| l.list(None)).unwrap_or_default();
            let mut keys: Vec<Wake> = all.iter().map(|m| Key::new("", m.name()).into()).collect();
            if !e.deleted() && keys.iter().all(|w| *w.key.name != *e.entry.name) {
                keys.push(Key::of(e.entry).into());
            }
            keys
        },
    ))
}

struct Migrator {
    client: Client,
    clock: Clock,
}

fn is(m: &StorageVersionMigration, kind: &str) -> bool {
    let mut all = m.status.iter().flat_map(|s| s.conditions.iter().flatten());
    all.any(|c| c.type_ == kind && c.status == "True")
}

fn is_over(m: &StorageVersionMigration) -> bool {
    is(m, "Succeeded") || is(m, "Failed")
}

fn resource(m: &StorageVersionMigration) -> (String, String) {
    let spec = m.spec.as_ref();
    spec.map(|s| (s.resource.group.clone(), s.resource.resource.clone()))
        .unwrap_or_default()
}

/// Whether it is this one's turn: of one resource one runs, the oldest first.
fn has_turn(m: &StorageVersionMigration, all: &[Arc<StorageVersionMigration>]) -> bool {
    let others = all
        .iter()
        .filter(|o| o.name() != m.name() && !is_over(o) && resource(o) == resource(m));
    let rank = |m: &StorageVersionMigration| (!is(m, "Running"), m.created(), m.name().to_string());
    let own = rank(m);
    others.into_iter().all(|o| rank(o) > own)
}

#[async_trait]
impl Reconcile for Migrator {
    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let all = self.client.lister::<StorageVersionMigration>()?.list(None);
        let Some(found) = all.iter().find(|m| m.name() == &*key.name) else {
            return Ok(Next::Done);
        };
        if is_over(found) || !has_turn(found, &all) {
            return Ok(Next::Done);
        }
        let mut m = (**found).clone();
        let (group, plural) = resource(&m);
        let served = self.client.reads().resources();
        let served = served
            .iter()
            .find(|d| d.group == group && d.resource == plural && d.stored);
        let Some(d) = served else {
            if m.created().as_second() + YOUNG > self.clock.now().as_second() {
                return Ok(Next::After(RETRY));
            }
            self.end(m, Err("resource does not exist in discovery".into()))
                .await?;
            return Ok(Next::Done);
        };
        // Nothing is said of one whose resource may still come.
        if !is(&m, "Running") {
            let message = "The migration is running";
            m = self
                .condition(m, "Running", "True", "MigrationRunning", message)
                .await?;
        }
        self.migrate(m, d).await
    }
}

impl Migrator {
    async fn migrate(&self, m: StorageVersionMigration, d: &Descriptor) -> Result<Next, Error> {
        let gr = GroupResource::new(d.group.clone(), d.resource.clone());
        let cache = self.client.cache(&gr)?;
        let mut m = m;
        let known = m.status.as_ref().and_then(|s| s.resource_version.clone());
        let until = match known.filter(|v| !v.is_empty()) {
            Some(text) => text.parse().unwrap_or(u64::MAX),
            None => {
                let revision = cache.revision();
                let status = m.status.get_or_insert_default();
                status.resource_version = Some(revision.to_string());
                m = self.write(m).await?;
                revision
            }
        };
        let crd = self.definition(d).await?;
        if let Some(crd) = &crd {
            let text = format!("Migration {} is running", m.name());
            self.note(crd, "True", "MigrationRunning", &text, None)
                .await?;
        }
        for entry in cache.list(None).iter().filter(|e| e.revision <= until) {
            if let Err(e) = self.rewrite(d, entry).await {
                if client::is_conflict(&e) || client::is_not_found(&e) {
                    continue;
                }
                if client::status_code(&e).is_none_or(|c| c == 429 || c >= 500) {
                    return Err(e).during("write an object once more");
                }
                let text = format!(
                    "migration encountered unhandled error: {}",
                    client::message(&e)
                );
                if let Some(crd) = &crd {
                    let text = "The migration has failed";
                    self.note(crd, "False", "MigrationFailed", text, None)
                        .await?;
                }
                self.end(m, Err(text)).await?;
                return Ok(Next::Done);
            }
        }
        if let Some(crd) = &crd {
            self.migrated(crd).await?;
        }
        self.end(m, Ok(())).await?;
        Ok(Next::Done)
    }

    /// Applies nothing to an object, which has the server write it as it writes today.
    async fn rewrite(&self, d: &Descriptor, entry: &Entry) -> Result<(), client::Error> {
        let version = d.api_version();
        let kube = self.client.kube().clone();
        let resource = ApiResource {
            group: d.group.to_string(),
            version: d.version.to_string(),
            api_version: version.clone(),
            kind: d.kind.to_string(),
            plural: d.resource.to_string(),
        };
        let api: Api<DynamicObject> = if d.namespaced() {
            Api::namespaced_with(kube, &entry.namespace, &resource)
        } else {
            Api::all_with(kube, &resource)
        };
        // With uid and revision: what changed or went meanwhile is a conflict, and nothing is made anew.
        let patch = json!({"apiVersion": version, "kind": &*d.kind, "metadata": {
            "uid": &*entry.uid, "resourceVersion": entry.revision.to_string()}});
        let params = PatchParams::apply(CONTROLLER.name);
        api.patch(&entry.name, &params, &Patch::Apply(&patch))
            .await?;
        Ok(())
    }

    async fn condition(
        &self,
        mut m: StorageVersionMigration,
        kind: &str,
        status: &str,
        reason: &str,
        message: &str,
    ) -> Result<StorageVersionMigration, Error> {
        self.set(
            m.status.get_or_insert_default(),
            kind,
            status,
            reason,
            message,
        );
        self.write(m).await
    }

    fn set(
        &self,
        status: &mut StorageVersionMigrationStatus,
        kind: &str,
        value: &str,
        reason: &str,
        message: &str,
    ) {
        let all = status.conditions.get_or_insert_default();
        all.retain(|c| c.type_ != kind);
        all.extend(time(self.clock.now()).map(|now| Condition {
            type_: kind.into(),
            status: value.into(),
            reason: reason.into(),
            message: message.into(),
            last_transition_time: now,
            observed_generation: None,
        }));
    }

    async fn end(
        &self,
        mut m: StorageVersionMigration,
        how: Result<(), String>,
    ) -> Result<(), Error> {
        let status = m.status.get_or_insert_default();
        match how {
            Ok(()) => self.set(
                status,
                "Succeeded",
                "True",
                "StorageVersionMigrationSucceeded",
                "",
            ),
            Err(text) => {
                self.set(
                    status,
                    "Failed",
                    "True",
                    "StorageVersionMigrationFailed",
                    &text,
                );
            }
        }
        self.set(
            status,
            "Running",
            "False",
            "MigrationCompleted",
            "Migration completed",
        );
        self.write(m).await.map(|_| ())
    }

    async fn write(&self, m: StorageVersionMigration) -> Result<StorageVersionMigration, Error> {
        let api = self.client.all::<StorageVersionMigration>();
        let done = api.replace_status(m.name(), &act::post_params(), &m).await;
        let made = done.during("write the migration's status")?;
        act::seen::<StorageVersionMigration>(&self.client, &made.metadata).await;
        Ok(made)
    }

    // === Custom resources ===

    fn definitions(&self) -> Api<DynamicObject> {
        let resource = ApiResource {
            group: "apiextensions.k8s.io".into(),
            version: "v1".into(),
            api_version: "apiextensions.k8s.io/v1".into(),
            kind: "CustomResourceDefinition".into(),
            plural: CRDS.into(),
        };
        Api::all_with(self.client.kube().clone(), &resource)
    }

    /// The CustomResourceDefinition of a resource; `None` for one that is built in.
    async fn definition(&self, d: &Descriptor) -> Result<Option<DynamicObject>, Error> {
        let name = format!("{}.{}", d.resource, d.group);
        let crds = self
            .client
            .cache(&GroupResource::new("apiextensions.k8s.io", CRDS));
        if crds.is_ok_and(|c| c.get("", &name).is_none()) {
            return Ok(None);
        }
        let found = self.definitions().get_opt(&name).await;
        found.during("get the definition of the resource")
    }

    /// The stored versions are the one of now, if the definition is still the same.
    async fn migrated(&self, before: &DynamicObject) -> Result<(), Error> {
        let name = before.metadata.name.as_deref().unwrap_or_default();
        let now = self.definitions().get_opt(name).await;
        let Some(now) = now.during("get the definition of the resource")? else {
            return Ok(());
        };
        let text = "The migration has succeeded and the stored versions have";
        if now.metadata.generation != before.metadata.generation {
            let text = format!("{text} not been updated due to a generation mismatch");
            return self
                .note(&now, "False", "MigrationSucceeded", &text, None)
                .await;
        }
        let versions = now.data["spec"]["versions"].as_array();
        let stored = versions
            .into_iter()
            .flatten()
            .find(|v| v["storage"] == true);
        let stored = stored.map(|v| json!([v["name"]]));
        let text = format!("{text} been updated");
        self.note(&now, "False", "MigrationSucceeded", &text, stored)
            .await
    }

    async fn note(
        &self,
        crd: &DynamicObject,
        status: &str,
        reason: &str,
        message: &str,
        stored: Option<Value>,
    ) -> Result<(), Error> {
        let name = crd.metadata.name.as_deref().unwrap_or_default();
        let live = self.definitions().get_opt(name).await;
        let Some(live) = live.during("get the definition of the resource")? else {
            return Ok(());
        };
        let mut all = live.data["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        all.retain(|c| c["type"] != "StorageMigrating");
        all.push(
            json!({"type": "StorageMigrating", "status": status, "reason": reason,
            "message": message, "lastTransitionTime": self.clock.seconds()}),
        );
        let mut patch = json!({"metadata": {"resourceVersion": live.metadata.resource_version},
            "status": {"conditions": all}});
        if let Some(stored) = stored {
            patch["status"]["storedVersions"] = stored;
        }
        let params = act::patch_params();
        let done = self
            .definitions()
            .patch_status(name, &params, &Patch::Merge(&patch))
            .await;
        done.during("write the definition's status").map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_a_resource_runs_and_the_oldest_first() {
        let migration = |name: &str, second: u8, resource: &str, condition: &str| {
            let v = json!({"metadata": {"name": name, "creationTimestamp": format!("2026-01-01T00:00:0{second}Z")},
                "spec": {"resource": {"group": "g", "resource": resource}},
                "status": {"conditions": [{"type": condition, "status": "True", "reason": "r", "message": "",
                    "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
            Arc::new(serde_json::from_value::<StorageVersionMigration>(v).unwrap())
        };
        let turn = |all: &[Arc<StorageVersionMigration>]| -> Vec<String> {
            let chosen = all.iter().filter(|m| !is_over(m) && has_turn(m, all));
            chosen.map(|m| m.name().to_string()).collect()
        };
        let (a, b) = (
            migration("a", 2, "x", "Other"),
            migration("b", 1, "x", "Other"),
        );
        let (c, d) = (
            migration("c", 3, "y", "Other"),
            migration("d", 0, "x", "Succeeded"),
        );
        assert_eq!(turn(&[a.clone(), b, c, d]), ["b", "c"]);
        assert_eq!(turn(&[a, migration("r", 5, "x", "Running")]), ["r"]);
    }
}
