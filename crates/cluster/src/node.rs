//! A node from start to stop: the parts in their order, and the wait for a signal.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use apiserver::connect::kubelet::KubeletClient;
use apiserver::{Identity, Plugins, Server, Tls};
use machinery::request::{Admission, Authenticator, Authorizer, User};
use pki::{Pki, PkiOptions};
use serde_json::{Value, json};
use store::Store;
use store::etcd::{Etcd, EtcdConfig};
use store::sqlite::Sqlite;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::config::ClusterConfig;
use crate::paths::Paths;
use crate::progress::Progress;
use crate::{bootstrap, host, status};

/// How long history is kept for watches and old pages, as kube-apiserver's compaction interval.
const HISTORY: Duration = Duration::from_secs(300);

/// What the command line says.
#[derive(Clone, Debug)]
pub struct Options {
    pub config: ClusterConfig,
    pub paths: Paths,
    pub single: bool,
    pub args: Vec<String>,
    pub version: String,
}

/// Why a node does not start or cannot go on.
#[derive(Debug, thiserror::Error)]
#[error("{operation}: {why}")]
pub struct Error {
    operation: &'static str,
    why: String,
}

fn failed(operation: &'static str) -> impl Fn(&dyn std::fmt::Display) -> Error {
    move |why| Error {
        operation,
        why: why.to_string(),
    }
}

/// Runs a controller until SIGTERM or SIGINT.
pub async fn controller(options: Options) -> Result<(), Error> {
    let progress = Progress::begin();
    make_dirs(&options.paths)?;
    let address = options
        .config
        .spec
        .api
        .address
        .parse()
        .unwrap_or_else(|_| host::address());
    let pki = certificates(&options, address)?;
    progress.ready("pki", &options.paths.pki().display().to_string());
    let (store, fatal) = open_store(&options).await?;
    tokio::spawn(store.clone().compact_forever(HISTORY));
    progress.ready("store", "");
    let identity = Identity {
        git_version: options.version.clone(),
        git_commit: option_env!("K0S_COMMIT").unwrap_or("unknown").into(),
        build_date: option_env!("K0S_BUILD_DATE")
            .unwrap_or("1970-01-01T00:00:00Z")
            .into(),
    };
    let (network, length) = options.config.service_cidr();
    let kinds = resources::Options {
        service_networks: vec![(IpAddr::V4(network), length)],
        ..resources::Options::default()
    };
    let server = Server::new(store, resources::all(&kinds), identity).await;
    let server = server.map_err(|e| failed("load the cache")(&e))?;
    kinds.reads.set(server.reads());
    server.install(plugins(&server, &pki)?);
    let admin = server.client_for(User::new("system:apiserver", &["system:masters"]));
    bootstrap::ensure(&admin)
        .await
        .map_err(|e| failed("make the system objects")(&e))?;
    let port = options.config.spec.api.port;
    listen(&server, &pki, &options, address).await?;
    progress.ready("apiserver", &format!("https://{address}:{port}"));
    let described = options.clone();
    let socket = options.paths.status_socket();
    let status_task = tokio::spawn(async move {
        let told = described.clone();
        if let Err(error) = status::serve(&socket, move || describe(&told)).await {
            tracing::error!(%error, "the status socket is not served");
        }
    });
    progress.ready("node", "press Ctrl-C to stop");
    let end = wait(fatal).await;
    server.shutdown();
    status_task.abort();
    // The next start removes a socket that is left behind.
    let _ = std::fs::remove_file(options.paths.status_socket());
    end
}

fn make_dirs(paths: &Paths) -> Result<(), Error> {
    let all = [
        (paths.data.clone(), 0o755),
        (paths.run.clone(), 0o755),
        (paths.data.join("db"), 0o750),
        (paths.manifests(), 0o755),
        (paths.images(), 0o755),
    ];
    for (dir, mode) in all {
        pki::file::make_dir(&dir, mode).map_err(|e| failed("make the data directory")(&e))?;
    }
    Ok(())
}

fn certificates(options: &Options, address: IpAddr) -> Result<Pki, Error> {
    let api = &options.config.spec.api;
    let mut sans = vec![address.to_string(), host::node_name()];
    sans.extend(api.sans.clone());
    if !api.external_address.is_empty() {
        sans.push(api.external_address.clone());
    }
    let issuer = "https://kubernetes.default.svc".to_string();
    let wanted = PkiOptions {
        dir: options.paths.pki(),
        sans,
        cluster_domain: options.config.spec.network.cluster_domain.clone(),
        service_ips: vec![IpAddr::V4(options.config.api_service_ip())],
        server_url: server_url(options, address),
        audiences: vec![issuer.clone()],
        issuer,
        etcd_peer: None,
    };
    Pki::ensure(&wanted).map_err(|e| failed("make the certificates")(&e))
}

