//! `cargo xtask differential`: the same requests to this server and to upstream's generic one.

use anyhow::Result;

use crate::{conformance, shell};

/// Runs the sequences whose name matches, on the release binary.
pub fn run(args: &[String]) -> Result<()> {
    shell::build_release()?;
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    conformance::program("differential", &args)
}
