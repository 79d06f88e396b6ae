//! `cargo xtask test`: everything that CI runs, cheapest first.

use anyhow::Result;

use crate::shell::ReleaseBuild;
use crate::{conformance, host, images, layers, licences, shell};

/// Checks, then all tests, then the end-to-end tests on the release binary.
pub fn run(_args: &[String]) -> Result<()> {
    host::ready_to_test()?;
    host::ready_to_build()?;
    // Builds a release program too: it would wait for the other build.
    images::run(&[])?;
    let release = ReleaseBuild::begin()?;
    check(&[])?;
    shell::run("cargo", &["test", "--workspace"])?;
    release.end()?;
    conformance::end_to_end()
}

/// Format, clippy with warnings denied, layers, licences.
pub fn check(_args: &[String]) -> Result<()> {
    host::ready_to_build()?;
    shell::run("cargo", &["fmt", "--all", "--check"])?;
    layers::check()?;
    licences::check()?;
    shell::run(
        "cargo",
        &[
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ],
    )
}
