//! `kubectl cluster-info`.

use clap::Args;
use serde_json::Value;

use super::{Command, Run};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::object;
use crate::rest::Call;

pub const COMMAND: Command =
    Command::of::<Flags>("cluster-info", &[], "Display cluster information");

/// Flags of `cluster-info`.
#[derive(Clone, Debug, Args)]
pub struct Flags {
    #[arg(hide = true)]
    words: Vec<String>,
}

impl Run for Flags {
    async fn run(self, cx: Context) -> Result<()> {
        match self.words.first().map(String::as_str) {
            None => {}
            Some("dump") => {
                return Err(Error::text(
                    "the command \"kubectl cluster-info dump\" is not there yet in this version",
                ));
            }
            Some(other) => {
                return Err(Error::Plain(format!(
                    "Error: unknown command \"{other}\" for \"kubectl cluster-info\""
                )));
            }
        }
        let rest = cx.rest().await?;
        let call = Call::get("/api/v1/namespaces/kube-system/services")
            .query("labelSelector", "kubernetes.io/cluster-service=true");
        let list = rest.json(&call).await?;
        let server = rest.server.to_string();
        let server = server.trim_end_matches('/');
        println!("Kubernetes control plane is running at {server}");
        for service in object::items(&list, "/items") {
            let labels = &service["metadata"]["labels"];
            let name = labels["kubernetes.io/name"]
                .as_str()
                .unwrap_or(object::name(service));
            println!("{name} is running at {server}{}", proxy_path(service));
        }
        println!(
            "\nTo further debug and diagnose cluster problems, use 'kubectl cluster-info dump'."
        );
        Ok(())
    }
}

fn proxy_path(service: &Value) -> String {
    let port = object::items(service, "/spec/ports").first();
    let port = port.map(|p| object::text(p, "/name")).unwrap_or_default();
    let joint = if port.is_empty() { "" } else { ":" };
    format!(
        "/api/v1/namespaces/{}/services/{}{joint}{port}/proxy",
        object::namespace(service),
        object::name(service)
    )
}
