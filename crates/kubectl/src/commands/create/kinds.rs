//! Kinds that need little: namespace, deployment, serviceaccount, job, cronjob, quota, token.

use clap::Args;
use serde_json::{Value, json};

use super::{Common, head};
use crate::builder;
use crate::context::{Context, duration};
use crate::error::{Error, Result};
use crate::object;
use crate::rest::Call;

type Made = (Common, Value);

#[derive(Clone, Debug, Args)]
pub struct Namespace {
    name: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Clone, Debug, Args)]
pub struct Deployment {
    name: String,
    /// Image names to run
    #[arg(long, required = true, value_delimiter = ',')]
    image: Vec<String>,
    /// Number of replicas to create
    #[arg(short, long, default_value_t = 1)]
    replicas: i64,
    /// The containerPort that this deployment exposes
    #[arg(long)]
    port: Option<i64>,
    #[command(flatten)]
    common: Common,
    #[arg(last = true)]
    command: Vec<String>,
}

#[derive(Clone, Debug, Args)]
pub struct ServiceAccount {
    name: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Clone, Debug, Args)]
pub struct Job {
    name: String,
    /// Image name to run
    #[arg(long)]
    image: Option<String>,
    /// The name of the resource to create a Job from (only cronjob is supported)
    #[arg(long)]
    from: Option<String>,
    #[command(flatten)]
    common: Common,
    #[arg(last = true)]
    command: Vec<String>,
}

#[derive(Clone, Debug, Args)]
pub struct CronJob {
    name: String,
    /// Image name to run
    #[arg(long)]
    image: String,
    /// A schedule in the Cron format the job should be run with
    #[arg(long)]
    schedule: String,
    /// job's restart policy. supported values: OnFailure, Never
    #[arg(long, default_value = "OnFailure")]
    restart: String,
    #[command(flatten)]
    common: Common,
    #[arg(last = true)]
    command: Vec<String>,
}

#[derive(Clone, Debug, Args)]
pub struct Quota {
    name: String,
    /// A comma-delimited set of resource=quantity pairs that define a hard limit
    #[arg(long, default_value = "", hide_default_value = true)]
    hard: String,
    /// A comma-delimited set of quota scopes that must all match each object tracked by the quota
    #[arg(long, default_value = "", hide_default_value = true)]
    scopes: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Clone, Debug, Args)]
pub struct PriorityClass {
    name: String,
    /// the value of this priority class
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    value: i64,
    /// global-default specifies whether this PriorityClass should be considered as the default priority
    #[arg(long)]
    global_default: bool,
    /// description is an arbitrary string that usually provides guidelines on when this priority class should be used
    #[arg(long)]
    description: Option<String>,
    /// preemption-policy is the policy for preempting pods with lower priority
    #[arg(long, default_value = "PreemptLowerPriority")]
    preemption_policy: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Clone, Debug, Args)]
pub struct Token {
    name: String,
    /// Audience of the requested token
    #[arg(long)]
    audience: Vec<String>,
    /// Requested lifetime of the issued token
    #[arg(long)]
    duration: Option<String>,
    /// Kind of an object to bind the token to
    #[arg(long)]
    bound_object_kind: Option<String>,
    /// Name of an object to bind the token to
    #[arg(long)]
    bound_object_name: Option<String>,
    /// UID of an object to bind the token to
    #[arg(long)]
    bound_object_uid: Option<String>,
    #[command(flatten)]
    common: Common,
}

impl Namespace {
    pub fn object(self) -> Made {
        let mut made = head("v1", "Namespace", &self.name);
        made["spec"] = json!({});
        made["status"] = json!({});
        (self.common, made)
    }
}

impl ServiceAccount {
    pub fn object(self) -> Made {
        (self.common, head("v1", "ServiceAccount", &self.name))
    }
}

impl Deployment {
    pub fn object(self) -> Result<Made> {
        if self.image.len() > 1 && !self.command.is_empty() {
            return Err(Error::text(
                "cannot specify multiple --image options and command",
            ));
        }
        let mut containers: Vec<Value> = self
            .image
            .iter()
            .map(|image| json!({"name": container_name(image), "image": image, "resources": {}}))
            .collect();
        // Names within a pod are unique.
        let repeated = |l: &[Value], i: usize| l[..i].iter().any(|c| c["name"] == l[i]["name"]);
        for i in 0..containers.len() {
            if repeated(&containers, i) {
                let name = format!("{}-{i}", object::text(&containers[i], "/name"));
                containers[i]["name"] = name.into();
            }
        }
        if let Some(port) = self.port {
            containers[0]["ports"] = json!([{"containerPort": port}]);
        }
        if !self.command.is_empty() {
            containers[0]["command"] = json!(self.command);
        }
        let mut made = head("apps/v1", "Deployment", &self.name);
        made["metadata"]["labels"] = json!({"app": self.name});
        made["spec"] = json!({
            "replicas": self.replicas,
            "selector": {"matchLabels": {"app": self.name}},
            "strategy": {},
            "template": {"metadata": {"labels": {"app": self.name}}, "spec": {"containers": containers}}});
        made["status"] = json!({});
        Ok((self.common, made))
    }
}

