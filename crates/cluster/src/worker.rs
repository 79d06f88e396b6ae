//! The worker half of a node: images, runtime, pod network, kubelet, service proxy, cluster DNS.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use api::core::v1::Node;
use apiserver::Tls;
use network::{BridgeNetwork, Cidr};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::ClusterConfig;
use crate::control_plane::ControlPlane;
use crate::node::{Error, Options, failed};
use crate::paths::Paths;
use crate::progress::Progress;
use crate::{ctr, host, worker_profile};

/// kube-router's name for the bridge of pods, which k0s's users know.
const BRIDGE: &str = "kube-bridge";

/// Starts the worker beside a control plane of the same process; gives its images.
pub async fn start(
    plane: &ControlPlane,
    options: &Options,
    shutdown: &watch::Receiver<bool>,
    parts: &mut JoinSet<()>,
    progress: &Progress,
) -> Result<oci::ImageStore, Error> {
    let images = ctr::open(&options.paths).map_err(|e| failed("open the image store")(&e))?;
    let network = pod_network(&options.config, &options.paths)?;
    let runtime = open_runtime(&options.paths, &images, &network, &options.version)?;
    progress.ready("runtime", "");
    network_parts(plane, options, network, shutdown, parts);
    dns(plane, options, shutdown, parts);
    let config = kubelet_config(plane, options)?;
    let parts_of_kubelet = kubelet::Parts {
        client: plane
            .server
            .client_for(auth::identity::node(&host::node_name())),
        runtime,
        images: Arc::new(runtime::images::ImageService::new(images.clone())),
        authenticators: plane.authenticators.clone(),
        authorizers: plane.authorizers.clone(),
    };
    parts.spawn(note_ready(parts_of_kubelet.client.clone(), *progress));
    let end = shutdown.clone();
    let (of_bundles, folder) = (images.clone(), options.paths.images());
    parts.spawn(async move {
        // A pod that starts sooner would ask a registry for what a bundle is about to bring.
        runtime::bundles::import_all(&of_bundles, &folder).await;
        let stop = CancellationToken::new();
        let watch = runtime::bundles::watch(of_bundles, folder, stop.clone());
        let _ended_with_the_kubelet = stop.drop_guard();
        tokio::spawn(watch);
        if let Err(error) = kubelet::run(config, parts_of_kubelet, end).await {
            tracing::error!(%error, "the kubelet does not run");
        }
    });
    Ok(images)
}

fn is_ready(node: &Node) -> bool {
    let status = node.status.as_ref().and_then(|s| s.conditions.as_deref());
    let mut all = status.unwrap_or_default().iter();
    all.any(|c| c.type_ == "Ready" && c.status == "True")
}

/// Why the worker of this process does not take pods; nothing where it does.
pub fn problem(client: &client::Client) -> Option<String> {
    let name = host::node_name();
    let nodes = match client.lister::<Node>() {
        Ok(nodes) => nodes,
        Err(error) => return Some(error.to_string()),
    };
    match nodes.get("", &name) {
        None => Some(format!("node {name} is not registered yet")),
        Some(node) if is_ready(&node) => None,
        Some(_) => Some(format!("node {name} is not Ready")),
    }
}

/// Tells when the node is Ready, which is when it takes pods.
async fn note_ready(client: client::Client, progress: Progress) {
    let name = host::node_name();
    let nodes = match client.lister::<Node>() {
        Ok(nodes) => nodes,
        Err(error) => return tracing::error!(%error, "nodes cannot be watched"),
    };
    loop {
        let mut seen = nodes.subscribe();
        loop {
            if nodes.get("", &name).is_some_and(|n| is_ready(&n)) {
                return progress.ready("worker", &format!("node {name} is Ready"));
            }
            if seen.changes.recv().await.is_none() {
                break;
            }
        }
    }
}

fn cidr(text: &str) -> Result<Cidr, Error> {
    text.parse()
        .map_err(|e| failed("read the networks")(&format!("{text}: {e}")))
}

/// The runtime of this data directory; adopts the pods that are there.
pub fn open_runtime(
    paths: &Paths,
    images: &oci::ImageStore,
    network: &BridgeNetwork,
    version: &str,
) -> Result<Arc<runtime::Runtime>, Error> {
    let runtime = runtime::Runtime::open(runtime::RuntimeOptions {
        root: paths.data.join("runtime"),
        run: paths.run.join("runtime"),
        cgroup_root: paths.cgroup_root(),
        images: images.clone(),
        network: Arc::new(network.clone()),
        exe: PathBuf::from("/proc/self/exe"),
        version: version.into(),
    });
    runtime.map_err(|e| failed("open the runtime")(&e))
}

/// The pod network of this data directory.
pub fn pod_network(config: &ClusterConfig, paths: &Paths) -> Result<BridgeNetwork, Error> {
    let network = &config.spec.network;
    let mtu = network.kuberouter.as_ref().filter(|r| !r.auto_mtu);
    let config = network::bridge::Config {
        bridge: BRIDGE.into(),
        pod_cidrs: Vec::new(),
        cluster_cidrs: vec![cidr(&network.pod_cidr)?],
        mtu: mtu.map(|r| r.mtu).filter(|m| *m > 0),
        state_dir: paths.data.join("cni"),
    };
    Ok(BridgeNetwork::new(config))
}

