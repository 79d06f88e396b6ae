//! What all twins of webhook.go share: the server, the configurations and how their readiness is seen.

use std::time::Duration;

use anyhow::{Result, ensure};
use http::Method;
use serde_json::{Value, json};

use crate::rest::{Cx, Failure};
use crate::webhooks::Server;

const SERVICE: &str = "e2e-test-webhook";
const PORT: u16 = 8443;
pub const EVERY: Duration = Duration::from_millis(100);
pub const WITHIN: Duration = Duration::from_secs(30);

/// The two kinds of configurations.
#[derive(Clone, Copy)]
pub enum Kind {
    Mutating,
    Validating,
}

/// A twin's webhook server.
pub struct Hooks<'a> {
    pub cx: &'a Cx,
    /// Key of the label that the twin's namespace has.
    pub unique: String,
    markers: Cx,
    bundle: String,
}

impl Kind {
    fn plural(self) -> &'static str {
        match self {
            Self::Mutating => "mutatingwebhookconfigurations",
            Self::Validating => "validatingwebhookconfigurations",
        }
    }

    pub fn kind(self) -> &'static str {
        match self {
            Self::Mutating => "MutatingWebhookConfiguration",
            Self::Validating => "ValidatingWebhookConfiguration",
        }
    }

    /// Where the configurations are.
    pub fn all(self) -> String {
        format!("/apis/admissionregistration.k8s.io/v1/{}", self.plural())
    }

    /// Where one is.
    pub fn path(self, name: &str) -> String {
        format!("{}/{name}", self.all())
    }
}

/// Group, versions and resources of a rule.
pub type Resources<'a> = (&'a str, &'a [&'a str], &'a [&'a str]);

pub const CONFIG_MAPS: Resources<'static> = ("", &["v1"], &["configmaps"]);
pub const PODS: Resources<'static> = ("", &["v1"], &["pods"]);

impl<'a> Hooks<'a> {
    /// Labels the namespaces and deploys the server.
    pub async fn set_up(cx: &'a Cx) -> Result<Self> {
        let unique = cx.namespace.clone();
        let label = json!({"metadata": {"labels": {&unique: "true"}}});
        let namespace = format!("/api/v1/namespaces/{unique}");
        cx.patch(&namespace, "strategic-merge", &label).await?;
        let marker = json!({format!("{unique}-markers"): "true"});
        let markers = cx.another("webhook-markers", marker).await?;
        let server = Server {
            command: "webhook",
            role_binding: "webhook-auth-reader",
            secret: "sample-webhook-secret",
            deployment: "sample-webhook-deployment",
            container: "sample-webhook",
            labels: json!({"app": "sample-webhook", "webhook": "true"}),
            service: SERVICE,
            service_label: json!({"test": "webhook"}),
            selector: json!({"webhook": "true"}),
            port: PORT,
            container_port: 8444,
        };
        let bundle = server.deploy(cx).await?;
        Ok(Self {
            cx,
            unique,
            markers,
            bundle,
        })
    }

    /// A webhook for this twin's namespace.
    pub fn hook(&self, name: &str, operations: &[&str], on: Resources<'_>, path: &str) -> Value {
        let (group, versions, resources) = on;
        json!({"name": name,
            "rules": [{"operations": operations, "apiGroups": [group], "apiVersions": versions,
                "resources": resources}],
            "clientConfig": {"caBundle": self.bundle, "service": {"namespace": self.cx.namespace,
                "name": SERVICE, "path": path, "port": PORT}},
            "sideEffects": "None", "admissionReviewVersions": ["v1", "v1beta1"],
            "namespaceSelector": {"matchLabels": {&self.unique: "true"}}})
    }

    /// Denies ConfigMaps with unwanted data, but not in namespaces that are skipped.
    pub fn deny_config_maps(&self) -> Value {
        let name = "deny-unwanted-configmap-data.k8s.io";
        let operations = ["CREATE", "UPDATE", "DELETE"];
        let mut hook = self.hook(name, &operations, CONFIG_MAPS, "/configmaps");
        hook["namespaceSelector"]["matchExpressions"] = json!([
            {"key": "skip-webhook-admission", "operator": "NotIn", "values": ["yes"]}]);
        hook
    }

    /// Adds data to ConfigMaps.
    pub fn mutate_config_maps(&self, stage: usize) -> Value {
        let name = format!("adding-configmap-data-stage-{stage}.k8s.io");
        self.hook(&name, &["CREATE"], CONFIG_MAPS, "/mutating-configmaps")
    }

