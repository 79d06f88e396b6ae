//! Packets of DNS clients: where the fuzz target enters (`tools/fuzz`).

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use client::{Cache, Lister};
use tokio::sync::watch;

use crate::forward::{Forwarder, Upstreams};
use crate::index::Index;
use crate::limits;
use crate::server::{Reply, Responder, encode, udp_limit};
use crate::zone::Zone;

/// Answers packets from objects; knows no other servers.
pub struct Answers {
    responder: Responder,
    _ready: watch::Sender<bool>,
}

impl Answers {
    /// Takes the caches of Services, EndpointSlices and Namespaces.
    pub fn new([services, slices, namespaces]: [Arc<dyn Cache>; 3]) -> Self {
        let (ready, is_ready) = watch::channel(true);
        let responder = Responder {
            zone: Zone {
                services: Lister::new(services),
                slices: Lister::new(slices),
                namespaces: Lister::new(namespaces),
                index: Arc::new(Index::default()),
                domain: vec!["cluster".into(), "local".into()],
                ttl: crate::TTL_DEFAULT,
                serial: 1,
                own: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
            },
            forwarder: Forwarder::new(Upstreams::Fixed(Vec::new()), Vec::new()),
            ready: is_ready,
        };
        Self {
            responder,
            _ready: ready,
        }
    }

    /// The answer to a packet as UDP and as TCP carry it; what others would have to be asked is not asked.
    pub fn answer(&self, packet: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
        let packet = packet.get(..limits::QUERY_BYTES_MAX).unwrap_or(packet);
        let (Reply::Now(message) | Reply::Ask(message, _)) = self.responder.begin(packet)?;
        let limit = udp_limit(&message, packet);
        let udp = encode((*message).clone(), limit)?;
        Some((udp, encode(*message, usize::from(u16::MAX))?))
    }
}
