//! The control plane: certificates, store, API server, and the parts that keep the cluster.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use apiserver::connect::kubelet::KubeletClient;
use apiserver::trace::Tracer;
use apiserver::{Aggregation, Identity, Lanes, Plugins, Server, Tls};
use machinery::gates::Gates;
use machinery::request::{Admission, Authenticator, Authorizer};
use machinery::series::Registry;
use pki::{Pki, PkiOptions, TokenSigner};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::api_access::{self, Access};
use crate::api_args::ApiArgs;
use crate::components::Components;
use crate::encryption::Keeper;
use crate::node::{Error, Options, failed};
use crate::progress::Progress;
use crate::storage::{self, Fatal};
use crate::system_services::{self, Facts};
use crate::{
    bootstrap, extension_authentication, flow_control, host, identity_lease, manifests, node_role,
};

/// How long history is kept for watches and old pages, as kube-apiserver's compaction interval.
const HISTORY: Duration = Duration::from_secs(300);
/// Prefix length of a node's pod network (kube-controller-manager's --node-cidr-mask-size-ipv4).
const NODE_MASK_V4: u8 = 24;

/// The issuer of service account tokens, and their audience.
const ISSUER: &str = "https://kubernetes.default.svc";

/// The common name of front proxies, and the file of their certificate.
pub const FRONT_PROXY: &str = "front-proxy-client";

/// A control plane that answers.
pub struct ControlPlane {
    pub server: Server,
    pub pki: Pki,
    /// Signs service account tokens.
    tokens: Arc<TokenSigner>,
    /// Where other machines reach the API server.
    pub address: IpAddr,
    pub fatal: Fatal,
    /// How kubelets of this process tell who asks, and what they may.
    pub authenticators: Vec<Arc<dyn Authenticator>>,
    pub authorizers: Vec<Arc<dyn Authorizer>>,
    components: Components,
    /// How objects are sealed in the store.
    pub encryption: Arc<Keeper>,
    /// Whether the controllers may act: in a single process, always.
    leader: watch::Sender<bool>,
}

/// Starts everything up to an API server that answers.
pub async fn start(options: &Options, progress: &Progress) -> Result<ControlPlane, Error> {
    let address = options
        .config
        .spec
        .api
        .address
        .parse()
        .unwrap_or_else(|_| host::address());
    let pki = certificates(options, address)?;
    progress.ready("pki", &options.paths.pki().display().to_string());
    let (store, fatal) = storage::open(&options.config.spec.storage, &options.paths).await?;
    let args = ApiArgs(&options.config.spec.api.extra_args);
    let gates = gates(args)?;
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
        enablement: args
            .enablement()
            .map_err(|e| failed("read what is served")(&e.join("; ")))?,
        ..resources::Options::default()
    };
    let all = resources::all(&kinds);
    let id = apiserver::identity::of_host(&host::name());
    let tracing = args.tracing();
    let tracer = match tracing.map_err(|e| failed("read the tracing configuration")(&e))? {
        None => None,
        Some(config) => {
            let every = apiserver::limits::TRACE_EVERY;
            let tracer = Tracer::start(&config, &id, every);
            Some(tracer.map_err(|e| failed("begin tracing")(&e))?)
        }
    };
    let store = match &tracer {
        Some(tracer) => tracer.over_store(store),
        None => store,
    };
    let opened = Keeper::open(args, (&options.paths, &id), store, &all).await;
    let (encryption, store) = opened.map_err(|e| failed("load the encryption keys")(&e))?;
    let server = Server::new(store, all, identity).await;
    let server = server.map_err(|e| failed("load the cache")(&e))?;
    kinds.reads.set(server.reads());
    let components = Components::default();
    let tokens = pki.token_signer();
    let tokens = Arc::new(tokens.map_err(|e| failed("load the token key")(&e))?);
    let mut plugins = plugins(&server, &pki, tokens.clone(), args)?;
    plugins.components = components.checks();
    plugins.encryption = Some(encryption.encryption());
    plugins.tracer = tracer;
    plugins.flags = options.config.spec.api.extra_args.clone();
    plugins.gates = gates;
    let ttl = args.event_ttl();
    plugins.event_ttl = ttl.map_err(|e| failed("read how long events live")(&e))?;
    plugins.hooks = bootstrap::HOOKS.to_vec();
    let audit = args.audit(&options.paths);
    plugins.audit = Some(Arc::new(
        audit.map_err(|e| failed("begin the audit log")(&e))?,
    ));
    let authenticators = plugins.authenticators.clone();
    let authorizers = plugins.authorizers.clone();
    server.install(plugins);
    server.aggregate(aggregation(&pki)?);
    let admin = server.client_for(auth::identity::api_server());
    bootstrap::ensure(
        &admin,
        vec![options.config.spec.network.service_cidr.clone()],
    )
    .await
    .map_err(|e| failed("make the system objects")(&e))?;
    for hook in bootstrap::HOOKS {
        server.finish_hook(hook);
    }
    let port = options.config.spec.api.port;
    listen(&server, &pki, options, address).await?;
    progress.ready("apiserver", &format!("https://{address}:{port}"));
    Ok(ControlPlane {
        server,
        pki,
        tokens,
        address,
        fatal,
        authenticators,
        authorizers,
        components,
        encryption: Arc::new(encryption),
        leader: watch::channel(true).0,
    })
}

