//! What arrives from outside, one function a format: where the fuzz targets enter (`tools/fuzz`). Each takes what
//! production takes, within production's bounds, and tells nothing but whether it was accepted.

use bytes::Bytes;
use machinery::Causes;
use serde_json::{Value, json};

use crate::crd::convert;
use crate::crd::jsonpath::JsonPath;
use crate::crd::structural::{Check, Structural};
use crate::crd::validation;
use crate::negotiate::Media;
use crate::query::Query;
use crate::{decode, request_info, response, verbs};

/// A request's body in one of the media types, and the answer in all of them.
pub fn body(data: &Bytes, media: Media) -> bool {
    let Ok(value) = decode::object(data, media, "Pod") else {
        return false;
    };
    // Custom resources have no protobuf form: an error is fine.
    let _ = response::encode(&value, Media::Protobuf, false);
    response::encode(&value, Media::Json, true).is_ok()
        && response::encode(&value, Media::Yaml, false).is_ok()
}

/// A CRD's schema, and an object that is pruned, defaulted and validated by it, alone and as its own successor.
pub fn custom_object(schema: &Value, object: &Value) -> bool {
    let definition = json!({"metadata": {"name": "things.example.com"}, "spec": {"group": "example.com",
        "scope": "Namespaced", "names": {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]}});
    let mut wrong = Causes::new();
    validation::validate(&definition, None, &mut wrong);
    if !wrong.is_empty() {
        return false;
    }
    let schema = Structural::parse(schema);
    let mut object = object.clone();
    schema.prune(&mut object, true);
    schema.set_defaults(&mut object);
    let mut causes = Causes::new();
    for before in [None, Some(&object)] {
        let check = Check {
            object: &object,
            before,
            status: false,
            scale: None,
        };
        schema.validate(&check, &mut causes);
    }
    causes.is_empty()
}

/// The path of a printer column, and what it finds.
pub fn column(path: &str, object: &Value) -> usize {
    JsonPath::parse(path).map_or(0, |p| p.find(object).len())
}

/// A conversion webhook's answer about an object.
pub fn conversion_answer(answer: &[u8], before: &Value) -> bool {
    let Ok(answer) = serde_json::from_slice(answer) else {
        return false;
    };
    let Ok(objects) = convert::answered(answer, "v1", "uid") else {
        return false;
    };
    objects.into_iter().all(|mut after| {
        convert::check(before, &after, "example.com/v2").is_ok()
            && convert::restore(before, &mut after).is_ok()
    })
}

/// A method, path and query, as they decide what a request is about; the continue token too.
pub fn request_line(method: &http::Method, path: &str, query: &str) -> bool {
    let query = Query::parse(query);
    let token = query.get("continue").unwrap_or("");
    let continues = verbs::list::is_token(token);
    request_info::parse(method, path, &query).is_ok() && continues
}
