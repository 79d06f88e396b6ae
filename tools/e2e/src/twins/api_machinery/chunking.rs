//! Twins of chunking.go.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use http::Method;
use serde_json::{Value, json};

use super::super::Twin;
use crate::connect::escape;
use crate::rest::Cx;
use crate::waits::{name, number};

pub const TWINS: &[Twin] = &[
    twin!(
        "[sig-api-machinery] Servers with support for API chunking should return chunks of results for list calls [Conformance]",
        "chunking",
        chunks
    ),
    twin!(
        "[sig-api-machinery] Servers with support for API chunking should support continue listing from the last key if the original version has been compacted away, though the list is inconsistent [Conformance] [Slow]",
        "chunking",
        compacted
    ),
];

const ALL: usize = 400;

/// Makes the objects that are listed.
async fn templates(cx: &Cx) -> Result<()> {
    let path = cx.core("podtemplates");
    let make = |i: usize| {
        let (cx, path) = (cx.clone(), path.clone());
        async move {
            let object = json!({"apiVersion": "v1", "kind": "PodTemplate",
                "metadata": {"name": format!("template-{i:04}")},
                "template": {"spec": {"containers": [{"name": "test", "image": "test2"}]}}});
            cx.ok(Method::POST, &path, &object).await
        }
    };
    let made: Vec<Value> = stream::iter((0..ALL).map(make))
        .buffer_unordered(20)
        .try_collect()
        .await?;
    ensure!(made.len() == ALL, "{} are made", made.len());
    Ok(())
}

async fn page(cx: &Cx, limit: usize, token: &str) -> Result<Value> {
    let path = format!("podtemplates?limit={limit}&continue={}", escape(token));
    cx.get(&cx.core(&path)).await
}

fn token(list: &Value) -> &str {
    list["metadata"]["continue"].as_str().unwrap_or_default()
}

/// Checks a page of which `seen` objects came before; how many there are after it.
fn check(list: &Value, limit: usize, seen: usize) -> Result<usize> {
    let items = list["items"].as_array().context("items")?;
    ensure!(items.len() <= limit, "{} items", items.len());
    for (i, item) in items.iter().enumerate() {
        let wanted = format!("template-{:04}", seen + i);
        ensure!(
            name(item) == wanted,
            "{} where {wanted} should be",
            name(item)
        );
    }
    let after = seen + items.len();
    let remaining = &list["metadata"]["remainingItemCount"];
    match token(list).is_empty() {
        true => ensure!(remaining.is_null(), "{remaining} remain after the end"),
        false => ensure!(
            number(remaining) == i64::try_from(ALL - after)?,
            "{remaining} remain after {after}"
        ),
    }
    Ok(after)
}

/// Follows the pages to their end; all must have one version.
async fn rest(cx: &Cx, limit: usize, first: Value, mut seen: usize) -> Result<usize> {
    let version = first["metadata"]["resourceVersion"].clone();
    let mut next = token(&first).to_string();
    while !next.is_empty() {
        let list = page(cx, limit, &next).await?;
        ensure!(
            list["metadata"]["resourceVersion"] == version,
            "{}",
            list["metadata"]
        );
        seen = check(&list, limit, seen)?;
        next = token(&list).to_string();
    }
    Ok(seen)
}

async fn chunks(cx: Cx) -> Result<()> {
    templates(&cx).await?;
    for _ in 0..3 {
        let first = page(&cx, 17, "").await?;
        let seen = check(&first, 17, 0)?;
        let total = rest(&cx, 17, first, seen).await?;
        ensure!(total == ALL, "{total} in all");
    }
    let whole = page(&cx, ALL + 1, "").await?;
    let all = check(&whole, ALL + 1, 0)?;
    ensure!(all == ALL && token(&whole).is_empty(), "{all} at once");
    Ok(())
}

async fn compacted(cx: Cx) -> Result<()> {
    const LIMIT: usize = 40;
    templates(&cx).await?;
    let first = page(&cx, LIMIT, "").await?;
    check(&first, LIMIT, 0)?;
    let path = cx.core(&format!(
        "podtemplates?limit={LIMIT}&continue={}",
        escape(token(&first))
    ));
    let mut expired = None;
    for _ in 0..30 {
        tokio::time::sleep(Duration::from_secs(20)).await;
        let answer = cx.raw(Method::GET, &path, &[], "").await?;
        if answer.code == 200 {
            continue;
        }
        let status: Value = serde_json::from_str(&answer.text)?;
        ensure!(
            answer.code == 410 && status["reason"] == "Expired" && !token(&status).is_empty(),
            "{answer:?}"
        );
        expired = Some(status);
        break;
    }
    let Some(expired) = expired else {
        bail!("the token did not expire in 10 min");
    };
    let second = page(&cx, LIMIT, token(&expired)).await?;
    let version = |list: &Value| list["metadata"]["resourceVersion"].clone();
    ensure!(
        version(&second) != version(&first),
        "the version is the old one"
    );
    let seen = check(&second, LIMIT, LIMIT)?;
    ensure!(seen == 2 * LIMIT, "{seen} after the second page");
    let total = rest(&cx, LIMIT, second, seen).await?;
    ensure!(total == ALL, "{total} in all");
    Ok(())
}
