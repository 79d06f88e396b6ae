//! `cargo xtask conformance`: the twins of upstream's conformance tests.

use anyhow::Result;

use crate::{images, shell};

/// Runs the twins whose name matches a regular expression, on a fresh cluster or a given one.
pub fn run(args: &[String]) -> Result<()> {
    if !args.iter().any(|a| a == "--kubeconfig") {
        images::run(&[])?;
        shell::build_release()?;
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    program("conformance", &args)
}

/// The end-to-end tests that CI runs: the release binary is built already.
pub fn end_to_end() -> Result<()> {
    program("checks", &[])?;
    program("conformance", &["--ci"])?;
    // Where upstream's server is not built it says so and succeeds.
    program("differential", &["--seconds", "60"])
}

/// The checks of the whole node whose name matches.
pub fn checks(pattern: &str, environment: &[(&str, &str)]) -> Result<()> {
    let args = [
        "run",
        "--quiet",
        "--package",
        "e2e",
        "--bin",
        "checks",
        "--",
        pattern,
    ];
    shell::run_with("cargo", &args, environment)
}

/// Runs a program of `tools/e2e`.
pub fn program(name: &str, args: &[&str]) -> Result<()> {
    let mut all = vec!["run", "--quiet", "--package", "e2e", "--bin", name, "--"];
    all.extend(args);
    shell::run("cargo", &all)
}
