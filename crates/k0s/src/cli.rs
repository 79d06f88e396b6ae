//! The command tree of k0s: same names, same flags. Commands that are not there yet say so.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::commands;

/// What a shell says of a process that SIGPIPE ended.
const BROKEN_PIPE: i32 = 128 + 13;

/// k0s - the zero friction Kubernetes
#[derive(Debug, Parser)]
#[command(
    name = "k0s",
    disable_version_flag = true,
    arg_required_else_help = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Flags that most commands share.
#[derive(Clone, Debug, Args)]
pub struct Common {
    /// Data Directory for k0s. DO NOT CHANGE for an existing setup, things will break!
    #[arg(long, global = true, default_value = cluster::paths::DATA_DIR)]
    pub data_dir: PathBuf,
    /// Full file path to the socket file.
    #[arg(long, global = true)]
    pub status_socket: Option<PathBuf>,
    /// Debug logging
    #[arg(short, long, global = true)]
    pub debug: bool,
    /// Verbose logging
    #[arg(short, long, global = true)]
    pub verbose: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run controller
    #[command(alias = "server")]
    Controller(Box<commands::controller::Flags>),
    /// Run worker
    Worker(Rest),
    /// Configuration related sub-commands
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Create a kubeconfig file for a specified user
    #[command(subcommand)]
    Kubeconfig(KubeconfigCommand),
    /// Get k0s instance status information
    Status(commands::status::Flags),
    /// Print the k0s version
    Version(commands::version::Flags),
    /// Stop the k0s node that runs on this data directory
    Stop(CommonOnly),
    /// Uninstall k0s
    Reset(commands::reset::Flags),
    /// Display system information
    Sysinfo(commands::sysinfo::Flags),
    /// kubectl controls the Kubernetes cluster manager
    #[command(alias = "kc")]
    Kubectl(Words),
    /// containerd CLI
    Ctr(commands::ctr::Flags),
    /// Tooling for airgapped installations
    Airgap(Rest),
    /// Back-Up k0s configuration
    Backup(Rest),
    /// restore k0s state from given backup archive
    Restore(Rest),
    /// Generate completion script
    Completion(commands::completion::Flags),
    /// Generate k0s command documentation
    Docs(Rest),
    /// Manage the keys that objects are encrypted with at rest
    #[command(subcommand)]
    Encryption(EncryptionCommand),
    /// Manage etcd cluster
    Etcd(Rest),
    /// Install k0s on a brand-new system
    Install(Rest),
    /// Start the k0s service configured on this host
    Start(Rest),
    /// Manage join tokens
    Token(Rest),
    /// Run the controller API
    #[command(hide = true)]
    Api(Rest),
    /// Print the configuration templates of keepalived
    #[command(hide = true)]
    KeepalivedConfig(Rest),
    /// Hook of keepalived
    #[command(hide = true)]
    KeepalivedSetstate(Rest),
    /// Output the default k0s configuration yaml to stdout
    #[command(hide = true)]
    DefaultConfig(commands::config::Create),
    /// Validation related sub-commands
    #[command(subcommand, hide = true)]
    Validate(ValidateCommand),
}

/// Old names of commands.
#[derive(Debug, Subcommand)]
enum ValidateCommand {
    /// Validate k0s configuration
    Config(commands::config::Validate),
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Output the default k0s configuration yaml to stdout
    Create(commands::config::Create),
    /// Validate k0s configuration
    Validate(commands::config::Validate),
    /// Launch the editor configured in your shell to edit k0s configuration
    Edit(Rest),
    /// Display dynamic configuration reconciliation status
    Status(Rest),
}

#[derive(Debug, Subcommand)]
enum EncryptionCommand {
    /// Make a new key, encrypt everything with it, and forget the old one
    Rotate(CommonOnly),
}

#[derive(Debug, Subcommand)]
enum KubeconfigCommand {
    /// Display Admin's Kubeconfig file
    Admin(CommonOnly),
    /// Create a kubeconfig for a user
    Create(Rest),
}

/// Only the shared flags.
#[derive(Debug, Args)]
pub struct CommonOnly {
    #[command(flatten)]
    pub common: Common,
}

/// Any arguments of a command that is not there yet.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
struct Rest {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    _args: Vec<OsString>,
}

/// Arguments that another command line reads.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
struct Words {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    args: Vec<OsString>,
}

/// Parses and runs a command line.
pub fn run(mut args: Vec<OsString>) -> anyhow::Result<ExitCode> {
    multi_call(&mut args);
    end_with_the_reader();
    let command = match Cli::try_parse_from(args) {
        Ok(cli) => cli.command,
        Err(e) => {
            if let Some(flag) = commands::controller::flag_not_there(&e) {
                return missing(&format!("controller {flag}"));
            }
            // Help goes to standard output and is no failure; clap knows which is which.
            let code = if e.use_stderr() {
                ExitCode::FAILURE
            } else {
                ExitCode::SUCCESS
            };
            e.print()?;
            return Ok(code);
        }
    };
    match command {
        Command::Controller(flags) => commands::controller::run(*flags),
        Command::DefaultConfig(flags) => commands::config::create(&flags),
        Command::Validate(ValidateCommand::Config(flags)) => commands::config::validate(&flags),
        Command::Config(ConfigCommand::Create(flags)) => commands::config::create(&flags),
        Command::Config(ConfigCommand::Validate(flags)) => commands::config::validate(&flags),
        Command::Kubeconfig(KubeconfigCommand::Admin(flags)) => {
            commands::kubeconfig::admin(&flags.common)
        }
        Command::Encryption(EncryptionCommand::Rotate(flags)) => {
            commands::encryption::rotate(&flags)
        }
        Command::Status(flags) => commands::status::run(&flags),
        Command::Version(flags) => commands::version::run(&flags),
        Command::Sysinfo(flags) => commands::sysinfo::run(&flags),
        Command::Reset(flags) => commands::reset::run(&flags),
        Command::Ctr(flags) => commands::ctr::run(flags),
        Command::Stop(flags) => commands::stop::run(&flags.common),
        Command::Completion(flags) => commands::completion::run(&flags, &mut Cli::command()),
        Command::Kubectl(words) => Ok(kubectl_command(words.args)),
        other => missing(other.name()),
    }
}

