//! `kubectl certificate approve|deny`. Upstream: kubectl/pkg/cmd/certificates.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{Command, Run};
use crate::builder::{self, Files, Info, Narrow};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::limits;
use crate::object;
use crate::output::Output;
use crate::rest::Call;

pub const COMMAND: Command =
    Command::of::<Flags>("certificate", &[], "Modify certificate resources");

/// Flags of `certificate`.
#[derive(Clone, Debug, Args)]
pub struct Flags {
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Debug, Subcommand)]
enum What {
    /// Approve a certificate signing request
    Approve(Target),
    /// Deny a certificate signing request
    Deny(Target),
}

#[derive(Clone, Debug, Args)]
struct Target {
    names: Vec<String>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    output: Output,
    /// Update the CSR even if it is already approved or denied
    #[arg(long)]
    force: bool,
}

/// A decision: the condition, what must not be there, and upstream's words.
struct Decision {
    condition: &'static str,
    refused: &'static str,
    reason: &'static str,
    message: &'static str,
    deed: &'static str,
}

const APPROVE: Decision = Decision {
    condition: "Approved",
    refused: "Denied",
    reason: "KubectlApprove",
    message: "This CSR was approved by kubectl certificate approve.",
    deed: "approved",
};
const DENY: Decision = Decision {
    condition: "Denied",
    refused: "Approved",
    reason: "KubectlDeny",
    message: "This CSR was denied by kubectl certificate deny.",
    deed: "denied",
};

impl Run for Flags {
    async fn run(self, cx: Context) -> Result<()> {
        let (target, decision) = match self.what {
            What::Approve(t) => (t, APPROVE),
            What::Deny(t) => (t, DENY),
        };
        if target.names.is_empty() && target.files.is_empty() {
            return Err(Error::text(
                "one or more CSRs must be specified as <name> or -f <filename>",
            ));
        }
        let mut words = vec!["certificatesigningrequests".to_string()];
        words.extend(target.names.iter().cloned());
        let (infos, mut errors) =
            builder::existing(&cx, &words, &target.files, &Narrow::default()).await?;
        for info in infos {
            let done = decide(&cx, &info, &decision, target.force).await;
            match done {
                Ok(object) => target.output.print(&info, &object, decision.deed)?,
                Err(e) => errors.push(e),
            }
        }
        Error::collect(errors)
    }
}

async fn decide(cx: &Context, info: &Info, decision: &Decision, force: bool) -> Result<Value> {
    let mut request = info.object.clone();
    for attempt in 0.. {
        let is_there = decided(&mut request, decision)?;
        if is_there && !force {
            break;
        }
        let call = Call::new("PUT", format!("{}/approval", info.path())).json(&request);
        match cx.rest().await?.json(&call).await {
            Ok(done) => return Ok(done),
            Err(e) if e.is_conflict() && attempt < limits::CONFLICT_RETRIES => {
                request = info.read(cx).await?;
            }
            Err(e) => return Err(e),
        }
    }
    Ok(request)
}

/// Adds the condition; whether it was there before.
fn decided(request: &mut Value, decision: &Decision) -> Result<bool> {
    let mut conditions = object::items(request, "/status/conditions").to_vec();
    if conditions.iter().any(|c| c["type"] == decision.refused) {
        return Err(Error::text(format!(
            "certificate signing request \"{}\" is already {}",
            object::name(request),
            decision.refused
        )));
    }
    if conditions.iter().any(|c| c["type"] == decision.condition) {
        return Ok(true);
    }
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ");
    conditions.push(
        json!({"type": decision.condition, "status": "True", "reason": decision.reason,
        "message": decision.message, "lastUpdateTime": now.to_string()}),
    );
    request["status"]["conditions"] = conditions.into();
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_is_taken_once() {
        let mut request = json!({"metadata": {"name": "r"}});
        assert!(!decided(&mut request, &APPROVE).unwrap());
        assert_eq!(request["status"]["conditions"][0]["type"], "Approved");
        assert!(decided(&mut request, &APPROVE).unwrap());
        let refused = decided(&mut request, &DENY).unwrap_err().to_string();
        assert!(refused.ends_with("\"r\" is already Approved"), "{refused}");
    }
}
