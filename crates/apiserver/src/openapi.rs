//! OpenAPI documents: v3 by group version, v2 as a whole, in JSON and protobuf. Made from the schema
//! table and the CRDs, once a change of what is served. Upstream: kube-openapi handler, handler3;
//! api-semantics §14.

mod custom;
mod definitions;
mod descriptions;
mod gnostic;
mod operations;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH, LOCATION, VARY,
};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha512};

use crate::aggregate::{Remote, Schema, schemas};
use crate::filters;
use crate::limits;
use crate::negotiate;
use crate::query::Query;
use crate::registry::Served;
use crate::response::{self, Answer};
use crate::server::{Incoming, Inner};
use definitions::{Definitions, Dialect};

const JSON: &str = "application/json";
const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
/// The name it had before; an `@` is not allowed there.
const V2_PROTOBUF_OLD: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
const V3_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v3.v1.0+protobuf";
const V3_PROTOBUF_OLD: &str = "application/com.github.proto-openapi.spec.v3@v1.0+protobuf";
/// A year, for documents whose address holds their hash.
const FOREVER_SECONDS: i64 = 31_536_000;

/// What was made for one state of what is served, here and by other servers.
#[derive(Default)]
struct Made {
    generations: (u64, u64),
    /// The v3 documents that were asked for, by their paths.
    documents: BTreeMap<String, Document>,
    /// Bytes of them that are kept.
    kept: usize,
    v2: Option<Arc<Whole>>,
}

/// What is known of a v3 document: of what it was made, which changes only with that.
struct Document {
    served: Vec<Arc<Served>>,
    hash: String,
    /// Its forms that were asked for.
    json: Option<Bytes>,
    protobuf: Option<Bytes>,
}

/// The v2 document in both forms; the tag is that of the JSON.
struct Whole {
    json: Bytes,
    protobuf: Bytes,
    tag: String,
}

/// Documents made so far.
#[derive(Default)]
pub struct Documents(Mutex<Made>);

// === Documents ===

impl Documents {
    /// What was made, begun anew where the registry has changed since.
    fn with<R>(&self, server: &Inner, f: impl FnOnce(&mut Made) -> R) -> R {
        let mut made = self.0.lock();
        let generations = (server.registry.generation(), server.aggregator.generation());
        if made.generations != generations {
            (made.generations, made.v2) = (generations, None);
        }
        f(&mut made)
    }

    /// The hashes of all v3 documents.
    fn hashes(&self, server: &Inner) -> BTreeMap<String, String> {
        let all = by_path(server);
        let mut out: BTreeMap<String, String> = self.with(server, |made| {
            made.documents.retain(|path, _| all.contains_key(path));
            let hash = |(path, served): (String, Vec<Arc<Served>>)| {
                let hash = made.hash(&path, served);
                (path, hash)
            };
            all.into_iter().map(hash).collect()
        });
        for r in server.aggregator.all() {
            if let Some(theirs) = &r.documents.state().v3 {
                out.insert(remote_path(&r), theirs.hash.clone());
            }
        }
        out
    }

    /// The hash of one.
    fn hash(&self, server: &Inner, path: &str) -> Option<String> {
        if let Some(theirs) = theirs(server, path) {
            return Some(theirs.hash.clone());
        }
        let served = by_path(server).remove(path)?;
        Some(self.with(server, |made| made.hash(path, served)))
    }

    /// One of them in a form.
    fn v3(&self, server: &Inner, path: &str, form: Form) -> Bytes {
        if let Some(theirs) = theirs(server, path) {
            return form.of(theirs.bytes.clone());
        }
        let served = by_path(server).remove(path).unwrap_or_default();
        self.with(server, |made| made.bytes(path, served, form))
    }

    fn v2_known(&self, server: &Inner) -> Option<Arc<Whole>> {
        self.with(server, |made| made.v2.clone())
    }

    fn v2(&self, server: &Inner) -> Arc<Whole> {
        self.with(server, |made| {
            let make = || {
                let mut document = whole(server);
                schemas::merge_all(&mut document, &server.aggregator.all());
                let json = encoded(&document);
                Arc::new(Whole {
                    tag: format!("\"{}\"", hash(&json)),
                    protobuf: gnostic::encode(&document).into(),
                    json,
                })
            };
            made.v2.get_or_insert_with(make).clone()
        })
    }
}

impl Made {
    fn hash(&mut self, path: &str, served: Vec<Arc<Served>>) -> String {
        self.document(path, served).hash.clone()
    }

