//! `cargo xtask bench`: prints figures, never judges them.

use anyhow::Result;

use crate::shell;

/// Runs the benchmarks of `tools/e2e` on the release binary.
pub fn run(args: &[String]) -> Result<()> {
    shell::build_release()?;
    let mut all = vec![
        "run",
        "--quiet",
        "--release",
        "--package",
        "e2e",
        "--bin",
        "bench",
        "--",
    ];
    all.extend(args.iter().map(String::as_str));
    shell::run("cargo", &all)
}
