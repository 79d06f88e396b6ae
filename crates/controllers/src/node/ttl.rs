//! How long kubelets may keep ConfigMaps and Secrets: the more nodes, the longer.
//! Upstream: pkg/controller/ttl.

use api::core::v1::Node;
use async_trait::async_trait;
use client::Client;
use client::api::Patch;
use reconciler::{During, Error, Key, Next, Reconcile, Reconciler, Trigger};
use serde_json::json;

use crate::common::act;
use crate::common::object::Object;
use crate::{Controller, Setup};

pub static CONTROLLER: Controller = Controller {
    name: "ttl-controller",
    account: "ttl-controller",
    component: "ttl-controller",
    needs: &[("", "nodes")],
    build: |setup| Ok(build(setup)),
};

const ANNOTATION: &str = "node.alpha.kubernetes.io/ttl";

/// Bounds of numbers of nodes, overlapping so that the value does not flap, and seconds.
const STEPS: &[(usize, usize, u32)] = &[
    (0, 100, 0),
    (90, 500, 15),
    (450, 1000, 30),
    (900, 2000, 60),
    (1800, usize::MAX, 300),
];

fn build(setup: &Setup) -> Reconciler {
    let this = Ttl {
        client: setup.client.clone(),
    };
    Reconciler::new("ttl-controller", 5, this).on(Trigger::own("", "nodes"))
}

struct Ttl {
    client: Client,
}

/// The seconds for so many nodes; a value in force stays as long as its bounds allow.
fn seconds(nodes: usize, current: Option<u32>) -> u32 {
    let fits = |s: &&(usize, usize, u32)| nodes >= s.0 && nodes <= s.1;
    let kept = STEPS.iter().filter(fits).find(|s| Some(s.2) == current);
    kept.or_else(|| STEPS.iter().find(fits))
        .map_or(300, |s| s.2)
}

#[async_trait]
impl Reconcile for Ttl {
    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let lister = self.client.lister::<Node>()?;
        let Some(node) = lister.get("", &key.name) else {
            return Ok(Next::Done);
        };
        let current = node.annotation(ANNOTATION).parse().ok();
        let wanted = seconds(lister.cache().list(None).len(), current);
        if current == Some(wanted) {
            return Ok(Next::Done);
        }
        let patch = json!({"metadata": {"annotations": {ANNOTATION: wanted.to_string()}}});
        let api = self.client.all::<Node>();
        match api
            .patch(&key.name, &act::patch_params(), &Patch::Merge(&patch))
            .await
        {
            Err(e) if client::is_not_found(&e) => {}
            done => {
                done.during("annotate the node")?;
            }
        }
        Ok(Next::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_grows_with_the_cluster_and_does_not_flap() {
        assert_eq!(seconds(1, None), 0);
        assert_eq!(seconds(101, Some(0)), 15);
        assert_eq!(seconds(95, Some(15)), 15);
        assert_eq!(seconds(95, Some(0)), 0);
        assert_eq!(seconds(5000, Some(60)), 300);
    }
}
