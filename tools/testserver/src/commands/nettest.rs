//! `nettest`: counts who wrote to it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use serde_json::{Value, json};

use crate::flags::Flags;
use crate::http1::{self, Reply, hostname};
use crate::log;

#[derive(Default)]
struct Seen {
    received: BTreeMap<String, u64>,
    log: Vec<String>,
}

pub fn run(args: &[String]) -> Result<u8> {
    let known = [
        ("port", "8080"),
        ("peers", "8"),
        ("service", "nettest"),
        ("namespace", "default"),
        ("delay-shutdown", "0"),
    ];
    let flags = Flags::parse(args, &known, false)?;
    let delay = std::time::Duration::from_secs(u64::try_from(flags.number("delay-shutdown")?)?);
    log::on_signal(move |_| {
        std::thread::sleep(delay);
        std::process::exit(2);
    });
    let peers = flags.number("peers")?;
    let seen: Arc<Mutex<Seen>> = Arc::default();
    http1::serve(
        http1::listen(flags.port("port")?)?,
        None,
        Arc::new(move |request| {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            match request.path.as_str() {
                "/write" => {
                    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
                    let source = body["Source"].as_str().unwrap_or_default().to_string();
                    seen.log.push(format!(
                        "received a write from {source:?} at {}",
                        request.peer
                    ));
                    *seen.received.entry(source).or_default() += 1;
                    Reply::ok(format!("{}\n", json!({"Hostname": hostname()})))
                }
                "/read" => {
                    let state = json!({
                        "Hostname": hostname(), "Sent": {},
                        "Received": if seen.received.is_empty() { Value::Null } else { json!(seen.received) },
                        "Errors": [], "Log": seen.log, "StillContactingPeers": false,
                    });
                    match serde_json::to_string_pretty(&state) {
                        Ok(text) => Reply::ok(text).with("Content-Type", "application/json"),
                        Err(e) => Reply::error(500, &e.to_string()),
                    }
                }
                "/status" => {
                    let enough = i64::try_from(seen.received.len()).unwrap_or(0) >= peers;
                    Reply::ok(if enough { "pass" } else { "running" })
                }
                "/quit" => std::process::exit(0),
                _ => Reply::error(404, "404 page not found"),
            }
        }),
    );
    Ok(0)
}
