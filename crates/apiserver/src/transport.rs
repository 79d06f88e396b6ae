//! How requests reach the server: TLS connections with HTTP/1.1 and HTTP/2, and calls of in-process
//! parts, which take the same way from `filters::handle` on.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::{HeaderValue, USER_AGENT};
use http::{Request, Response};
use hyper::body::Incoming as HyperBody;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use machinery::request::User;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use crate::body::{self, Body};
use crate::filters;
use crate::http2::{self, Gathered, Requests};
use crate::lanes::Lanes;
use crate::limits;
use crate::server::{Incoming, Inner, Peer, Server};

/// Certificates the server shows and trusts.
pub struct Tls {
    /// The server's chain, leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
    /// CAs whose client certificates are accepted.
    pub client_cas: Vec<CertificateDer<'static>>,
    /// CAs of front proxies, who tell users by headers. Their certificates are nobody's own.
    pub proxy_cas: Vec<CertificateDer<'static>>,
}

/// Takes TLS connections, and tells who vouches for a client.
#[derive(Clone)]
pub struct Acceptor {
    tls: TlsAcceptor,
    clients: Option<Arc<dyn ClientCertVerifier>>,
    proxies: Option<Arc<dyn ClientCertVerifier>>,
}

/// Why the server cannot listen with these certificates.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("client CA: {0}")]
    ClientCa(String),
    #[error("server certificate: {0}")]
    Server(#[from] rustls::Error),
}

// === Tls ===

impl Tls {
    /// The acceptor of the API server: HTTP/2 and HTTP/1.1.
    pub fn acceptor(self) -> Result<Acceptor, TlsError> {
        let clients = verifier(&self.client_cas)?;
        let proxies = verifier(&self.proxy_cas)?;
        let all = verifier(&self.all_cas())?;
        let all = all.map(|inner| Arc::new(Offered(inner)) as Arc<dyn ClientCertVerifier>);
        let config = self.with(all, &[b"h2", b"http/1.1"])?;
        Ok(Acceptor {
            tls: TlsAcceptor::from(Arc::new(config)),
            clients,
            proxies,
        })
    }

    /// The server's side of TLS for these application protocols, best first. Client certificates are
    /// optional, and verified where given.
    pub fn config(self, protocols: &[&[u8]]) -> Result<rustls::ServerConfig, TlsError> {
        let all = verifier(&self.all_cas())?;
        self.with(all, protocols)
    }

    fn all_cas(&self) -> Vec<CertificateDer<'static>> {
        let both = self.client_cas.iter().chain(&self.proxy_cas);
        both.cloned().collect()
    }

    fn with(
        self,
        clients: Option<Arc<dyn ClientCertVerifier>>,
        protocols: &[&[u8]],
    ) -> Result<rustls::ServerConfig, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?;
        let builder = match clients {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(self.chain, self.key)?;
        config.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
        Ok(config)
    }
}

