//! ResourcePoolStatusRequest. Upstream: pkg/registry/resource/resourcepoolstatusrequest and the markers of its
//! types (staging/src/k8s.io/api/resource/v1alpha3).

use api::names;
use jiff::Timestamp;
use machinery::object::{at, i64_at, list_at, remove, set_default, str_at};
use machinery::strategy::{freeze_all_but_status, human_duration, keep};
use machinery::{Causes, Column, Descriptor, Row, Scope, Strategy, WriteContext};
use serde_json::{Value, json};

use super::{GROUP, devices};
use crate::{cells, fields};

const LIMIT: (i64, i64, i64) = (1, 1_000, 100);
const POOLS_MAX: usize = 1_000;
const CONDITIONS_MAX: usize = 10;
const SUMMARY_MAX: usize = 32;
const ERROR_BYTES: usize = 256;
const COUNTS: [&str; 4] = [
    "totalDevices",
    "allocatedDevices",
    "availableDevices",
    "unavailableDevices",
];

struct ResourcePoolStatusRequest;

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    Descriptor::new(
        GROUP,
        "v1alpha3",
        "ResourcePoolStatusRequest",
        "resourcepoolstatusrequests",
        Scope::Cluster,
        ResourcePoolStatusRequest,
    )
    .status()
}

/// A number within bounds, or absent.
fn within(obj: &Value, field: &str, (min, max): (i64, i64), c: &mut Causes) {
    let Some(n) = i64_at(obj, field) else {
        return;
    };
    c.at(field, |c| {
        if n < min {
            c.invalid(&json!(n), format!("must be greater than or equal to {min}"));
        } else if n > max {
            c.invalid(&json!(n), format!("must be less than or equal to {max}"));
        }
    });
}

fn pool_status(pool: &Value, c: &mut Causes) {
    devices::driver(pool, "driver", c);
    devices::pool(pool, "poolName", c);
    if at(pool, "generation").is_none() {
        c.at("generation", |c| c.required(""));
    }
    within(pool, "generation", (0, i64::MAX), c);
    within(pool, "resourceSliceCount", (1, i64::MAX), c);
    for field in COUNTS {
        within(pool, field, (0, i64::MAX), c);
    }
    fields::optional_text(pool, "nodeName", names::dns1123_subdomain, c);
    if str_at(pool, "validationError").len() > ERROR_BYTES {
        c.at("validationError", |c| c.too_long(ERROR_BYTES));
    }
    let summary = list_at(pool, "partitionSummary");
    if summary.len() > SUMMARY_MAX {
        c.at("partitionSummary", |c| {
            c.too_many(summary.len(), SUMMARY_MAX)
        });
    }
}

fn status(status: &Value, c: &mut Causes) {
    if at(status, "poolCount").is_none() {
        c.at("poolCount", |c| c.required(""));
    }
    within(status, "poolCount", (0, i64::MAX), c);
    let pools = list_at(status, "pools");
    c.at("pools", |c| {
        if pools.len() > POOLS_MAX {
            return c.too_many(pools.len(), POOLS_MAX);
        }
        for (i, pool) in pools.iter().enumerate() {
            c.index(i, |c| pool_status(pool, c));
        }
    });
    let conditions = list_at(status, "conditions");
    c.at("conditions", |c| {
        if conditions.len() > CONDITIONS_MAX {
            c.too_many(conditions.len(), CONDITIONS_MAX);
        }
        fields::conditions(conditions, c);
    });
}

