//! `spec.workerProfiles` of k0s.yaml: fragments of KubeletConfiguration, applied to this kubelet's settings.
//! k0s: docs/worker-node-config.md.

use std::path::PathBuf;

use api::core::v1::Taint;
use api::quantity::Quantity;
use kubelet::{Config, Eviction};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::config::{Problem, WorkerProfile};

/// The profile of a worker that names none.
pub const DEFAULT: &str = "default";
/// Fields that k0s keeps for itself.
const LOCKED: &[&str] = &[
    "clusterDNS",
    "clusterDomain",
    "apiVersion",
    "kind",
    "staticPodURL",
];
/// Fields with the one value that this kubelet has.
const FIXED: &[(&str, &str)] = &[
    ("cgroupDriver", "\"cgroupfs\""),
    ("failSwapOn", "false"),
    ("protectKernelDefaults", "false"),
    ("rotateCertificates", "true"),
    ("serverTLSBootstrap", "true"),
];

/// Everything wrong with the profiles of a configuration.
pub fn problems(profiles: &[WorkerProfile]) -> Vec<Problem> {
    let mut found = Vec::new();
    for (i, profile) in profiles.iter().enumerate() {
        let path = format!("spec.workerProfiles[{i}]");
        if profile.name.is_empty() {
            found.push(Problem::required(&format!("{path}.name")));
        }
        let mut scratch = Config::new("node", [127, 0, 0, 1].into(), "/");
        for (field, text) in apply(&mut scratch, &profile.values) {
            found.push(Problem::new(&format!("{path}.values.{field}"), text));
        }
    }
    found
}

/// Applies the values of a profile; gives the fields that could not be, each with the reason.
pub fn apply(config: &mut Config, values: &Map<String, Value>) -> Vec<(String, String)> {
    let mut wrong = Vec::new();
    for (field, value) in values {
        if let Err(text) = set(config, field, value) {
            wrong.push((field.clone(), text));
        }
    }
    let both = ["systemReserved", "kubeReserved"];
    let given: Vec<&Value> = both.iter().filter_map(|f| values.get(*f)).collect();
    if !given.is_empty() {
        config.reserved.clear();
    }
    for (field, value) in both.iter().filter_map(|f| Some((f, values.get(*f)?))) {
        if let Err(text) = reserve(config, value) {
            wrong.push(((*field).into(), text));
        }
    }
    wrong
}

fn read<T: DeserializeOwned>(value: &Value) -> Result<T, String> {
    T::deserialize(value).map_err(|e| format!("invalid value: {value}: {e}"))
}

fn set(config: &mut Config, field: &str, value: &Value) -> Result<(), String> {
    if LOCKED.contains(&field) {
        return Err(format!(
            "field `{field}` is prohibited to override in worker profile"
        ));
    }
    if let Some((_, only)) = FIXED.iter().find(|(f, _)| *f == field) {
        let given = value.to_string();
        if given == *only {
            return Ok(());
        }
        return Err(format!("any other value than {only} is not supported yet"));
    }
    match field {
        "maxPods" => config.max_pods = read(value)?,
        "podPidsLimit" => config.pod_pids_limit = read::<i64>(value)?.max(0),
        "resolvConf" => config.resolv_conf = read(value)?,
        "podLogsDir" => config.pod_log_dir = read(value)?,
        "registerWithTaints" => config.taints = read::<Vec<Taint>>(value)?,
        "imageGCHighThresholdPercent" => config.image_gc_high = percent(value)?,
        "imageGCLowThresholdPercent" => config.image_gc_low = percent(value)?,
        "evictionHard" => config.eviction = Some(eviction(value)?),
        "staticPodPath" => {
            let path: PathBuf = read(value)?;
            if path.as_os_str().is_empty() {
                config.static_pods = None;
            } else if let Some(pods) = &mut config.static_pods {
                pods.path = path;
            }
        }
        // Both together, see `apply`.
        "systemReserved" | "kubeReserved" => {}
        _ => return Err("is not supported by this kubelet yet".into()),
    }
    Ok(())
}

