//! The API server's rules for pods, lent to the kubelet for those that it reads from files.

use std::sync::Arc;

use kubelet::PodRules;
use machinery::object::name;
use machinery::{Causes, Descriptor};
use serde_json::Value;

struct Rules {
    pods: Descriptor,
}

/// The rules of kind Pod.
pub fn rules() -> Option<Arc<dyn PodRules>> {
    let all = resources::all(&resources::Options::default());
    let mut all = all.into_iter();
    let pods = all.find(|d| d.group.is_empty() && d.resource == "pods")?;
    Some(Arc::new(Rules { pods }))
}

impl PodRules for Rules {
    fn decode(&self, text: &str) -> Result<Value, String> {
        let mut p: Value = serde_saphyr::from_str(text).map_err(|e| e.to_string())?;
        if !p["spec"].is_object() {
            return Err("the manifest has no spec".into());
        }
        self.pods.strategy.set_defaults(&mut p);
        Ok(p)
    }

    fn problems(&self, p: &Value) -> Vec<String> {
        let strategy = &self.pods.strategy;
        let mut causes = Causes::new();
        strategy.validate(p, &mut causes);
        let named = strategy.name_problems(name(p), false);
        let named = named.into_iter().map(|p| format!("metadata.name: {p}"));
        let causes = causes.as_slice().iter().map(|c| c.text());
        causes.chain(named).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_get_the_defaults_of_the_api_and_its_checks() {
        let rules = rules().unwrap();
        let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n  - {name: c, image: i}\n";
        let p = rules.decode(text).unwrap();
        assert_eq!(p["spec"]["restartPolicy"], "Always");
        assert_eq!(p["spec"]["containers"][0]["imagePullPolicy"], "Always");
        assert_eq!(rules.problems(&p), [""; 0]);
        let bad = rules.decode(&text.replace("name: c", "name: C")).unwrap();
        assert_eq!(rules.problems(&bad).len(), 1);
        assert!(rules.decode("kind: Pod").is_err());
    }
}
