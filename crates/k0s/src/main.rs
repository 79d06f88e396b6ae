//! k0s: one binary, many calls. Re-executed stages come first, then the command line.

#![forbid(unsafe_code)]

mod cli;
mod commands;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Version of this binary: the Kubernetes version it serves, with k0s's suffix.
pub const VERSION: &str = "v1.37.0+k0s";

fn main() -> ExitCode {
    match cli::run(std::env::args_os().collect()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
