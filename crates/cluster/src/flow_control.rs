//! Keeps the objects of API priority and fairness: makes what is missing, puts back what nobody took
//! over, removes what a former version made. Upstream: registry/flowcontrol/{ensurer,rest}.

use std::time::Duration;

use client::Client;
use futures::{StreamExt, TryStreamExt, stream};
use http::Method;
use machinery::object;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::bootstrap::collection;
use crate::limits;
use crate::rest::{Error, create, get, send};

/// The API group.
pub const GROUP: &str = "flowcontrol.apiserver.k8s.io/";
/// Tells the server to keep an object as it made it.
const AUTO_UPDATE: &str = "apf.kubernetes.io/autoupdate-spec";
/// Objects that cannot be taken over.
const MANDATORY: [&str; 2] = ["exempt", "catch-all"];
/// Who writes them.
const MANAGER: &str = "?fieldManager=api-priority-and-fairness-config-producer-v1";
/// Between two looks.
const EVERY: Duration = Duration::from_secs(60);

/// What to do about a stored object.
#[derive(Debug, PartialEq)]
enum Step {
    Keep,
    Update(Value),
}

fn wanted() -> Vec<Value> {
    let all = resources::bootstrap_objects();
    let ours = |o: &Value| object::str_at(o, "apiVersion").starts_with(GROUP);
    all.into_iter().filter(ours).collect()
}

/// Brings all of them up to date, levels first: no schema's status is to say that its level is missing.
pub async fn ensure(client: &Client) -> Result<(), Error> {
    let is_level = |o: &Value| object::str_at(o, "kind") == "PriorityLevelConfiguration";
    let (levels, schemas): (Vec<Value>, Vec<Value>) = wanted().into_iter().partition(is_level);
    for objects in [levels, schemas] {
        let writes = stream::iter(objects).map(|o| one(client, o));
        let writes = writes.buffer_unordered(limits::BOOTSTRAP_WRITES);
        writes.try_collect::<()>().await?;
    }
    Ok(())
}

/// Looks every minute, until the end.
pub async fn run(client: Client, mut shutdown: watch::Receiver<bool>) {
    loop {
        let look = async {
            ensure(&client).await?;
            remove_leftovers(&client).await
        };
        tokio::select! {
            done = look => if let Err(error) = done {
                tracing::warn!(%error, "objects of flow control are not kept");
            },
            // An error means that the process ends.
            _ = shutdown.wait_for(|down| *down) => return,
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            _ = shutdown.wait_for(|down| *down) => return,
        }
    }
}

async fn one(client: &Client, object: Value) -> Result<(), Error> {
    let path = collection(&object);
    let one = format!("{path}/{}", object::name(&object));
    match get(client, &one).await? {
        None => create(client, &format!("{path}{MANAGER}"), &object).await,
        Some(stored) => match plan(&stored, &object) {
            Step::Keep => Ok(()),
            Step::Update(o) => {
                let path = format!("{one}{MANAGER}");
                let done = send(client, Method::PUT, &path, Some(&o)).await;
                // Somebody else was faster: the next look sees what they wrote.
                match done {
                    Err(e) if client::is_conflict(&e.source) => Ok(()),
                    done => done.map(drop),
                }
            }
        },
    }
}

/// What an object's annotation says, as Go's ParseBool reads it.
fn said(stored: &Value) -> Option<bool> {
    let annotations = object::map_at(stored, "metadata.annotations")?;
    match annotations.get(AUTO_UPDATE)?.as_str()? {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// The stored object with the wanted spec, where the server still keeps it, and with its annotation.
fn plan(stored: &Value, wanted: &Value) -> Step {
    let mandatory = MANDATORY.contains(&object::name(wanted));
    // Nobody has changed the spec of a first generation.
    let first = object::i64_at(stored, "metadata.generation") == Some(1);
    let kept = mandatory || said(stored).unwrap_or(first);
    let mut spec = wanted["spec"].clone();
    if mandatory && spec["exempt"].is_object() {
        // These two are the user's.
        for field in ["nominalConcurrencyShares", "lendablePercent"] {
            if let Some(theirs) = stored["spec"]["exempt"].get(field) {
                spec["exempt"][field] = theirs.clone();
            }
        }
    }
    let mut out = stored.clone();
    if kept {
        out["spec"] = spec;
    }
    let noted = match mandatory {
        true => said(stored) == Some(true),
        false => said(stored).is_some(),
    };
    if !noted {
        out["metadata"]["annotations"][AUTO_UPDATE] = json!(kept.to_string());
    }
    match out == *stored {
        true => Step::Keep,
        false => Step::Update(out),
    }
}

/// Objects that are kept but not wanted.
async fn remove_leftovers(client: &Client) -> Result<(), Error> {
    let wanted = wanted();
    for plural in ["flowschemas", "prioritylevelconfigurations"] {
        let path = format!("/apis/{GROUP}v1/{plural}");
        let all = send(client, Method::GET, &path, None).await?;
        for stored in object::list_at(&all, "items") {
            let name = object::name(stored);
            let known = |o: &Value| object::name(o) == name && collection(o) == path;
            if said(stored) == Some(true) && !wanted.iter().any(known) {
                send(client, Method::DELETE, &format!("{path}/{name}"), None).await?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(name: &str, said: Option<&str>, generation: i64, a: i64) -> Value {
        let mut o = json!({"metadata": {"name": name, "generation": generation}, "spec": {"a": a}});
        if let Some(said) = said {
            o["metadata"]["annotations"] = json!({AUTO_UPDATE: said});
        }
        o
    }

    fn wanted(name: &str) -> Value {
        json!({"metadata": {"name": name}, "spec": {"a": 1}})
    }

    #[test]
    fn suggested_objects_are_put_back_unless_somebody_took_them_over() {
        let table = [
            (Some("true"), 3, 2, Some((Some("true"), 1))),
            (Some("true"), 3, 1, None),
            (Some("false"), 3, 2, None),
            (None, 1, 2, Some((Some("true"), 1))),
            (None, 2, 2, Some((Some("false"), 2))),
            (Some("what"), 2, 2, Some((Some("false"), 2))),
        ];
        for (said, generation, a, expected) in table {
            let got = plan(&stored("x", said, generation, a), &wanted("x"));
            let expected = match expected {
                None => Step::Keep,
                Some((said, a)) => Step::Update(stored("x", said, generation, a)),
            };
            assert_eq!(got, expected, "{said:?} {generation} {a}");
        }
    }

    #[test]
    fn mandatory_objects_are_always_put_back() {
        let got = plan(
            &stored("catch-all", Some("false"), 7, 2),
            &wanted("catch-all"),
        );
        let put_back = stored("catch-all", Some("true"), 7, 1);
        assert_eq!(got, Step::Update(put_back));
        let exempt = |shares: i64, lendable: Value| {
            let mut o = stored("exempt", Some("true"), 1, 1);
            o["spec"] = json!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": shares, "lendablePercent": lendable}});
            o
        };
        let theirs = exempt(9, json!(50));
        assert_eq!(plan(&theirs, &exempt(0, json!(0))), Step::Keep);
    }
}
