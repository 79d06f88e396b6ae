//! The test server of the conformance tests: what the images `agnhost`, `pause`, `nonewprivs`, web server and others
//! must do, in one static program. argv[0] chooses a tool (`curl`, `nc`, `dig` …), else argv[1] a subcommand.
//! Behaviour is upstream's test/images/agnhost, as far as the tests can see it.

#![forbid(unsafe_code)]

mod client;
mod commands;
mod flags;
mod http1;
mod log;
mod resolv;
mod tls;

use std::process::ExitCode;

use anyhow::Result;

use commands::Command;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args_os()
        .map(|a| a.to_string_lossy().into_owned())
        .collect();
    let program = args.first().map(String::as_str).unwrap_or_default();
    let base = program.rsplit('/').next().unwrap_or_default();
    if let Some(tool) = commands::TOOLS.iter().find(|t| t.name == base) {
        return ended((tool.run)(&args));
    }
    let Some(name) = args.get(1) else {
        usage();
        return ExitCode::SUCCESS;
    };
    if matches!(name.as_str(), "help" | "--help" | "-h") {
        usage();
        return ExitCode::SUCCESS;
    }
    match commands::COMMANDS.iter().find(|c| c.name == name) {
        Some(command) => run(command, &args),
        None => {
            eprintln!("Error: unknown command {name:?} for \"app\"");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command, args: &[String]) -> ExitCode {
    ended((command.run)(args))
}

fn ended(result: Result<u8>) -> ExitCode {
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn usage() {
    println!("Usage:\n  app [command]\n\nAvailable Commands:");
    for command in commands::COMMANDS {
        println!("  {}", command.name);
    }
}