/// The last part of an image's name, without tag and digest.
fn container_name(image: &str) -> String {
    let name = image.rsplit('/').next().unwrap_or(image);
    let name = name.split(['@', ':']).next().unwrap_or(name);
    name.replace(['_', '.'], "-").to_lowercase()
}

fn job_spec(name: &str, image: &str, command: &[String], restart: &str) -> Value {
    let mut container = json!({"name": name, "image": image, "resources": {}});
    if !command.is_empty() {
        container["command"] = json!(command);
    }
    json!({"template": {"metadata": {}, "spec": {"containers": [container], "restartPolicy": restart}}})
}

impl Job {
    pub async fn object(self, cx: &Context) -> Result<Made> {
        let mut made = head("batch/v1", "Job", &self.name);
        match (&self.image, &self.from) {
            (Some(image), None) => {
                made["spec"] = job_spec(&self.name, image, &self.command, "Never");
            }
            (None, Some(from)) => {
                let source = builder::one(cx, std::slice::from_ref(from), "cronjob").await?;
                if source.resource.kind != "CronJob" {
                    return Err(Error::text(format!(
                        "from must be an existing cronjob, got {from}"
                    )));
                }
                let template = &source.object["spec"]["jobTemplate"];
                made["spec"] = template["spec"].clone();
                if template["metadata"]["labels"].is_object() {
                    made["metadata"]["labels"] = template["metadata"]["labels"].clone();
                }
                if made["spec"]["template"]["metadata"].is_null() {
                    made["spec"]["template"]["metadata"] = json!({});
                }
                made["metadata"]["annotations"] =
                    json!({"cronjob.kubernetes.io/instantiate": "manual"});
                for (k, v) in object::pairs(&template["metadata"]["annotations"]) {
                    made["metadata"]["annotations"][k] = v.into();
                }
                made["metadata"]["ownerReferences"] = json!([{
                    "apiVersion": "batch/v1", "kind": "CronJob", "name": source.name,
                    "uid": source.object["metadata"]["uid"], "controller": true}]);
            }
            _ => return Err(Error::text("either --image or --from must be specified")),
        }
        made["status"] = json!({});
        Ok((self.common, made))
    }
}

impl CronJob {
    pub fn object(self) -> Made {
        let mut made = head("batch/v1", "CronJob", &self.name);
        made["spec"] = json!({
            "schedule": self.schedule,
            "jobTemplate": {"metadata": {"name": self.name},
                "spec": job_spec(&self.name, &self.image, &self.command, &self.restart)}});
        made["status"] = json!({});
        (self.common, made)
    }
}

impl Quota {
    pub fn object(self) -> Result<Made> {
        let mut made = head("v1", "ResourceQuota", &self.name);
        made["spec"] = json!({});
        for pair in self.hard.split(',').filter(|p| !p.is_empty()) {
            let Some((name, amount)) = pair.split_once('=') else {
                return Err(Error::text(format!(
                    "Invalid argument syntax {pair}, expected <resource>=<quantity>"
                )));
            };
            made["spec"]["hard"][name] = amount.into();
        }
        if !self.scopes.is_empty() {
            made["spec"]["scopes"] = self.scopes.split(',').collect();
        }
        made["status"] = json!({});
        Ok((self.common, made))
    }
}

impl PriorityClass {
    pub fn object(self) -> Made {
        let mut made = head("scheduling.k8s.io/v1", "PriorityClass", &self.name);
        made["value"] = self.value.into();
        made["preemptionPolicy"] = self.preemption_policy.into();
        if self.global_default {
            made["globalDefault"] = true.into();
        }
        if let Some(text) = self.description {
            made["description"] = text.into();
        }
        (self.common, made)
    }
}

impl Token {
    pub async fn run(self, cx: &Context) -> Result<()> {
        let mut spec = json!({"audiences": self.audience});
        if let Some(d) = &self.duration {
            spec["expirationSeconds"] = duration(d)?.as_secs().into();
        }
        if let Some(kind) = &self.bound_object_kind {
            let version = if kind == "Pod" || kind == "Secret" || kind == "Node" {
                "v1"
            } else {
                return Err(Error::text(
                    "supported --bound-object-kind values are Node, Pod, Secret",
                ));
            };
            spec["boundObjectRef"] = json!({"apiVersion": version, "kind": kind,
                "name": self.bound_object_name, "uid": self.bound_object_uid});
        }
        let body =
            json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
        let path = format!(
            "/api/v1/namespaces/{}/serviceaccounts/{}/token",
            cx.namespace()?,
            self.name
        );
        let answer = cx
            .rest()
            .await?
            .json(&Call::new("POST", path).json(&body))
            .await
            .map_err(|e| e.because("failed to create token"))?;
        match self.common.output.output.as_deref() {
            None => println!("{}", object::text(&answer, "/status/token")),
            Some(format) => print!(
                "{}",
                crate::printers::Printer::parse(format, None)?.object(&answer, false)?
            ),
        }
        Ok(())
    }
}