/// Starts the parts that keep the cluster.
pub fn spawn(
    plane: &ControlPlane,
    options: &Options,
    shutdown: &watch::Receiver<bool>,
    parts: &mut JoinSet<()>,
) {
    let config = &options.config;
    let admin = plane.server.client_for(auth::identity::api_server());
    let facts = Facts {
        address: plane.address,
        port: config.spec.api.port,
        api_service_ip: config.api_service_ip(),
        dns_ip: config.dns_ip(),
    };
    parts.spawn(system_services::run(admin.clone(), facts, shutdown.clone()));
    let trust = extension_authentication::Trust {
        client_ca: plane.pki.ca.pem().to_string(),
        front_proxy_ca: plane.pki.front_proxy_ca.pem().to_string(),
    };
    parts.spawn(extension_authentication::run(
        admin.clone(),
        trust,
        shutdown.clone(),
    ));
    parts.spawn(plane.encryption.clone().run(shutdown.clone()));
    // They were read at the start.
    let gates = ApiArgs(&config.spec.api.extra_args).gates();
    if gates.is_ok_and(|g| g.enabled("APIServerIdentity")) {
        let named = (apiserver::identity::of_host(&host::name()), host::name());
        parts.spawn(identity_lease::run(admin.clone(), named, shutdown.clone()));
    }
    parts.spawn(node_role::run(admin.clone(), shutdown.clone()));
    parts.spawn(flow_control::run(admin.clone(), shutdown.clone()));
    parts.spawn(manifests::run(
        admin,
        options.paths.manifests(),
        shutdown.clone(),
    ));
    let signing = controllers::Signing {
        ca: Some(plane.pki.ca.clone()),
        tokens: Some(plane.tokens.clone()),
    };
    let work = controllers::run(controllers_context(plane, options, shutdown), signing);
    parts.spawn(plane.components.controllers.clone().during(work));
    let client = plane.server.client_for(auth::identity::scheduler());
    let settings = scheduler::Config::new(&host::node_name());
    let end = shutdown.clone();
    let work = async move {
        if let Err(error) = scheduler::run(client, settings, end).await {
            tracing::error!(%error, "the scheduler does not run");
        }
    };
    parts.spawn(plane.components.scheduler.clone().during(work));
}

fn controllers_context(
    plane: &ControlPlane,
    options: &Options,
    shutdown: &watch::Receiver<bool>,
) -> controllers::Context {
    let server = plane.server.clone();
    let network = &options.config.spec.network;
    let facts = controllers::Facts {
        root_ca: plane.pki.ca.pem().to_string(),
        cluster_cidrs: vec![network.pod_cidr.clone()],
        node_mask_v4: NODE_MASK_V4,
        node_mask_v6: 64,
        service_cidrs: vec![network.service_cidr.clone()],
    };
    controllers::Context {
        client_for: Arc::new(move |name| {
            server.client_for(match name {
                "" => auth::identity::controller_manager(),
                name => auth::identity::controller(name),
            })
        }),
        facts: Arc::new(facts),
        clock: reconciler::Clock::system(),
        leader: plane.leader.subscribe(),
        shutdown: shutdown.clone(),
        board: reconciler::Board::default(),
    }
}

