//! Conversion webhooks of CRDs. Upstream: apiextensions-apiserver/pkg/apiserver/conversion/webhook_converter.go;
//! api-semantics §19.7.

use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use machinery::causes::go_quote;
use machinery::object::{list_at, map_at, str_at};
use machinery::{ApiError, Causes, Converter};
use serde_json::{Map, Value, json};
use webhook::{Caller, ClientConfig};

use super::GROUP;
use super::custom::stored_version;
use crate::limits;

/// The webhook that converts the objects of one CRD.
pub struct ConversionWebhook {
    id: u64,
    caller: Caller,
    client: ClientConfig,
    /// The first version of reviews that both sides know.
    review: Option<&'static str>,
    stored: String,
    /// `g.io/v1, Kind=Foo` without the version, for errors.
    group: String,
    kind: String,
}

impl ConversionWebhook {
    /// The converter of a CRD; nothing where its strategy is None.
    pub fn of(crd: &Value, caller: &Caller) -> Option<Self> {
        static IDS: AtomicU64 = AtomicU64::new(0);
        if str_at(crd, "spec.conversion.strategy") != "Webhook" {
            return None;
        }
        let known = ["v1", "v1beta1"];
        let mut offered = list_at(crd, "spec.conversion.webhook.conversionReviewVersions").iter();
        let client = crd.pointer("/spec/conversion/webhook/clientConfig");
        let group = str_at(crd, "spec.group");
        Some(Self {
            id: IDS.fetch_add(1, Ordering::Relaxed),
            caller: caller.clone(),
            client: ClientConfig::from_object(client.unwrap_or(&Value::Null)),
            review: offered.find_map(|v| known.into_iter().find(|k| v == k)),
            stored: format!("{group}/{}", stored_version(crd)),
            group: group.to_string(),
            kind: str_at(crd, "spec.names.kind").to_string(),
        })
    }

    /// The kind that is converted, as Go prints it.
    fn subject(&self, object: &Value) -> String {
        let version = str_at(object, "apiVersion");
        let version = if version.is_empty() {
            &self.group
        } else {
            version
        };
        format!("{version}, Kind={}", self.kind)
    }

    async fn ask(&self, objects: &[Value], api_version: &str) -> Result<Vec<Value>, String> {
        let review = self
            .review
            .ok_or("no supported conversion review versions")?;
        let uid = uuid::Uuid::new_v4().to_string();
        let asked = json!({"kind": "ConversionReview", "apiVersion": format!("{GROUP}/{review}"),
            "request": {"uid": uid, "desiredAPIVersion": api_version, "objects": objects}});
        let body = Bytes::from(asked.to_string());
        let (time, max) = (limits::CONVERSION_TIME, limits::CONVERSION_BYTES);
        let answer = self.caller.post(&self.client, body, time, max).await;
        let answer = answer.map_err(|e| e.text)?;
        let answer: Value = serde_json::from_slice(&answer)
            .map_err(|e| format!("couldn't get version/kind; json parse error: {e}"))?;
        answered(answer, review, &uid)
    }
}

/// The objects of an answer; the error is upstream's text.
pub fn answered(mut answer: Value, review: &str, uid: &str) -> Result<Vec<Value>, String> {
    let (version, kind) = (str_at(&answer, "apiVersion"), str_at(&answer, "kind"));
    if review == "v1" && (version != format!("{GROUP}/v1") || kind != "ConversionReview") {
        let version = if version.contains('/') {
            version.to_string()
        } else {
            format!("/{version}")
        };
        return Err(format!(
            "expected webhook response of {GROUP}/v1, Kind=ConversionReview, got {version}, Kind={kind}"
        ));
    }
    let mut response = answer["response"].take();
    if !response.is_object() {
        return Err("no response provided".into());
    }
    let given = str_at(&response, "uid");
    if review == "v1" && given != uid {
        let (wanted, got) = (go_quote(uid), go_quote(given));
        return Err(format!("expected response.uid={wanted}, got {got}"));
    }
    let status = str_at(&response, "result.status");
    if status != "Success" {
        return Err(match str_at(&response, "result.message") {
            "" => format!("response.result.status was '{status}', not 'Success'"),
            message => message.to_string(),
        });
    }
    match response["convertedObjects"].take() {
        Value::Array(all) => Ok(all),
        _ => Ok(Vec::new()),
    }
}

#[async_trait]
impl Converter for ConversionWebhook {
    fn id(&self) -> u64 {
        self.id
    }

    fn stored(&self) -> &str {
        &self.stored
    }

    async fn convert(
        &self,
        objects: Vec<Value>,
        api_version: &str,
    ) -> Result<Vec<Value>, ApiError> {
        let Some(first) = objects.first() else {
            return Ok(objects);
        };
        let subject = self.subject(first);
        // Upstream's plain error: no reason, nothing around it.
        let failed = |text: String| {
            ApiError::new(500, "", format!("conversion webhook for {subject} {text}"))
        };
        let answer = self.ask(&objects, api_version).await;
        let mut done = answer.map_err(|e| failed(format!("failed: {e}")))?;
        if done.len() != objects.len() {
            let (got, wanted) = (done.len(), objects.len());
            return Err(failed(format!("returned {got} objects, expected {wanted}")));
        }
        for (i, (before, after)) in objects.iter().zip(&mut done).enumerate() {
            check(before, after, api_version).map_err(|e| {
                failed(format!(
                    "returned invalid converted object at index {i}: {e}"
                ))
            })?;
            restore(before, after).map_err(|e| {
                failed(format!(
                    "returned invalid metadata in object at index {i}: {e}"
                ))
            })?;
        }
        Ok(done)
    }
}

