//! `kubectl top node|pod`, from metrics.k8s.io. Upstream: kubectl/pkg/cmd/top, metricsutil.

use api::quantity::Quantity;
use clap::{Args, Subcommand};
use serde_json::Value;

use super::{Command, Run};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::object;
use crate::rest::Call;
use crate::tabwriter::TabWriter;

pub const COMMAND: Command =
    Command::of::<Flags>("top", &[], "Display resource (CPU/memory) usage");

const ROOT: &str = "/apis/metrics.k8s.io/v1beta1";

/// Flags of `top`.
#[derive(Clone, Debug, Args)]
pub struct Flags {
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Debug, Subcommand)]
enum What {
    /// Display resource (CPU/memory) usage of nodes
    #[command(visible_aliases = ["nodes", "no"])]
    Node(Node),
    /// Display resource (CPU/memory) usage of pods
    #[command(visible_aliases = ["pods", "po"])]
    Pod(Pod),
}

#[derive(Clone, Debug, Args)]
struct Common {
    name: Option<String>,
    /// Selector (label query) to filter on
    #[arg(short = 'l', long, default_value = "", hide_default_value = true)]
    selector: String,
    /// Sort by cpu or memory
    #[arg(long, default_value = "", hide_default_value = true)]
    sort_by: String,
    /// Print output without headers
    #[arg(long)]
    no_headers: bool,
    /// Accepted; JSON is used
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true", action = clap::ArgAction::Set)]
    use_protocol_buffers: bool,
}

#[derive(Clone, Debug, Args)]
struct Node {
    #[command(flatten)]
    common: Common,
    /// Print node resources based on Capacity instead of Allocatable of the nodes
    #[arg(long)]
    show_capacity: bool,
}

#[derive(Clone, Debug, Args)]
struct Pod {
    #[command(flatten)]
    common: Common,
    /// Selector (field query) to filter on
    #[arg(long, default_value = "", hide_default_value = true)]
    field_selector: String,
    /// Print usage of containers within a pod
    #[arg(long)]
    containers: bool,
    /// List the requested object(s) across all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Print the sum of the resource usage
    #[arg(long)]
    sum: bool,
}

/// CPU in thousandths, memory in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Usage {
    cpu: i64,
    memory: i64,
}

impl Run for Flags {
    async fn run(self, cx: Context) -> Result<()> {
        let common = match &self.what {
            What::Node(f) => &f.common,
            What::Pod(f) => &f.common,
        };
        if !["", "cpu", "memory"].contains(&common.sort_by.as_str()) {
            return Err(Error::text("--sort-by accepts only cpu or memory"));
        }
        let served = cx.discovery().await?;
        if !served
            .versions
            .iter()
            .any(|v| v == "metrics.k8s.io/v1beta1")
        {
            return Err(Error::text("Metrics API not available"));
        }
        match self.what {
            What::Node(f) => nodes(&cx, &f).await,
            What::Pod(f) => pods(&cx, &f).await,
        }
    }
}

fn usage(v: &Value) -> Usage {
    let of = |name: &str| Quantity::parse(object::text(v, &format!("/{name}"))).ok();
    Usage {
        cpu: of("cpu").map_or(0, |q| q.milli_value()),
        memory: of("memory").map_or(0, |q| q.value()),
    }
}

/// The objects of a name, or of a list.
async fn read(cx: &Context, path: &str, common: &Common, fields: &str) -> Result<Vec<Value>> {
    let rest = cx.rest().await?;
    if let Some(name) = &common.name {
        return Ok(vec![rest.json(&Call::get(format!("{path}/{name}"))).await?]);
    }
    let call = Call::get(path)
        .query_some("labelSelector", &common.selector)
        .query_some("fieldSelector", fields);
    let list = rest.json(&call).await?;
    Ok(object::items(&list, "/items").to_vec())
}

/// The most first where a resource is named, else by what is given as the name.
fn sort<T>(rows: &mut [(T, Usage)], by: &str, name: impl Fn(&T) -> String) {
    match by {
        "cpu" => rows.sort_by_key(|(_, u)| std::cmp::Reverse(u.cpu)),
        "memory" => rows.sort_by_key(|(_, u)| std::cmp::Reverse(u.memory)),
        _ => rows.sort_by_key(|(row, _)| name(row)),
    }
}

fn mebibytes(bytes: i64) -> i64 {
    bytes / (1024 * 1024)
}

