//! The command line: global flags, the command's own, and what pflag accepts that clap does not.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, FromArgMatches, error::ErrorKind};

use crate::commands::{self, Command};
use crate::context::{Context, Globals};
use crate::error::{Error, Result};

/// Parses and runs.
pub fn run(args: Vec<OsString>, default_kubeconfig: Option<PathBuf>) -> Result<()> {
    let mut root = root();
    let words = std::iter::once(OsString::from("kubectl")).chain(args.iter().cloned());
    let matches = match root.try_get_matches_from_mut(words) {
        Ok(m) => m,
        Err(e) => return usage(&e, &args),
    };
    let globals = Globals::from_arg_matches(&matches)?;
    let Some((name, sub)) = matches.subcommand() else {
        root.print_help()?;
        return Ok(());
    };
    let command = commands::COMMANDS
        .iter()
        .find(|c| c.name == name)
        .ok_or_else(|| unknown(name))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let cx = Context::new(globals, default_kubeconfig);
    let local = tokio::task::LocalSet::new();
    let result = runtime.block_on(local.run_until((command.run)(cx, sub)));
    // A read of standard input that never ends must not hold the process.
    runtime.shutdown_background();
    result
}

/// The whole command line.
pub fn root() -> clap::Command {
    let root = clap::Command::new("kubectl")
        .about("kubectl controls the Kubernetes cluster manager")
        .disable_help_subcommand(true)
        .disable_version_flag(true)
        .args_override_self(true);
    let root = <Globals as clap::Args>::augment_args(root);
    let root = root.mut_args(|a| optional_bool(a).global(true));
    root.subcommands(commands::COMMANDS.iter().map(build))
}

fn build(command: &Command) -> clap::Command {
    let built = clap::Command::new(command.name).visible_aliases(command.aliases);
    (command.augment)(built)
        .about(command.about)
        .long_about(None)
        .args_override_self(true)
        .mut_args(optional_bool)
        .mut_subcommands(below)
}

fn below(command: clap::Command) -> clap::Command {
    command
        .args_override_self(true)
        .mut_args(optional_bool)
        .mut_subcommands(below)
}

/// pflag's booleans: `--flag`, `--flag=true`, `--flag=false`.
fn optional_bool(arg: Arg) -> Arg {
    if !matches!(arg.get_action(), ArgAction::SetTrue) {
        return arg;
    }
    arg.action(ArgAction::Set)
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("true")
        .default_value("false")
        .value_parser(clap::value_parser!(bool))
        .hide_possible_values(true)
        .hide_default_value(true)
}

fn unknown(name: &str) -> Error {
    match commands::MISSING.contains(&name) {
        true => Error::text(format!(
            "the command \"kubectl {name}\" is not there yet in this version"
        )),
        false => Error::Plain(format!("Error: unknown command \"{name}\" for \"kubectl\"")),
    }
}

fn usage(e: &clap::Error, args: &[OsString]) -> Result<()> {
    use clap::error::{ContextKind, ContextValue};
    let text = |kind| match e.get(kind) {
        Some(ContextValue::String(s)) => s.clone(),
        _ => String::new(),
    };
    let command = args
        .iter()
        .filter_map(|a| a.to_str())
        .find(|a| commands::COMMANDS.iter().any(|c| c.is(a)))
        .map(ToString::to_string);
    let path = match &command {
        Some(c) => format!("kubectl {c}"),
        None => "kubectl".to_string(),
    };
    let help = format!("See '{path} --help' for usage.");
    Err(match e.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            e.print()?;
            return Ok(());
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            e.print()?;
            return Err(Error::Exit(1));
        }
        ErrorKind::InvalidSubcommand if command.is_none() => {
            unknown(&text(ContextKind::InvalidSubcommand))
        }
        ErrorKind::InvalidSubcommand => {
            let sub = text(ContextKind::InvalidSubcommand);
            match commands::missing_below(command.as_deref().unwrap_or_default(), &sub) {
                true => Error::text(format!(
                    "the command \"{path} {sub}\" is not there yet in this version"
                )),
                false => Error::Plain(format!("Error: unknown command \"{sub}\" for \"{path}\"")),
            }
        }
        ErrorKind::UnknownArgument => {
            let arg = text(ContextKind::InvalidArg);
            let arg = arg.split(['=', ' ']).next().unwrap_or_default();
            match arg.strip_prefix('-') {
                Some(short) if !short.starts_with('-') => Error::Plain(format!(
                    "Error: unknown shorthand flag: '{short}' in {arg}\n{help}"
                )),
                _ => Error::Plain(format!("Error: unknown flag: {arg}\n{help}")),
            }
        }
        ErrorKind::MissingRequiredArgument => missing(e, &help),
        _ => Error::text(
            e.to_string()
                .trim_start_matches("error: ")
                .trim_end()
                .to_string(),
        ),
    })
}

/// What must be there and is not: flags in upstream's words, arguments by their names.
fn missing(e: &clap::Error, help: &str) -> Error {
    use clap::error::{ContextKind, ContextValue};
    let Some(ContextValue::Strings(all)) = e.get(ContextKind::InvalidArg) else {
        return Error::text(format!("an argument is missing\n{help}"));
    };
    let flags: Vec<String> = all
        .iter()
        .filter_map(|a| a.strip_prefix("--"))
        .map(|a| format!("\"{}\"", a.split([' ', '=']).next().unwrap_or(a)))
        .collect();
    match flags.as_slice() {
        [] => Error::text(format!("{} is required\n{help}", all.join(", "))),
        some => Error::text(format!("required flag(s) {} not set", some.join(", "))),
    }
}

/// The flags of a command, read from its matches.
pub fn flags<F: FromArgMatches>(matches: &ArgMatches) -> Result<F> {
    Ok(F::from_arg_matches(matches)?)
}