impl Strategy for ResourcePoolStatusRequest {
    fn set_defaults(&self, obj: &mut Value) {
        if at(obj, "spec").is_some() {
            set_default(obj, "spec.limit", json!(LIMIT.2));
        }
    }

    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        names::subdomain_name(name, prefix)
    }

    fn has_status(&self) -> bool {
        true
    }

    fn shows_empty_status(&self) -> bool {
        false
    }

    fn prepare_create(&self, obj: &mut Value, _cx: &WriteContext) {
        remove(obj, "status");
        // The gate DRAPartitionableDevicesType is off.
        remove(obj, "spec.defaultPartitionTypeAttribute");
    }

    fn prepare_update(&self, obj: &mut Value, before: &Value, _cx: &WriteContext) {
        keep(obj, before, "status");
        if at(before, "spec.defaultPartitionTypeAttribute").is_none() {
            remove(obj, "spec.defaultPartitionTypeAttribute");
        }
    }

    fn prepare_status_update(&self, obj: &mut Value, before: &Value, cx: &WriteContext) {
        freeze_all_but_status(obj, before);
        fields::keep_metadata(obj, before, cx);
    }

    fn validate(&self, obj: &Value, causes: &mut Causes) {
        let spec = obj.get("spec").unwrap_or(&Value::Null);
        causes.at("spec", |c| {
            devices::driver(spec, "driver", c);
            if at(spec, "poolName").is_some() {
                devices::pool(spec, "poolName", c);
            }
            within(spec, "limit", (LIMIT.0, LIMIT.1), c);
        });
    }

    fn validate_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        self.validate(obj, causes);
        fields::immutable(obj, before, "spec", causes);
    }

    fn validate_status_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        if before.get("status").is_some_and(|s| !s.is_null()) {
            return fields::immutable(obj, before, "status", causes);
        }
        if let Some(new) = obj.get("status").filter(|s| !s.is_null()) {
            causes.at("status", |c| status(new, c));
        }
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> Vec<Column> {
        let texts = [
            "Driver",
            "Total",
            "Available",
            "Allocated",
            "Unavailable",
            "Errors",
        ];
        let mut all = vec![Column::name()];
        all.extend(texts.map(Column::new));
        all.push(Column::integer("Pools"));
        all.extend(["Status", "Completed"].map(Column::new));
        all
    }

    fn row(&self, obj: &Value, now: Timestamp) -> Row {
        let pools = list_at(obj, "status.pools");
        let met = |kind: &str| {
            let all = list_at(obj, "status.conditions").iter();
            let mut met = all.filter(|c| str_at(c, "status") == "True");
            met.find(|c| str_at(c, "type") == kind).cloned()
        };
        let complete = met("Complete");
        let failed = complete.is_none() && met("Failed").is_some();
        let count = i64_at(obj, "status.poolCount").unwrap_or(0);
        let mut sums = vec![json!("-"); 5];
        if obj.get("status").is_some_and(|s| !s.is_null()) && !failed {
            let sum = |field: &str| -> i64 { pools.iter().filter_map(|p| i64_at(p, field)).sum() };
            let wrong = pools.iter().filter(|p| at(p, "validationError").is_some());
            sums = [
                "totalDevices",
                "availableDevices",
                "allocatedDevices",
                "unavailableDevices",
            ]
            .map(|field| json!(sum(field).to_string()))
            .to_vec();
            sums.push(json!(wrong.count().to_string()));
        }
        let (status, completed) = match &complete {
            Some(condition) => {
                let at = str_at(condition, "lastTransitionTime").parse::<Timestamp>();
                let since = at.map(|t| human_duration(now.as_second() - t.as_second()));
                let shown = match usize::try_from(count).is_ok_and(|n| n > pools.len()) {
                    true => format!("Complete ({}/{count} pools)", pools.len()),
                    false => "Complete".to_string(),
                };
                (shown, since.unwrap_or_else(|_| "<unknown>".into()))
            }
            None if failed => ("Failed".into(), "<none>".into()),
            None => ("Pending".into(), "<none>".into()),
        };
        let mut row = vec![cells::name(obj), json!(str_at(obj, "spec.driver"))];
        row.extend(sums);
        row.extend([json!(count), json!(status), json!(completed)]);
        row
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::texts;

    #[test]
    fn a_request_is_answered_once() {
        let mut request = json!({"spec": {"driver": "d.example.com"}});
        ResourcePoolStatusRequest.set_defaults(&mut request);
        assert_eq!(request["spec"]["limit"], 100);
        assert_eq!(
            texts(|c| ResourcePoolStatusRequest.validate(&request, c)),
            [""; 0]
        );
        let mut answered = request.clone();
        answered["status"] = json!({"poolCount": 2, "pools": [
            {"driver": "d.example.com", "poolName": "p", "generation": 1, "totalDevices": 3}],
            "conditions": [{"type": "Complete", "status": "True", "reason": "R", "message": "",
            "lastTransitionTime": "1970-01-01T00:00:00Z"}]});
        let check = |new: &Value, old: &Value| {
            texts(|c| ResourcePoolStatusRequest.validate_status_update(new, old, c))
        };
        assert_eq!(check(&answered, &request), [""; 0]);
        let row = ResourcePoolStatusRequest.row(&answered, Timestamp::UNIX_EPOCH);
        assert_eq!(
            row[2..],
            [
                json!("3"),
                json!("0"),
                json!("0"),
                json!("0"),
                json!("0"),
                json!(2),
                json!("Complete (1/2 pools)"),
                json!("0s")
            ]
        );
        let mut again = answered.clone();
        again["status"]["poolCount"] = json!(3);
        assert_eq!(check(&again, &answered).len(), 1);
    }
}