    /// What is known of a document, found out where what it is about has changed.
    fn document(&mut self, path: &str, served: Vec<Arc<Served>>) -> &mut Document {
        let known = self.documents.get(path).is_some_and(|known| {
            let mut both = known.served.iter().zip(&served);
            known.served.len() == served.len() && both.all(|(a, b)| Arc::ptr_eq(a, b))
        });
        let made = || Document {
            hash: hash(&encoded(&document(&served))),
            served: served.clone(),
            json: None,
            protobuf: None,
        };
        if !known {
            self.documents.remove(path);
        }
        self.documents.entry(path.to_string()).or_insert_with(made)
    }

    /// A document's bytes, made at most once while what it is about stays. They are kept up to a bound.
    fn bytes(&mut self, path: &str, served: Vec<Arc<Served>>, form: Form) -> Bytes {
        if self.kept > limits::OPENAPI_KEPT {
            for known in self.documents.values_mut() {
                (known.json, known.protobuf) = (None, None);
            }
            self.kept = 0;
        }
        let known = self.document(path, served);
        let slot = match form {
            Form::Json => &mut known.json,
            Form::Protobuf => &mut known.protobuf,
        };
        if let Some(bytes) = slot {
            return bytes.clone();
        }
        let bytes = form.of(encoded(&document(&known.served)));
        *slot = Some(bytes.clone());
        self.kept += bytes.len();
        bytes
    }
}

fn encoded(document: &Value) -> Bytes {
    document.to_string().into_bytes().into()
}

/// The hash of a document by which clients and other servers know it.
pub fn hash(data: &[u8]) -> String {
    let digest = Sha512::digest(data);
    digest.iter().map(|b| format!("{b:02X}")).collect()
}

fn by_path(server: &Inner) -> BTreeMap<String, Vec<Arc<Served>>> {
    let mut out: BTreeMap<String, Vec<Arc<Served>>> = BTreeMap::new();
    for s in server.registry.all() {
        let path = operations::group_path(&s.descriptor);
        out.entry(path).or_default().push(s);
    }
    out
}

/// The path of an aggregated server's document.
fn remote_path(remote: &Remote) -> String {
    remote.path().trim_start_matches('/').to_string()
}

/// The document of a path that another server serves.
fn theirs(server: &Inner, path: &str) -> Option<Arc<Schema>> {
    let remotes = server.aggregator.all();
    let remote = remotes.iter().find(|r| remote_path(r) == path)?;
    remote.documents.state().v3.clone()
}

fn info() -> Value {
    json!({"title": "Kubernetes", "version": "v1.37.0"})
}

fn parts(served: &[Arc<Served>], dialect: Dialect) -> (Map<String, Value>, Map<String, Value>) {
    let mut defs = Definitions::new(dialect);
    let mut paths = Map::new();
    for s in served {
        defs.resource(&s.descriptor);
    }
    let mut versions: BTreeSet<(String, String)> = BTreeSet::new();
    for s in served {
        let d = &s.descriptor;
        operations::add(d, dialect, &defs, &mut paths);
        versions.insert((d.group.to_string(), d.version.to_string()));
    }
    defs.kind("autoscaling", "v1", "Scale");
    for (group, version) in versions {
        defs.kind(&group, &version, "DeleteOptions");
    }
    defs.kind("", "v1", "Status");
    (paths, defs.into_map())
}

/// The forms of a v3 document.
#[derive(Clone, Copy)]
enum Form {
    Json,
    Protobuf,
}

impl Form {
    /// A document in this form; ours is JSON always, and another server's was read before it was kept.
    fn of(self, document: Bytes) -> Bytes {
        match self {
            Self::Json => document,
            Self::Protobuf => {
                let document: Value = serde_json::from_slice(&document).unwrap_or_default();
                gnostic::v3::encode(&document).into()
            }
        }
    }
}

/// The v3 document of one group version.
fn document(served: &[Arc<Served>]) -> Value {
    let (paths, schemas) = parts(served, Dialect::V3);
    json!({
        "openapi": "3.0.0", "info": info(), "paths": paths, "components": {"schemas": schemas},
    })
}

/// The v2 document.
fn whole(server: &Inner) -> Value {
    let (paths, definitions) = parts(&server.registry.all(), Dialect::V2);
    json!({"swagger": "2.0", "info": info(), "paths": paths, "definitions": definitions})
}

