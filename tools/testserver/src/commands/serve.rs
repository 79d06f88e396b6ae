//! `serve-hostname` and `porter`.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::json;

use crate::flags::Flags;
use crate::http1::{self, Reply, hostname};
use crate::{log, tls};

pub fn serve_hostname(args: &[String]) -> Result<u8> {
    let known = [
        ("http", "true"),
        ("tcp", "false"),
        ("udp", "false"),
        ("port", "9376"),
        ("close", "false"),
    ];
    let flags = Flags::parse(args, &known, false)?;
    if flags.on("http") && (flags.on("tcp") || flags.on("udp")) {
        bail!("Can't server TCP/UDP mode and HTTP mode at the same time");
    }
    log::on_signal(|signal| {
        if signal == 2 {
            std::process::exit(2);
        }
        log::line("Received SIGTERM, will terminate in 60s");
        log::line("Going to sleep");
        std::thread::sleep(Duration::from_secs(60));
        std::process::exit(0);
    });
    let port = flags.port("port")?;
    if flags.on("udp") {
        let socket = http1::listen_udp(port)?;
        std::thread::spawn(move || {
            let mut buffer = [0; 2048];
            while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
                log::line(&format!("UDP request from {}", http1::plain(peer)));
                let _sent = socket.send_to(hostname().as_bytes(), peer);
            }
        });
    }
    if flags.on("tcp") {
        let listener = http1::listen(port)?;
        std::thread::spawn(move || tcp(listener));
    }
    log::line(&format!("Serving on port {port}."));
    if flags.on("http") {
        let close = flags.on("close");
        http1::serve(
            http1::listen(port)?,
            None,
            Arc::new(move |request| {
                log::line(&format!("HTTP request from {}", request.peer));
                let reply = Reply::ok(hostname());
                if close {
                    reply.with("Connection", "close")
                } else {
                    reply
                }
            }),
        );
    }
    log::forever()
}

/// Says the name and closes; what the client sent is read first, or closing would reset the connection.
fn tcp(listener: TcpListener) {
    for stream in listener.incoming().filter_map(Result::ok) {
        std::thread::spawn(move || -> Result<()> {
            let mut stream = stream;
            log::line(&format!(
                "TCP request from {}",
                http1::plain(stream.peer_addr()?)
            ));
            stream.write_all(hostname().as_bytes())?;
            stream.shutdown(std::net::Shutdown::Write)?;
            stream.set_read_timeout(Some(Duration::from_secs(2)))?;
            let mut buffer = [0; 1024];
            while stream.read(&mut buffer)? > 0 {}
            Ok(())
        });
    }
}

pub fn porter(args: &[String]) -> Result<u8> {
    let flags = Flags::parse(args, &[("json-response", "false")], false)?;
    log::end_on_signal();
    let json_response = flags.on("json-response");
    for (name, value) in std::env::vars() {
        let Some(rest) = name.strip_prefix("SERVE_") else {
            continue;
        };
        let Some((kind, port)) = rest.split_once("PORT_") else {
            continue;
        };
        let started = match port.parse() {
            Ok(port) => serve(kind.trim_end_matches('_'), port, value, json_response),
            Err(_) => Err(anyhow::anyhow!("{port:?} is no port")),
        };
        if let Err(error) = started {
            log::line(&format!("{name}: {error:#}"));
        }
    }
    log::forever()
}

fn serve(kind: &str, port: u16, value: String, json_response: bool) -> Result<()> {
    if kind == "UDP" {
        let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))?;
        std::thread::spawn(move || {
            let mut buffer = [0; 2048];
            while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
                let _sent = socket.send_to(value.as_bytes(), peer);
            }
        });
        return Ok(());
    }
    let file =
        |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_string());
    let config = match kind {
        "" | "TCP" => None,
        "TLS" => {
            let (cert, key) = (
                file("CERT_FILE", "localhost.crt"),
                file("KEY_FILE", "localhost.key"),
            );
            Some(tls::server(cert.as_ref(), key.as_ref(), false)?)
        }
        other => bail!("{other} is not supported"),
    };
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?;
    http1::spawn(
        listener,
        config,
        Arc::new(move |request| {
            if json_response {
                return Reply::json(&json!({"Method": request.method, "Body": value}));
            }
            Reply::ok(value.clone())
        }),
    );
    Ok(())
}
