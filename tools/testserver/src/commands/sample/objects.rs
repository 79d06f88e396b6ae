//! The objects, in memory.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{GROUP, Kind, failure, kind, text};
use crate::http1::{Reply, Request};

/// Objects of all kinds together.
const OBJECTS: usize = 10_000;

/// What a request is about.
pub struct Place {
    pub version: String,
    pub kind: Kind,
    /// Empty: all.
    pub namespace: String,
    /// Empty: the collection.
    pub name: String,
    pub verb: &'static str,
}

impl Place {
    /// The resource at a path, where it is one.
    pub fn parse(request: &Request, parts: &[&str]) -> Option<Self> {
        let ["apis", GROUP, version, rest @ ..] = parts else {
            return None;
        };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] => (*namespace, rest),
            rest => ("", rest),
        };
        let (plural, name) = match rest {
            [plural] => (*plural, ""),
            [plural, name] => (*plural, *name),
            _ => return None,
        };
        let kind = kind(version, plural)?;
        let verb = match (request.method.as_str(), name) {
            ("GET" | "HEAD", "") if request.parameter("watch") == "true" => "watch",
            ("GET" | "HEAD", "") => "list",
            ("GET" | "HEAD", _) => "get",
            ("POST", "") => "create",
            ("PUT", _) => "update",
            ("PATCH", _) => "patch",
            ("DELETE", "") => "deletecollection",
            ("DELETE", _) => "delete",
            _ => "",
        };
        Some(Self {
            version: version.to_string(),
            kind,
            namespace: namespace.into(),
            name: name.into(),
            verb,
        })
    }

    /// `flunders.wardle.example.com "x"`.
    pub fn qualified(&self) -> String {
        let what = format!("{}.{GROUP}", self.kind.plural);
        match self.name.as_str() {
            "" => what,
            name => format!("{what} \"{name}\""),
        }
    }

    fn api_version(&self) -> String {
        format!("{GROUP}/{}", self.version)
    }

    fn key(&self, name: &str) -> Key {
        (self.kind.plural, self.namespace.clone(), name.into())
    }
}