/// Routes to other nodes and the service proxy.
fn network_parts(
    plane: &ControlPlane,
    options: &Options,
    network: BridgeNetwork,
    shutdown: &watch::Receiver<bool>,
    parts: &mut JoinSet<()>,
) {
    let settings = &options.config.spec.network;
    let client = plane.server.client_for(auth::identity::proxy());
    let nodes = network::nodes::Config {
        node_name: host::node_name(),
        overlay: true,
    };
    let (of_nodes, end) = (client.clone(), shutdown.clone());
    parts.spawn(async move {
        if let Err(error) = network::nodes::run(of_nodes, nodes, network, end).await {
            tracing::error!(%error, "routes to nodes are not kept");
        }
    });
    if settings.kube_proxy.disabled {
        return;
    }
    let ranges = (cidr(&settings.pod_cidr), cidr(&settings.service_cidr));
    let (Ok(pods), Ok(services)) = ranges else {
        // Both were read before: the configuration is validated.
        return;
    };
    let proxy = network::proxy::Config {
        node_name: host::node_name(),
        cluster_cidrs: vec![pods],
        service_cidrs: vec![services],
        node_local_ips: vec![IpAddr::V4(options.config.dns_ip())],
        masquerade_all: false,
        ipv6: false,
    };
    let end = shutdown.clone();
    parts.spawn(async move {
        if let Err(error) = network::proxy::run(client, proxy, end).await {
            tracing::error!(%error, "the service proxy does not run");
        }
    });
}

fn dns(
    plane: &ControlPlane,
    options: &Options,
    shutdown: &watch::Receiver<bool>,
    parts: &mut JoinSet<()>,
) {
    let address = IpAddr::V4(options.config.dns_ip());
    let user = auth::identity::service_account("kube-system", "coredns");
    let client = plane.server.client_for(user);
    let config = dns::Config {
        listen: vec![SocketAddr::new(address, 53)],
        cluster_domain: options.config.spec.network.cluster_domain.clone(),
        upstreams: dns::Upstreams::File("/etc/resolv.conf".into()),
        ttl: dns::TTL_DEFAULT,
    };
    let end = shutdown.clone();
    parts.spawn(async move {
        if let Err(error) = network::ensure_local_address(address) {
            tracing::error!(%error, %address, "the cluster DNS address is not there");
            return;
        }
        if let Err(error) = dns::serve(client, config, end).await {
            tracing::error!(%error, "cluster DNS does not run");
        }
    });
}

fn kubelet_config(plane: &ControlPlane, options: &Options) -> Result<kubelet::Config, Error> {
    let name = host::node_name();
    let root = options.paths.data.join("kubelet");
    let mut config = kubelet::Config::new(&name, plane.address, &root);
    let names = vec![name.clone(), plane.address.to_string()];
    let fail = failed("set up the kubelet's certificate");
    pki::file::make_dir(&root, 0o755).map_err(|e| fail(&e))?;
    pki::file::make_dir(&root.join("pki"), 0o700).map_err(|e| fail(&e))?;
    let identity = plane
        .pki
        .kubelet_server(&root.join("pki/kubelet"), &name, names);
    let identity = identity.map_err(|e| fail(&e))?;
    let tls = Tls {
        chain: identity.chain().map_err(|e| fail(&e))?,
        key: identity.key().map_err(|e| fail(&e))?,
        client_cas: vec![plane.pki.ca.der().clone()],
        proxy_cas: Vec::new(),
    };
    let tls = tls.config(&[b"http/1.1"]).map_err(|e| fail(&e))?;
    config.tls = Some(Arc::new(tls));
    config.cluster_dns = vec![IpAddr::V4(options.config.dns_ip())];
    config.cluster_domain = options.config.spec.network.cluster_domain.clone();
    config.version = options.version.clone();
    config.static_pods = crate::static_pods::rules().map(|rules| kubelet::StaticPods {
        path: options.paths.static_pods(),
        rules,
    });
    if let Some(logs) = options.paths.private_logs() {
        config.pod_log_dir = logs.join("pods");
        config.container_log_dir = logs.join("containers");
    }
    let role = "node.k0sproject.io/role".to_string();
    config.labels.insert(role, "control-plane".into());
    apply_profile(&mut config, options)?;
    if let Some(pods) = &config.static_pods
        && pods.path == options.paths.static_pods()
    {
        pki::file::make_dir(&pods.path, 0o755).map_err(|e| fail(&e))?;
    }
    Ok(config)
}

/// Applies the worker profile of this node, which must be there if it is named.
fn apply_profile(config: &mut kubelet::Config, options: &Options) -> Result<(), Error> {
    let named = options.profile.as_deref();
    let wanted = named.unwrap_or(worker_profile::DEFAULT);
    let profiles = &options.config.spec.worker_profiles;
    let fail = failed("apply the worker profile");
    let Some(profile) = profiles.iter().find(|p| p.name == wanted) else {
        if wanted == worker_profile::DEFAULT {
            return Ok(());
        }
        return Err(fail(&format!("there is no profile {wanted:?}")));
    };
    // The configuration was validated, so this finds nothing.
    let wrong = worker_profile::apply(config, &profile.values);
    match wrong.first() {
        None => Ok(()),
        Some((field, text)) => Err(fail(&format!("{wanted}: {field}: {text}"))),
    }
}
