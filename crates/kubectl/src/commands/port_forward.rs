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
            for listener in self.listeners(local).await? {
                let address = listener.local_addr()?;
                println!("Forwarding from {address} -> {remote}");
                tasks.spawn_local(serve(listener, rest.clone(), pod.path(), remote));
            }
        }
        // Each serves until the pod is lost.
        match tasks.join_next().await {
            Some(_) => Err(Error::text("lost connection to pod")),
            None => Ok(()),
        }
    }
}

// === Flags ===

impl Flags {
    /// Where connections come in. `localhost` is both loopback addresses, on one port; one of them will do.
    async fn listeners(&self, port: u16) -> Result<Vec<TcpListener>> {
        let (mut listeners, mut port) = (Vec::new(), port);
        for address in &self.address {
            let hosts = match address.as_str() {
                "localhost" => vec!["127.0.0.1", "::1"],
                other => vec![other],
            };
            let (before, mut failures) = (listeners.len(), Vec::new());
            for host in hosts {
                match TcpListener::bind((host, port)).await {
                    Ok(listener) => {
                        port = listener.local_addr()?.port();
                        listeners.push(listener);
                    }
                    Err(e) => failures.push(format!("unable to create listener: {host}: {e}")),
                }
            }
            if listeners.len() == before {
                let text = format!("unable to listen on port {port}: {}", failures.join("; "));
                return Err(Error::text(text));
            }
        }
        Ok(listeners)
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

/// Forwards connections until one says that the pod's side is lost.
async fn serve(listener: TcpListener, rest: Rest, path: String, port: u16) {
    let local_port = listener.local_addr().map_or(port, |a| a.port());
    let mut open = tokio::task::JoinSet::new();
    loop {
        let local = tokio::select! {
            Some(done) = open.join_next() => match done {
                Ok(Err(e)) => {
                    eprintln!("an error occurred forwarding {local_port} -> {port}: {}", message(e));
                    return;
                }
                _ => continue,
            },
            accepted = listener.accept() => match accepted {
                Ok((local, _)) => local,
                Err(_) => return,
            },
        };
        println!("Handling connection for {local_port}");
        if open.len() >= limits::FORWARDED_CONNECTIONS {
            eprintln!("too many connections are open: refused");
            continue;
        }
        let call = Call::get(format!("{path}/portforward")).query("ports", port.to_string());
        let rest = rest.clone();
        open.spawn_local(async move {
            let socket = streaming::connect(&rest, call, "v4.channel.k8s.io").await?;
            streaming::forward(socket, local).await
        });
    }
}

fn message(e: Error) -> String {
    match e {
        Error::Text(text) => text,
        other => other.to_string(),
    }
}
