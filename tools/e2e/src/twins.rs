//! The twins of upstream's conformance tests, by SIG. Each has the name of its original, does what the
//! original does and asserts no less.

/// One twin: upstream's name, the base of its namespace's name, the function.
macro_rules! twin {
    ($name:literal, $base:literal, $run:path) => {
        $crate::twins::Twin {
            name: $name,
            base: $base,
            run: |cx| Box::pin($run(cx)),
        }
    };
}

mod api_machinery;
mod apps;
mod architecture;
mod auth;
mod cli;
mod instrumentation;
mod instrumentation_v1;
mod network;
mod node;
mod scheduling;
mod storage;

use anyhow::Result;
use futures::future::BoxFuture;

use crate::rest::Cx;

/// One twin.
pub struct Twin {
    /// Upstream's name.
    pub name: &'static str,
    /// Base of its namespace's name.
    pub base: &'static str,
    pub run: fn(Cx) -> BoxFuture<'static, Result<()>>,
}

impl Twin {
    const fn new(
        name: &'static str,
        base: &'static str,
        run: fn(Cx) -> BoxFuture<'static, Result<()>>,
    ) -> Self {
        Self { name, base, run }
    }
}

/// All twins that are written.
pub fn all() -> Vec<&'static Twin> {
    [
        api_machinery::TWINS,
        api_machinery::aggregator::TWINS,
        api_machinery::chunking::TWINS,
        api_machinery::conversion::TWINS,
        api_machinery::custom_resources::TWINS,
        api_machinery::discovery::TWINS,
        api_machinery::field_validation::TWINS,
        api_machinery::garbage_collector::TWINS,
        api_machinery::namespaces::TWINS,
        api_machinery::operations::TWINS,
        api_machinery::policies::TWINS,
        api_machinery::publish_openapi::TWINS,
        api_machinery::resource_quota::TWINS,
        api_machinery::webhook::TWINS,
        api_machinery::webhook::conditions::TWINS,
        apps::controller_revision::TWINS,
        apps::cron_job::TWINS,
        apps::daemon_set::TWINS,
        apps::deployment::TWINS,
        apps::disruption::TWINS,
        apps::job::TWINS,
        apps::replica_set::TWINS,
        apps::replication_controller::TWINS,
        apps::stateful_set::TWINS,
        architecture::TWINS,
        auth::TWINS,
        auth::accounts::TWINS,
        auth::certificates::TWINS,
        auth::pod_certificates::TWINS,
        auth::trust_bundles::TWINS,
        cli::TWINS,
        cli::describe::TWINS,
        cli::guestbook::TWINS,
        cli::proxy::TWINS,
        cli::update_demo::TWINS,
        instrumentation::TWINS,
        instrumentation_v1::TWINS,
        network::TWINS,
        node::TWINS,
        scheduling::TWINS,
        storage::TWINS,
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// How many conformance tests v1.37 has.
pub const CONFORMANCE: usize = 462;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_conformance_test_has_one_twin() {
        let file = crate::binary::root().join("../shared/reference/conformance-v1.37.tsv");
        let Ok(list) = std::fs::read_to_string(&file) else {
            eprintln!("SKIPPED: {} is not there", file.display());
            return;
        };
        let known: Vec<&str> = list
            .lines()
            .skip(1)
            .filter_map(|l| l.split('\t').nth(1))
            .collect();
        assert_eq!(known.len(), CONFORMANCE);
        let all = all();
        for name in &known {
            let written = all.iter().any(|t| t.name == *name);
            assert!(written, "{name} has no twin");
        }
        for (i, t) in all.iter().enumerate() {
            assert!(known.contains(&t.name), "{} is no conformance test", t.name);
            assert!(
                !all[i + 1..].iter().any(|o| o.name == t.name),
                "{} twice",
                t.name
            );
        }
    }

    #[test]
    fn every_twin_asserts_something() {
        let src = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/twins");
        let mut silent = Vec::new();
        for path in files(&src) {
            let text = std::fs::read_to_string(&path).expect("a file");
            let text = text.replace("\npub async fn ", "\nasync fn ");
            let mut bodies = text.split("\nasync fn ");
            let head = bodies.next().expect("a head").to_string();
            let functions: Vec<(&str, &str)> = bodies
                .map(|b| (b.split('(').next().unwrap_or(""), b))
                .collect();
            let marks = [
                "ensure!",
                ".expect(",
                "refused(",
                "discovered(",
                "hooks.denied(",
                "hooks.mutated(",
                "mutate_custom(",
                "pods::output",
                "pods::log_has",
                "pods::remove",
                "bail!",
                "waits::",
                // A call whose failure is the twin's: made, served, gone.
                "crds::",
                ".gone(",
                "cx.k(",
                ".eventually(",
                ".run(&cx)",
            ];
            let asserts = |body: &str| marks.iter().any(|m| body.contains(m));
            for (name, body) in &functions {
                let listed = head.contains(&format!("{name}(cx)"));
                if !listed && !body.starts_with(&format!("{name}(cx: Cx) ")) {
                    continue;
                }
                // A twin may leave its assertions to a function that it shares with another.
                let calls = |body: &str, other: &str| {
                    let body: String = body.split_whitespace().collect();
                    body.contains(&format!("{other}(&cx")) || body.contains(&format!("{other}(cx"))
                };
                let deep = |b: &str| {
                    asserts(b) || functions.iter().any(|(o, b2)| calls(b, o) && asserts(b2))
                };
                let shared = functions
                    .iter()
                    .any(|(other, b)| calls(body, other) && deep(b));
                if !asserts(body) && !shared {
                    silent.push(format!("{name} in {}", path.display()));
                }
            }
        }
        assert!(silent.is_empty(), "assert nothing: {silent:?}");
    }

    /// All files of a folder and its folders.
    fn files(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
        let mut all = Vec::new();
        for file in std::fs::read_dir(dir).expect("twins").flatten() {
            let path = file.path();
            if path.is_dir() {
                all.extend(files(&path));
            } else {
                all.push(path);
            }
        }
        all
    }
}
