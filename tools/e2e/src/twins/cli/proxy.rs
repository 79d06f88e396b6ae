//! Twins of kubectl's proxy server.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::super::Twin;
use crate::binary;
use crate::rest::Cx;

pub const TWINS: &[Twin] = &[
    twin!(
        "[sig-cli] Kubectl client Proxy server should support proxy with --port 0 [Conformance]",
        "kubectl",
        port_zero
    ),
    twin!(
        "[sig-cli] Kubectl client Proxy server should support --unix-socket=/path [Conformance]",
        "kubectl",
        unix_socket
    ),
];

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(30);

/// A proxy that runs; ended when dropped.
struct Proxy {
    child: Child,
    /// The first line it printed.
    said: String,
}

impl Proxy {
    fn start(cx: &Cx, args: &[&str]) -> Result<Self> {
        let program = binary::kubectl().context("there is no kubectl")?;
        let kubeconfig = cx.kubeconfig.as_ref().context("no kubeconfig")?;
        let mut child = Command::new(program)
            .args(["--namespace", &cx.namespace, "proxy"])
            .args(args)
            .env("KUBECONFIG", kubeconfig)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let out = child.stdout.take().context("standard output")?;
        let mut proxy = Self {
            child,
            said: String::new(),
        };
        BufReader::new(out).read_line(&mut proxy.said)?;
        Ok(proxy)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // One that has ended already is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a GET over a connection; head and body of the answer.
fn get(mut stream: impl Read + Write, host: &str, path: &str) -> Result<(String, String)> {
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").context("no head")?;
    Ok((head.into(), body.into()))
}

async fn port_zero(cx: Cx) -> Result<()> {
    let found = tokio::task::spawn_blocking(move || {
        let proxy = Proxy::start(&cx, &["-p", "0", "--disable-filter"])?;
        let wanted = regex::Regex::new(r"Starting to serve on 127\.0\.0\.1:([0-9]+)")?;
        let found = wanted
            .captures(&proxy.said)
            .with_context(|| proxy.said.clone())?;
        let port: u16 = found[1].parse()?;
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(ANSWER))?;
        get(stream, &format!("localhost:{port}"), "/api/")
    });
    let (_, body) = found.await??;
    let versions: Value = serde_json::from_str(&body).with_context(|| body.clone())?;
    let all = versions["versions"].as_array();
    ensure!(
        versions["kind"] == "APIVersions" && all.is_some_and(|v| !v.is_empty()),
        "{versions}"
    );
    Ok(())
}

async fn unix_socket(cx: Cx) -> Result<()> {
    let found = tokio::task::spawn_blocking(move || {
        let dir = tempfile::tempdir()?;
        let socket = dir.path().join("test");
        let proxy = Proxy::start(&cx, &[&format!("--unix-socket={}", socket.display())])?;
        ensure!(!proxy.said.is_empty(), "the proxy says nothing");
        let stream = UnixStream::connect(&socket)?;
        stream.set_read_timeout(Some(ANSWER))?;
        get(stream, "unused", "/api")
    });
    let (head, _) = found.await??;
    ensure!(head.starts_with("HTTP/1."), "{head}");
    Ok(())
}
