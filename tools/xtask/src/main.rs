//! `cargo xtask <command>`: everything that is done to this repository. `COMMANDS` is the list.

#![forbid(unsafe_code)]

mod bench;
mod clients;
mod conformance;
mod differential;
mod fuzz;
mod host;
mod images;
mod layers;
mod licences;
mod run;
mod shell;
mod test;
mod vm;

use std::process::ExitCode;

/// One command: its name, what it does, and the function.
struct Command {
    name: &'static str,
    about: &'static str,
    run: fn(&[String]) -> anyhow::Result<()>,
}

const COMMANDS: &[Command] = &[
    Command {
        name: "run",
        about: "build the release binary and start a single-node cluster in the foreground",
        run: run::run,
    },
    Command {
        name: "test",
        about: "everything that CI runs",
        run: test::run,
    },
    Command {
        name: "check",
        about: "format, clippy, layers, licences; no tests",
        run: test::check,
    },
    Command {
        name: "images",
        about: "build the test images into target/images as OCI archives",
        run: images::run,
    },
    Command {
        name: "conformance",
        about: "run the twins of the conformance tests [REGEX] [--kubeconfig FILE]",
        run: conformance::run,
    },
    Command {
        name: "differential",
        about: "send the same requests to this server and to upstream's [REGEX] [--seeds N] [--base N] [--seconds N]",
        run: differential::run,
    },
    Command {
        name: "clients",
        about: "run client-go and the Python client against a node",
        run: clients::run,
    },
    Command {
        name: "fuzz",
        about: "look for input that parsers cannot stand [TARGET] [SECONDS]",
        run: fuzz::run,
    },
    Command {
        name: "vm",
        about: "boot an emulated machine of a kernel and the release binary",
        run: vm::run,
    },
    Command {
        name: "bench",
        about: "print the project's figures [AREA]",
        run: bench::run,
    },
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let name = args.first().map(String::as_str).unwrap_or("help");
    let Some(command) = COMMANDS.iter().find(|c| c.name == name) else {
        for c in COMMANDS {
            println!("cargo xtask {:<12} {}", c.name, c.about);
        }
        return if name == "help" {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        };
    };
    match (command.run)(&args[1..]) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask {name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}
