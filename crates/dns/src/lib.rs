//! Cluster DNS: the cluster's zones straight from the shared caches, all other names from the host's
//! name servers. Upstream: CoreDNS with the plugins kubernetes, forward, cache, loadbalance.

#![forbid(unsafe_code)]

pub mod error;
pub mod forward;
mod index;
pub mod limits;
mod server;
#[doc(hidden)]
pub mod untrusted;
mod zone;

pub use error::Error;
pub use forward::Upstreams;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use client::Client;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;

use forward::Forwarder;
use index::Index;
use server::Responder;
use zone::Zone;

/// Seconds that CoreDNS's shipped Corefile lets answers live.
pub const TTL_DEFAULT: u32 = 30;
/// Tasks that receive on each UDP socket.
const UDP_TASKS: usize = 2;

/// What the DNS server must know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen, UDP and TCP; the addresses must exist (`network::ensure_local_address`).
    pub listen: Vec<SocketAddr>,
    /// `cluster.local`.
    pub cluster_domain: String,
    /// Who is asked for other names.
    pub upstreams: Upstreams,
    /// Seconds that cluster answers live.
    pub ttl: u32,
}

/// A server that listens already.
pub struct Server {
    sockets: Vec<(UdpSocket, TcpListener)>,
    addresses: Vec<SocketAddr>,
    client: Client,
    config: Config,
    domain: Vec<String>,
}

/// Listens and serves until `shutdown` becomes true.
pub async fn serve(
    client: Client,
    config: Config,
    shutdown: watch::Receiver<bool>,
) -> Result<(), Error> {
    Server::listen(client, config).await?.run(shutdown).await
}

// === Server ===

impl Server {
    /// Opens the sockets. Port 0 takes any free port, the same for UDP and TCP.
    pub async fn listen(client: Client, config: Config) -> Result<Self, Error> {
        let domain = parse_domain(&config.cluster_domain)?;
        if config.listen.is_empty() {
            return Err(Error::NoAddress);
        }
        let (mut sockets, mut addresses) = (Vec::new(), Vec::new());
        for address in &config.listen {
            let fail = |source| Error::Listen {
                address: *address,
                source,
            };
            let tcp = TcpListener::bind(address).await.map_err(fail)?;
            let bound = tcp.local_addr().map_err(fail)?;
            let udp = UdpSocket::bind(bound).await.map_err(fail)?;
            addresses.push(bound);
            sockets.push((udp, tcp));
        }
        Ok(Self {
            sockets,
            addresses,
            client,
            config,
            domain,
        })
    }

    /// Where it listens.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Serves until `shutdown` becomes true.
    pub async fn run(self, shutdown: watch::Receiver<bool>) -> Result<(), Error> {
        let (services, slices) = (self.client.lister()?, self.client.lister()?);
        let index = Arc::new(Index::default());
        let (ready, is_ready) = watch::channel(false);
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let own: Vec<IpAddr> = self.addresses.iter().map(SocketAddr::ip).collect();
        let responder = Arc::new(Responder {
            zone: Zone {
                services: services.clone(),
                slices: slices.clone(),
                namespaces: self.client.lister()?,
                index: index.clone(),
                domain: self.domain,
                ttl: self.config.ttl,
                // Serials are 32 bits and may wrap.
                serial: now.map_or(0, |d| d.as_secs() as u32),
                own,
            },
            forwarder: Forwarder::new(self.config.upstreams, self.addresses),
            ready: is_ready,
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(index::follow(
            index,
            services,
            slices,
            ready,
            shutdown.clone(),
        ));
        for (udp, tcp) in self.sockets {
            let udp = Arc::new(udp);
            for _ in 0..UDP_TASKS {
                let (responder, ended) = (responder.clone(), shutdown.clone());
                tasks.spawn(server::serve_udp(udp.clone(), responder, ended));
            }
            tasks.spawn(server::serve_tcp(tcp, responder.clone(), shutdown.clone()));
        }
        while let Some(done) = tasks.join_next().await {
            if let Err(e) = done
                && e.is_panic()
            {
                std::panic::resume_unwind(e.into_panic());
            }
        }
        Ok(())
    }
}

fn parse_domain(text: &str) -> Result<Vec<String>, Error> {
    let labels: Vec<String> = text
        .trim_end_matches('.')
        .split('.')
        .map(str::to_ascii_lowercase)
        .collect();
    let good = |l: &String| {
        (1..=63).contains(&l.len()) && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if labels.iter().all(good) {
        return Ok(labels);
    }
    Err(Error::ClusterDomain(text.into()))
}
