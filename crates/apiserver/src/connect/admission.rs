//! Admission of connect requests: plugins see the options, decoded from the query.
//! Upstream: apiserver handlers ConnectResource.

use std::collections::BTreeMap;

use api::schema::{self, Type};
use machinery::request::{Attempt, Operation, User};
use machinery::{ApiError, Descriptor, SubresourceKind};
use serde_json::{Map, Value, json};

use crate::query::Query;
use crate::request_info::RequestInfo;
use crate::server::Inner;

/// Asks the plugins whether a connection may be made. Reading logs is no connection.
pub async fn admit(
    server: &Inner,
    d: &Descriptor,
    info: &RequestInfo,
    user: &User,
    query: &Query,
) -> Result<(), ApiError> {
    let sub = d.subresources.iter().find(|s| s.name == info.subresource);
    let Some(SubresourceKind::Connect {
        kind,
        group,
        version,
        ..
    }) = sub.map(|s| &s.kind)
    else {
        return Ok(());
    };
    if *kind == d.kind {
        return Ok(());
    }
    let mut object = options(group, version, kind, query);
    if info.subresource == "proxy" {
        object["path"] = json!(format!("/{}", info.rest));
    }
    let mut attempt = Attempt {
        operation: Operation::Connect,
        descriptor: d,
        subresource: &info.subresource,
        namespace: &info.namespace,
        name: &info.name,
        user,
        object: Some(object),
        before: None,
        dry_run: false,
        options: Value::Null,
        warnings: Default::default(),
        audit_annotations: BTreeMap::new(),
    };
    let plugins = server.admission().iter();
    let plugins: Vec<_> = plugins.filter(|p| p.handles(Operation::Connect)).collect();
    for plugin in &plugins {
        plugin.mutate(&mut attempt).await?;
    }
    for plugin in &plugins {
        plugin.validate(&attempt).await?;
    }
    Ok(())
}

/// The options of a kind that a query gives.
fn options(group: &str, version: &str, kind: &str, query: &Query) -> Value {
    let mut out = Map::new();
    let api_version = match group {
        "" => version.to_string(),
        group => format!("{group}/{version}"),
    };
    out.insert("apiVersion".into(), json!(api_version));
    out.insert("kind".into(), json!(kind));
    let fields = schema::of_kind(group, version, kind).map(|m| m.fields.as_slice());
    for field in fields.unwrap_or_default() {
        let Some(first) = query.get(field.name) else {
            continue;
        };
        let value = match &field.schema.kind {
            Type::Bool => json!(query.flag(field.name)),
            Type::String => json!(first),
            Type::Int32 | Type::Int64 => match first.parse::<i64>() {
                Ok(n) => json!(n),
                Err(_) => continue,
            },
            Type::List(items) => {
                let all = query.all(field.name);
                match items.kind {
                    Type::String => json!(all.collect::<Vec<_>>()),
                    _ => json!(
                        all.filter_map(|v| v.parse::<i64>().ok())
                            .collect::<Vec<_>>()
                    ),
                }
            }
            _ => continue,
        };
        out.insert(field.name.into(), value);
    }
    Value::Object(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_come_from_the_query() {
        let query = Query::parse("container=c&stdin=true&tty=false&command=a&command=b&x=y");
        assert_eq!(
            options("", "v1", "PodExecOptions", &query),
            json!({"apiVersion": "v1", "kind": "PodExecOptions", "container": "c", "stdin": true,
                "tty": false, "command": ["a", "b"]})
        );
        let query = Query::parse("ports=80&ports=81");
        let found = options("", "v1", "PodPortForwardOptions", &query);
        assert_eq!(found["ports"], json!([80, 81]));
    }
}