async fn nodes(cx: &Context, f: &Node) -> Result<()> {
    let c = &f.common;
    if c.name.is_some() && !c.selector.is_empty() {
        return Err(Error::text(
            "only one of NAME or --selector can be provided",
        ));
    }
    let metrics = read(cx, &format!("{ROOT}/nodes"), c, "").await?;
    if metrics.is_empty() {
        return Err(Error::text("metrics not available yet"));
    }
    let nodes = read(cx, "/api/v1/nodes", c, "").await?;
    let field = if f.show_capacity {
        "capacity"
    } else {
        "allocatable"
    };
    let mut rows: Vec<(String, Usage)> = metrics
        .iter()
        .map(|m| (object::name(m).to_string(), usage(&m["usage"])))
        .collect();
    sort(&mut rows, &c.sort_by, Clone::clone);
    let mut text = String::new();
    if !c.no_headers {
        text.push_str("NAME\tCPU(cores)\tCPU(%)\tMEMORY(bytes)\tMEMORY(%)\t\n");
    }
    for (name, used) in &rows {
        let node = nodes.iter().find(|n| object::name(n) == name);
        let has = node.map(|n| usage(&n["status"][field])).unwrap_or_default();
        let percent = |used: i64, has: i64| match has {
            0 => 0,
            has => i128::from(used) * 100 / i128::from(has),
        };
        text.push_str(&format!(
            "{name}\t{}m\t{}%\t{}Mi\t{}%\t\n",
            used.cpu,
            percent(used.cpu, has.cpu),
            mebibytes(used.memory),
            percent(used.memory, has.memory)
        ));
    }
    for node in &nodes {
        let name = object::name(node);
        if !rows.iter().any(|(n, _)| n == name) {
            text.push_str(&format!("{name}\t{}\n", "<unknown>\t".repeat(4)));
        }
    }
    print!("{}", TabWriter::table().layout(&text));
    Ok(())
}

async fn pods(cx: &Context, f: &Pod) -> Result<()> {
    let c = &f.common;
    if c.name.is_some() && !(c.selector.is_empty() && f.field_selector.is_empty()) {
        return Err(Error::text("only one of NAME or selector can be provided"));
    }
    let ns = cx.namespace()?;
    let (path, pods) = if f.all_namespaces {
        (format!("{ROOT}/pods"), "/api/v1/pods".to_string())
    } else {
        (
            format!("{ROOT}/namespaces/{ns}/pods"),
            format!("/api/v1/namespaces/{ns}/pods"),
        )
    };
    let metrics = read(cx, &path, c, &f.field_selector).await?;
    if metrics.is_empty() {
        if !read(cx, &pods, c, &f.field_selector).await?.is_empty() {
            return Err(Error::text("metrics not available yet"));
        }
        if f.all_namespaces {
            eprintln!("No resources found");
        } else {
            eprintln!("No resources found in {ns} namespace.");
        }
        return Ok(());
    }
    print!("{}", TabWriter::table().layout(&pod_table(f, &metrics)));
    Ok(())
}

fn pod_table(f: &Pod, metrics: &[Value]) -> String {
    let containers = |m: &Value| -> Vec<(String, Usage)> {
        let all = object::items(m, "/containers").iter();
        all.map(|c| (object::text(c, "/name").to_string(), usage(&c["usage"])))
            .collect()
    };
    let total = |all: &[(String, Usage)]| {
        all.iter().fold(Usage::default(), |sum, (_, u)| Usage {
            cpu: sum.cpu + u.cpu,
            memory: sum.memory + u.memory,
        })
    };
    let mut rows: Vec<(&Value, Usage)> =
        metrics.iter().map(|m| (m, total(&containers(m)))).collect();
    sort(&mut rows, &f.common.sort_by, |m| {
        format!("{}/{}", object::namespace(m), object::name(m))
    });
    let mut text = String::new();
    let before = usize::from(f.all_namespaces) + usize::from(f.containers);
    if !f.common.no_headers {
        text.push_str(if f.all_namespaces { "NAMESPACE\t" } else { "" });
        text.push_str(if f.containers { "POD\t" } else { "" });
        text.push_str("NAME\tCPU(cores)\tMEMORY(bytes)\t\n");
    }
    let line = |cells: &[&str], u: Usage| {
        let head: String = cells.iter().map(|c| format!("{c}\t")).collect();
        format!("{head}{}m\t{}Mi\t\n", u.cpu, mebibytes(u.memory))
    };
    for (m, used) in &rows {
        let mut cells = Vec::new();
        if f.all_namespaces {
            cells.push(object::namespace(m));
        }
        cells.push(object::name(m));
        if !f.containers {
            text.push_str(&line(&cells, *used));
            continue;
        }
        let mut all = containers(m);
        sort(&mut all, &f.common.sort_by, Clone::clone);
        for (name, used) in &all {
            let with = [&cells[..], &[name.as_str()]].concat();
            text.push_str(&line(&with, *used));
        }
    }
    if f.sum {
        let sums: Vec<(String, Usage)> = rows.iter().map(|(_, u)| (String::new(), *u)).collect();
        text.push_str(&format!(
            "{}________\t________\t\n",
            "\t".repeat(before + 1)
        ));
        text.push_str(&line(&vec![""; before + 1], total(&sums)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn usages_are_summed_and_sorted() {
        let pod = |name: &str, cpu: &str| {
            json!({"metadata": {"name": name, "namespace": "n"}, "containers": [
                {"name": "a", "usage": {"cpu": cpu, "memory": "1Mi"}},
                {"name": "b", "usage": {"cpu": "1m", "memory": "2Mi"}}]})
        };
        let flags = Pod {
            common: Common {
                name: None,
                selector: String::new(),
                sort_by: "cpu".into(),
                no_headers: false,
                use_protocol_buffers: true,
            },
            field_selector: String::new(),
            containers: false,
            all_namespaces: false,
            sum: true,
        };
        assert_eq!(
            pod_table(&flags, &[pod("x", "1m"), pod("y", "100m")]),
            "NAME\tCPU(cores)\tMEMORY(bytes)\t\ny\t101m\t3Mi\t\nx\t2m\t3Mi\t\n\t________\t________\t\n\t103m\t6Mi\t\n"
        );
    }
}
