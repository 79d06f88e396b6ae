//! A real helm against a whole node: a chart with a custom resource, a hook and probes is installed, upgraded, rolled back,
//! tested and uninstalled. The chart is in `tools/e2e/clients/chart`; `cargo xtask clients` builds helm.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use serde_json::Value;

use super::{Outcome, clients, get, kubectl};
use crate::cluster::{Cluster, run as program};
use crate::program::output;

pub fn run() -> Result<Outcome> {
    let helm = clients::built().join("helm");
    if !helm.exists() {
        return Ok(Outcome::Skipped("run `cargo xtask clients` first".into()));
    }
    let wanted = |name: &str| matches!(name, "busybox.tar" | "pause.tar");
    let mut cluster = Cluster::launch(wanted)?;
    cluster.wait_ready()?;
    let home = tempfile::tempdir()?;
    let helm = Helm {
        program: &helm,
        cluster: &cluster,
        home: home.path(),
    };
    helm.warns_of_what_is_no_field()?;
    helm.installs()?;
    helm.upgrades()?;
    helm.uninstalls()?;
    Ok(Outcome::Passed)
}

struct Helm<'a> {
    program: &'a Path,
    cluster: &'a Cluster,
    home: &'a Path,
}

impl Helm<'_> {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.program);
        for variable in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            command.env(variable, self.home);
        }
        command
            .args(args)
            .env("KUBECONFIG", self.cluster.kubeconfig());
        command
    }

    fn run(&self, args: &[&str]) -> Result<String> {
        program(&mut self.command(args))
    }

    /// With the chart and times that a slow machine needs.
    fn release(&self, verb: &str, more: &[&str]) -> Result<String> {
        let chart = clients::sources().join("chart").display().to_string();
        let mut args = vec![verb, "demo", &chart, "--wait", "--timeout", "2m"];
        args.extend(more);
        self.run(&args)
    }

    fn greeting(&self, wanted: &str, before: &str) -> Result<()> {
        let map = get(self.cluster, "configmap", "demo")?;
        ensure!(map["data"]["greeting"] == wanted, "{map}");
        ensure!(map["data"]["before"] == before, "{map}");
        let custom = get(self.cluster, "greetings.helm.k0s.example", "demo")?;
        ensure!(custom["spec"]["text"] == wanted, "{custom}");
        let deployment = get(self.cluster, "deployment", "demo")?;
        let note = &deployment["spec"]["template"]["metadata"]["annotations"]["greeting"];
        ensure!(*note == wanted, "{deployment}");
        Ok(())
    }

    /// As kubectl's, helm's own validation leaves it to servers that judge fields, as ours says in its OpenAPI documents
    /// that it does.
    fn warns_of_what_is_no_field(&self) -> Result<()> {
        let done = self.release("install", &["--skip-crds"]);
        let why = match done {
            Ok(told) => anyhow::bail!("it was installed: {told}"),
            Err(why) => format!("{why:#}"),
        };
        // Nobody has defined the custom resource yet.
        ensure!(why.contains("ensure CRDs are installed first"), "{why}");
        let chart = clients::sources().join("chart").display().to_string();
        let args = ["install", "demo", &chart, "--set", "nonsense=true"];
        let told = output(self.command(&args), "")?;
        ensure!(told.ok, "{told:?}");
        // Its log quotes the warning.
        let warned =
            told.stderr.contains("Warning: unknown field") && told.stderr.contains("spec.nonsense");
        ensure!(warned, "{told:?}");
        self.run(&["uninstall", "demo", "--wait"]).map(drop)
    }

    fn installs(&self) -> Result<()> {
        let told = self.release("install", &[])?;
        ensure!(told.contains("STATUS: deployed"), "{told}");
        self.greeting("hello", "nothing")?;
        let deployment = get(self.cluster, "deployment", "demo")?;
        ensure!(deployment["status"]["readyReplicas"] == 1, "{deployment}");
        let told = self.run(&["test", "demo", "--logs", "--timeout", "2m"])?;
        ensure!(
            told.contains("Succeeded") && told.contains("tested"),
            "{told}"
        );
        let jobs = kubectl(self.cluster, &["get", "jobs", "--output", "name"])?;
        ensure!(jobs.is_empty(), "the hook's job is there still: {jobs}");
        Ok(())
    }

    fn upgrades(&self) -> Result<()> {
        self.release("upgrade", &["--set", "greeting=again,replicas=2"])?;
        self.greeting("again", "hello")?;
        // What was changed by hand is taken back.
        kubectl(
            self.cluster,
            &["scale", "deployment/demo", "--replicas", "3"],
        )?;
        self.run(&["rollback", "demo", "1", "--wait", "--timeout", "2m"])?;
        self.greeting("hello", "nothing")?;
        let deployment = get(self.cluster, "deployment", "demo")?;
        ensure!(deployment["spec"]["replicas"] == 1, "{deployment}");
        let history: Value = serde_json::from_str(&self.run(&["history", "demo", "-o", "json"])?)?;
        let states: Vec<&str> = history
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|r| r["status"].as_str())
            .collect();
        ensure!(
            states == ["superseded", "superseded", "deployed"],
            "{states:?}"
        );
        let manifest = self.run(&["get", "manifest", "demo"])?;
        ensure!(manifest.contains("kind: Greeting"), "{manifest}");
        let list: Value = serde_json::from_str(&self.run(&["list", "-o", "json"])?)?;
        ensure!(list[0]["chart"] == "greeter-1.2.3", "{list}");
        Ok(())
    }

    fn uninstalls(&self) -> Result<()> {
        self.run(&["uninstall", "demo", "--wait", "--timeout", "2m"])?;
        let kinds = "deployments,services,configmaps,secrets,greetings.helm.k0s.example";
        let left = kubectl(self.cluster, &["get", kinds, "--output", "name"])?;
        let mut left: Vec<&str> = left.lines().collect();
        left.sort_unstable();
        let own = ["configmap/kube-root-ca.crt", "service/kubernetes"];
        ensure!(left == own, "what is left: {left:?}");
        Ok(())
    }
}
