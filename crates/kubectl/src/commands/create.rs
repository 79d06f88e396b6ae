//! `kubectl create`: from files, or a kind by its flags (`create/kinds.rs`).
//! Upstream: kubectl/pkg/cmd/create.

mod disruption;
mod ingress;
mod kinds;
mod rbac;
mod secret;
mod service;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::apply::field_validation;
use super::{Command, Run};
use crate::builder::{Files, Info};
use crate::context::Context;
use crate::discovery::Resource;
use crate::error::{Error, Result};
use crate::output::{DryRun, Output};
use crate::rest::Call;
use crate::three_way;

pub const COMMAND: Command =
    Command::of::<Flags>("create", &[], "Create a resource from a file or from stdin");

/// Generated kinds that are in no namespace.
const CLUSTER_WIDE: &[&str] = &[
    "Namespace",
    "ClusterRole",
    "ClusterRoleBinding",
    "PriorityClass",
];

/// Flags of `create`.
#[derive(Clone, Debug, Args)]
pub struct Flags {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    kind: Option<Kind>,
}

/// What every kind of create takes.
#[derive(Clone, Debug, Args)]
pub struct Common {
    #[command(flatten)]
    pub output: Output,
    /// Name of the manager used to track field ownership
    #[arg(long, default_value = "kubectl-create")]
    pub field_manager: String,
    /// If true, the configuration of current object will be saved in its annotation
    #[arg(long)]
    pub save_config: bool,
    /// strict (or true), warn, ignore (or false)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true")]
    pub validate: String,
}

#[derive(Clone, Debug, Subcommand)]
enum Kind {
    /// Create a namespace with the specified name
    #[command(alias = "ns")]
    Namespace(kinds::Namespace),
    /// Create a deployment with the specified name
    #[command(alias = "deploy")]
    Deployment(kinds::Deployment),
    /// Create a config map from a local file, directory or literal value
    #[command(alias = "cm")]
    Configmap(secret::ConfigMap),
    /// Create a secret using a specified subcommand
    #[command(subcommand)]
    Secret(secret::Secret),
    /// Create a service account with the specified name
    #[command(alias = "sa")]
    Serviceaccount(kinds::ServiceAccount),
    /// Create a job with the specified name
    Job(kinds::Job),
    /// Create a cron job with the specified name
    #[command(alias = "cj")]
    Cronjob(kinds::CronJob),
    /// Create a service using a specified subcommand
    #[command(subcommand, alias = "svc")]
    Service(service::Service),
    /// Create a role with single rule
    Role(rbac::Role),
    /// Create a cluster role
    Clusterrole(rbac::ClusterRole),
    /// Create a role binding for a particular role or cluster role
    Rolebinding(rbac::RoleBinding),
    /// Create a cluster role binding for a particular cluster role
    Clusterrolebinding(rbac::ClusterRoleBinding),
    /// Create a quota with the specified name
    #[command(alias = "resourcequota")]
    Quota(kinds::Quota),
    /// Create a pod disruption budget with the specified name
    #[command(alias = "pdb")]
    Poddisruptionbudget(disruption::Budget),
    /// Create an ingress with the specified name
    #[command(alias = "ing")]
    Ingress(ingress::Ingress),
    /// Create a priority class with the specified name
    #[command(alias = "pc")]
    Priorityclass(kinds::PriorityClass),
    /// Request a service account token
    Token(kinds::Token),
}

impl Run for Flags {
    async fn run(self, mut cx: Context) -> Result<()> {
        if matches!(
            self.kind,
            Some(Kind::Rolebinding(_) | Kind::Clusterrolebinding(_))
        ) {
            // Their `--user` is a subject, not the one who asks.
            cx.globals.user = None;
        }
        let Some(kind) = self.kind else {
            return from_files(&cx, &self.files, &self.common).await;
        };
        let (common, object) = match kind {
            Kind::Namespace(f) => f.object(),
            Kind::Deployment(f) => f.object()?,
            Kind::Configmap(f) => f.object()?,
            Kind::Secret(f) => f.object()?,
            Kind::Serviceaccount(f) => f.object(),
            Kind::Job(f) => f.object(&cx).await?,
            Kind::Cronjob(f) => f.object(),
            Kind::Service(f) => f.object()?,
            Kind::Role(f) => f.object(&cx).await?,
            Kind::Clusterrole(f) => f.object(&cx).await?,
            Kind::Rolebinding(f) => f.object()?,
            Kind::Clusterrolebinding(f) => f.object()?,
            Kind::Quota(f) => f.object()?,
            Kind::Poddisruptionbudget(f) => f.object()?,
            Kind::Ingress(f) => f.object()?,
            Kind::Priorityclass(f) => f.object(),
            Kind::Token(f) => return f.run(&cx).await,
        };
        post(&cx, generated(&cx, object)?, &common, "created").await
    }
}

async fn from_files(cx: &Context, files: &Files, common: &Common) -> Result<()> {
    if files.is_empty() {
        return Err(Error::text("must specify one of -f and -k"));
    }
    let (infos, mut errors) = files.infos(cx).await?;
    for info in infos {
        let source = info.source.clone();
        let done = post(cx, info, common, "created").await;
        errors.extend(done.err().map(|e| e.when("creating", &source)));
    }
    Error::collect(errors)
}

/// An object made from flags. No server is asked what its kind is, and it says its namespace only where
/// the command line does.
pub fn generated(cx: &Context, mut object: Value) -> Result<Info> {
    let (api_version, kind) = (
        crate::object::text(&object, "/apiVersion").to_string(),
        crate::object::text(&object, "/kind").to_string(),
    );
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    let namespaced = !CLUSTER_WIDE.contains(&kind.as_str());
    if let (true, Some(ns)) = (namespaced, &cx.globals.namespace) {
        object["metadata"]["namespace"] = ns.clone().into();
    }
    let singular = kind.to_lowercase();
    let plural = match singular.ends_with('s') {
        true => format!("{singular}es"),
        false => format!("{singular}s"),
    };
    Ok(Info {
        namespace: namespaced.then(|| cx.namespace()).transpose()?,
        name: crate::object::name(&object).to_string(),
        object,
        source: String::new(),
        resource: Resource {
            group: group.to_string(),
            version: version.to_string(),
            plural,
            singular,
            kind,
            namespaced,
            short_names: Vec::new(),
            categories: Vec::new(),
            verbs: Vec::new(),
            subresources: Vec::new(),
            preferred: true,
        },
    })
}

/// Creates an object and prints it.
pub async fn post(cx: &Context, mut info: Info, common: &Common, deed: &str) -> Result<()> {
    if common.save_config {
        three_way::annotate(&mut info.object);
    }
    let dry = common.output.dry_run()?;
    if dry == DryRun::Client {
        return common.output.print(&info, &info.object, deed);
    }
    let mut call = Call::new("POST", info.resource.path(info.namespace.as_deref()))
        .json(&info.object)
        .query("fieldManager", common.field_manager.clone())
        .query("fieldValidation", field_validation(&common.validate)?);
    if dry == DryRun::Server {
        call = call.query("dryRun", "All");
    }
    let done = cx.rest().await?.json(&call).await?;
    info.name = crate::object::name(&done).to_string();
    common.output.print(&info, &done, deed)
}

/// `apiVersion`, `kind` and a name.
pub fn head(api_version: &str, kind: &str, name: &str) -> Value {
    json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name}})
}