    /// Denies everything in the namespace of the markers, as soon as a configuration is live.
    fn is_ready(&self, kind: Kind) -> Value {
        let name = match kind {
            Kind::Mutating => "mutating-is-webhook-configuration-ready.k8s.io",
            Kind::Validating => "validating-is-webhook-configuration-ready.k8s.io",
        };
        let mut hook = self.hook(name, &["CREATE"], CONFIG_MAPS, "/always-deny");
        hook["failurePolicy"] = json!("Ignore");
        let marker = format!("{}-markers", self.unique);
        hook["namespaceSelector"] = json!({"matchLabels": {marker: "true"}});
        hook["objectSelector"] = json!({"matchLabels": {&self.unique: "true"}});
        hook
    }

    /// Creates a configuration as it is.
    pub async fn create(&self, kind: Kind, metadata: Value, hooks: Vec<Value>) -> Result<Value> {
        let object = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind.kind(),
            "metadata": metadata, "webhooks": hooks});
        let made = self.cx.ok(Method::POST, &kind.all(), &object).await?;
        self.cx.clean(kind.path(crate::waits::name(&made)));
        Ok(made)
    }

    /// Creates a configuration with the hook that shows when it is live.
    pub async fn register(&self, kind: Kind, name: &str, mut hooks: Vec<Value>) -> Result<Value> {
        hooks.push(self.is_ready(kind));
        let made = self.create(kind, json!({"name": name}), hooks).await?;
        self.ready().await?;
        Ok(made)
    }

    /// As `register`, one of many with a label, and not waiting.
    pub async fn register_labelled(
        &self,
        kind: Kind,
        i: usize,
        label: &Value,
        hook: Value,
    ) -> Result<()> {
        let name = format!("{}-{i}", self.unique);
        let hooks = vec![hook, self.is_ready(kind)];
        self.create(kind, json!({"name": name, "labels": label}), hooks)
            .await?;
        Ok(())
    }

    /// Waits until a marker is denied.
    pub async fn ready(&self) -> Result<()> {
        let all = self.markers.core("configmaps");
        let what = "the webhook configuration is live";
        self.cx
            .eventually(EVERY, WITHIN, what, || async {
                let name = uuid::Uuid::new_v4().to_string();
                let marker = json!({"apiVersion": "v1", "kind": "ConfigMap",
                    "metadata": {"name": name, "labels": {&self.unique: "true"}}});
                match post(self.cx, &all, &marker).await? {
                    Ok(_) => {
                        self.cx.delete(&format!("{all}/{name}")).await?;
                        Ok(false)
                    }
                    Err(failure) => {
                        ensure!(failure.message.contains("denied"), "{failure:?}");
                        Ok(true)
                    }
                }
            })
            .await
    }

    /// Creates a ConfigMap of a random name with some data and deletes it again; its data, or why not.
    pub async fn try_config_map(&self, data: &Value) -> Result<Result<Value, Failure>> {
        let name = uuid::Uuid::new_v4().to_string();
        let all = self.cx.core("configmaps");
        let made = post(self.cx, &all, &config_map(&name, data)).await?;
        Ok(match made {
            Ok(mut made) => {
                self.cx.delete(&format!("{all}/{name}")).await?;
                Ok(made["data"].take())
            }
            Err(failure) => {
                ensure!(failure.message.contains("denied"), "{failure:?}");
                Err(failure)
            }
        })
    }

    /// Waits until ConfigMaps with unwanted data are denied, or are not.
    pub async fn denied(&self, wanted: bool) -> Result<()> {
        let what = format!("unwanted ConfigMaps are denied: {wanted}");
        let data = unwanted();
        self.cx
            .eventually(EVERY, WITHIN, &what, || async {
                Ok(self.try_config_map(&data).await?.is_err() == wanted)
            })
            .await
    }

    /// Waits until ConfigMaps that can be mutated are, or are not.
    pub async fn mutated(&self, wanted: bool) -> Result<()> {
        let what = format!("ConfigMaps are mutated: {wanted}");
        let data = json!({"mutation-start": "yes"});
        self.cx
            .eventually(EVERY, WITHIN, &what, || async {
                let made = self.try_config_map(&data).await?;
                let made = made.map_err(|f| anyhow::anyhow!("{f:?}"))?;
                Ok(made["mutation-stage-1"].is_string() == wanted)
            })
            .await
    }
}

/// POST of JSON; the reply, or why it was refused.
pub async fn post(cx: &Cx, path: &str, body: &Value) -> Result<Result<Value, Failure>> {
    cx.send(Method::POST, path, "application/json", Some(body))
        .await
}

pub fn config_map(name: &str, data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

/// The data that the webhook denies.
pub fn unwanted() -> Value {
    json!({"webhook-e2e-test": "webhook-disallow"})
}

/// Must be refused with these texts.
pub async fn refused(
    cx: &Cx,
    method: Method,
    path: &str,
    body: &Value,
    texts: &[&str],
) -> Result<()> {
    let failure = cx.refused(method, path, body).await?;
    for text in texts {
        ensure!(failure.message.contains(text), "{failure:?} lacks {text:?}");
    }
    Ok(())
}
