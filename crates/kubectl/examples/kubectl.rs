//! kubectl alone, for quick comparisons with upstream's.

use std::process::ExitCode;

fn main() -> ExitCode {
    kubectl::run(std::env::args_os().skip(1).collect(), None)
}
