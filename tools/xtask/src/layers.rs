//! The layering of crates: a crate imports only lower layers, or sideways where `SIDEWAYS` says so.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::shell;

/// Edges within a layer that are allowed, each with its reason.
const SIDEWAYS: &[(&str, &str, &str)] = &[
    (
        "linux",
        "stdx",
        "ground crates may use the small additions to std",
    ),
    (
        "celenv",
        "machinery",
        "expressions ask the authorizer of a request",
    ),
    (
        "client",
        "machinery",
        "a client speaks of descriptors and users",
    ),
    (
        "reconciler",
        "client",
        "reconcilers read and write through a client",
    ),
    (
        "reconciler",
        "machinery",
        "and name resources by their descriptors",
    ),
    (
        "streams",
        "cri",
        "exec and attach join a client's streams with a container's",
    ),
    (
        "webhook",
        "client",
        "webhooks are Services that the shared caches know",
    ),
    (
        "webhook",
        "machinery",
        "and read their configurations as the API has them",
    ),
    ("k0s", "cluster", "the binary starts the whole"),
];

/// Fails on the first upward or sideways edge, naming the rule.
pub fn check() -> Result<()> {
    let text = shell::output(
        "cargo",
        &["metadata", "--format-version=1", "--no-deps", "--offline"],
    )?;
    let metadata: Value = serde_json::from_str(&text)?;
    let packages = metadata["packages"]
        .as_array()
        .context("no packages in cargo metadata")?;
    let layers: BTreeMap<&str, i64> = packages
        .iter()
        .filter_map(|p| Some((p["name"].as_str()?, p["metadata"]["layer"]["n"].as_i64()?)))
        .collect();
    let mut wrong = Vec::new();
    for p in packages {
        let name = p["name"].as_str().unwrap_or_default();
        let Some(&from) = layers.get(name) else {
            continue;
        };
        for d in p["dependencies"].as_array().into_iter().flatten() {
            // Tests may look down on anything that does not make a cycle.
            if d["kind"] == "dev" {
                continue;
            }
            let to_name = d["name"].as_str().unwrap_or_default();
            let Some(&to) = layers.get(to_name) else {
                continue;
            };
            let sideways = SIDEWAYS.iter().any(|(a, b, _)| *a == name && *b == to_name);
            if to > from || (to == from && !sideways) {
                wrong.push(format!(
                    "{name} (layer {from}) must not import {to_name} (layer {to})"
                ));
            }
            if to_name == "store" && !["apiserver", "cluster"].contains(&name) {
                wrong.push(format!(
                    "only apiserver touches store, but {name} imports it"
                ));
            }
        }
    }
    if !wrong.is_empty() {
        bail!("crate layering:\n  {}", wrong.join("\n  "));
    }
    println!(
        "layers: {} crates, no upward or sideways edge",
        layers.len()
    );
    Ok(())
}
