//! `kubectl expose`.

use clap::Args;
use serde_json::{Value, json};

use super::{Command, Run};
use crate::builder::{self, Files, Info, Narrow};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::object;
use crate::output::{DryRun, Output};
use crate::rest::Call;

pub const COMMAND: Command = Command::of::<Flags>(
    "expose",
    &[],
    "Take a replication controller, service, deployment or pod and expose it as a new Kubernetes service",
);

/// Flags of `expose`.
#[derive(Clone, Debug, Args)]
pub struct Flags {
    words: Vec<String>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    output: Output,
    /// The port that the service should serve on
    #[arg(long)]
    port: Option<u16>,
    /// Name or number for the port on the container that the service should direct traffic to
    #[arg(long)]
    target_port: Option<String>,
    /// The network protocol for the service to be created
    #[arg(long, default_value = "TCP")]
    protocol: String,
    /// The name for the newly created object
    #[arg(long)]
    name: Option<String>,
    /// Type for this service: ClusterIP, NodePort, LoadBalancer, or ExternalName
    #[arg(long = "type")]
    kind: Option<String>,
    /// ClusterIP to be assigned to the service
    #[arg(long)]
    cluster_ip: Option<String>,
    /// A label selector to use for this service
    #[arg(long)]
    selector: Option<String>,
    /// Labels to apply to the service created by this call
    #[arg(short, long)]
    labels: Option<String>,
    /// Additional external IP address to be accepted by the service
    #[arg(long)]
    external_ip: Option<String>,
    /// If non-empty, set the session affinity for the service to this
    #[arg(long)]
    session_affinity: Option<String>,
}

impl Run for Flags {
    async fn run(self, cx: Context) -> Result<()> {
        let (infos, errors) =
            builder::existing(&cx, &self.words, &self.files, &Narrow::default()).await?;
        Error::collect(errors)?;
        for info in infos {
            let service = super::create::generated(&cx, self.service(&info)?)?;
            let dry = self.output.dry_run()?;
            let mut done = service.object.clone();
            if dry != DryRun::Client {
                let mut call =
                    Call::new("POST", service.resource.path(service.namespace.as_deref()))
                        .json(&service.object)
                        .query("fieldManager", "kubectl-expose");
                if dry == DryRun::Server {
                    call = call.query("dryRun", "All");
                }
                done = cx.rest().await?.json(&call).await?;
            }
            self.output.print(&service, &done, "exposed")?;
        }
        Ok(())
    }
}

// === Flags ===

impl Flags {
    fn service(&self, info: &Info) -> Result<Value> {
        let o = &info.object;
        let kind = info.resource.kind.as_str();
        let selector = match (&self.selector, kind) {
            (Some(text), _) => pairs(text),
            (None, "Pod") => o["metadata"]["labels"].clone(),
            (None, "Deployment" | "ReplicaSet") => o["spec"]["selector"]["matchLabels"].clone(),
            (None, "Service" | "ReplicationController") => o["spec"]["selector"].clone(),
            _ => {
                return Err(Error::text(format!(
                    "cannot expose a {}",
                    info.resource.singular_name()
                )));
            }
        };
        if selector.as_object().is_none_or(serde_json::Map::is_empty) {
            return Err(Error::text(format!(
                "couldn't retrieve selectors via --selector flag or introspection: the {kind} has no labels and cannot be exposed",
                kind = kind.to_lowercase()
            )));
        }
        let name = self.name.clone().unwrap_or_else(|| info.name.clone());
        let mut service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"selector": selector, "ports": self.ports(info)?}, "status": {"loadBalancer": {}}});
        match &self.labels {
            Some(text) => service["metadata"]["labels"] = pairs(text),
            None if o["metadata"]["labels"].is_object() => {
                service["metadata"]["labels"] = o["metadata"]["labels"].clone();
            }
            None => {}
        }
        for (value, field) in [
            (&self.kind, "type"),
            (&self.cluster_ip, "clusterIP"),
            (&self.session_affinity, "sessionAffinity"),
        ] {
            if let Some(value) = value {
                service["spec"][field] = value.clone().into();
            }
        }
        if let Some(ip) = &self.external_ip {
            service["spec"]["externalIPs"] = json!([ip]);
        }
        Ok(service)
    }

    fn ports(&self, info: &Info) -> Result<Vec<Value>> {
        let target = |default: Value| match &self.target_port {
            Some(t) => t.parse::<u16>().map_or_else(|_| json!(t), |n| json!(n)),
            None => default,
        };
        if let Some(port) = self.port {
            return Ok(vec![
                json!({"port": port, "protocol": self.protocol, "targetPort": target(json!(port))}),
            ]);
        }
        let spec = object::pod_spec_pointer(&info.resource.kind).unwrap_or("/spec");
        let spec = info.object.pointer(spec).unwrap_or(&Value::Null);
        let (declared, field): (Vec<&Value>, _) = if info.resource.kind == "Service" {
            (object::items(spec, "/ports").iter().collect(), "port")
        } else {
            let containers = object::items(spec, "/containers").iter();
            (
                containers
                    .flat_map(|c| object::items(c, "/ports"))
                    .collect(),
                "containerPort",
            )
        };
        if declared.is_empty() {
            return Err(Error::text(
                "couldn't find port via --port flag or introspection",
            ));
        }
        let several = declared.len() > 1;
        Ok(declared
            .iter()
            .enumerate()
            .map(|(i, p)| {
                let protocol = p["protocol"].as_str().unwrap_or(&self.protocol);
                let mut port = json!({"port": p[field], "protocol": protocol, "targetPort": target(p[field].clone())});
                if several {
                    port["name"] = format!("port-{}", i + 1).into();
                }
                port
            })
            .collect())
    }
}

fn pairs(text: &str) -> Value {
    let mut all = json!({});
    for pair in text.split(',') {
        let (k, v) = pair.split_once('=').unwrap_or((pair, ""));
        all[k] = v.into();
    }
    all
}