/// What kubeconfig files on this host point at.
fn server_url(options: &Options, address: IpAddr) -> String {
    let api = &options.config.spec.api;
    if api.only_bind_to_address {
        format!("https://{address}:{}", api.port)
    } else {
        format!("https://localhost:{}", api.port)
    }
}

type Fatal = Option<oneshot::Receiver<String>>;

async fn open_store(options: &Options) -> Result<(Store, Fatal), Error> {
    if let Some(external) = options.config.external_etcd() {
        let read = |path: &str| -> Result<Option<Vec<u8>>, Error> {
            if path.is_empty() {
                return Ok(None);
            }
            let data = std::fs::read(path);
            data.map(Some)
                .map_err(|e| failed("read etcd's certificates")(&format!("{path}: {e}")))
        };
        let pair = (
            read(&external.client_cert_file)?,
            read(&external.client_key_file)?,
        );
        let identity = match pair {
            (Some(cert), Some(key)) => Some((cert, key)),
            _ => None,
        };
        let config = EtcdConfig {
            endpoints: external.endpoints.clone(),
            prefix: external.etcd_prefix.clone(),
            ca: read(&external.ca_file)?,
            identity,
        };
        let etcd = Etcd::connect(config)
            .await
            .map_err(|e| failed("connect to etcd")(&e))?;
        return Ok((Store::new(etcd), None));
    }
    if options.config.spec.storage.kind == "etcd" {
        let why = "spec.storage.type etcd without externalCluster (an etcd that k0s runs itself) is not supported yet; use kine or an externalCluster";
        return Err(failed("open the store")(&why));
    }
    let source = options
        .config
        .spec
        .storage
        .kine
        .as_ref()
        .map(|k| k.data_source.as_str());
    if let Some(source) = source.filter(|s| !s.is_empty() && !s.starts_with("sqlite://")) {
        let scheme = source.split("://").next().unwrap_or("");
        let why = format!("spec.storage.kine.dataSource {scheme}:// is not supported yet");
        return Err(failed("open the store")(&why));
    }
    let (tell, fatal) = oneshot::channel();
    let sqlite = Sqlite::open(&options.paths.database(), tell);
    let sqlite = sqlite.map_err(|e| failed("open the store")(&e))?;
    Ok((Store::new(sqlite), Some(fatal)))
}

