//! `cargo xtask conformance`: the twins of upstream's conformance tests.

use anyhow::Result;

use crate::{images, shell};

/// Runs the twins whose name matches a regular expression, on a fresh cluster or a given one.
pub fn run(args: &[String]) -> Result<()> {
    if !args.iter().any(|a| a == "--kubeconfig") {
        images::run(&[])?;
        shell::build_release()?;
    }
    let mut all = vec![
        "run",
        "--quiet",
        "--package",
        "e2e",
        "--bin",
        "conformance",
        "--",
    ];
    all.extend(args.iter().map(String::as_str));
    shell::run("cargo", &all)
}

/// The end-to-end tests that CI runs: the release binary is built already.
pub fn end_to_end() -> Result<()> {
    shell::run(
        "cargo",
        &[
            "run",
            "--quiet",
            "--package",
            "e2e",
            "--bin",
            "conformance",
            "--",
            "--ci",
        ],
    )
}