/// Vouches for clients of these CAs; nobody does where there are none.
fn verifier(
    cas: &[CertificateDer<'static>],
) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsError> {
    if cas.is_empty() {
        return Ok(None);
    }
    let bad = |e: String| TlsError::ClientCa(e);
    let mut roots = RootCertStore::empty();
    for ca in cas {
        roots.add(ca.clone()).map_err(|e| bad(e.to_string()))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .allow_unauthenticated()
        .build()
        .map_err(|e| bad(e.to_string()))?;
    Ok(Some(verifier))
}

/// Lets in clients whoever vouches for them, so that they hear 401 in words, as from upstream's server: `Acceptor::peer`
/// tells afterwards whose certificates count. They must hold the key of what they show.
#[derive(Debug)]
struct Offered(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for Offered {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

impl Acceptor {
    /// The client of a connection whose handshake is done: its chain goes where somebody vouches for it.
    fn peer(&self, chain: &[CertificateDer<'_>]) -> Peer {
        let all: Arc<Vec<Vec<u8>>> = Arc::new(chain.iter().map(|c| c.to_vec()).collect());
        let vouched = |by: &Option<Arc<dyn ClientCertVerifier>>| match (by, chain) {
            (Some(by), [leaf, rest @ ..]) => {
                let now = UnixTime::now();
                by.verify_client_cert(leaf, rest, now).is_ok()
            }
            _ => false,
        };
        let of = |by| match vouched(by) {
            true => all.clone(),
            false => Arc::default(),
        };
        let (certificates, proxy_certificates) = (of(&self.clients), of(&self.proxies));
        Peer {
            address: None,
            foreign: !all.is_empty() && certificates.is_empty() && proxy_certificates.is_empty(),
            certificates,
            proxy_certificates,
            part: None,
        }
    }
}

impl Server {
    /// Serves connections until `shutdown`. Each connection is a task of its own, in one of these lanes.
    pub async fn serve(&self, listener: TcpListener, tls: Acceptor, lanes: Arc<Lanes>) {
        let seats = Arc::new(Semaphore::new(limits::CONNECTIONS));
        let mut shutdown = self.inner.shutdown.subscribe();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                // The sender lives in the server, so this ends only by the value.
                _ = shutdown.wait_for(|down| *down) => return,
            };
            // Its lane has a reactor of its own.
            let stream = match accepted.and_then(|(stream, _)| stream.into_std()) {
                Ok(stream) => stream,
                Err(error) => {
                    tracing::warn!(%error, "connection not accepted");
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                    continue;
                }
            };
            let Ok(seat) = seats.clone().try_acquire_owned() else {
                tracing::warn!("too many connections, one was refused");
                continue;
            };
            let place = lanes.place();
            let lane = place.handle();
            let (inner, tls) = (self.inner.clone(), tls.clone());
            let served = async move {
                if let Err(error) = connection(inner, stream, tls).await {
                    tracing::debug!(%error, "connection ended");
                }
                drop((seat, place));
            };
            self.inner.connections.spawn_on(served, &lane);
        }
    }
}

async fn connection(
    inner: Arc<Inner>,
    stream: std::net::TcpStream,
    tls: Acceptor,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::from_std(stream)?;
    stream.set_nodelay(true)?;
    let address = stream.peer_addr().ok().map(|a| a.ip().to_canonical());
    let stream = tokio::time::timeout(limits::HANDSHAKE, tls.tls.accept(stream)).await??;
    let peer = Peer {
        address,
        ..tls.peer(stream.get_ref().1.peer_certificates().unwrap_or(&[]))
    };
    let mut shutdown = inner.shutdown.subscribe();
    // In a box: its way through the libraries would copy it time and again.
    let service =
        service_fn(move |request| Box::pin(network(inner.clone(), request, peer.clone())));
    let requests = Requests::default();
    let mut builder = auto::Builder::new(requests.clone());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HEADER_WAIT)
        .max_buf_size(limits::HEADER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(limits::PING_EVERY)
        .keep_alive_timeout(limits::PING_WAIT)
        .max_concurrent_streams(1_000)
        .max_header_list_size(limits::HEADER_BYTES as u32);
    let shared = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let stream = TokioIo::new(Gathered::new(stream, shared));
    let connection = builder.serve_connection_with_upgrades(stream, service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = poll_fn(|cx| requests.poll(connection.as_mut(), cx)) => return ended,
        // The sender lives in the server, so this ends only by the value.
        _ = shutdown.wait_for(|down| *down) => {}
    }
    connection.as_mut().graceful_shutdown();
    poll_fn(|cx| requests.poll(connection.as_mut(), cx)).await
}

async fn network(
    inner: Arc<Inner>,
    mut request: Request<HyperBody>,
    peer: Peer,
) -> Result<Response<Body>, Infallible> {
    let shared = request.version() == http::Version::HTTP_2;
    let incoming = Incoming::of(&mut request, peer);
    let answer = answer(inner, incoming, request.into_body()).await;
    Ok(match shared {
        true => answer.map(http2::in_pieces),
        false => answer,
    })
}

/// Answers. Who waits for leave to send a body is not made to send one that nobody reads.
async fn answer<B>(inner: Arc<Inner>, mut incoming: Incoming, body: B) -> Response<Body>
where
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let upload = body::Upload::new(body);
    incoming.upload = Some(upload.clone());
    let asks = incoming.headers.contains_key(http::header::EXPECT);
    let answer = filters::handle(inner, incoming).await;
    if !asks {
        upload.forget().await;
    }
    answer
}

/// The tower service behind the clients of in-process parts.
#[derive(Clone)]
pub struct InProcess {
    inner: Arc<Inner>,
    user: Arc<User>,
    agent: HeaderValue,
}

/// The name under which a part's writes are recorded: that of upstream's program.
fn agent(user: &str) -> &str {
    match user {
        u if u.starts_with("system:node:") => "kubelet",
        u if u.starts_with("system:serviceaccount:kube-system:") => "kube-controller-manager",
        "system:apiserver" => "kube-apiserver",
        other => other.rsplit(':').next().unwrap_or(other),
    }
}

impl InProcess {
    /// Calls under an identity.
    pub fn new(inner: Arc<Inner>, mut user: User) -> Self {
        if !user.in_group("system:authenticated") {
            user.groups.push("system:authenticated".into());
        }
        let agent = HeaderValue::from_str(agent(&user.name));
        Self {
            inner,
            agent: agent.unwrap_or(HeaderValue::from_static("unknown")),
            user: Arc::new(user),
        }
    }
}

impl tower::Service<Request<kube::client::Body>> for InProcess {
    type Response = Response<Body>;
    type Error = machinery::ApiError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<kube::client::Body>) -> Self::Future {
        let inner = self.inner.clone();
        let peer = Peer {
            address: Some(std::net::Ipv4Addr::LOCALHOST.into()),
            certificates: Arc::default(),
            proxy_certificates: Arc::default(),
            foreign: false,
            part: Some(self.user.clone()),
        };
        let agent = self.agent.clone();
        Box::pin(async move {
            let mut incoming = Incoming::of(&mut request, peer);
            incoming.headers.entry(USER_AGENT).or_insert(agent);
            Ok(answer(inner, incoming, request.into_body()).await)
        })
    }
}
