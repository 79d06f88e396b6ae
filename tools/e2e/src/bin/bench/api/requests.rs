//! One round of single requests: two sizes, three concurrencies, every verb; over connections of HTTP/1.1, as many as there are
//! requests at once, and over one of HTTP/2, as client-go has it.

use anyhow::{Context, Result};
use serde_json::Value;

use super::target::{FIGURES, Figure, Target};

/// Sizes of objects in KiB.
const SIZES: [usize; 2] = [1, 4];
/// Requests at once, and how many of each kind.
const LOADS: [(usize, usize); 3] = [(1, 200), (16, 500), (128, 1000)];

/// How requests travel, and the sizes of objects that do.
const WAYS: [(&str, bool, &[usize]); 2] = [("", false, &SIZES), (", one connection", true, &[1])];

/// The load of a long round: so many requests at once that budgets are about.
const LONG: (usize, usize) = (16, 3000);

/// Figures by name of objects of 1 KiB, many of each kind of request.
pub async fn long_round(t: &mut Target) -> Result<Vec<(String, Figure)>> {
    let (at_once, n) = LONG;
    let mut out = Vec::new();
    for (way, shared, _) in WAYS {
        match shared {
            true => t.share(1).await?,
            false => t.reconnect()?,
        }
        for (what, figure) in verbs(t, 1 << 10, at_once, n).await? {
            out.push((format!("{what} 1 KiB, {at_once} at once{way}"), figure));
        }
    }
    Ok(out)
}

/// Figures by name.
pub async fn round(t: &mut Target) -> Result<Vec<(String, Figure)>> {
    let mut out = Vec::new();
    for (way, shared, sizes) in WAYS {
        match shared {
            true => t.share(1).await?,
            false => t.reconnect()?,
        }
        for (kib, (at_once, n)) in sizes.iter().flat_map(|s| LOADS.map(|l| (s, l))) {
            let load = format!("{kib} KiB, {at_once} at once{way}");
            let figures = verbs(t, kib << 10, at_once, n).await;
            for (what, figure) in figures.with_context(|| load.clone())? {
                out.push((format!("{what} {load}"), figure));
            }
        }
    }
    Ok(out)
}

/// Objects are made, read, changed, applied and deleted, so many at once.
async fn verbs(
    t: &Target,
    size: usize,
    at_once: usize,
    n: usize,
) -> Result<Vec<(&'static str, Figure)>> {
    let name = |i: usize| format!("f{i}");
    // Connections are made before the clock begins.
    let connect = |_| t.text(format!("{FIGURES}?limit=1"));
    t.measure(at_once, at_once, connect).await?;
    let create = t.measure(n, at_once, |i| t.create(name(i), size)).await?;
    let get = |i| t.text(format!("{FIGURES}/{}", name(i)));
    let get = t.measure(n, at_once, get).await?;
    let versions = versions(t).await?;
    let update = |i: usize| {
        let (name, version) = &versions[i];
        t.update(name, size, version)
    };
    let update = t.measure(n.min(versions.len()), at_once, update).await?;
    let apply = t.measure(n, at_once, |i| t.apply(name(i), size)).await?;
    let delete = t.measure(n, at_once, |i| t.delete(name(i))).await?;
    Ok(vec![
        ("create", create),
        ("get", get),
        ("update", update),
        ("apply", apply),
        ("delete", delete),
    ])
}

/// Names and resource versions of what is there.
async fn versions(t: &Target) -> Result<Vec<(String, Value)>> {
    let items = t.cx.items(FIGURES).await?;
    items
        .into_iter()
        .map(|mut item| {
            let name = item["metadata"]["name"].as_str().context("a name")?.into();
            Ok((name, item["metadata"]["resourceVersion"].take()))
        })
        .collect()
}
