//! `netexec`: HTTP and UDP end points that tell who they are, and reach others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::simple::PATIENCE;
use crate::client::{self, Options};
use crate::flags::{Flags, duration};
use crate::http1::{self, Reply, Request, hostname};
use crate::{log, tls};

static READY: AtomicBool = AtomicBool::new(false);
static ENDING: AtomicBool = AtomicBool::new(false);

pub fn run(args: &[String]) -> Result<u8> {
    let flags = Flags::parse(
        args,
        &[
            ("http-port", "8080"),
            ("udp-port", "8081"),
            ("sctp-port", "-1"),
            ("udp-listen-addresses", ""),
            ("tls-cert-file", ""),
            ("tls-private-key-file", ""),
            ("http-override", ""),
            ("delay-shutdown", "0"),
        ],
        false,
    )?;
    if flags.number("sctp-port")? != -1 {
        bail!("SCTP is not supported");
    }
    let delay = Duration::from_secs(u64::try_from(flags.number("delay-shutdown")?)?);
    log::on_signal(move |_| {
        ENDING.store(true, Ordering::SeqCst);
        std::thread::sleep(delay);
        std::process::exit(0);
    });
    let udp = flags.number("udp-port")?;
    if udp != -1 {
        start_udp(u16::try_from(udp)?, flags.get("udp-listen-addresses"))?;
    }
    let port = flags.port("http-port")?;
    let config = match flags.get("tls-cert-file") {
        "" => None,
        cert => Some(tls::server(
            cert.as_ref(),
            flags.get("tls-private-key-file").as_ref(),
            false,
        )?),
    };
    let target = flags.get("http-override").to_string();
    let listener = http1::listen(port)?;
    log::line(&format!("Started HTTP server on port {port}"));
    http1::serve(
        listener,
        config,
        Arc::new(move |request| {
            if target.is_empty() {
                return answer(request, port);
            }
            let (path, query) = target.split_once('?').unwrap_or((&target, ""));
            let other = Request {
                method: "GET".to_string(),
                path: path.to_string(),
                parameters: http1::pairs(query),
                headers: request.headers.clone(),
                peer: request.peer.clone(),
                ..Request::default()
            };
            answer(&other, port)
        }),
    );
    Ok(0)
}

fn start_udp(port: u16, addresses: &str) -> Result<()> {
    let mut sockets = Vec::new();
    if addresses.is_empty() {
        sockets.push(("".to_string(), http1::listen_udp(port)?));
    }
    for address in addresses.split(',').filter(|a| !a.is_empty()) {
        let ip: std::net::IpAddr = address.trim().parse()?;
        sockets.push((ip.to_string(), std::net::UdpSocket::bind((ip, port))?));
    }
    for (address, socket) in sockets {
        log::line(&format!("Started UDP server on port {address} {port}"));
        READY.store(true, Ordering::SeqCst);
        std::thread::spawn(move || {
            let mut buffer = [0; 2048];
            while let Ok((n, peer)) = socket.recv_from(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..n]).trim().to_lowercase();
                if let Some(reply) = datagram(&text, &http1::plain(peer)) {
                    // A peer that is gone is no news.
                    let _sent = socket.send_to(reply.as_bytes(), peer);
                }
            }
        });
    }
    Ok(())
}

/// The answer to a datagram.
fn datagram(text: &str, peer: &str) -> Option<String> {
    if text.is_empty() {
        return None;
    }
    log::line(&format!("Received UDP datagram {text:?} from {peer}"));
    match text.split_once(' ').unwrap_or((text, "")) {
        ("hostname", _) => Some(hostname()),
        ("echo", rest) => Some(rest.to_string()),
        ("clientip", _) => Some(peer.to_string()),
        _ => None,
    }
}

