//! `kubectl config`: what the kubeconfig says, and its contexts; other changes are in `config/edit.rs`.

mod edit;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{Command, Run};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::object;
use crate::printers::Printer;
use crate::tabwriter::TabWriter;
use crate::yaml;

pub const COMMAND: Command = Command::of::<Flags>("config", &[], "Modify kubeconfig files");

/// Flags of `config`.
#[derive(Clone, Debug, Args)]
pub struct Flags {
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Debug, Subcommand)]
enum What {
    /// Display merged kubeconfig settings or a specified kubeconfig file
    View(View),
    /// Display the current-context
    CurrentContext,
    /// Describe one or many contexts
    GetContexts(GetContexts),
    /// Display clusters defined in the kubeconfig
    GetClusters,
    /// Display users defined in the kubeconfig
    GetUsers,
    /// Set the current-context in a kubeconfig file
    #[command(alias = "use")]
    UseContext(Named),
    /// Set a context entry in kubeconfig
    SetContext(SetContext),
    /// Delete the specified context from the kubeconfig
    DeleteContext(Named),
    /// Rename a context from the kubeconfig file
    RenameContext(edit::Rename),
    /// Set a cluster entry in kubeconfig
    SetCluster(edit::SetCluster),
    /// Set a user entry in kubeconfig
    SetCredentials(edit::SetCredentials),
    /// Delete the specified cluster from the kubeconfig
    DeleteCluster(Named),
    /// Delete the specified user from the kubeconfig
    DeleteUser(Named),
    /// Set an individual value in a kubeconfig file
    Set(edit::Set),
    /// Unset an individual value in a kubeconfig file
    Unset(edit::Unset),
}

#[derive(Clone, Debug, Args)]
struct Named {
    name: String,
}

#[derive(Clone, Debug, Args)]
struct View {
    /// Output format
    #[arg(short, long, default_value = "yaml")]
    output: String,
    /// Display raw byte data and sensitive data
    #[arg(long)]
    raw: bool,
    /// Remove all information not used by current-context from the output
    #[arg(long)]
    minify: bool,
    /// Flatten the resulting kubeconfig file into self-contained output
    #[arg(long)]
    flatten: bool,
}

#[derive(Clone, Debug, Args)]
struct GetContexts {
    names: Vec<String>,
    /// Output format: name
    #[arg(short, long)]
    output: Option<String>,
    /// Don't print headers
    #[arg(long)]
    no_headers: bool,
}

#[derive(Clone, Debug, Args)]
struct SetContext {
    name: Option<String>,
    /// Modify the current context
    #[arg(long)]
    current: bool,
}

impl Run for Flags {
    async fn run(self, cx: Context) -> Result<()> {
        match self.what {
            What::View(f) => view(&cx, &f),
            What::CurrentContext => {
                match cx.kubeconfig()?.current_context.filter(|c| !c.is_empty()) {
                    Some(name) => {
                        println!("{name}");
                        Ok(())
                    }
                    None => Err(Error::text("current-context is not set")),
                }
            }
            What::GetContexts(f) => contexts(&cx, &f),
            What::GetClusters => names(&cx, "clusters"),
            What::GetUsers => names(&cx, "users"),
            What::UseContext(f) => use_context(&cx, &f.name),
            What::SetContext(f) => set_context(&cx, f),
            What::DeleteContext(f) => delete_context(&cx, &f.name),
            What::RenameContext(f) => f.run(&cx),
            What::SetCluster(f) => f.run(&cx),
            What::SetCredentials(f) => f.run(&cx),
            What::DeleteCluster(f) => edit::delete(&cx, "clusters", "cluster", &f),
            What::DeleteUser(f) => edit::delete(&cx, "users", "user", &f),
            What::Set(f) => f.run(&cx),
            What::Unset(f) => f.run(&cx),
        }
    }
}

/// The merged kubeconfig as a value.
fn merged(cx: &Context) -> Result<Value> {
    let config = cx.kubeconfig()?;
    let mut v = serde_json::to_value(config).map_err(|e| Error::text(e.to_string()))?;
    v["apiVersion"] = "v1".into();
    v["kind"] = "Config".into();
    if let Some(all) = v.as_object_mut() {
        all.remove("preferences");
    }
    Ok(v)
}

fn named<'a>(config: &'a Value, list: &str, name: &str) -> Option<&'a Value> {
    object::items(config, &format!("/{list}"))
        .iter()
        .find(|c| c["name"] == name)
}

fn view(cx: &Context, f: &View) -> Result<()> {
    let mut config = merged(cx)?;
    if f.minify {
        let current = cx
            .globals
            .context
            .clone()
            .unwrap_or_else(|| object::text(&config, "/current-context").into());
        let context = named(&config, "contexts", &current)
            .ok_or_else(|| Error::text(format!("cannot locate context {current}")))?
            .clone();
        for (list, name) in [
            ("contexts", current.clone()),
            (
                "clusters",
                object::text(&context, "/context/cluster").to_string(),
            ),
            ("users", object::text(&context, "/context/user").to_string()),
        ] {
            config[list] = named(&config, list, &name).cloned().into_iter().collect();
        }
        config["current-context"] = current.into();
    }
    if !f.raw && !f.flatten {
        redact(&mut config);
    }
    print!(
        "{}",
        Printer::parse(&f.output, None)?.object(&config, true)?
    );
    Ok(())
}

