//! What commands that change an object in place share: the patch from what it was to what it is.

use serde_json::Value;

use api::schema::{self, Schema};

use crate::builder::Info;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::output::{DryRun, Output};
use crate::rest::Call;
use crate::three_way;

/// Sends the difference between `info.object` and `after`; answers the object and whether it changed.
pub async fn send(
    cx: &Context,
    info: &Info,
    after: &Value,
    manager: &str,
    dry: DryRun,
) -> Result<(Value, bool)> {
    let r = &info.resource;
    let built_in = schema::lookup(&r.group, &r.version, &r.kind);
    let media = match built_in {
        Some(_) => "application/strategic-merge-patch+json",
        None => "application/merge-patch+json",
    };
    let patch = three_way::patch(
        &info.object,
        after,
        &info.object,
        built_in.unwrap_or(Schema::any()),
    );
    if patch == serde_json::json!({}) {
        return Ok((info.object.clone(), false));
    }
    if dry == DryRun::Client {
        return Ok((after.clone(), true));
    }
    let mut call = Call::new("PATCH", info.path())
        .body(media, patch.to_string().into_bytes())
        .query("fieldManager", manager);
    if dry == DryRun::Server {
        call = call.query("dryRun", "All");
    }
    let done = cx.rest().await?.json(&call).await?;
    Ok((done, true))
}

/// Changes every object with `change` and prints `deed`, or `same` where nothing changed.
pub async fn each(
    cx: &Context,
    infos: Vec<Info>,
    manager: &str,
    output: &Output,
    words: (&str, &str),
    change: impl Fn(&Info, &mut Value) -> Result<()>,
) -> Result<()> {
    let mut errors = Vec::new();
    for info in infos {
        let mut after = info.object.clone();
        let done = async {
            change(&info, &mut after)?;
            let (object, changed) = send(cx, &info, &after, manager, output.dry_run()?).await?;
            output.print(&info, &object, if changed { words.0 } else { words.1 })
        };
        errors.extend(done.await.err());
    }
    Error::collect(errors)
}

/// Keys to set with their values, and keys to remove.
pub type Changes = (Vec<(String, String)>, Vec<String>);

/// `key=value` sets, `key-` removes.
pub fn pairs(words: &[String], what: &str) -> Result<Changes> {
    let (mut set, mut removed) = (Vec::new(), Vec::new());
    for word in words {
        if let Some((key, value)) = word.split_once('=') {
            set.push((key.to_string(), value.to_string()));
        } else if let Some(key) = word.strip_suffix('-') {
            removed.push(key.to_string());
        } else {
            return Err(Error::text(format!("unknown {what} specification: {word}")));
        }
    }
    Ok((set, removed))
}