fn answer(request: &Request, port: u16) -> Reply {
    let get = |name: &str| request.parameter(name);
    match request.path.as_str() {
        "/hostname" | "/hostName" => {
            log::line(&format!("GET {}", request.path));
            log::line(&format!("hostname: {}", hostname()));
            Reply::ok(hostname())
        }
        "/echo" => echo(request),
        "/clientip" => {
            log::line("GET /clientip");
            Reply::ok(request.peer.clone())
        }
        "/healthz" => {
            log::line("GET /healthz");
            Reply::ok("").status(if READY.load(Ordering::SeqCst) {
                200
            } else {
                412
            })
        }
        "/readyz" => {
            log::line("GET /readyz");
            match (ENDING.load(Ordering::SeqCst), READY.load(Ordering::SeqCst)) {
                (true, _) => Reply::ok("shutting down").status(503),
                (_, true) => Reply::ok("ok"),
                _ => Reply::ok("").status(412),
            }
        }
        "/header" => header(request),
        "/dial" => dial(request),
        "/redirect" => {
            let (location, code) = (get("location"), get("code"));
            log::line(&format!(
                "{} /redirect?msg={location}&code={code}",
                request.method
            ));
            Reply::ok("")
                .status(code.parse().unwrap_or(302))
                .with("Location", location)
        }
        "/shell" => shell(request),
        "/upload" => upload(request),
        "/serverport" => Reply::ok(port.to_string()),
        "/exit" => exit(request),
        "/shutdown" => std::process::exit(0),
        _ => {
            log::line("GET /");
            Reply::ok(format!("NOW: {}", jiff::Timestamp::now()))
        }
    }
}

fn echo(request: &Request) -> Reply {
    let (msg, code) = (request.parameter("msg"), request.parameter("code"));
    log::line(&format!("GET /echo?msg={msg}&code={code}"));
    if code.is_empty() {
        return Reply::ok(msg);
    }
    match code.parse() {
        Ok(status) => Reply::ok(msg).status(status),
        Err(_) => Reply::ok(format!(
            "argument 'code' must be integer or empty, got {code:?}\n"
        )),
    }
}

fn header(request: &Request) -> Reply {
    let key = request.parameter("key");
    log::line(&format!("GET /header?key={key}"));
    if !key.is_empty() {
        return Reply::ok(request.header(key).unwrap_or_default());
    }
    let mut all = serde_json::Map::new();
    for (name, value) in &request.headers {
        let list = all.entry(name.clone()).or_insert_with(|| json!([]));
        if let Some(list) = list.as_array_mut() {
            list.push(json!(value));
        }
    }
    Reply::ok(Value::Object(all).to_string())
}

fn dial(request: &Request) -> Reply {
    let get = |name: &str| request.parameter(name);
    let (host, port, text) = (get("host"), get("port"), get("request"));
    let (protocol, tries) = (get("protocol").to_lowercase(), get("tries"));
    log::line(&format!(
        "GET /dial?host={host}&protocol={protocol}&port={port}&request={text}&tries={tries}"
    ));
    let bad = |text: String| Reply::error(400, &text);
    let tries: u32 = match tries {
        "" => 1,
        number => match number.parse() {
            Ok(n) => n,
            Err(_) => return bad(format!("tries parameter is invalid. {number:?}")),
        },
    };
    if text.is_empty() {
        return bad("request parameter not specified".to_string());
    }
    if !matches!(protocol.as_str(), "" | "http" | "udp") {
        return bad(format!("unsupported protocol: {protocol}"));
    }
    let addresses = crate::resolv::lookup(host);
    let (address, number) = match (addresses.as_deref(), port.parse::<u16>()) {
        (Ok([first, ..]), Ok(port)) => (*first, port),
        _ => return bad(format!("host and/or port param are invalid: {host} {port}")),
    };
    let (mut errors, mut responses) = (Vec::new(), Vec::new());
    for _ in 0..tries {
        let got = if protocol == "udp" {
            dial_udp(address, number, text)
        } else {
            dial_http(host, port, text)
        };
        match got {
            Ok(answer) if !answer.is_empty() => responses.push(answer),
            Ok(_) => {}
            Err(e) => errors.push(format!("{e:#}")),
        }
    }
    let mut out = serde_json::Map::new();
    if !errors.is_empty() {
        out.insert("errors".to_string(), json!(errors));
    }
    if !responses.is_empty() {
        out.insert("responses".to_string(), json!(responses));
    }
    Reply::ok(http1::go_json(&Value::Object(out)))
}

