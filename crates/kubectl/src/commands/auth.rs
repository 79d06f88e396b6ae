//! `kubectl auth can-i|whoami`.

use clap::{Args, Subcommand};
use serde_json::json;

use super::{Command, Run};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::object;
use crate::printers::Printer;
use crate::rest::Call;
use crate::tabwriter::TabWriter;

pub const COMMAND: Command = Command::of::<Flags>("auth", &[], "Inspect authorization");

/// Flags of `auth`.
#[derive(Clone, Debug, Args)]
pub struct Flags {
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Debug, Subcommand)]
enum What {
    /// Check whether an action is allowed
    #[command(name = "can-i")]
    CanI(CanI),
    /// Experimental: Check self subject attributes
    Whoami(Whoami),
}

#[derive(Clone, Debug, Args)]
struct CanI {
    words: Vec<String>,
    /// If true, prints all allowed actions
    #[arg(long)]
    list: bool,
    /// If true, prints allowed actions without headers
    #[arg(long)]
    no_headers: bool,
    /// If true, check the specified action in all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// If true, suppress output and just return the exit code
    #[arg(short, long)]
    quiet: bool,
    /// SubResource such as pod/log or deployment/scale
    #[arg(long, default_value = "", hide_default_value = true)]
    subresource: String,
}

#[derive(Clone, Debug, Args)]
struct Whoami {
    /// Output format
    #[arg(short, long)]
    output: Option<String>,
}

impl Run for Flags {
    async fn run(self, cx: Context) -> Result<()> {
        match self.what {
            What::CanI(f) => f.run(&cx).await,
            What::Whoami(f) => f.run(&cx).await,
        }
    }
}

impl CanI {
    /// Everything the user may do in the namespace.
    async fn all(&self, cx: &Context) -> Result<()> {
        if !self.words.is_empty() {
            return Err(Error::text(
                "list option must be specified with no arguments",
            ));
        }
        let body = json!({"apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectRulesReview", "spec": {"namespace": cx.namespace()?}});
        let call = Call::new(
            "POST",
            "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
        )
        .json(&body);
        let answer = cx.rest().await?.json(&call).await?;
        if answer["status"]["incomplete"] == true {
            let why = object::text(&answer, "/status/evaluationError");
            let why = match why.is_empty() {
                true => String::new(),
                false => format!(": {why}"),
            };
            eprintln!("warning: the list may be incomplete{why}");
        }
        let all = object::items(&answer, "/status/resourceRules")
            .iter()
            .chain(object::items(&answer, "/status/nonResourceRules"));
        let mut text = String::new();
        if !self.no_headers {
            text.push_str("Resources\tNon-Resource URLs\tResource Names\tVerbs\n");
        }
        for rule in crate::rules::compact(all) {
            text.push_str(&format!("{}\n", rule.cells().join("\t")));
        }
        print!("{}", TabWriter::table().layout(&text));
        Ok(())
    }

    async fn run(&self, cx: &Context) -> Result<()> {
        if self.list {
            return self.all(cx).await;
        }
        let [verb, what, name @ ..] = self.words.as_slice() else {
            return Err(Error::text(
                "you must specify two arguments: verb resource or verb resource/resourceName.\nSee 'kubectl auth can-i -h' for help and examples.",
            ));
        };
        let spec = if what.starts_with('/') {
            json!({"nonResourceAttributes": {"verb": verb, "path": what}})
        } else {
            let (word, of) = what.split_once('/').unwrap_or((what, ""));
            let name = name.first().map_or(of, String::as_str);
            let found = cx.discovery().await?.find(word);
            if found.is_none() && word != "*" {
                eprintln!("Warning: the server doesn't have a resource type '{word}'\n");
            }
            let cluster_wide = found.is_some_and(|r| !r.namespaced);
            if cluster_wide && cx.globals.namespace.is_some() {
                eprintln!("Warning: resource '{word}' is not namespace scoped\n");
            }
            let namespace = if self.all_namespaces || cluster_wide {
                String::new()
            } else {
                cx.namespace()?
            };
            json!({"resourceAttributes": {"verb": verb, "namespace": namespace, "name": name,
                "subresource": self.subresource,
                "group": found.map_or("", |r| &r.group), "resource": found.map_or(word, |r| &r.plural)}})
        };
        let body = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": spec});
        let call = Call::new(
            "POST",
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
        )
        .json(&body);
        let answer = cx.rest().await?.json(&call).await?;
        let allowed = answer["status"]["allowed"] == true;
        if !self.quiet {
            let mut text = if allowed { "yes" } else { "no" }.to_string();
            let reason = object::text(&answer, "/status/reason");
            if !allowed && !reason.is_empty() {
                text.push_str(&format!(" - {reason}"));
            }
            let problem = object::text(&answer, "/status/evaluationError");
            if !allowed && !problem.is_empty() {
                text.push_str(&format!(" - {problem}"));
            }
            println!("{text}");
        }
        if allowed { Ok(()) } else { Err(Error::Exit(1)) }
    }
}

impl Whoami {
    async fn run(&self, cx: &Context) -> Result<()> {
        let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
        let call =
            Call::new("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews").json(&body);
        let answer = cx.rest().await?.json(&call).await?;
        if let Some(format) = &self.output {
            print!("{}", Printer::parse(format, None)?.object(&answer, false)?);
            return Ok(());
        }
        let user = &answer["status"]["userInfo"];
        let mut text = String::from("ATTRIBUTE\tVALUE\n");
        for (name, field) in [("Username", "username"), ("UID", "uid")] {
            if let Some(value) = user[field].as_str().filter(|v| !v.is_empty()) {
                text.push_str(&format!("{name}\t{value}\n"));
            }
        }
        let list = |l: &[serde_json::Value]| {
            let all: Vec<String> = l.iter().map(object::plain).collect();
            format!("[{}]", all.join(" "))
        };
        let groups = object::items(user, "/groups");
        if !groups.is_empty() {
            text.push_str(&format!("Groups\t{}\n", list(groups)));
        }
        for (key, values) in user["extra"].as_object().into_iter().flatten() {
            let values = values.as_array().map_or(&[][..], Vec::as_slice);
            text.push_str(&format!("Extra: {key}\t{}\n", list(values)));
        }
        print!("{}", TabWriter::table().layout(&text));
        Ok(())
    }
}
