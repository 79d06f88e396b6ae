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
    let args: Vec<_> = std::env::args_os().collect();
    // Keepers and init stages of containers are this program again: nothing else may run in them.
    if let Some(code) = runtime::stage(&args) {
        return code;
    }
    if let Some(code) = cluster::first_process::run(&args) {
        return code;
    }
    match cli::run(args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
