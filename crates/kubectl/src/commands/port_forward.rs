//! `kubectl port-forward`: one WebSocket a connection.

use clap::Args;
use tokio::net::TcpListener;

use super::exec::pods_of;
use super::{Command, Run};
use crate::builder::{self, Info};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::limits;
use crate::object;
use crate::rest::{Call, Rest};
use crate::streaming;

pub const COMMAND: Command = Command::of::<Flags>(
    "port-forward",
    &[],
    "Forward one or more local ports to a pod",
);

/// Flags of `port-forward`.
#[derive(Clone, Debug, Args)]
pub struct Flags {
    target: String,
    #[arg(required = true)]
    ports: Vec<String>,
    /// Addresses to listen on (comma separated)
    #[arg(long, default_value = "localhost", value_delimiter = ',')]
    address: Vec<String>,
}

impl Run for Flags {
    async fn run(self, cx: Context) -> Result<()> {
        let target = builder::one(&cx, std::slice::from_ref(&self.target), "pod").await?;
        let pod = match target.resource.kind.as_str() {
            "Pod" => target.clone(),
            _ => {
                let pods = pods_of(&cx, &target).await?;
                let running = |p: &Info| object::text(&p.object, "/status/phase") == "Running";
                pods.into_iter().find(running).ok_or_else(|| {
                    Error::text(format!("no running pods found for {}", target.display()))
                })?
            }
        };
        if object::text(&pod.object, "/status/phase") != "Running" {
            return Err(Error::text(format!(
                "unable to forward port because pod is not running. Current status={}",
                object::text(&pod.object, "/status/phase")
            )));
        }
        let rest = cx.rest().await?.clone();
        let mut tasks = tokio::task::JoinSet::new();
        for spec in &self.ports {
            let (local, remote) = ports(spec)?;
            let remote = if target.resource.kind == "Service" {
                target_port(&target, &pod, &remote)?
            } else {
                container_port(&pod, &remote)?
            };
            for address in self.addresses() {
                let failed = |e| Error::text(format!("unable to listen on {address}:{local}: {e}"));
                let listener = TcpListener::bind((address.as_str(), local))
                    .await
                    .map_err(failed)?;
                println!("Forwarding from {} -> {remote}", listener.local_addr()?);
                tasks.spawn_local(serve(listener, rest.clone(), pod.path(), remote));
            }
        }
        while tasks.join_next().await.is_some() {}
        Ok(())
    }
}

// === Flags ===

impl Flags {
    fn addresses(&self) -> Vec<String> {
        let local = |a: &String| match a.as_str() {
            "localhost" => vec!["127.0.0.1".to_string()],
            other => vec![other.to_string()],
        };
        self.address.iter().flat_map(local).collect()
    }
}

fn ports(spec: &str) -> Result<(u16, String)> {
    let (local, remote) = spec.split_once(':').unwrap_or((spec, spec));
    let bad = || Error::text(format!("error parsing local port '{local}'"));
    let number = match local {
        "" => 0,
        // A name has no number of its own: any port will do.
        name if name == remote && name.parse::<u16>().is_err() => 0,
        text => text.parse().map_err(|_| bad())?,
    };
    Ok((number, remote.to_string()))
}

fn container_port(pod: &Info, port: &str) -> Result<u16> {
    if let Ok(number) = port.parse() {
        return Ok(number);
    }
    object::items(&pod.object, "/spec/containers")
        .iter()
        .flat_map(|c| object::items(c, "/ports"))
        .find(|p| p["name"] == port)
        .and_then(|p| u16::try_from(p["containerPort"].as_u64()?).ok())
        .ok_or_else(|| {
            Error::text(format!(
                "pod '{}' does not have a named port '{port}'",
                pod.name
            ))
        })
}

fn target_port(service: &Info, pod: &Info, port: &str) -> Result<u16> {
    let found = object::items(&service.object, "/spec/ports")
        .iter()
        .find(|p| p["name"] == port || p["port"].as_u64().is_some_and(|n| port.parse() == Ok(n)))
        .ok_or_else(|| {
            Error::text(format!(
                "Service {} does not have a service port {port}",
                service.name
            ))
        })?;
    if service.object["spec"]["clusterIP"] == "None" {
        return container_port(pod, &object::plain(&found["port"]));
    }
    container_port(pod, &object::plain(&found["targetPort"]))
}

async fn serve(listener: TcpListener, rest: Rest, path: String, port: u16) {
    let mut open = tokio::task::JoinSet::new();
    while let Ok((local, _)) = listener.accept().await {
        println!(
            "Handling connection for {}",
            listener.local_addr().map_or(port, |a| a.port())
        );
        while open.try_join_next().is_some() {}
        if open.len() >= limits::FORWARDED_CONNECTIONS {
            eprintln!("too many connections are open: refused");
            continue;
        }
        let call = Call::get(format!("{path}/portforward")).query("ports", port.to_string());
        let rest = rest.clone();
        open.spawn_local(async move {
            let done = async {
                let socket = streaming::connect(&rest, call, "v4.channel.k8s.io").await?;
                streaming::forward(socket, local).await
            };
            if let Err(e) = done.await {
                eprintln!("an error occurred forwarding {port} -> {port}: {e}");
            }
        });
    }
}
