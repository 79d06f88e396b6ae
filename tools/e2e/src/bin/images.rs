//! Builds the test images.

use std::process::ExitCode;

fn main() -> ExitCode {
    match e2e::images::build() {
        Ok(paths) => {
            for path in paths {
                println!("{}", path.display());
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("images: {error:#}");
            ExitCode::FAILURE
        }
    }
}
