//! Which group versions and resources are served: stable ones, and what `--runtime-config` says otherwise.
//! Upstream: apiserver/pkg/server/resourceconfig, server/options/api_enablement.go.

use std::collections::BTreeMap;

use machinery::gates::parse_bool;

/// Versions that are known and served no more, whatever is asked for: they were removed by v1.37.
const REMOVED: &[(&str, &[&str])] = &[
    ("apps", &["v1beta1", "v1beta2"]),
    ("authentication.k8s.io", &["v1alpha1", "v1beta1"]),
    ("authorization.k8s.io", &["v1beta1"]),
    ("batch", &["v1beta1"]),
    ("certificates.k8s.io", &["v1alpha1"]),
    ("discovery.k8s.io", &["v1beta1"]),
    ("events.k8s.io", &["v1beta1"]),
    ("extensions", &["v1beta1"]),
    (
        "flowcontrol.apiserver.k8s.io",
        &["v1beta1", "v1beta2", "v1beta3"],
    ),
    ("networking.k8s.io", &["v1beta1"]),
    ("node.k8s.io", &["v1alpha1", "v1beta1"]),
    ("policy", &["v1beta1"]),
    ("rbac.authorization.k8s.io", &["v1alpha1", "v1beta1"]),
    ("storage.k8s.io", &["v1alpha1", "v1beta1"]),
];

/// Versions that need a gate that cannot be turned on here.
const GATED: &[(&str, &str, &str)] = &[
    ("lifecycle.k8s.io", "v1alpha1", "EvictionRequestAPI"),
    ("scheduling.k8s.io", "v1alpha3", "GenericWorkload"),
    ("scheduling.k8s.io", "v1beta1", "GenericWorkload"),
];

/// Groups that are served elsewhere.
const ELSEWHERE: (&str, &str) = ("apiextensions.k8s.io", "v1");

/// What stands for many versions, in the order in which it counts.
const STAGES: [&str; 4] = ["api/all", "api/ga", "api/beta", "api/alpha"];

/// What `--runtime-config` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Enablement {
    stages: Vec<(&'static str, bool)>,
    versions: BTreeMap<(String, String), bool>,
    resources: BTreeMap<(String, String, String), bool>,
}

/// Whether a version belongs to a stage: `v1`, `v1beta1` or `v1alpha1`.
fn is_of(stage: &str, version: &str) -> bool {
    let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    let Some(rest) = version.strip_prefix('v') else {
        return stage == "api/all";
    };
    let split = |word: &str| {
        let (major, minor) = rest.split_once(word)?;
        Some(digits(major) && digits(minor))
    };
    match stage {
        "api/ga" => digits(rest),
        "api/beta" => split("beta").unwrap_or(false),
        "api/alpha" => split("alpha").unwrap_or(false),
        _ => true,
    }
}

/// All known group versions: those that can be served, and those that are no more.
fn known() -> Vec<(String, String)> {
    let own = super::every().into_iter();
    let mut all: Vec<(String, String)> = own
        .map(|d| (d.group.to_string(), d.version.to_string()))
        .collect();
    let text = |group: &str, version: &str| (group.to_string(), version.to_string());
    for (group, versions) in REMOVED {
        all.extend(versions.iter().map(|v| text(group, v)));
    }
    all.extend(GATED.iter().map(|(group, version, _)| text(group, version)));
    all.push(text(ELSEWHERE.0, ELSEWHERE.1));
    all
}

impl Enablement {
    /// Reads the flag: `key=value` with commas between; a key alone means `true`.
    pub fn parse(text: &str) -> Result<Self, Vec<String>> {
        let pairs: BTreeMap<&str, &str> = text
            .split(',')
            .filter(|p| !p.is_empty())
            .map(|p| p.split_once('=').unwrap_or((p, "")))
            .map(|(k, v)| (k.trim(), v.trim()))
            .collect();
        if pairs.len() == 1 && pairs.get("api/all") == Some(&"false") {
            let why = "invalid runtime-config with only api/all=false";
            return Err(vec![why.into()]);
        }
        let mut out = Self::default();
        out.read_stages(&pairs).map_err(|e| vec![e])?;
        let known = known();
        let mut unknown = Vec::new();
        for (key, value) in pairs.iter().filter(|(k, _)| !STAGES.contains(k)) {
            let parts: Vec<&str> = key.split('/').collect();
            let (Some(group), Some(version), 2 | 3) = (parts.first(), parts.get(1), parts.len())
            else {
                return Err(vec![format!("runtime-config invalid key {key}")]);
            };
            if !known.iter().any(|(g, _)| g == group) {
                unknown.push(format!("{group}/{version}"));
                continue;
            }
            out.read(&known, key, value).map_err(|e| vec![e])?;
        }
        match unknown.is_empty() {
            true => Ok(out),
            false => Err(vec![format!("unknown api groups {}", unknown.join(","))]),
        }
    }

