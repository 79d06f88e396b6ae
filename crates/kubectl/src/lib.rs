//! kubectl: the client within the binary. One file a command under `commands/`, one static list.
//! Output, messages and exit codes follow upstream's kubectl 1.37.
//! It knows the API server only by its address: nothing here imports another part.

#![forbid(unsafe_code)]

mod builder;
mod command_line;
mod commands;
mod context;
mod describe;
mod discovery;
mod error;
mod kustomize;
mod limits;
mod object;
mod output;
mod printers;
mod rest;
mod rules;
mod streaming;
mod tabwriter;
mod three_way;
mod unified;
#[doc(hidden)]
pub mod untrusted;
mod yaml;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use error::Error;

/// Runs `kubectl` with its arguments (without the program's name). `default_kubeconfig` is used
/// where neither `--kubeconfig` nor `KUBECONFIG` names one.
pub fn run(args: Vec<OsString>, default_kubeconfig: Option<PathBuf>) -> ExitCode {
    match command_line::run(args, default_kubeconfig) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if !matches!(error, Error::Exit(_)) {
                eprintln!("{}", error.to_string().trim_end());
            }
            ExitCode::from(error.exit_code())
        }
    }
}
