//! `k0s controller`: runs a controller in the foreground.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use cluster::{Options, Paths};
use tracing_subscriber::EnvFilter;

use crate::cli::Common;

/// Flags of `k0s controller`.
#[derive(Debug, Args)]
pub struct Flags {
    /// join-token for joining an existing cluster
    join_token: Option<String>,
    /// config file, use '-' to read the config from stdin
    #[arg(short, long, default_value = cluster::paths::CONFIG_FILE)]
    config: PathBuf,
    /// enable single node (implies --enable-worker, default false)
    #[arg(long)]
    single: bool,
    /// enable worker (default false)
    #[arg(long)]
    enable_worker: bool,
    /// disable default taints for controller node
    #[arg(long)]
    no_taints: bool,
    /// Worker profile to use on the node.
    #[arg(long)]
    profile: Option<String>,
    /// Path to the file containing the join-token.
    #[arg(long)]
    token_file: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

/// Flags of k0s that this version does not have yet.
const NOT_THERE: &[&str] = &[
    "--api-server-stop-timeout",
    "--cidr-range",
    "--cri-socket",
    "--debugListenOn",
    "--disable-components",
    "--enable-cloud-provider",
    "--enable-dynamic-config",
    "--enable-k0s-cloud-provider",
    "--enable-metrics-scraper",
    "--feature-gates",
    "--ignore-pre-flight-checks",
    "--init-only",
    "--iptables-mode",
    "--k0s-cloud-provider-port",
    "--k0s-cloud-provider-update-frequency",
    "--kube-controller-manager-extra-args",
    "--kubelet-extra-args",
    "--kubelet-root-dir",
    "--labels",
    "--logging",
    "--taints",
];

/// The flag that the command line was refused for, where it is one of k0s's.
pub fn flag_not_there(e: &clap::Error) -> Option<String> {
    use clap::error::{ContextKind, ContextValue, ErrorKind};
    if e.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    let Some(ContextValue::String(arg)) = e.get(ContextKind::InvalidArg) else {
        return None;
    };
    let flag = arg.split('=').next().unwrap_or(arg);
    NOT_THERE.contains(&flag).then(|| flag.to_string())
}

/// Runs until a signal comes.
pub fn run(flags: Flags) -> anyhow::Result<ExitCode> {
    logging(&flags.common)?;
    if flags.join_token.is_some()
        || flags.token_file.is_some()
        || std::env::var_os("K0S_TOKEN").is_some()
    {
        bail!("joining an existing cluster is not there yet in this version");
    }
    return_memory();
    let config = super::read_config(&flags.config)?;
    let data = std::path::absolute(&flags.common.data_dir)?;
    let options = Options {
        config,
        paths: Paths::new(&data),
        single: flags.single,
        worker: flags.single || flags.enable_worker,
        profile: flags.profile,
        args: std::env::args().collect(),
        version: crate::VERSION.into(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    runtime.block_on(cluster::controller(options))?;
    Ok(ExitCode::SUCCESS)
}

/// Has the allocator give unused memory back by itself. Only here: keepers and init stages must stay
/// single-threaded.
fn return_memory() {
    if let Err(error) = tikv_jemalloc_ctl::background_thread::write(true) {
        tracing::warn!(%error, "unused memory stays with the process");
    }
}

fn logging(common: &Common) -> anyhow::Result<()> {
    let level = if common.debug { "debug" } else { "info" };
    let filter = EnvFilter::try_from_env("K0S_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init()
        .map_err(|e| anyhow::anyhow!("starting the log: {e}"))
}
