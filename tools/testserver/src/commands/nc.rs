//! nc as OpenBSD's, `connect` and `tcp-reset`.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::client::{self, Failure, split_port};
use crate::flags::{Flags, duration};
use crate::{http1, log, resolv};

pub fn run(args: &[String]) -> Result<u8> {
    let (mut verbose, mut udp, mut scan) = (false, false, false);
    let mut wait = None;
    let mut rest = Vec::new();
    let mut args = args.iter().skip(1);
    while let Some(arg) = args.next() {
        let Some(letters) = arg.strip_prefix('-').filter(|l| !l.is_empty()) else {
            rest.push(arg.clone());
            continue;
        };
        for (at, letter) in letters.char_indices() {
            match letter {
                'v' => verbose = true,
                'u' => udp = true,
                'z' => scan = true,
                't' | 'n' | '4' | '6' | 'N' => {}
                'w' => {
                    let inline = &letters[at + 1..];
                    let text = if inline.is_empty() {
                        args.next().map(String::as_str)
                    } else {
                        Some(inline)
                    };
                    let seconds: u64 = text
                        .context("nc: option requires an argument -- 'w'")?
                        .parse()?;
                    wait = Some(Duration::from_secs(seconds));
                    break;
                }
                other => {
                    eprintln!("nc: invalid option -- '{other}'");
                    return Ok(1);
                }
            }
        }
    }
    let [host, port] = &rest[..] else {
        eprintln!("usage: nc [-tuvz] [-w timeout] [destination] [port]");
        return Ok(1);
    };
    let port: u16 = port
        .parse()
        .with_context(|| format!("nc: port number invalid: {port}"))?;
    let say = |text: String| {
        if verbose {
            eprintln!("{text}");
        }
    };
    if udp {
        return datagrams(host, port, wait, &say);
    }
    let timeout = wait.unwrap_or(Duration::from_secs(120));
    let mut stream = match client::connect(host, port, timeout, None) {
        Ok(stream) => stream,
        Err((_, error)) => {
            say(format!(
                "nc: connect to {host} port {port} (tcp) failed: {error:#}"
            ));
            return Ok(1);
        }
    };
    say(format!(
        "Connection to {host} {port} port [tcp/*] succeeded!"
    ));
    if scan {
        return Ok(0);
    }
    let mut writer = stream.try_clone()?;
    std::thread::spawn(move || std::io::copy(&mut std::io::stdin(), &mut writer));
    stream.set_read_timeout(wait)?;
    let mut buffer = [0; 4096];
    // Ends when the peer closes, or when nothing came for so long.
    while let Ok(n) = stream.read(&mut buffer) {
        if n == 0 {
            break;
        }
        std::io::stdout().write_all(&buffer[..n])?;
        std::io::stdout().flush()?;
    }
    Ok(0)
}

fn datagrams(host: &str, port: u16, wait: Option<Duration>, say: &dyn Fn(String)) -> Result<u8> {
    let addresses = match resolv::lookup(host) {
        Ok(addresses) => addresses,
        Err(error) => {
            say(format!("nc: {error:#}"));
            return Ok(1);
        }
    };
    let ip = *addresses.first().context("no address")?;
    let any: IpAddr = if ip.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect((ip, port))?;
    say(format!(
        "Connection to {host} {port} port [udp/*] succeeded!"
    ));
    let sender = socket.try_clone()?;
    std::thread::spawn(move || -> Result<()> {
        let mut buffer = [0; 2048];
        loop {
            let n = std::io::stdin().read(&mut buffer)?;
            if n == 0 {
                return Ok(());
            }
            sender.send(&buffer[..n])?;
        }
    });
    socket.set_read_timeout(wait)?;
    let mut buffer = [0; 65_536];
    while let Ok(n) = socket.recv(&mut buffer) {
        std::io::stdout().write_all(&buffer[..n])?;
        std::io::stdout().flush()?;
    }
    Ok(0)
}

/// Whether something listens.
pub fn connect(args: &[String]) -> Result<u8> {
    let flags = Flags::parse(
        args,
        &[("timeout", "0s"), ("protocol", "tcp"), ("udp-data", "")],
        true,
    )?;
    let [destination] = &flags.rest[..] else {
        anyhow::bail!("accepts 1 arg(s), received {}", flags.rest.len());
    };
    if flags.get("protocol") != "tcp" {
        eprintln!("OTHER: {} is not supported", flags.get("protocol"));
        return Ok(1);
    }
    let timeout = duration(flags.get("timeout"))
        .filter(|d| !d.is_zero())
        .unwrap_or(Duration::from_secs(120));
    let (host, port) = split_port(destination, 0)?;
    match client::connect(&host, port, timeout, None) {
        Ok(_) => Ok(0),
        Err((failure, error)) => {
            let refused = error
                .root_cause()
                .downcast_ref::<std::io::Error>()
                .is_some_and(|e| e.kind() == std::io::ErrorKind::ConnectionRefused);
            let word = match failure {
                Failure::Resolve => "DNS",
                Failure::Timeout => "TIMEOUT",
                Failure::Connect if refused => "REFUSED",
                Failure::Connect | Failure::Other => "OTHER",
            };
            eprintln!("{word}: {error:#}");
            Ok(1)
        }
    }
}

/// Reads one byte and closes with the rest unread, which resets the connection.
pub fn tcp_reset(args: &[String]) -> Result<u8> {
    let flags = Flags::parse(args, &[("port", "8080")], false)?;
    log::end_on_signal();
    for stream in http1::listen(flags.port("port")?)?.incoming() {
        let mut byte = [0];
        if let Ok(mut stream) = stream {
            // What comes of it does not matter.
            let _read = stream.read(&mut byte);
        }
    }
    Ok(0)
}
