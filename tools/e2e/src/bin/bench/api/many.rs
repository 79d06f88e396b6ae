//! What many objects and many watchers cost.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::watch::Watch;
use futures::{StreamExt, TryStreamExt, stream};

use super::target::{FIGURES, Target};
use crate::process;

const OBJECTS: usize = 10_000;
const SIZE: usize = 1 << 10;
/// Lists of all of them, one after the other.
const LISTS: usize = 7;
/// Watchers, and the events that each receives.
const WATCHERS: [(usize, usize); 3] = [(1, 500), (100, 200), (1000, 50)];
/// The same over HTTP/2, and how many watchers share a connection there.
const SHARED: (usize, usize) = (1000, 50);
const STREAMS: usize = 50;
/// Writers beside the watchers.
const WRITERS: usize = 16;
/// How long a watcher waits for the next event.
const EVENT: Duration = Duration::from_secs(60);
/// How often one watch may be begun anew.
const AGAIN: usize = 50;

/// Prints a table of figures, of each target in its turn.
pub async fn run(targets: &mut [Target]) -> Result<()> {
    let mut columns = Vec::new();
    for t in targets {
        t.reconnect()?;
        columns.push(figures(t).await.context(t.name)?);
    }
    println!("\n| what | k0s | reference | budget |\n|---|---|---|---|");
    let Some((ours, theirs)) = columns.split_first() else {
        return Ok(());
    };
    for (i, (what, figure, budget)) in ours.iter().enumerate() {
        let other = theirs.first().map_or("–", |r| r[i].1.as_str());
        println!("| {what} | {figure} | {other} | {budget} |");
    }
    Ok(())
}

/// Names, figures and budgets.
async fn figures(t: &mut Target) -> Result<Vec<(String, String, &'static str)>> {
    let mut out = Vec::new();
    let before = t.memory()?;
    t.measure(OBJECTS, 64, |i| t.create(format!("m{i}"), SIZE))
        .await?;
    let kib = (t.memory()? - before) * 1024.0 / OBJECTS as f64;
    out.push((
        "anonymous memory per stored object of 1 KiB".into(),
        format!("{kib:.1} KiB"),
        "2.5 KiB",
    ));
    let list = t.measure(LISTS, 1, |_| t.text(FIGURES.into())).await?;
    out.push((
        format!("list of {OBJECTS}"),
        format!("{:.0} ms CPU, p50 {:.0} ms", list.cpu / 1e3, list.p50),
        "20 ms",
    ));
    let after = (t.memory()? - before) * 1024.0 / OBJECTS as f64;
    out.push((
        format!("the same memory after {LISTS} lists"),
        format!("{after:.1} KiB"),
        "",
    ));
    let alone = t
        .measure(500, WRITERS, |i| t.create(format!("a{i}"), SIZE))
        .await?;
    for (watchers, events) in WATCHERS {
        let cpu = delivered(t, watchers, events, alone.cpu).await?;
        out.push((
            format!("event delivered to each of {watchers} watchers"),
            format!("{cpu:.1} µs CPU"),
            "",
        ));
    }
    let (watchers, events) = SHARED;
    t.share(watchers / STREAMS).await?;
    let alone = t
        .measure(500, WRITERS, |i| t.create(format!("s{i}"), SIZE))
        .await?;
    let cpu = delivered(t, watchers, events, alone.cpu).await?;
    out.push((
        format!("the same, {STREAMS} watchers on each connection"),
        format!("{cpu:.1} µs CPU"),
        "3 µs",
    ));
    Ok(out)
}

/// µs of the server's processor time for one event at one watcher: what creates cost more while watchers
/// listen, divided by the events.
async fn delivered(t: &Target, watchers: usize, events: usize, create: f64) -> Result<f64> {
    let list = t.cx.get(&format!("{FIGURES}?limit=1")).await?;
    let from = list["metadata"]["resourceVersion"].as_str().unwrap_or("");
    let query = format!("resourceVersion={from}");
    let watches: Vec<_> = stream::iter(0..watchers)
        .map(|_| t.cx.watch(FIGURES, &query))
        .buffer_unordered(WRITERS)
        .try_collect()
        .await?;
    let cpu = process::cpu(&t.pids)?;
    let reading = watches
        .into_iter()
        .map(|w| received(t, w, events, from.to_string()));
    let reading = futures::future::try_join_all(reading);
    let writing = t.measure(events, WRITERS, |i| {
        t.create(format!("w{events}-{watchers}-{from}-{i}"), SIZE)
    });
    let begun = Instant::now();
    let (read, written) = tokio::join!(reading, writing);
    let again: usize = read?.into_iter().sum();
    written?;
    eprintln!(
        "{}: {watchers} watchers: {events} events in {:?}, {again} watches begun anew",
        t.name,
        begun.elapsed()
    );
    let used = process::cpu(&t.pids)?.saturating_sub(cpu).as_secs_f64() * 1e6;
    Ok((used - create * events as f64).max(0.0) / (events * watchers) as f64)
}

/// Reads so many events. A watch that the server ends, as either does with one that is too slow, is begun anew
/// after what it showed last; tells how often.
async fn received(t: &Target, mut watch: Watch, events: usize, from: String) -> Result<usize> {
    let (mut seen, mut last, mut again) = (0, from, 0);
    while seen < events {
        let next = watch.next(EVENT).await;
        if let Ok((kind, object)) = &next
            && kind != "ERROR"
        {
            seen += 1;
            if let Some(version) = object["metadata"]["resourceVersion"].as_str() {
                last = version.to_string();
            }
            continue;
        }
        again += 1;
        ensure!(again <= AGAIN, "a watch ends again and again: {next:?}");
        let query = format!("resourceVersion={last}");
        watch = t.cx.watch(FIGURES, &query).await?;
    }
    Ok(again)
}
