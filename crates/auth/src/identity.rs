//! The users that parts of this process are. They pass the same filters as everybody else; only the proof
//! of who they are is missing, since they never leave the process.

use machinery::request::User;

/// The API server towards itself: may do everything.
pub fn api_server() -> User {
    User::new("system:apiserver", &[crate::MASTERS, crate::AUTHENTICATED])
}

/// The scheduler.
pub fn scheduler() -> User {
    User::new("system:kube-scheduler", &[crate::AUTHENTICATED])
}

/// What all controllers share: leader election and the like.
pub fn controller_manager() -> User {
    User::new("system:kube-controller-manager", &[crate::AUTHENTICATED])
}

/// The service proxy.
pub fn proxy() -> User {
    User::new("system:kube-proxy", &[crate::AUTHENTICATED])
}

/// The kubelet of a node.
pub fn node(name: &str) -> User {
    User::new(
        &format!("system:node:{name}"),
        &[crate::node::GROUP, crate::AUTHENTICATED],
    )
}

/// A controller with a role of its own (`deployment-controller`), as upstream runs it:
/// a service account of kube-system. `bootstrap::controllers` lists them.
pub fn controller(name: &str) -> User {
    service_account("kube-system", name)
}

/// Any service account.
pub fn service_account(namespace: &str, name: &str) -> User {
    User::new(
        &format!("{}{namespace}:{name}", crate::service_account::USER_PREFIX),
        &[
            "system:serviceaccounts",
            &format!("system:serviceaccounts:{namespace}"),
            crate::AUTHENTICATED,
        ],
    )
}

#[cfg(test)]
mod tests {
    use machinery::request::{Attributes, Decision};

    use super::*;
    use crate::Rbac;
    use crate::tests::{attributes, with_bootstrap};

    #[test]
    fn every_part_may_do_its_work() {
        let reads = with_bootstrap();
        let (rbac, nodes) = (Rbac::new(reads.clone()), crate::node::Node::new(reads));
        let table = [
            (scheduler(), "create -/pods/binding d/p"),
            (scheduler(), "list -/pods -/-"),
            (controller("replicaset-controller"), "create -/pods d/-"),
            (controller("job-controller"), "update batch/jobs/status d/j"),
            (
                controller("daemon-set-controller"),
                "create apps/controllerrevisions d/-",
            ),
            (
                controller("endpointslice-controller"),
                "create discovery.k8s.io/endpointslices d/-",
            ),
            (
                controller("namespace-controller"),
                "update -/namespaces/finalize -/n",
            ),
            (
                controller("root-ca-cert-publisher"),
                "create -/configmaps d/-",
            ),
            (
                controller("service-account-controller"),
                "create -/serviceaccounts d/-",
            ),
            (controller("node-controller"), "patch -/nodes/status -/n"),
            (controller("pod-garbage-collector"), "delete -/pods d/p"),
            (proxy(), "watch discovery.k8s.io/endpointslices -/-"),
            (node("n"), "create -/nodes -/-"),
            (node("n"), "create -/events d/-"),
        ];
        for (user, text) in table {
            let a: Attributes = attributes(&user, text);
            let allowed = [rbac.decide(&a), nodes.decide(&a)]
                .iter()
                .any(|d| matches!(d, Decision::Allow(_)));
            assert!(allowed, "{} {text}", user.name);
        }
    }
}
