//! `create service clusterip|nodeport|loadbalancer|externalname`.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{Common, head};
use crate::error::{Error, Result};

#[derive(Clone, Debug, Subcommand)]
pub enum Service {
    /// Create a ClusterIP service
    Clusterip(Flags),
    /// Create a NodePort service
    Nodeport(Flags),
    /// Create a LoadBalancer service
    Loadbalancer(Flags),
    /// Create an ExternalName service
    Externalname(Flags),
}

#[derive(Clone, Debug, Args)]
pub struct Flags {
    name: String,
    /// Port pairs can be specified as '<port>:<targetPort>'
    #[arg(long, value_delimiter = ',')]
    tcp: Vec<String>,
    /// Assign your own ClusterIP or set to 'None' for a 'headless' service
    #[arg(long)]
    clusterip: Option<String>,
    /// Port used to expose the service on each node in a cluster
    #[arg(long)]
    node_port: Option<i64>,
    /// External name of service
    #[arg(long)]
    external_name: Option<String>,
    #[command(flatten)]
    common: Common,
}

impl Service {
    pub fn object(self) -> Result<(Common, Value)> {
        let (kind, f) = match self {
            Self::Clusterip(f) => ("ClusterIP", f),
            Self::Nodeport(f) => ("NodePort", f),
            Self::Loadbalancer(f) => ("LoadBalancer", f),
            Self::Externalname(f) => ("ExternalName", f),
        };
        let headless = f.clusterip.as_deref() == Some("None");
        if f.tcp.is_empty() && !headless && kind != "ExternalName" {
            return Err(Error::text(
                "at least one tcp port specifier must be provided",
            ));
        }
        let mut made = head("v1", "Service", &f.name);
        made["metadata"]["labels"] = json!({"app": f.name});
        let mut ports = Vec::new();
        for pair in &f.tcp {
            let mut port = port(pair)?;
            if let Some(p) = f.node_port {
                port["nodePort"] = p.into();
            }
            ports.push(port);
        }
        made["spec"] = json!({"type": kind, "selector": {"app": f.name}});
        if !ports.is_empty() {
            made["spec"]["ports"] = ports.into();
        }
        if let Some(ip) = f.clusterip {
            made["spec"]["clusterIP"] = ip.into();
        }
        if let Some(name) = f.external_name {
            made["spec"]["externalName"] = name.into();
        }
        made["status"] = json!({"loadBalancer": {}});
        Ok((f.common, made))
    }
}

fn port(pair: &str) -> Result<Value> {
    let (port, target) = pair.split_once(':').unwrap_or((pair, pair));
    let number: u16 = port
        .parse()
        .map_err(|_| Error::text(format!("invalid port specifier {pair}")))?;
    let target = target
        .parse::<u16>()
        .map_or_else(|_| json!(target), |n| json!(n));
    Ok(
        json!({"name": pair.replace(':', "-"), "port": number, "protocol": "TCP", "targetPort": target}),
    )
}
