//! `cargo xtask images`: the images that the tests ask for, as OCI archives in target/images.

use anyhow::Result;

use crate::shell;

/// Builds all test images; `tools/e2e` knows what is in them.
pub fn run(_args: &[String]) -> Result<()> {
    shell::run(
        "cargo",
        &["run", "--quiet", "--package", "e2e", "--bin", "images"],
    )
}