fn dial_http(host: &str, port: &str, path: &str) -> Result<String> {
    let url = format!("http://{}/{path}", client::join_port(host, port));
    let options = Options {
        connect: PATIENCE,
        patience: PATIENCE,
        ..Options::default()
    };
    let (_, body) = client::fetch(&url, &options)?;
    Ok(String::from_utf8_lossy(&body).into_owned())
}

fn dial_udp(ip: std::net::IpAddr, port: u16, text: &str) -> Result<String> {
    let any: std::net::IpAddr = if ip.is_ipv4() {
        std::net::Ipv4Addr::UNSPECIFIED.into()
    } else {
        std::net::Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = std::net::UdpSocket::bind((any, 0))?;
    socket.connect((ip, port))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send(text.as_bytes())?;
    let mut buffer = [0; 2048];
    let n = socket.recv(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..n]).into_owned())
}

fn shell(request: &Request) -> Reply {
    let command = match request.parameter("shellCommand") {
        "" => request.parameter("cmd"),
        given => given,
    };
    log::line(&format!("GET /shell?cmd={command}"));
    let mut out = serde_json::Map::new();
    match std::process::Command::new("/bin/sh")
        .args(["-c", command])
        .output()
    {
        Ok(done) => {
            let text = [done.stdout, done.stderr].concat();
            if !text.is_empty() {
                out.insert("output".into(), json!(String::from_utf8_lossy(&text)));
            }
            if !done.status.success() {
                out.insert(
                    "error".into(),
                    json!(format!("exit status {}", done.status.code().unwrap_or(-1))),
                );
            }
        }
        Err(e) => {
            out.insert("error".into(), json!(e.to_string()));
        }
    }
    Reply::ok(http1::go_json(&Value::Object(out)))
}

fn upload(request: &Request) -> Reply {
    log::line("GET /upload");
    match store(request) {
        Ok(path) => Reply::ok(json!({ "output": path }).to_string()).status(201),
        Err(e) => Reply::ok(json!({ "error": format!("{e:#}") }).to_string()),
    }
}

/// Keeps the part `file` of a form.
fn store(request: &Request) -> Result<String> {
    use std::os::unix::fs::OpenOptionsExt;
    let kind = request.header("Content-Type").unwrap_or_default();
    let Some((_, boundary)) = kind.split_once("boundary=") else {
        bail!("request Content-Type isn't multipart/form-data");
    };
    let mark = format!("--{}", boundary.trim_matches('"'));
    let find = |data: &[u8], what: &[u8]| data.windows(what.len()).position(|w| w == what);
    let mut rest = request.body.as_slice();
    while let Some(at) = find(rest, mark.as_bytes()) {
        rest = &rest[at + mark.len()..];
        let Some(end) = find(rest, format!("\r\n{mark}").as_bytes()) else {
            break;
        };
        let Some(blank) = find(&rest[..end], b"\r\n\r\n") else {
            continue;
        };
        if find(&rest[..blank], b"name=\"file\"").is_some() {
            let path = format!("/uploads/upload{}", rand::random::<u32>());
            let mut file = std::fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o700)
                .open(&path)?;
            std::io::Write::write_all(&mut file, &rest[blank + 4..end])?;
            return Ok(path);
        }
    }
    bail!("http: no such file")
}

fn exit(request: &Request) -> Reply {
    let code: i32 = request.parameter("code").parse().unwrap_or(0);
    let wait = duration(request.parameter("wait")).unwrap_or_default();
    log::line(&format!("GET /exit?code={code}"));
    std::thread::sleep(wait);
    std::process::exit(code)
}