fn redact(config: &mut Value) {
    for (list, item, fields, text) in [
        (
            "clusters",
            "cluster",
            &["certificate-authority-data"][..],
            "DATA+OMITTED",
        ),
        (
            "users",
            "user",
            &["client-certificate-data", "client-key-data"][..],
            "DATA+OMITTED",
        ),
        ("users", "user", &["token", "password"][..], "REDACTED"),
    ] {
        for entry in config[list].as_array_mut().into_iter().flatten() {
            for field in fields {
                if let Some(v) = entry[item].get_mut(*field).filter(|v| !v.is_null()) {
                    *v = text.into();
                }
            }
        }
    }
}

fn names(cx: &Context, list: &str) -> Result<()> {
    println!("NAME");
    for entry in object::items(&merged(cx)?, &format!("/{list}")) {
        println!("{}", object::text(entry, "/name"));
    }
    Ok(())
}

fn contexts(cx: &Context, f: &GetContexts) -> Result<()> {
    let config = merged(cx)?;
    let current = cx
        .globals
        .context
        .clone()
        .unwrap_or_else(|| object::text(&config, "/current-context").into());
    let mut all: Vec<&Value> = object::items(&config, "/contexts").iter().collect();
    for name in &f.names {
        if named(&config, "contexts", name).is_none() {
            return Err(Error::text(format!("context {name} not found")));
        }
    }
    all.retain(|c| f.names.is_empty() || f.names.iter().any(|n| c["name"] == *n));
    all.sort_by_key(|c| object::text(c, "/name"));
    if f.output.as_deref() == Some("name") {
        all.iter()
            .for_each(|c| println!("{}", object::text(c, "/name")));
        return Ok(());
    }
    let mut text = String::new();
    if !f.no_headers {
        text.push_str("CURRENT\tNAME\tCLUSTER\tAUTHINFO\tNAMESPACE\n");
    }
    for c in all {
        let name = object::text(c, "/name");
        let mark = if name == current { "*" } else { "" };
        let field = |f| object::text(c, f);
        text.push_str(&format!(
            "{mark}\t{name}\t{}\t{}\t{}\n",
            field("/context/cluster"),
            field("/context/user"),
            field("/context/namespace")
        ));
    }
    print!("{}", TabWriter::table().layout(&text));
    Ok(())
}

/// Changes the kubeconfig file.
fn change(cx: &Context, change: impl FnOnce(&mut Value) -> Result<()>) -> Result<()> {
    let path = cx.kubeconfig_path();
    let failed = |e: std::io::Error| {
        let why = crate::error::io_text(&e);
        Error::text(format!("open {}: {why}", path.display()))
    };
    // A file that is not there is begun.
    let text = match std::fs::read_to_string(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
        other => other.map_err(failed)?,
    };
    let mut config = yaml::parse_all(&text)
        .map_err(Error::text)?
        .into_iter()
        .next()
        .unwrap_or_else(|| json!({"apiVersion": "v1", "kind": "Config"}));
    change(&mut config)?;
    write(&path, &yaml::to_string(&config)).map_err(failed)
}

/// Writes the file; a new one is for its owner only.
fn write(path: &std::path::Path, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)?;
    }
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(path)?.write_all(text.as_bytes())
}

fn use_context(cx: &Context, name: &str) -> Result<()> {
    change(cx, |config| {
        if named(config, "contexts", name).is_none() {
            return Err(Error::text(format!(
                "no context exists with the name: \"{name}\""
            )));
        }
        config["current-context"] = name.into();
        Ok(())
    })?;
    println!("Switched to context \"{name}\".");
    Ok(())
}

fn set_context(cx: &Context, f: SetContext) -> Result<()> {
    let g = cx.globals.clone();
    let mut said = String::new();
    change(cx, |config| {
        let name = match f.name {
            Some(name) if !f.current => name,
            None if f.current => object::text(config, "/current-context").to_string(),
            _ => {
                return Err(Error::text(
                    "you must specify a non-empty context name or --current",
                ));
            }
        };
        let is_new = named(config, "contexts", &name).is_none();
        if !config["contexts"].is_array() {
            config["contexts"] = json!([]);
        }
        let all = config["contexts"]
            .as_array_mut()
            .ok_or_else(|| Error::text("invalid kubeconfig: contexts is not a list"))?;
        if is_new {
            all.push(json!({"name": name, "context": {}}));
        }
        for entry in all.iter_mut().filter(|c| c["name"] == name) {
            for (value, field) in [
                (&g.namespace, "namespace"),
                (&g.cluster, "cluster"),
                (&g.user, "user"),
            ] {
                if let Some(value) = value {
                    entry["context"][field] = value.clone().into();
                }
            }
        }
        said = format!(
            "Context \"{name}\" {}.",
            if is_new { "created" } else { "modified" }
        );
        Ok(())
    })?;
    println!("{said}");
    Ok(())
}

fn delete_context(cx: &Context, name: &str) -> Result<()> {
    let path = cx.kubeconfig_path();
    change(cx, |config| {
        if named(config, "contexts", name).is_none() {
            return Err(Error::text(format!(
                "cannot delete context {name}, not in {}",
                path.display()
            )));
        }
        if let Some(all) = config["contexts"].as_array_mut() {
            all.retain(|c| c["name"] != name);
        }
        Ok(())
    })?;
    println!("deleted context {name} from {}", path.display());
    Ok(())
}
