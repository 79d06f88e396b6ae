//! Feature gates: all that kube-apiserver v1.37 knows (`data/gates.tsv`), which of them change anything here,
//! and what `--feature-gates` sets. Upstream: component-base/featuregate.

use std::collections::BTreeMap;
use std::sync::OnceLock;

const TABLE: &str = include_str!("../data/gates.tsv");

/// Gates that may be set to another value than their default.
const SWITCHES: &[&str] = &[
    "APIResponseCompression",
    "APIServerIdentity",
    "CBORServingAndStorage",
    "ComponentFlagz",
    "ComponentStatusz",
    "ConstrainedImpersonation",
    // It needs APIServerIdentity, and without other servers there is nobody to ask.
    "UnknownVersionInteroperabilityProxy",
    "WatchList",
    "WatchListCompression",
];

/// Gates that stand for all of a stage.
const STAGES: [(&str, &str); 2] = [("AllAlpha", "Alpha"), ("AllBeta", "Beta")];

/// A gate as upstream defines it.
struct Gate {
    name: &'static str,
    stage: &'static str,
    on: bool,
    locked: bool,
    needs: Vec<&'static str>,
}

/// Which gates are on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gates {
    set: BTreeMap<&'static str, bool>,
    /// Gates of a stage that was turned on or off as a whole, and that change nothing here.
    pub without_effect: Vec<&'static str>,
}

fn row(line: &'static str) -> Option<Gate> {
    let columns: Vec<&'static str> = line.split('\t').collect();
    let [name, stage, default, locked, needs] = columns[..] else {
        return None;
    };
    Some(Gate {
        name,
        stage,
        on: default == "on",
        locked: locked == "locked",
        needs: needs.split(',').filter(|n| !n.is_empty()).collect(),
    })
}

/// All gates, in the order of their names.
fn table() -> &'static [Gate] {
    static PARSED: OnceLock<Vec<Gate>> = OnceLock::new();
    PARSED.get_or_init(|| {
        let rows = TABLE.lines().filter(|line| !line.starts_with('#'));
        let mut all: Vec<Gate> = rows.filter_map(row).collect();
        all.sort_by_key(|g| g.name);
        all
    })
}

fn find(name: &str) -> Option<&'static Gate> {
    let at = table().binary_search_by_key(&name, |g| g.name);
    at.ok().map(|i| &table()[i])
}

/// Go's `strconv.ParseBool`.
pub fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!(
            "strconv.ParseBool: parsing {text:?}: invalid syntax"
        )),
    }
}

/// The texts of `name=value,...`.
fn pairs(text: &str) -> Result<BTreeMap<&str, bool>, String> {
    let mut out = BTreeMap::new();
    for part in text.split(',').filter(|p| !p.is_empty()) {
        let (name, value) = part
            .split_once('=')
            .ok_or_else(|| format!("missing bool value for {}", part.trim()))?;
        let (name, value) = (name.trim(), value.trim());
        let on =
            parse_bool(value).map_err(|e| format!("invalid value of {name}={value}, err: {e}"))?;
        out.insert(name, on);
    }
    Ok(out)
}

impl Gates {
    /// What `--feature-gates` sets.
    pub fn parse(text: &str) -> Result<Self, Vec<String>> {
        let (mut gates, mut errors) = (Self::default(), Vec::new());
        for (name, on) in pairs(text).map_err(|e| vec![e])? {
            let Some(gate) = find(name) else {
                return Err(vec![format!("unrecognized feature gate: {name}")]);
            };
            if let Some((_, stage)) = STAGES.iter().find(|(all, _)| *all == name) {
                gates.set_stage(stage, on);
            } else if let Err(why) = gates.set_one(gate, on) {
                errors.push(why);
            }
        }
        errors.extend(gates.unmet());
        if errors.is_empty() {
            Ok(gates)
        } else {
            Err(errors)
        }
    }

    fn set_one(&mut self, gate: &Gate, on: bool) -> Result<(), String> {
        let (name, default) = (gate.name, gate.on);
        if gate.locked && on != default {
            return Err(format!(
                "cannot set feature gate {name} to {on}, feature is locked to {default}"
            ));
        }
        if on != default && !SWITCHES.contains(&name) {
            return Err(format!(
                "feature gate {name} cannot be set to {on}: k0s does not implement that; it is always {default}"
            ));
        }
        self.set.insert(name, on);
        Ok(())
    }