fn percent(value: &Value) -> Result<u8, String> {
    let number: u8 = read(value)?;
    if number > 100 {
        return Err(format!(
            "invalid value: {number}: must be between 0 and 100, inclusive"
        ));
    }
    Ok(number)
}

/// Adds amounts to those kept from pods.
fn reserve(config: &mut Config, value: &Value) -> Result<(), String> {
    for (resource, amount) in value.as_object().into_iter().flatten() {
        if !["cpu", "memory", "ephemeral-storage", "pid"].contains(&resource.as_str()) {
            return Err(format!("invalid value: {resource:?}: cannot be reserved"));
        }
        let text: String = read(amount)?;
        let bad = |_| format!("invalid value: {text:?}: is no quantity");
        let more = Quantity::parse(&text).map_err(bad)?;
        let sum = match config.reserved.get(resource).map(|q| Quantity::parse(q)) {
            Some(Ok(has)) => has.add(&more).to_string(),
            _ => text,
        };
        config.reserved.insert(resource.clone(), sum);
    }
    Ok(())
}

/// Hard eviction thresholds. As upstream, signals that are not named have none.
fn eviction(value: &Value) -> Result<Eviction, String> {
    let mut hard = Eviction {
        memory_available: 0,
        nodefs_percent: 0,
        inodes_percent: 0,
        imagefs_percent: 0,
    };
    let given = value.as_object();
    let given = given.ok_or_else(|| format!("invalid value: {value}: must be an object"))?;
    for (signal, threshold) in given {
        let text: String = read(threshold)?;
        let share = text.strip_suffix('%').map(str::parse::<u64>);
        match (signal.as_str(), share) {
            ("memory.available", None) => {
                let amount = Quantity::parse(&text);
                let amount =
                    amount.map_err(|_| format!("invalid value: {text:?}: is no quantity"))?;
                hard.memory_available = u64::try_from(amount.value()).unwrap_or(0);
            }
            ("nodefs.available", Some(Ok(n))) => hard.nodefs_percent = n,
            ("nodefs.inodesFree", Some(Ok(n))) => hard.inodes_percent = n,
            ("imagefs.available", Some(Ok(n))) => hard.imagefs_percent = n,
            (signal, _) => {
                return Err(format!(
                    "the threshold {signal}<{text} is not supported yet: memory.available takes an amount, nodefs.available, nodefs.inodesFree and imagefs.available a percentage"
                ));
            }
        }
    }
    Ok(hard)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn applied(values: Value) -> (Config, Vec<(String, String)>) {
        let mut config = Config::new("n", [127, 0, 0, 1].into(), "/");
        let wrong = apply(&mut config, values.as_object().unwrap());
        (config, wrong)
    }

    #[test]
    fn values_reach_the_kubelet() {
        let (config, wrong) = applied(json!({"maxPods": 50, "podPidsLimit": -1,
            "systemReserved": {"cpu": "100m"}, "kubeReserved": {"cpu": "200m", "memory": "1Gi"},
            "evictionHard": {"memory.available": "200Mi", "nodefs.available": "5%"},
            "failSwapOn": false}));
        assert_eq!(wrong, []);
        assert_eq!((config.max_pods, config.pod_pids_limit), (50, 0));
        assert_eq!(config.reserved["cpu"], "300m");
        assert_eq!(config.reserved["memory"], "1Gi");
        let hard = config.eviction.unwrap();
        assert_eq!(
            (
                hard.memory_available,
                hard.nodefs_percent,
                hard.imagefs_percent
            ),
            (200 << 20, 5, 0)
        );
    }

    #[test]
    fn what_cannot_be_is_said() {
        let (_, wrong) = applied(
            json!({"clusterDNS": ["1.2.3.4"], "cpuManagerPolicy": "static", "maxPods": "x"}),
        );
        let texts: Vec<&str> = wrong.iter().map(|(_, t)| t.as_str()).collect();
        assert_eq!(
            texts[0],
            "field `clusterDNS` is prohibited to override in worker profile"
        );
        assert_eq!(texts[1], "is not supported by this kubelet yet");
        assert!(texts[2].starts_with("invalid value: \"x\""));
    }
}