fn certificates(options: &Options, address: IpAddr) -> Result<Pki, Error> {
    let api = &options.config.spec.api;
    let mut sans = vec![address.to_string(), host::node_name()];
    sans.extend(api.sans.clone());
    if !api.external_address.is_empty() {
        sans.push(api.external_address.clone());
    }
    let issuer = ISSUER.to_string();
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

/// Who is let in and who decides, and the token authenticators among the former; the files behind them are followed.
fn access(
    server: &Server,
    (accounts, bootstrap): (Arc<dyn Authenticator>, Arc<dyn Authenticator>),
    (rbac, audiences): (Arc<dyn Authorizer>, &[String]),
    args: ApiArgs<'_>,
    metrics: Arc<Registry>,
) -> Result<Access, Error> {
    let issuer = ISSUER.to_string();
    let parts = api_access::Parts {
        metrics,
        server_id: format!("apiserver-{}", host::node_name()),
        issuers: vec![issuer],
        audiences: audiences.to_vec(),
        known: vec![
            Arc::new(auth::request_header::RequestHeader::new(&[FRONT_PROXY])),
            Arc::new(auth::x509::X509::default()),
            accounts,
            bootstrap,
        ],
        node: Arc::new(auth::node::Node::new(server.reads())),
        rbac,
    };
    let built = api_access::build(args, parts);
    built.map_err(|e| failed("set up authentication and authorization")(&e))
}

fn plugins(
    server: &Server,
    pki: &Pki,
    signer: Arc<TokenSigner>,
    args: ApiArgs<'_>,
) -> Result<Plugins, Error> {
    let reads = server.reads();
    let verifier = Arc::new(pki.token_verifier());
    let accounts = Arc::new(auth::service_account::ServiceAccounts::new(
        verifier,
        reads.clone(),
    ));
    let bootstrap = Arc::new(auth::bootstrap_token::BootstrapTokens::new(reads.clone()));
    accounts.note_uses(server.client_for(auth::identity::api_server()));
    let rbac = Arc::new(auth::Rbac::new(reads.clone()));
    let metrics = Arc::new(Registry::default());
    let own = (
        accounts.clone() as Arc<dyn Authenticator>,
        bootstrap.clone() as _,
    );
    let decides = (rbac.clone() as Arc<dyn Authorizer>, accounts.audiences());
    let access = access(server, own, decides, args, metrics.clone())?;
    let authenticators = vec![access.authenticator.clone()];
    // One union, so that reasons of refusals carry their authorizer's name as upstream's do.
    let authorizer = access.authorizer.clone();
    let mut tokens: Vec<Arc<dyn Authenticator>> = vec![bootstrap];
    tokens.extend(access.tokens.iter().cloned());
    access.follow();
    let escalation = auth::rbac_escalation::Escalation::new(rbac, authorizer.clone());
    let mut admission: Vec<Arc<dyn Admission>> = vec![Arc::new(escalation)];
    let context = admission::Context {
        reads: reads.clone(),
        authorizer: authorizer.clone(),
        writer: Arc::new(server.client_for(auth::identity::api_server()).into()),
        webhooks: webhook::Caller::new(reads.clone(), "kube-apiserver-admission"),
        conditions: Some(Arc::new(admission::Expressions)),
    };
    admission.push(Arc::new(admission::ParamAccess(context.clone())));
    admission.extend(admission::chain(&context));
    let keys = accounts.verifier().keys();
    let issuer = signer.issuer().to_string();
    let documents = HashMap::from([
        ("/openid/v1/jwks".to_string(), pki::jwt::jwks(keys)),
        (
            "/.well-known/openid-configuration".to_string(),
            pki::jwt::discovery(&issuer, &format!("{issuer}/openid/v1/jwks"), keys),
        ),
    ]);
    let parts = auth::creators::Parts {
        reads,
        signer,
        accounts,
        tokens,
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
    let writer = server.client_for(auth::identity::api_server());
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
        components: Vec::new(),
        audit: None,
        encryption: None,
        tracer: None,
        flags: std::collections::BTreeMap::new(),
        hooks: Vec::new(),
        gates: Gates::default(),
        event_ttl: None,
        metrics: Some(metrics),
    })
}

/// The feature gates that are set; those that say nothing here are named once.
fn gates(args: ApiArgs<'_>) -> Result<Gates, Error> {
    let gates = args
        .gates()
        .map_err(|e| failed("read the feature gates")(&e.join("; ")))?;
    if !gates.without_effect.is_empty() {
        let gates = gates.without_effect.join(",");
        tracing::warn!(
            gates,
            "these feature gates are not implemented and keep their defaults"
        );
    }
    Ok(gates)
}

/// Who the API server is towards aggregated ones.
fn aggregation(pki: &Pki) -> Result<Aggregation, Error> {
    let bad = |e: &dyn std::fmt::Display| failed("load the front proxy's certificate")(e);
    let identity = pki
        .leaf(FRONT_PROXY)
        .ok_or_else(|| bad(&"no front-proxy-client"))?;
    Ok(Aggregation {
        chain: identity.chain().map_err(|e| bad(&e))?,
        key: identity.key().map_err(|e| bad(&e))?,
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
        proxy_cas: vec![pki.front_proxy_ca.der().clone()],
    };
    let acceptor = tls.acceptor().map_err(|e| failed("set up TLS")(&e))?;
    let lanes = Lanes::start().map_err(|e| failed("start the API server's workers")(&e))?;
    let server = server.clone();
    tokio::spawn(async move { server.serve(listener, acceptor, lanes).await });
    Ok(())
}
