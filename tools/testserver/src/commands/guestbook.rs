//! `guestbook`: a primary with replicas, and a front end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::simple::PATIENCE;
use crate::client::{self, Options};
use crate::flags::Flags;
use crate::http1::{self, Reply, Request, encode, go_json};
use crate::{log, resolv};

#[derive(Default)]
struct State {
    data: BTreeMap<String, String>,
    replicas: Vec<String>,
}

type Shared = Arc<Mutex<State>>;

pub fn run(args: &[String]) -> Result<u8> {
    let known = [
        ("http-port", "80"),
        ("backend-port", "6379"),
        ("replicaof", ""),
    ];
    let flags = Flags::parse(args, &known, false)?;
    log::end_on_signal();
    let state: Shared = Arc::default();
    let (port, backend) = (flags.port("http-port")?, flags.port("backend-port")?);
    let primary = flags.get("replicaof").to_string();
    if !primary.is_empty() {
        let own = register(&primary, backend)?;
        lock(&state).data = own;
    }
    http1::serve(
        http1::listen(port)?,
        None,
        Arc::new(move |request| answer(&state, backend, request)),
    );
    Ok(0)
}

fn lock(state: &Shared) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn get(url: &str) -> Result<String> {
    let options = Options {
        connect: PATIENCE,
        patience: PATIENCE,
        ..Options::default()
    };
    let (status, body) = client::fetch(url, &options)?;
    let text = String::from_utf8_lossy(&body).into_owned();
    if status != 200 {
        bail!("{status}: {text}");
    }
    Ok(text)
}

/// Becomes a replica; gives what the primary has.
fn register(primary: &str, port: u16) -> Result<BTreeMap<String, String>> {
    let begun = Instant::now();
    loop {
        match try_register(primary, port) {
            Ok(data) => return Ok(data),
            Err(e) if begun.elapsed() > Duration::from_secs(15) => {
                return Err(e.context("failed to register to master"));
            }
            Err(e) => log::line(&format!("could not register to {primary}: {e:#}")),
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn try_register(primary: &str, port: u16) -> Result<BTreeMap<String, String>> {
    let address = *resolv::lookup(primary)?.first().context("no address")?;
    let own = http1::own_address(address)?;
    let target = client::join_port(primary, &port.to_string());
    let text = get(&format!(
        "http://{target}/register?host={}",
        encode(&own.to_string())
    ))?;
    let answer: Value = serde_json::from_str(&text)?;
    Ok(serde_json::from_value(answer["data"].clone())?)
}

fn answer(state: &Shared, port: u16, request: &Request) -> Reply {
    let (key, value) = (request.parameter("key"), request.parameter("value"));
    match request.path.as_str() {
        "/register" => {
            let mut state = lock(state);
            let host = request.parameter("host").to_string();
            log::line(&format!("registered {host}"));
            if !host.is_empty() && !state.replicas.contains(&host) {
                state.replicas.push(host);
            }
            Reply::ok(go_json(&json!({ "data": state.data })))
        }
        "/get" if key.is_empty() => Reply::ok(go_json(&json!({ "data": lock(state).data }))),
        "/get" => {
            let value = lock(state).data.get(key).cloned().unwrap_or_default();
            Reply::ok(go_json(&json!({ "data": value })))
        }
        "/set" if key.is_empty() => Reply::error(400, "set cmd requires key"),
        "/set" => set(state, port, key, value),
        "/guestbook" => front(port, request),
        _ => Reply::error(404, "404 page not found"),
    }
}

fn set(state: &Shared, port: u16, key: &str, value: &str) -> Reply {
    let replicas = {
        let mut state = lock(state);
        state.data.insert(key.to_string(), value.to_string());
        state.replicas.clone()
    };
    for replica in replicas {
        let target = client::join_port(&replica, &port.to_string());
        let url = format!(
            "http://{target}/set?key={}&value={}",
            encode(key),
            encode(value)
        );
        if let Err(e) = get(&url) {
            return Reply::error(417, &format!("failed to update replica {replica}: {e:#}"));
        }
    }
    Reply::ok(go_json(&json!({"message": "Updated"})))
}

/// The front end passes on to whom it concerns.
fn front(port: u16, request: &Request) -> Reply {
    let (key, value) = (
        encode(request.parameter("key")),
        encode(request.parameter("value")),
    );
    let (host, path) = match request.parameter("cmd") {
        "get" => ("agnhost-replica", format!("get?key={key}")),
        "set" => ("agnhost-primary", format!("set?key={key}&value={value}")),
        _ => return Reply::error(400, "unsupported cmd"),
    };
    if let Err(e) = resolv::lookup(host) {
        return Reply::error(400, &format!("{e:#}"));
    }
    match get(&format!("http://{host}:{port}/{path}")) {
        Ok(text) => Reply::ok(text),
        Err(e) => Reply::error(417, &format!("{e:#}")),
    }
}