/// kubectl, with the admin's kubeconfig of the data directory where no other is named.
fn kubectl_command(mut args: Vec<OsString>) -> ExitCode {
    let mut data_dir = PathBuf::from(cluster::paths::DATA_DIR);
    let named = |a: &OsString| a == "--data-dir";
    let joined = |a: &OsString| Some(a.to_str()?.strip_prefix("--data-dir=")?.to_string());
    // What follows `--` is a container's.
    let end = args.iter().position(|a| a == "--").unwrap_or(args.len());
    if let Some(at) = args[..end].iter().position(named)
        && at + 1 < end
    {
        args.remove(at);
        data_dir = args.remove(at).into();
    } else if let Some(at) = args[..end].iter().position(|a| joined(a).is_some()) {
        data_dir = joined(&args.remove(at)).unwrap_or_default().into();
    }
    let path = cluster::paths::Paths::new(&data_dir).admin_conf();
    kubectl::run(args, path.exists().then_some(path))
}

/// `kubectl`, `k0s-kubectl`, `ctr` and `k0s-ctr` as names of this binary choose that command.
fn multi_call(args: &mut Vec<OsString>) {
    let name = args
        .first()
        .map(PathBuf::from)
        .and_then(|p| p.file_name().map(OsString::from));
    let name = name.and_then(|n| n.into_string().ok()).unwrap_or_default();
    let command = name.strip_prefix("k0s-").unwrap_or(&name);
    if ["kubectl", "ctr"].contains(&command) {
        let command = command.to_string();
        args.insert(1, command.into());
    }
}

/// A command whose output nobody reads any more ends at once, as others do: `k0s kubectl get pods | head`.
fn end_with_the_reader() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let text = info.payload_as_str().unwrap_or_default();
        let printing = [
            "failed printing to stdout",
            "failed to write completion file",
        ];
        let closed = text.contains("Broken pipe") || text.contains("BrokenPipe");
        if closed && printing.iter().any(|p| text.starts_with(p)) {
            std::process::exit(BROKEN_PIPE);
        }
        before(info);
    }));
}

fn missing(name: &str) -> anyhow::Result<ExitCode> {
    anyhow::bail!("k0s {name} is not there yet in this version")
}

impl Command {
    fn name(&self) -> &'static str {
        match self {
            Self::Controller(_) => "controller",
            Self::Worker(_) => "worker",
            Self::Config(ConfigCommand::Create(_)) => "config create",
            Self::Config(ConfigCommand::Validate(_)) => "config validate",
            Self::Config(ConfigCommand::Edit(_)) => "config edit",
            Self::Config(ConfigCommand::Status(_)) => "config status",
            Self::Kubeconfig(KubeconfigCommand::Admin(_)) => "kubeconfig admin",
            Self::Kubeconfig(KubeconfigCommand::Create(_)) => "kubeconfig create",
            Self::Status(_) => "status",
            Self::Version(_) => "version",
            Self::Stop(_) => "stop",
            Self::Reset(_) => "reset",
            Self::Sysinfo(_) => "sysinfo",
            Self::Kubectl(_) => "kubectl",
            Self::Ctr(_) => "ctr",
            Self::Airgap(_) => "airgap",
            Self::Backup(_) => "backup",
            Self::Restore(_) => "restore",
            Self::Completion(_) => "completion",
            Self::Docs(_) => "docs",
            Self::Encryption(_) => "encryption rotate",
            Self::Etcd(_) => "etcd",
            Self::Install(_) => "install",
            Self::Start(_) => "start",
            Self::Token(_) => "token",
            Self::Api(_) => "api",
            Self::KeepalivedConfig(_) => "keepalived-config",
            Self::KeepalivedSetstate(_) => "keepalived-setstate",
            Self::DefaultConfig(_) => "default-config",
            Self::Validate(_) => "validate config",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_tree_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn names_of_the_binary_choose_commands() {
        for (name, expected) in [
            ("/usr/bin/kubectl", "kubectl"),
            ("k0s-ctr", "ctr"),
            ("/x/k0s", "get"),
            ("k0s-x", "get"),
        ] {
            let mut args: Vec<OsString> = vec![name.into(), "get".into()];
            multi_call(&mut args);
            assert_eq!(args[1], expected, "{name}");
        }
    }

    #[test]
    fn commands_that_are_not_there_yet_say_so() {
        for command in ["worker", "backup", "token", "api", "keepalived-config"] {
            let e = run(vec!["k0s".into(), command.into(), "--some-flag".into()]).unwrap_err();
            assert_eq!(
                e.to_string(),
                format!("k0s {command} is not there yet in this version")
            );
        }
    }
}
