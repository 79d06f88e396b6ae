//! `kubectl version`.

use clap::Args;
use serde_json::json;

use super::{Command, Run};
use crate::context::Context;
use crate::error::Result;
use crate::object;
use crate::printers::Printer;
use crate::rest::Call;

pub const COMMAND: Command = Command::of::<Flags>(
    "version",
    &[],
    "Print the client and server version information",
);

/// The version this client speaks.
const CLIENT: &str = "v1.37.0";

/// Flags of `version`.
#[derive(Clone, Debug, Args)]
pub struct Flags {
    /// If true, shows client version only (no server required)
    #[arg(long)]
    client: bool,
    /// One of 'yaml' or 'json'
    #[arg(short, long)]
    output: Option<String>,
}

impl Run for Flags {
    async fn run(self, cx: Context) -> Result<()> {
        let client =
            json!({"major": "1", "minor": "37", "gitVersion": CLIENT, "platform": "linux/amd64"});
        let mut all = json!({"clientVersion": client});
        let server = if self.client {
            None
        } else {
            Some(cx.rest().await?.json(&Call::get("/version")).await)
        };
        let mut failed = None;
        match server {
            Some(Ok(v)) => all["serverVersion"] = v,
            Some(Err(e)) => failed = Some(e),
            None => {}
        }
        match &self.output {
            Some(format) => print!("{}", Printer::parse(format, None)?.object(&all, false)?),
            None => {
                println!("Client Version: {CLIENT}");
                let server = object::text(&all, "/serverVersion/gitVersion");
                if !server.is_empty() {
                    println!("Server Version: {server}");
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }
}