    /// Sets all gates of a stage that nothing is said of otherwise.
    fn set_stage(&mut self, stage: &str, on: bool) {
        let all = table().iter();
        let alike = all.filter(|g| g.stage == stage && g.on != on && !g.locked);
        for gate in alike {
            if SWITCHES.contains(&gate.name) {
                self.set.entry(gate.name).or_insert(on);
            } else {
                self.without_effect.push(gate.name);
            }
        }
    }

    /// Gates that are on although one they depend on is off.
    fn unmet(&self) -> Vec<String> {
        let mut out = Vec::new();
        // Those of a stage that is off as a whole ask for nothing.
        let asks = |g: &&Gate| self.enabled(g.name) && !self.without_effect.contains(&g.name);
        for gate in table().iter().filter(asks) {
            let off: Vec<&str> = gate
                .needs
                .iter()
                .copied()
                .filter(|n| !self.enabled(n))
                .collect();
            if !off.is_empty() {
                let (name, off) = (gate.name, off.join(" "));
                out.push(format!(
                    "{name} is enabled, but depends on features that are disabled: [{off}]"
                ));
            }
        }
        out
    }

    /// Whether a gate is on; one that is not known is off.
    pub fn enabled(&self, name: &str) -> bool {
        let set = self.set.get(name).copied();
        set.unwrap_or_else(|| find(name).is_some_and(|g| g.on))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(text: &str) -> Vec<String> {
        Gates::parse(text).err().unwrap_or_default()
    }

    #[test]
    fn gates_are_set_as_upstream_sets_them() {
        let gates = Gates::parse("CBORServingAndStorage=true, WatchList=true,").expect("gates");
        assert!(gates.enabled("CBORServingAndStorage") && gates.enabled("WatchList"));
        assert!(!Gates::default().enabled("CBORServingAndStorage"));
        let all = Gates::parse("AllAlpha=1,AllBeta=0,WatchList=1").expect("gates");
        assert!(all.enabled("CBORServingAndStorage") && all.enabled("WatchList"));
        let off = Gates::parse("AllAlpha=1,CBORServingAndStorage=0").expect("gates");
        assert!(!off.enabled("CBORServingAndStorage"));
        let identity = "APIServerIdentity=false,UnknownVersionInteroperabilityProxy=false";
        assert!(Gates::parse(identity).is_ok_and(|g| !g.enabled("APIServerIdentity")));
        let off = Gates::parse("WatchListCompression=false").expect("gates");
        assert!(off.enabled("WatchList") && !off.enabled("WatchListCompression"));
        assert!(!all.without_effect.is_empty());
    }

    #[test]
    fn what_cannot_be_set_is_told() {
        for (text, why) in [
            ("Nope=true", "unrecognized feature gate: Nope"),
            ("WatchList", "missing bool value for WatchList"),
            (
                "WatchList=yes",
                "invalid value of WatchList=yes, err: strconv.ParseBool: parsing \"yes\": invalid syntax",
            ),
            (
                "StorageVersionHash=false",
                "feature gate StorageVersionHash cannot be set to false: k0s does not implement that; it is always true",
            ),
            (
                "AggregatedDiscoveryRemoveBetaType=false",
                "cannot set feature gate AggregatedDiscoveryRemoveBetaType to false, feature is locked to true",
            ),
            (
                "CompositePodGroup=true",
                "feature gate CompositePodGroup cannot be set to true: k0s does not implement that; it is always false",
            ),
        ] {
            assert_eq!(errors(text), [why], "{text}");
        }
    }

    #[test]
    fn every_gate_that_another_needs_is_known() {
        for gate in table() {
            for needed in &gate.needs {
                assert!(find(needed).is_some(), "{}: {needed}", gate.name);
            }
        }
        assert!(SWITCHES.iter().all(|name| find(name).is_some()));
        assert!(Gates::default().unmet().is_empty());
    }
}
