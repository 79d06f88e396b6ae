//! What controllers are given, and how each is started.

use std::sync::Arc;

use client::{Client, Recorder};
use machinery::GroupResource;
use reconciler::{Board, Clock, Env, Error, Reconciler};
use tokio::sync::watch;

/// Facts of the cluster that some controllers publish or act on.
#[derive(Clone, Default)]
pub struct Facts {
    /// PEM of the CA that signs the API server's certificate.
    pub root_ca: String,
    /// Networks that nodes' pod networks are cut from, one per family; empty: nodes get none.
    pub cluster_cidrs: Vec<String>,
    /// Prefix length of a node's IPv4 pod network.
    pub node_mask_v4: u8,
    /// Prefix length of a node's IPv6 pod network.
    pub node_mask_v6: u8,
    /// Networks of Services, kept out of nodes' pod networks.
    pub service_cidrs: Vec<String>,
}

/// What controllers sign with; without it they do not.
#[derive(Clone, Default)]
pub struct Signing {
    /// Signs approved CertificateSigningRequests.
    pub ca: Option<Arc<pki::Ca>>,
    /// Signs the tokens that Secrets hold.
    pub tokens: Option<Arc<pki::TokenSigner>>,
}

/// What `run` needs. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// A client under the service account of that name in kube-system; for `""` under the identity of
    /// kube-controller-manager itself.
    pub client_for: Arc<dyn Fn(&str) -> Client + Send + Sync>,
    pub facts: Arc<Facts>,
    pub clock: Clock,
    /// True while this process may act.
    pub leader: watch::Receiver<bool>,
    /// Turns true once, at the end.
    pub shutdown: watch::Receiver<bool>,
    /// Where the counters of all controllers are.
    pub board: Board,
}

/// What one controller is built from.
#[derive(Clone)]
pub struct Setup {
    pub client: Client,
    pub recorder: Recorder,
    pub clock: Clock,
    pub facts: Arc<Facts>,
    pub signing: Signing,
    pub shutdown: watch::Receiver<bool>,
}

/// One controller of the list.
pub struct Controller {
    /// Upstream's name, as in `--controllers`.
    pub name: &'static str,
    /// Service account in kube-system; `""` for kube-controller-manager itself.
    pub account: &'static str,
    /// Source of its events.
    pub component: &'static str,
    /// Resources (group, plural) that must be served.
    pub needs: &'static [(&'static str, &'static str)],
    pub build: fn(&Setup) -> Result<Reconciler, Error>,
}

/// Waits for a controller's resources, builds it and runs it.
pub(crate) async fn supervise(controller: &'static Controller, cx: Context, signing: Signing) {
    let client = (cx.client_for)(controller.account);
    let mut shutdown = cx.shutdown.clone();
    tokio::select! {
        () = served(controller, &client) => {}
        _ = shutdown.wait_for(|end| *end) => return,
    }
    let setup = Setup {
        recorder: Recorder::new(client.clone(), controller.component, ""),
        client: client.clone(),
        clock: cx.clock.clone(),
        facts: cx.facts.clone(),
        signing,
        shutdown: cx.shutdown.clone(),
    };
    let env = Env {
        reads: client.reads().clone(),
        leader: cx.leader,
        shutdown: cx.shutdown,
        board: cx.board,
    };
    match (controller.build)(&setup) {
        Ok(reconciler) => {
            tracing::debug!(controller = controller.name, "controller starts");
            reconciler.run(env).await;
        }
        Err(error) => {
            tracing::error!(controller = controller.name, %error, "controller cannot start");
        }
    }
}

async fn served(controller: &Controller, client: &Client) {
    let mut changed = client.reads().resources_changed();
    let mut told = false;
    loop {
        changed.mark_unchanged();
        let missing = controller.needs.iter().find(|(group, resource)| {
            let resource = GroupResource::new(*group, *resource);
            client.reads().cache(&resource).is_none()
        });
        let Some((group, resource)) = missing else {
            return;
        };
        if !told {
            let resource = GroupResource::new(*group, *resource);
            tracing::info!(controller = controller.name, %resource, "controller waits for a resource that is not served");
            told = true;
        }
        if changed.changed().await.is_err() {
            // The set never changes again: this controller never runs.
            std::future::pending::<()>().await;
        }
    }
}