/// Whether a converted object is the same one in the wanted version.
pub fn check(before: &Value, after: &Value, api_version: &str) -> Result<(), String> {
    let of = |v: &Value, path: &str| str_at(v, path).to_string();
    let version = of(after, "apiVersion");
    if version != api_version {
        return Err(format!(
            "invalid groupVersion (expected {api_version}, received {version})"
        ));
    }
    let (wanted, got) = (of(before, "kind"), of(after, "kind"));
    if wanted != got {
        return Err(format!("invalid kind (expected {wanted}, received {got})"));
    }
    for (what, path) in [
        ("name", "metadata.name"),
        ("namespace", "metadata.namespace"),
        ("UID", "metadata.uid"),
    ] {
        let (wanted, got) = (of(before, path), of(after, path));
        if wanted != got {
            return Err(format!("must have the same {what}: {wanted} != {got}"));
        }
    }
    Ok(())
}

/// Puts the metadata back as it was, but for labels and annotations.
pub fn restore(before: &Value, after: &mut Value) -> Result<(), String> {
    let given = after
        .get("metadata")
        .cloned()
        .ok_or("missing metadata in converted object")?;
    let Value::Object(mut given) = given else {
        return Err("invalid metadata of another type in converted object".into());
    };
    let mut meta: Map<String, Value> = map_at(before, "metadata").cloned().unwrap_or_default();
    for field in ["labels", "annotations"] {
        let new = match given.remove(field) {
            None | Some(Value::Null) => {
                meta.remove(field);
                continue;
            }
            Some(Value::Object(new)) => new,
            Some(_) => return Err(format!("invalid metadata.{field} in converted object")),
        };
        if let Some((key, value)) = new.iter().find(|(_, v)| !v.is_string()) {
            let kind = go_type(value);
            return Err(format!(
                "metadata.{field}[{key}] must be a string, but is {kind} in converted object"
            ));
        }
        let new = Value::Object(new);
        if meta.get(field) != Some(&new) {
            let mut causes = Causes::new();
            let changed = json!({"metadata": {"name": "x", field: new}});
            machinery::meta::validate(&changed, false, &|_, _| Vec::new(), &mut causes);
            let texts: Vec<String> = causes.as_slice().iter().map(|c| c.text()).collect();
            if !texts.is_empty() {
                return Err(texts.join(", "));
            }
        }
        meta.insert(field.to_string(), new);
    }
    after["metadata"] = Value::Object(meta);
    Ok(())
}

/// What Go calls the type of a decoded value.
fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_lie_are_refused_in_upstreams_words() {
        let with = |response: Value| json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "response": response});
        for (answer, expected) in [
            (
                json!({}),
                "expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got /, Kind=",
            ),
            (with(json!(null)), "no response provided"),
            (
                with(json!({"uid": "x"})),
                "expected response.uid=\"u\", got \"x\"",
            ),
            (
                with(json!({"uid": "u", "result": {"status": "Failure", "message": "no"}})),
                "no",
            ),
            (
                with(json!({"uid": "u"})),
                "response.result.status was '', not 'Success'",
            ),
        ] {
            assert_eq!(answered(answer, "v1", "u"), Err(expected.to_string()));
        }
    }

    #[test]
    fn of_the_metadata_only_labels_and_annotations_are_taken() {
        let before = json!({"apiVersion": "g/v1", "kind": "K", "metadata": {"name": "n", "uid": "u", "labels": {"a": "b"}, "finalizers": ["f"]}});
        let mut after = json!({"apiVersion": "g/v2", "kind": "K", "metadata": {"name": "n", "uid": "u", "labels": {"c": "d"}, "generation": 7}});
        assert_eq!(check(&before, &after, "g/v2"), Ok(()));
        assert_eq!(restore(&before, &mut after), Ok(()));
        assert_eq!(
            after["metadata"],
            json!({"name": "n", "uid": "u", "labels": {"c": "d"}, "finalizers": ["f"]})
        );
        let other =
            json!({"apiVersion": "g/v2", "kind": "K", "metadata": {"name": "m", "uid": "u"}});
        assert_eq!(
            check(&before, &other, "g/v2"),
            Err("must have the same name: n != m".into())
        );
        assert_eq!(
            check(&before, &before, "g/v2"),
            Err("invalid groupVersion (expected g/v2, received g/v1)".into())
        );
        let mut bad = json!({"metadata": {"labels": {"k": 1}}});
        assert_eq!(
            restore(&before, &mut bad),
            Err("metadata.labels[k] must be a string, but is float64 in converted object".into())
        );
    }
}
