//! A small HTTP/1.1 client: one request a connection, no redirects.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;

use crate::{http1, resolv};

/// How a request is sent.
#[derive(Clone)]
pub struct Options {
    pub method: &'static str,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub connect: Duration,
    /// Without a byte for so long it fails.
    pub patience: Duration,
    pub tls: Option<Arc<ClientConfig>>,
    /// Own address.
    pub from: Option<IpAddr>,
}

/// Why a request failed, with curl's exit codes.
#[derive(Debug)]
pub enum Failure {
    Resolve,
    Connect,
    Timeout,
    Other,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            method: "GET",
            headers: Vec::new(),
            body: Vec::new(),
            connect: Duration::from_secs(30),
            patience: Duration::from_secs(30),
            tls: None,
            from: None,
        }
    }
}

/// A parsed URL; without scheme it is http.
pub struct Url {
    pub https: bool,
    pub host: String,
    pub port: u16,
    pub target: String,
}

// === Url ===

impl Url {
    pub fn parse(text: &str) -> Result<Self> {
        let (https, rest) = match text.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            Some((scheme, _)) => bail!("Protocol {scheme:?} not supported"),
            None => (false, text),
        };
        let split = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(split);
        let target = match target.chars().next() {
            None => "/".to_string(),
            Some('?') => format!("/{target}"),
            Some(_) => target.split('#').next().unwrap_or_default().to_string(),
        };
        let default = if https { 443 } else { 80 };
        let (host, port) = split_port(authority, default)?;
        Ok(Self {
            https,
            host,
            port,
            target,
        })
    }
}

/// `host:port`, `[ip6]:port`, or a host alone.
pub fn split_port(text: &str, default: u16) -> Result<(String, u16)> {
    if let Some((ip, rest)) = text.strip_prefix('[').and_then(|t| t.split_once(']')) {
        let port = rest.strip_prefix(':').map_or(Ok(default), str::parse)?;
        return Ok((ip.to_string(), port));
    }
    match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') => Ok((host.to_string(), port.parse()?)),
        _ => Ok((text.to_string(), default)),
    }
}

/// `host:port` with brackets where they are needed.
pub fn join_port(host: &str, port: &str) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// Connects to a host's addresses in turn.
pub fn connect(
    host: &str,
    port: u16,
    timeout: Duration,
    from: Option<IpAddr>,
) -> Result<TcpStream, (Failure, anyhow::Error)> {
    let addresses = resolv::lookup(host).map_err(|e| (Failure::Resolve, e))?;
    let mut last = (Failure::Resolve, anyhow::anyhow!("no address"));
    for ip in addresses {
        let address = SocketAddr::new(ip, port);
        let connected = match from {
            None => TcpStream::connect_timeout(&address, timeout),
            Some(from) => connect_from(from, address),
        };
        match connected {
            Ok(stream) => return Ok(stream),
            Err(e) => {
                let timed_out = e.kind() == std::io::ErrorKind::TimedOut;
                let failure = if timed_out {
                    Failure::Timeout
                } else {
                    Failure::Connect
                };
                last = (
                    failure,
                    anyhow::Error::new(e).context(format!("dial tcp {address}")),
                );
            }
        }
    }
    Err(last)
}

fn connect_from(from: IpAddr, to: SocketAddr) -> std::io::Result<TcpStream> {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let family = if to.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let fd = socket(family, SocketType::STREAM, None)?;
    bind(&fd, &SocketAddr::new(from, 0))?;
    connect(&fd, &to)?;
    Ok(fd.into())
}

/// Sends a request; gives status and body.
pub fn request(url: &str, options: &Options) -> Result<(u16, Vec<u8>), (Failure, anyhow::Error)> {
    let other = |e: anyhow::Error| (Failure::Other, e);
    let url = Url::parse(url).map_err(other)?;
    let stream = connect(&url.host, url.port, options.connect, options.from)?;
    exchange(stream, &url, options).map_err(|e| {
        let io = e.root_cause().downcast_ref::<std::io::Error>();
        let late = io.is_some_and(|e| {
            matches!(
                e.kind(),
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
            )
        });
        (
            if late {
                Failure::Timeout
            } else {
                Failure::Other
            },
            e,
        )
    })
}

/// The same where the kind of failure does not matter.
pub fn fetch(url: &str, options: &Options) -> Result<(u16, Vec<u8>)> {
    request(url, options).map_err(|(_, e)| e)
}

fn exchange(stream: TcpStream, url: &Url, options: &Options) -> Result<(u16, Vec<u8>)> {
    stream.set_read_timeout(Some(options.patience))?;
    stream.set_write_timeout(Some(options.patience))?;
    let host = join_port(&url.host, &url.port.to_string());
    let mut head = format!(
        "{} {} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nUser-Agent: testserver\r\nAccept: */*\r\n",
        options.method, url.target
    );
    for (name, value) in &options.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !options.body.is_empty() || options.method == "POST" {
        head.push_str(&format!("Content-Length: {}\r\n", options.body.len()));
    }
    head.push_str("\r\n");
    let mut data = head.into_bytes();
    data.extend_from_slice(&options.body);
    if !url.https {
        let mut writer = stream.try_clone()?;
        writer.write_all(&data)?;
        return answer(BufReader::new(stream));
    }
    let config = match &options.tls {
        Some(config) => config.clone(),
        None => crate::tls::client(
            Some(&PathBuf::from("/etc/ssl/certs/ca-certificates.crt")),
            None,
        )?,
    };
    let name = ServerName::try_from(url.host.clone())?;
    let mut stream = StreamOwned::new(ClientConnection::new(config, name)?, stream);
    stream.write_all(&data)?;
    stream.flush()?;
    answer(BufReader::new(stream))
}

fn answer(mut reader: impl BufRead) -> Result<(u16, Vec<u8>)> {
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let status: u16 = line
            .split(' ')
            .nth(1)
            .and_then(|s| s.parse().ok())
            .context("no HTTP answer")?;
        let mut headers = Vec::new();
        loop {
            let mut text = String::new();
            if reader.read_line(&mut text)? == 0 {
                bail!("headers without end");
            }
            let text = text.trim_end();
            if text.is_empty() {
                break;
            }
            if let Some((name, value)) = text.split_once(':') {
                headers.push((name.to_string(), value.trim().to_string()));
            }
        }
        if (100..200).contains(&status) {
            continue;
        }
        let sized = headers.iter().any(|(n, _)| {
            n.eq_ignore_ascii_case("content-length") || n.eq_ignore_ascii_case("transfer-encoding")
        });
        if sized {
            return Ok((status, http1::body(&mut reader, &headers)?));
        }
        let mut body = Vec::new();
        reader.take(32 << 20).read_to_end(&mut body)?;
        return Ok((status, body));
    }
}
