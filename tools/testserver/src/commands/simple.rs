//! Subcommands that print something or wait.

use std::os::unix::process::CommandExt;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::flags::Flags;
use crate::http1::{self, Reply};
use crate::log;

/// Waits for a signal: the default of the image.
pub fn pause(args: &[String]) -> Result<u8> {
    Flags::parse(args, &[], false)?;
    log::on_signal(|signal| {
        let code = if signal == 2 { 1 } else { 2 };
        println!("exiting {code}");
        std::process::exit(code);
    });
    println!("Paused");
    log::forever()
}

/// The pause image: as PID 1 it reaps what is left to it.
pub fn bare_pause(_: &[String]) -> Result<u8> {
    log::on_signal(|_| {
        println!("Shutting down, got signal: Terminated");
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut child = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::child())?;
        loop {
            while let Ok(Some(_)) = rustix::process::wait(rustix::process::WaitOptions::NOHANG) {}
            child.recv().await;
        }
    })
}

/// All of argv.
pub fn entrypoint_tester(args: &[String]) -> Result<u8> {
    println!("[{}]", args.join(" "));
    Ok(0)
}

/// The effective user.
pub fn nonewprivs(_: &[String]) -> Result<u8> {
    println!("Effective uid: {}", rustix::process::geteuid().as_raw());
    Ok(0)
}

pub fn dns_suffix(args: &[String]) -> Result<u8> {
    resolv_words(args, "search")
}

pub fn dns_server_list(args: &[String]) -> Result<u8> {
    resolv_words(args, "nameserver")
}

fn resolv_words(args: &[String], key: &str) -> Result<u8> {
    Flags::parse(args, &[], false)?;
    let text = std::fs::read_to_string("/etc/resolv.conf").context("reading /etc/resolv.conf")?;
    match text.lines().find(|l| l.starts_with(key)) {
        Some(line) => {
            let words: Vec<&str> = line.split_whitespace().skip(1).collect();
            println!("{}", words.join(","));
            Ok(0)
        }
        None => {
            eprintln!("panic: no {key} line in /etc/resolv.conf");
            Ok(2)
        }
    }
}

pub fn etc_hosts(args: &[String]) -> Result<u8> {
    Flags::parse(args, &[], false)?;
    println!(
        "{}",
        std::fs::read_to_string("/etc/hosts").context("reading /etc/hosts")?
    );
    Ok(0)
}

/// Lines that look like an API server's log.
pub fn logs_generator(args: &[String]) -> Result<u8> {
    let args: Vec<String> = args
        .iter()
        .map(|a| match a.as_str() {
            "-t" => "--log-lines-total".to_string(),
            "-d" => "--run-duration".to_string(),
            other => other.to_string(),
        })
        .collect();
    let flags = Flags::parse(
        &args,
        &[("log-lines-total", "0"), ("run-duration", "0")],
        false,
    )?;
    let (total, duration) = (
        flags.number("log-lines-total")?,
        flags.duration("run-duration")?,
    );
    if total <= 0 {
        bail!("Invalid total number of lines: {total}");
    }
    if duration.is_zero() {
        bail!("Invalid duration: {duration:?}");
    }
    log::end_on_signal();
    let pause = duration / u32::try_from(total)?;
    for id in 0..total {
        let pick = |list: &[&str]| list[rand::random_range(0..list.len())].to_string();
        let (method, namespace) = (
            pick(&["GET", "POST", "PUT"]),
            pick(&["kube-system", "default", "ns"]),
        );
        let name: String = (0..rand::random_range(3..5))
            .map(|_| char::from(rand::random_range(b'a'..=b'z')))
            .collect();
        let status = rand::random_range(200..600);
        log::line(&format!(
            "{id} {method} /api/v1/namespaces/{namespace}/pods/{name} {status}"
        ));
        std::thread::sleep(pause);
    }
    Ok(0)
}

/// Something that answers on 8000.
pub fn fake_gitserver(args: &[String]) -> Result<u8> {
    Flags::parse(args, &[], false)?;
    log::end_on_signal();
    http1::serve(
        http1::listen(8000)?,
        None,
        std::sync::Arc::new(|_| Reply::ok("I am a fake git server")),
    );
    Ok(0)
}

/// The shell of the busybox image. Busybox's own drops environment names that are no identifiers from what its children
/// see; `sh -c env` is answered here, all else is busybox's.
pub fn shell(args: &[String]) -> Result<u8> {
    use std::os::unix::ffi::OsStrExt;
    if args.len() == 3 && args[1] == "-c" && args[2].trim() == "env" {
        let mut out = Vec::new();
        for (name, value) in std::env::vars_os() {
            out.extend_from_slice(name.as_bytes());
            out.push(b'=');
            out.extend_from_slice(value.as_bytes());
            out.push(b'\n');
        }
        std::io::Write::write_all(&mut std::io::stdout(), &out)?;
        return Ok(0);
    }
    let mut all = std::env::args_os();
    let program = all.next().unwrap_or_default();
    let error = std::process::Command::new("/bin/busybox")
        .arg0(program)
        .args(all)
        .exec();
    Err(anyhow::Error::new(error).context("/bin/busybox"))
}

/// What a client waits for at most.
pub const PATIENCE: Duration = Duration::from_secs(5);