    fn read_stages(&mut self, pairs: &BTreeMap<&str, &str>) -> Result<(), String> {
        for stage in STAGES {
            match pairs.get(stage) {
                None => {}
                Some(&"true") => self.stages.push((stage, true)),
                Some(&"false") => self.stages.push((stage, false)),
                Some(other) => return Err(format!("invalid value {stage}={other}")),
            }
        }
        Ok(())
    }

    /// Reads one group version or resource of a known group.
    fn read(&mut self, known: &[(String, String)], key: &str, value: &str) -> Result<(), String> {
        let parts: Vec<&str> = key.split('/').collect();
        let gv = (parts[0].to_string(), parts[1].to_string());
        if !known.contains(&gv) {
            let (group, version) = gv;
            return Err(format!(
                "group version {group}/{version} that has not been registered"
            ));
        }
        let on = match value {
            "" => true,
            text => {
                parse_bool(text).map_err(|e| format!("invalid value of {key}: {text}, err: {e}"))?
            }
        };
        if let Some(resource) = parts.get(2) {
            if resource.to_lowercase() != *resource {
                return Err(format!(
                    "invalid key {key}: group/version/resource and resource is always lowercase plural, not {resource:?}"
                ));
            }
            let key = (gv.0, gv.1, (*resource).to_string());
            self.resources.insert(key, on);
        } else {
            let gated = GATED
                .iter()
                .find(|(g, v, _)| (*g, *v) == (parts[0], parts[1]));
            if let Some((group, version, gate)) = gated.filter(|_| on) {
                return Err(format!(
                    "{group}/{version} needs the feature gate {gate}, which k0s does not implement"
                ));
            }
            if !on && (parts[0], parts[1]) == ELSEWHERE {
                return Err(format!("{key} cannot be turned off in k0s"));
            }
            self.versions.insert(gv, on);
        }
        Ok(())
    }

    /// Whether a resource of a version is served.
    pub fn serves(&self, group: &str, version: &str, resource: &str) -> bool {
        let key = (group.to_string(), version.to_string(), resource.to_string());
        if let Some(on) = self.resources.get(&key) {
            return *on;
        }
        if let Some(on) = self.versions.get(&(key.0, key.1)) {
            return *on;
        }
        let said = self.stages.iter().rev().find(|(s, _)| is_of(s, version));
        said.map_or_else(|| is_of("api/ga", version), |(_, on)| *on)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_versions_and_resources_count_in_this_order() {
        let on = |text: &str| Enablement::parse(text).expect(text);
        let default = Enablement::default();
        assert!(default.serves("apps", "v1", "deployments"));
        assert!(!default.serves("resource.k8s.io", "v1beta1", "resourceclaims"));
        let all = on("api/all=true,api/alpha=false");
        assert!(all.serves("resource.k8s.io", "v1beta1", "resourceclaims"));
        assert!(!all.serves("resource.k8s.io", "v1alpha3", "devicetaintrules"));
        let some = on("resource.k8s.io/v1beta1,resource.k8s.io/v1beta1/deviceclasses=0");
        assert!(some.serves("resource.k8s.io", "v1beta1", "resourceclaims"));
        assert!(!some.serves("resource.k8s.io", "v1beta1", "deviceclasses"));
        let less = on("batch/v1/cronjobs=false");
        assert!(!less.serves("batch", "v1", "cronjobs") && less.serves("batch", "v1", "jobs"));
        // Known, and without any effect.
        assert!(!on("storage.k8s.io/v1beta1=true").serves("storage.k8s.io", "v1alpha1", "x"));
    }

    #[test]
    fn wrong_keys_and_values_are_told_as_upstream_tells_them() {
        for (text, why) in [
            (
                "api/all=false",
                "invalid runtime-config with only api/all=false",
            ),
            ("api/all=maybe", "invalid value api/all=maybe"),
            ("v1=true", "runtime-config invalid key v1"),
            (
                "foo/v1=true,bar/v2=true",
                "unknown api groups bar/v2,foo/v1",
            ),
            (
                "apps/v9=true",
                "group version apps/v9 that has not been registered",
            ),
            (
                "apps/v1=x",
                "invalid value of apps/v1: x, err: strconv.ParseBool: parsing \"x\": invalid syntax",
            ),
            (
                "apps/v1/Deployments=true",
                "invalid key apps/v1/Deployments: group/version/resource and resource is always lowercase plural, not \"Deployments\"",
            ),
            (
                "lifecycle.k8s.io/v1alpha1=true",
                "lifecycle.k8s.io/v1alpha1 needs the feature gate EvictionRequestAPI, which k0s does not implement",
            ),
        ] {
            let told = Enablement::parse(text).expect_err(text);
            assert_eq!(told, [why], "{text}");
        }
    }
}