/// Plural, namespace, name.
type Key = (&'static str, String, String);

#[derive(Default)]
pub struct Objects {
    all: BTreeMap<Key, Value>,
    revision: u64,
}

impl Objects {
    /// Does what is asked.
    pub fn answer(&mut self, request: &Request, place: &Place) -> Reply {
        match place.verb {
            "list" => self.list(request, place),
            "get" => match self.all.get(&place.key(&place.name)) {
                Some(found) => Reply::json(&shown(found, place)),
                None => missing(place),
            },
            "create" => self.create(request, place),
            "update" => self.update(request, place),
            "delete" => match self.all.remove(&place.key(&place.name)) {
                Some(_) => {
                    self.revision += 1;
                    Reply::json(
                        &json!({"kind": "Status", "apiVersion": "v1", "metadata": {},
                        "status": "Success", "details": {"name": place.name, "group": GROUP,
                            "kind": place.kind.plural}}),
                    )
                }
                None => missing(place),
            },
            "deletecollection" => {
                let reply = self.list(request, place);
                self.revision += 1;
                self.all.retain(|key, _| !within(key, place));
                reply
            }
            _ => failure(
                405,
                "MethodNotAllowed",
                "the server does not allow this method on the requested resource",
            ),
        }
    }

    fn list(&self, request: &Request, place: &Place) -> Reply {
        let wanted = request.parameter("labelSelector");
        let items: Vec<Value> = self
            .all
            .iter()
            .filter(|(key, _)| within(key, place))
            .filter(|(_, o)| selected(o, wanted))
            .map(|(_, o)| shown(o, place))
            .collect();
        Reply::json(&json!({"kind": format!("{}List", place.kind.name),
            "apiVersion": place.api_version(),
            "metadata": {"resourceVersion": self.revision.to_string()}, "items": items}))
    }

    fn create(&mut self, request: &Request, place: &Place) -> Reply {
        let mut object = match parsed(request, place) {
            Ok(object) => object,
            Err(reply) => return *reply,
        };
        if place.kind.namespaced && place.namespace.is_empty() {
            return failure(405, "MethodNotAllowed", "a namespace is needed");
        }
        let mut name = text(&object, "/metadata/name").to_string();
        if name.is_empty() {
            let base = text(&object, "/metadata/generateName");
            if base.is_empty() {
                return failure(
                    422,
                    "Invalid",
                    "metadata.name: Required value: name or generateName is required",
                );
            }
            name = format!("{base}{:05x}", rand::random::<u32>() & 0xf_ffff);
        }
        let key = place.key(&name);
        if self.all.contains_key(&key) {
            let why = format!("{}.{GROUP} \"{name}\" already exists", place.kind.plural);
            return failure(409, "AlreadyExists", &why);
        }
        if self.all.len() >= OBJECTS {
            return failure(429, "TooManyRequests", "too many objects");
        }
        self.revision += 1;
        let metadata = &mut object["metadata"];
        metadata["name"] = json!(name);
        if place.kind.namespaced {
            metadata["namespace"] = json!(place.namespace);
        }
        metadata["uid"] = json!(uid());
        metadata["creationTimestamp"] = json!(
            jiff::Timestamp::now()
                .strftime("%Y-%m-%dT%H:%M:%SZ")
                .to_string()
        );
        metadata["resourceVersion"] = json!(self.revision.to_string());
        let reply = Reply::json(&shown(&object, place)).status(201);
        self.all.insert(key, object);
        reply
    }

    fn update(&mut self, request: &Request, place: &Place) -> Reply {
        let mut object = match parsed(request, place) {
            Ok(object) => object,
            Err(reply) => return *reply,
        };
        let Some(stored) = self.all.get_mut(&place.key(&place.name)) else {
            return missing(place);
        };
        let given = text(&object, "/metadata/resourceVersion");
        if !given.is_empty() && given != text(stored, "/metadata/resourceVersion") {
            let why = format!(
                "Operation cannot be fulfilled on {}: the object has been modified; please apply your changes to the latest version and try again",
                place.qualified()
            );
            return failure(409, "Conflict", &why);
        }
        self.revision += 1;
        for field in ["name", "namespace", "uid", "creationTimestamp"] {
            object["metadata"][field] = stored["metadata"][field].clone();
        }
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        *stored = object;
        Reply::json(&shown(stored, place))
    }
}

fn within(key: &Key, place: &Place) -> bool {
    let (plural, namespace, _) = key;
    *plural == place.kind.plural && (place.namespace.is_empty() || *namespace == place.namespace)
}

/// Whether an object has the labels of a selector of `key=value` alone.
fn selected(object: &Value, selector: &str) -> bool {
    let mut wanted = selector.split(',').filter_map(|t| t.split_once('='));
    wanted.all(|(key, value)| object["metadata"]["labels"][key] == value.trim_start_matches('='))
}

/// An object as one version shows it.
fn shown(object: &Value, place: &Place) -> Value {
    let mut out = object.clone();
    out["apiVersion"] = json!(place.api_version());
    out["kind"] = json!(place.kind.name);
    out
}

fn missing(place: &Place) -> Reply {
    let why = format!("{} not found", place.qualified());
    failure(404, "NotFound", &why)
}

fn parsed(request: &Request, place: &Place) -> Result<Value, Box<Reply>> {
    let bad = |why: &str| Box::new(failure(400, "BadRequest", why));
    let object: Value = serde_json::from_slice(&request.body)
        .map_err(|e| bad(&format!("the object provided is unrecognized: {e}")))?;
    let kind = text(&object, "/kind");
    if kind != place.kind.name || text(&object, "/apiVersion") != place.api_version() {
        return Err(bad("the kind in the data does not match the expected kind"));
    }
    if !object["metadata"].is_object() {
        return Err(bad("an object without metadata"));
    }
    Ok(object)
}

fn uid() -> String {
    let n = rand::random::<u128>();
    let hex = format!("{n:032x}");
    let (a, b, c, d, e) = (
        &hex[..8],
        &hex[8..12],
        &hex[13..16],
        &hex[17..20],
        &hex[20..],
    );
    format!("{a}-{b}-4{c}-a{d}-{e}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(objects: &mut Objects, method: &str, path: &str, body: Value) -> (u16, Value) {
        let request = Request {
            method: method.into(),
            path: path.into(),
            body: body.to_string().into_bytes(),
            ..Request::default()
        };
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let place = Place::parse(&request, &parts).unwrap();
        let reply = objects.answer(&request, &place);
        (reply.status, serde_json::from_slice(&reply.body).unwrap())
    }

    #[test]
    fn objects_live_and_die() {
        let all = "/apis/wardle.example.com/v1alpha1/namespaces/n/flunders";
        let flunder = json!({"apiVersion": "wardle.example.com/v1alpha1", "kind": "Flunder",
            "metadata": {"name": "f"}});
        let mut objects = Objects::default();
        let (code, made) = ask(&mut objects, "POST", all, flunder.clone());
        assert_eq!((code, &made["metadata"]["namespace"]), (201, &json!("n")));
        assert_eq!(ask(&mut objects, "POST", all, flunder).0, 409);
        let other = "/apis/wardle.example.com/v1beta1/flunders";
        let (_, list) = ask(&mut objects, "GET", other, json!(null));
        assert_eq!(list["items"][0]["apiVersion"], "wardle.example.com/v1beta1");
        let one = format!("{all}/f");
        assert_eq!(ask(&mut objects, "DELETE", &one, json!(null)).0, 200);
        assert_eq!(ask(&mut objects, "GET", &one, json!(null)).0, 404);
    }
}
