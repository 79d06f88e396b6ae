//! `cargo xtask clients`: unmodified clients of other languages against the release binary.

use anyhow::{Context, Result};

use crate::{conformance, images, shell};

/// The Python client of Kubernetes v1.37.
const PYTHON: &str = "kubernetes==37.0.2";

/// Fetches the clients from PyPI and the Go module proxy, builds what uses them, and runs it.
pub fn run(_args: &[String]) -> Result<()> {
    images::run(&[])?;
    shell::build_release()?;
    let dir = shell::target_dir().join("clients");
    std::fs::create_dir_all(&dir)?;
    let dir = dir.to_str().context("the path of the target directory")?;
    let python = format!("{dir}/python");
    shell::run("python3", &["-m", "venv", &python])?;
    let pip = format!("{python}/bin/pip");
    shell::run(&pip, &["install", "--quiet", PYTHON])?;
    let client = format!("{dir}/client-go");
    let build = ["-C", "tools/e2e/clients/go", "build", "-o", &client, "."];
    shell::run("go", &build)?;
    let pattern = "^client-go|^the Python client|^kubectls";
    conformance::checks(pattern, &[("K0S_KUBECTLS", "all")])
}
