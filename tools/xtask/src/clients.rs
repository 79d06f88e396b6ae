//! `cargo xtask clients`: unmodified clients of other languages against the release binary.

use anyhow::{Context, Result};

use crate::{conformance, images, shell};

/// The Python client of Kubernetes v1.37.
const PYTHON: &str = "kubernetes==37.0.2";

/// Real software, from the Go module proxy.
const SOFTWARE: &[&str] = &[
    "k8s.io/sample-apiserver@v0.37.2",
    "helm.sh/helm/v3/cmd/helm@v3.22.0",
];

/// Fetches the clients from PyPI and the Go module proxy, builds what uses them, and runs it.
pub fn run(_args: &[String]) -> Result<()> {
    images::run(&[])?;
    shell::build_release()?;
    let dir = shell::target_dir().join("clients");
    std::fs::create_dir_all(&dir)?;
    let dir = dir.to_str().context("the path of the target directory")?;
    let python = format!("{dir}/python");
    shell::run("python3", &["-m", "venv", &python])?;
    // Not by `pip` itself, which names the directory that it was made in.
    let own = format!("{python}/bin/python3");
    shell::run(&own, &["-m", "pip", "install", "--quiet", PYTHON])?;
    for (name, package) in [("client-go", "."), ("extension", "./extension")] {
        let client = format!("{dir}/{name}");
        let build = [
            "-C",
            "tools/e2e/clients/go",
            "build",
            "-o",
            &client,
            package,
        ];
        shell::run("go", &build)?;
    }
    for module in SOFTWARE {
        shell::run_with("go", &["install", module], &[("GOBIN", dir)])?;
    }
    let pattern = "^client-go|^the Python client|^kubectls|^the sample API server|^helm";
    conformance::checks(pattern, &[("K0S_KUBECTLS", "all")])
}