fn insert(headers: &mut HeaderMap, name: http::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

fn matches(i: &Incoming, tag: &str) -> bool {
    let given = i.headers.get(IF_NONE_MATCH).and_then(|v| v.to_str().ok());
    given.is_some_and(|g| {
        g.split(',')
            .any(|t| t.trim().trim_start_matches("W/") == tag)
    })
}

/// `/openapi/v3` and `/openapi/v3/<path>`.
pub async fn v3(server: &Inner, path: &str, i: &Incoming, query: &Query) -> Answer {
    if path.is_empty() {
        let hashes = server.openapi.hashes(server);
        let entry = |(p, hash): (&String, &String)| {
            let url = format!("/openapi/v3/{p}?hash={hash}");
            (p.clone(), json!({"serverRelativeURL": url}))
        };
        let paths: Map<String, Value> = hashes.iter().map(entry).collect();
        return response::json(200, &json!({"paths": paths}));
    }
    let Some(hash) = server.openapi.hash(server, path) else {
        return empty(404);
    };
    let offered = [JSON, V3_PROTOBUF, V3_PROTOBUF_OLD];
    let Some(choice) = negotiate::first_of(&i.headers, &offered) else {
        let mut answer = empty(406);
        vary(answer.headers_mut(), &["Accept"]);
        return answer;
    };
    let asked = query.get("hash").filter(|h| !h.is_empty());
    if asked.is_some_and(|a| !a.eq_ignore_ascii_case(&hash)) {
        let mut answer = response::bytes(301, "text/plain; charset=utf-8", Bytes::new());
        let url = format!("/openapi/v3/{path}?hash={hash}");
        insert(answer.headers_mut(), LOCATION, &url);
        return answer;
    }
    let tag = format!("\"{hash}\"");
    let mut answer = match (matches(i, &tag), choice) {
        (true, _) => empty(304),
        (false, 0) => response::bytes(200, JSON, server.openapi.v3(server, path, Form::Json)),
        (false, _) => {
            let bytes = server.openapi.v3(server, path, Form::Protobuf);
            response::bytes(200, V3_PROTOBUF, bytes)
        }
    };
    let headers = answer.headers_mut();
    insert(headers, ETAG, &tag);
    vary(headers, &["Accept"]);
    if asked.is_some() {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
        let until = jiff::Timestamp::now().as_second() + FOREVER_SECONDS;
        let until = jiff::Timestamp::from_second(until).unwrap_or_default();
        let text = until.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        insert(headers, http::header::EXPIRES, &text);
    }
    crate::gzip::compressed(answer, &i.headers).await
}

/// An answer without a body.
fn empty(code: u16) -> Answer {
    let mut answer = response::bytes(code, "", Bytes::new());
    answer.headers_mut().remove(CONTENT_TYPE);
    answer
}

fn vary(headers: &mut HeaderMap, by: &[&'static str]) {
    for name in by {
        headers.append(VARY, HeaderValue::from_static(name));
    }
}

/// `/openapi/v2`.
pub async fn v2(server: &Inner, i: &Incoming) -> Answer {
    let offered = [JSON, V2_PROTOBUF, V2_PROTOBUF_OLD];
    let Some(choice) = negotiate::first_of(&i.headers, &offered) else {
        let mut answer = empty(406);
        vary(answer.headers_mut(), &["Accept-Encoding", "Accept"]);
        return answer;
    };
    let made = match server.openapi.v2_known(server) {
        Some(made) => made,
        None => filters::apart(server, async { server.openapi.v2(server) }).await,
    };
    let mut answer = match (matches(i, &made.tag), choice) {
        (true, _) => empty(304),
        (false, 0) => response::bytes(200, JSON, made.json.clone()),
        (false, _) => response::bytes(200, V2_PROTOBUF, made.protobuf.clone()),
    };
    let headers = answer.headers_mut();
    vary(headers, &["Accept-Encoding", "Accept"]);
    insert(headers, ETAG, &made.tag);
    crate::gzip::compressed(answer, &i.headers).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_made_once_and_kept_up_to_a_bound() {
        let mut made = Made::default();
        let mut ask = |path: &str, form| made.bytes(path, Vec::new(), form);
        let first = ask("apis/a/v1", Form::Json);
        assert_eq!(first.as_ptr(), ask("apis/a/v1", Form::Json).as_ptr());
        let packed = ask("apis/a/v1", Form::Protobuf);
        assert_eq!(packed.as_ptr(), ask("apis/a/v1", Form::Protobuf).as_ptr());
        assert_ne!(first, packed);
        made.kept = limits::OPENAPI_KEPT + 1;
        let again = made.bytes("apis/a/v1", Vec::new(), Form::Json);
        assert_eq!((again == first, made.kept), (true, first.len()));
        assert_ne!(again.as_ptr(), first.as_ptr());
    }
}
