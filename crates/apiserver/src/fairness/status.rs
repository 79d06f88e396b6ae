//! The condition `Dangling` of FlowSchemas. Upstream: apf_controller.go (presyncFlowSchemaStatus).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use http::Request;
use machinery::object::{list_at, name, str_at};
use serde_json::{Value, json};

/// Who writes it.
const MANAGER: &str = "api-priority-and-fairness-config-consumer-v1";
const BASE: &str = "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas";
/// Most writes to one schema in a minute: two servers that see different levels must not fight.
const PER_MINUTE: usize = 5;

/// The condition a schema lacks, if any.
pub fn wanted(schema: &Value, levels: &[String], now: &str) -> Option<Value> {
    let level = str_at(schema, "spec.priorityLevelConfiguration.name");
    let said =
        format!("This FlowSchema references the PriorityLevelConfiguration object named {level:?}");
    let (status, reason, message) = match levels.iter().any(|l| l == level) {
        true => ("False", "Found", format!("{said} and it exists")),
        false => (
            "True",
            "NotFound",
            format!("{said} but there is no such object"),
        ),
    };
    let has = list_at(schema, "status.conditions").iter().any(|c| {
        c["type"] == "Dangling"
            && c["status"] == status
            && c["reason"] == reason
            && c["message"] == message.as_str()
    });
    let condition = json!({"type": "Dangling", "status": status, "reason": reason,
        "message": message, "lastTransitionTime": now});
    (!has).then_some(condition)
}

/// Writes conditions, not too often.
#[derive(Default)]
pub struct Writer {
    written: HashMap<String, Vec<Instant>>,
}

impl Writer {
    /// Brings every schema's condition up to date; tells whether to look again soon.
    pub async fn write(
        &mut self,
        client: &client::Client,
        schemas: &[Value],
        levels: &[String],
    ) -> bool {
        self.written
            .retain(|n, _| schemas.iter().any(|s| name(s) == n));
        let now = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second());
        let now = now.unwrap_or_default().to_string();
        let mut again = false;
        for schema in schemas {
            let Some(condition) = wanted(schema, levels, &now) else {
                continue;
            };
            if !self.may_write(name(schema)) {
                again = true;
                continue;
            }
            if let Err(error) = apply(client, name(schema), &condition).await {
                again = !client::is_not_found(&error);
                tracing::warn!(schema = name(schema), %error, "flow schema's status is not written");
            }
        }
        again
    }

    fn may_write(&mut self, schema: &str) -> bool {
        let times = self.written.entry(schema.to_string()).or_default();
        times.retain(|t| t.elapsed() < Duration::from_secs(60));
        let free = times.len() < PER_MINUTE;
        if free {
            times.push(Instant::now());
        }
        free
    }
}

async fn apply(
    client: &client::Client,
    name: &str,
    condition: &Value,
) -> Result<(), client::Error> {
    let config = json!({"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema",
        "metadata": {"name": name}, "status": {"conditions": [condition]}});
    let request = Request::patch(format!(
        "{BASE}/{name}/status?fieldManager={MANAGER}&force=true"
    ))
    .header("content-type", "application/apply-patch+yaml")
    .body(config.to_string().into_bytes())
    .map_err(client::Error::HttpError)?;
    client.kube().request::<Value>(request).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_without_its_level_dangles() {
        let mut schema = json!({"spec": {"priorityLevelConfiguration": {"name": "x"}}});
        let there = vec!["x".to_string()];
        let condition = wanted(&schema, &[], "t").unwrap();
        assert_eq!(condition["status"], "True");
        assert_eq!(
            condition["message"],
            "This FlowSchema references the PriorityLevelConfiguration object named \"x\" but there is no such object"
        );
        schema["status"] = json!({"conditions": [condition]});
        assert_eq!(wanted(&schema, &[], "t"), None);
        let condition = wanted(&schema, &there, "t").unwrap();
        assert_eq!(
            (&condition["status"], &condition["reason"]),
            (&json!("False"), &json!("Found"))
        );
        schema["status"] = json!({"conditions": [condition]});
        assert_eq!(wanted(&schema, &there, "t"), None);
    }
}
