//! `sample-apiserver`, the sample of an aggregated API server: wardle.example.com with flunders and fischers, over
//! TLS. Who asks is told by the front proxy's headers or found by TokenReview, what they may by SubjectAccessReview.
//! Objects are kept in memory. And `etcd`, which only answers that it is there.
//! Upstream: k8s.io/sample-apiserver.

mod access;
mod documents;
mod objects;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::client;
use crate::flags::Flags;
use crate::http1::{self, Reply, Request};
use crate::{log, tls};
use access::{Access, Refused};
use objects::{Objects, Place};

pub const GROUP: &str = "wardle.example.com";
/// The versions, and the kinds of each: plural, kind, whether namespaced.
pub static VERSIONS: &[(&str, &[Kind])] = &[
    ("v1beta1", &[FLUNDERS]),
    ("v1alpha1", &[FISCHERS, FLUNDERS]),
];

/// A kind of object.
#[derive(Clone, Copy)]
pub struct Kind {
    pub plural: &'static str,
    pub name: &'static str,
    pub namespaced: bool,
}

const FLUNDERS: Kind = Kind {
    plural: "flunders",
    name: "Flunder",
    namespaced: true,
};
const FISCHERS: Kind = Kind {
    plural: "fischers",
    name: "Fischer",
    namespaced: false,
};

/// Between two tries to learn whom to trust.
const AGAIN: Duration = Duration::from_secs(1);
/// Between two looks whether that has changed.
const EVERY: Duration = Duration::from_secs(60);

pub fn run(args: &[String]) -> Result<u8> {
    let known = [
        ("etcd-servers", ""),
        ("tls-cert-file", ""),
        ("tls-private-key-file", ""),
        ("secure-port", "443"),
        ("audit-log-path", ""),
        ("audit-log-maxage", "0"),
        ("audit-log-maxbackup", "0"),
    ];
    // The flags follow argv[0] at once.
    let args: Vec<String> = [String::new()].iter().chain(args).cloned().collect();
    let flags = Flags::parse(&args, &known, false)?;
    log::end_on_signal();
    let etcd = client::Url::parse(flags.get("etcd-servers")).context("--etcd-servers")?;
    let config = tls::server(
        flags.get("tls-cert-file").as_ref(),
        flags.get("tls-private-key-file").as_ref(),
        true,
    )?;
    let listener = http1::listen(flags.port("secure-port")?)?;
    let access = Arc::new(Access::in_cluster()?);
    let learner = access.clone();
    std::thread::spawn(move || {
        loop {
            let learned = learner.learn();
            if let Err(error) = &learned {
                log::line(&format!("whom to trust is not known: {error:#}"));
            }
            std::thread::sleep(if learned.is_ok() { EVERY } else { AGAIN });
        }
    });
    let audit = flags.get("audit-log-path") == "-";
    let server = Server {
        access,
        etcd,
        audit,
        objects: Mutex::default(),
    };
    log::line("Serving securely");
    http1::serve(
        listener,
        Some(config),
        Arc::new(move |request| server.answer(request)),
    );
    Ok(0)
}

struct Server {
    access: Arc<Access>,
    etcd: client::Url,
    audit: bool,
    objects: Mutex<Objects>,
}

impl Server {
    fn answer(&self, request: &Request) -> Reply {
        let parts: Vec<&str> = request.path.trim_matches('/').split('/').collect();
        if let ["healthz" | "livez" | "readyz", ..] = parts[..] {
            return self.health(parts[0] == "readyz");
        }
        let place = Place::parse(request, &parts);
        let user = match self.access.admit(request, place.as_ref()) {
            Ok(user) => user,
            Err(Refused::Nobody) => return failure(401, "Unauthorized", "Unauthorized"),
            Err(Refused::Forbidden(why)) => return failure(403, "Forbidden", &why),
            Err(Refused::Unknown(why)) => return failure(500, "InternalError", &why),
        };
        let reply = match place {
            Some(place) => {
                let mut objects = self
                    .objects
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner);
                objects.answer(request, &place)
            }
            None => documents::answer(request, &parts),
        };
        if self.audit {
            let event = json!({"kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata",
                "stage": "ResponseComplete", "auditID": request.header("Audit-Id"), "requestURI": request.path,
                "verb": request.method, "user": {"username": user}, "responseStatus": {"code": reply.status}});
            println!("{event}");
        }
        reply
    }

    fn health(&self, ready: bool) -> Reply {
        let patience = Duration::from_secs(2);
        if ready {
            if !self.access.is_ready() {
                return Reply::error(500, "[-]informer-sync failed: not finished");
            }
            if client::connect(&self.etcd.host, self.etcd.port, patience, None).is_err() {
                return Reply::error(500, "[-]etcd failed: not reached");
            }
        }
        Reply::ok("ok")
    }
}

/// A Status of a failure.
pub fn failure(code: u16, reason: &str, message: &str) -> Reply {
    Reply::json(
        &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code}),
    )
    .status(code)
}

/// A kind of a version.
pub fn kind(version: &str, plural: &str) -> Option<Kind> {
    let (_, kinds) = VERSIONS.iter().find(|(v, _)| *v == version)?;
    kinds.iter().find(|k| k.plural == plural).copied()
}

/// Listens where etcd would, and says that it is well.
pub fn etcd(args: &[String]) -> Result<u8> {
    let known = [
        ("listen-client-urls", "http://localhost:2379"),
        ("advertise-client-urls", ""),
        ("data-dir", ""),
    ];
    let args: Vec<String> = [String::new()].iter().chain(args).cloned().collect();
    let flags = Flags::parse(&args, &known, false)?;
    log::end_on_signal();
    let url = client::Url::parse(flags.get("listen-client-urls"))?;
    let listener = std::net::TcpListener::bind((url.host.as_str(), url.port))
        .with_context(|| format!("listen tcp {}:{}", url.host, url.port))?;
    log::line("serving client requests");
    let answer = |request: &Request| match request.path.as_str() {
        "/health" => Reply::json(&json!({"health": "true"})),
        "/version" => Reply::json(&json!({"etcdserver": "3.6.8", "etcdcluster": "3.6.0"})),
        _ => Reply::error(404, "404 page not found"),
    };
    http1::serve(listener, None, Arc::new(answer));
    Ok(0)
}

/// An object's field, empty where there is none.
pub fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    object
        .pointer(path)
        .and_then(Value::as_str)
        .unwrap_or_default()
}