fn plugins(server: &Server, pki: &Pki) -> Result<Plugins, Error> {
    let reads = server.reads();
    let verifier = Arc::new(pki.token_verifier());
    let accounts = Arc::new(auth::service_account::ServiceAccounts::new(
        verifier,
        reads.clone(),
    ));
    let bootstrap = Arc::new(auth::bootstrap_token::BootstrapTokens::new(reads.clone()));
    let anonymous = auth::anonymous::Anonymous::new(auth::anonymous::HEALTH_PATHS);
    let authenticators: Vec<Arc<dyn Authenticator>> = vec![
        Arc::new(auth::x509::X509::default()),
        accounts.clone(),
        bootstrap.clone(),
        Arc::new(anonymous),
    ];
    let signer = pki
        .token_signer()
        .map_err(|e| failed("load the token key")(&e))?;
    let rbac = Arc::new(auth::Rbac::new(reads.clone()));
    let node: Arc<dyn Authorizer> = Arc::new(auth::node::Node::new(reads.clone()));
    let authorizers: Vec<Arc<dyn Authorizer>> =
        vec![Arc::new(auth::masters::Masters), node, rbac.clone()];
    // One union, so that reasons of refusals carry their authorizer's name as upstream's do.
    let authorizer: Arc<dyn Authorizer> = Arc::new(auth::Authorizers(authorizers));
    let escalation = auth::rbac_escalation::Escalation::new(rbac, authorizer.clone());
    let mut admission: Vec<Arc<dyn Admission>> = vec![Arc::new(escalation)];
    admission.extend(admission::chain(&admission::Context {
        reads: reads.clone(),
        authorizer: authorizer.clone(),
        writer: Arc::new(
            server
                .client_for(User::new("system:apiserver", &["system:masters"]))
                .into(),
        ),
    }));
    let keys = accounts.verifier().keys();
    let issuer = signer.issuer();
    let documents = HashMap::from([
        ("/openid/v1/jwks".to_string(), pki::jwt::jwks(keys)),
        (
            "/.well-known/openid-configuration".to_string(),
            pki::jwt::discovery(issuer, &format!("{issuer}/openid/v1/jwks"), keys),
        ),
    ]);
    let parts = auth::creators::Parts {
        reads,
        signer: Arc::new(signer),
        accounts,
        tokens: vec![bootstrap],
        authorizer: authorizer.clone(),
    };
    let mut creators: HashMap<_, _> = auth::creators::all(&parts)
        .into_iter()
        .map(|e| {
            (
                (e.group.into(), e.resource.into(), e.subresource.into()),
                e.creator,
            )
        })
        .collect();
    let writer = server.client_for(User::new("system:apiserver", &["system:masters"]));
    creators.extend(resources::creators(&writer).into_iter().map(|e| {
        let target = (e.group.into(), e.resource.into(), e.subresource.into());
        (target, e.creator)
    }));
    let identity = pki
        .leaf("apiserver-kubelet-client")
        .ok_or_else(|| failed("load the kubelet client")(&"no apiserver-kubelet-client"))?;
    let bad = |e: pki::Error| failed("load the kubelet client")(&e);
    let kubelets = KubeletClient::new(
        server.reads(),
        vec![pki.ca.der().clone()],
        identity.chain().map_err(bad)?,
        identity.key().map_err(bad)?,
    )
    .map_err(|e| failed("load the kubelet client")(&e))?;
    Ok(Plugins {
        connectors: apiserver::connect::kubelet::all(kubelets),
        authenticators,
        authorizers: vec![authorizer],
        admission,
        creators,
        documents,
    })
}

async fn listen(
    server: &Server,
    pki: &Pki,
    options: &Options,
    address: IpAddr,
) -> Result<(), Error> {
    let api = &options.config.spec.api;
    let bind = if api.only_bind_to_address {
        address
    } else {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    };
    let at = SocketAddr::new(bind, api.port);
    let listener = TcpListener::bind(at).await;
    let listener = listener.map_err(|e| failed("listen")(&format!("{at}: {e}")))?;
    let identity = pki.server();
    let tls = Tls {
        chain: identity
            .chain()
            .map_err(|e| failed("load the server certificate")(&e))?,
        key: identity
            .key()
            .map_err(|e| failed("load the server key")(&e))?,
        client_cas: vec![pki.ca.der().clone()],
    };
    let acceptor = tls.acceptor().map_err(|e| failed("set up TLS")(&e))?;
    let server = server.clone();
    tokio::spawn(async move { server.serve(listener, acceptor).await });
    Ok(())
}

/// What `k0s status -o json` prints, under k0s's names.
fn describe(options: &Options) -> Value {
    json!({
        "Version": options.version,
        "Pid": std::process::id(),
        "PPid": std::os::unix::process::parent_id(),
        "Role": "controller",
        "NodeName": host::node_name(),
        "SysInit": "",
        "StubFile": "",
        "Output": "",
        "Workloads": false,
        "SingleNode": options.single,
        "Args": options.args,
        "WorkerToAPIConnectionStatus": {"Message": "", "Success": false},
        "ClusterConfig": options.config,
        "K0sVars": {
            "AdminKubeConfigPath": options.paths.admin_conf(),
            "CertRootDir": options.paths.pki(),
            "DataDir": options.paths.data,
            "RunDir": options.paths.run,
            "ManifestsDir": options.paths.manifests(),
            "OCIBundleDir": options.paths.images(),
            "StatusSocketPath": options.paths.status_socket(),
        },
    })
}

/// Waits for a signal, or for a store that cannot go on.
async fn wait(fatal: Fatal) -> Result<(), Error> {
    let signals = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    );
    let (Ok(mut term), Ok(mut int)) = signals else {
        return Err(failed("wait for signals")(&"no signal handler"));
    };
    let fatal = async {
        match fatal {
            Some(reason) => reason.await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = term.recv() => Ok(()),
        _ = int.recv() => Ok(()),
        reason = fatal => match reason {
            Ok(reason) => Err(failed("store")(&reason)),
            Err(_) => Err(failed("store")(&"the writer ended")),
        },
    }
}
