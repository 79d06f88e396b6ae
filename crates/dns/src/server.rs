//! Queries in, answers out, over UDP and TCP. RFC 1035, 6891 (EDNS), 7766 (TCP).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, RData, Record, RecordType};
use rand::seq::SliceRandom;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use crate::forward::{Answer, Forwarder};
use crate::limits;
use crate::zone::{Found, Zone, reverse_address};

/// Answers queries.
pub(crate) struct Responder {
    pub zone: Zone,
    pub forwarder: Forwarder,
    /// False until the caches were read once.
    pub ready: watch::Receiver<bool>,
}

/// What a query gets: an answer now, or one that others must be asked for.
pub(crate) enum Reply {
    Now(Box<Message>),
    /// Forward `question`, put its answer behind the records already in the message.
    Ask(Box<Message>, Query),
}

// === Responder ===

impl Responder {
    /// Starts to answer a query; `None` where nothing may be answered. Does not wait.
    pub(crate) fn begin(&self, bytes: &[u8]) -> Option<Reply> {
        let query = match plausible(bytes).then(|| Message::from_vec(bytes)) {
            Some(Ok(query)) => query,
            _ => return malformed(bytes).map(|m| Reply::Now(Box::new(m))),
        };
        if query.metadata.message_type == MessageType::Response {
            return None;
        }
        let mut reply = Message::response(query.metadata.id, query.metadata.op_code);
        reply.metadata.recursion_desired = query.metadata.recursion_desired;
        reply.metadata.checking_disabled = query.metadata.checking_disabled;
        reply.metadata.recursion_available = true;
        if let Some(offered) = &query.edns {
            let mut edns = Edns::new();
            edns.set_max_payload(limits::UDP_BYTES_MAX as u16);
            edns.set_dnssec_ok(offered.flags().dnssec_ok);
            if offered.version() > 0 {
                // Version 0 is all there is (RFC 6891, 6.1.3).
                reply.set_edns(edns);
                reply.metadata.response_code = ResponseCode::BADVERS;
                return Some(Reply::Now(Box::new(reply)));
            }
            reply.set_edns(edns);
        }
        let coded = |mut reply: Message, code| {
            reply.metadata.response_code = code;
            Some(Reply::Now(Box::new(reply)))
        };
        reply.add_queries(query.queries.iter().cloned());
        if query.metadata.op_code != OpCode::Query {
            return coded(reply, ResponseCode::NotImp);
        }
        let [question] = query.queries.as_slice() else {
            return coded(reply, ResponseCode::FormErr);
        };
        let transfer = matches!(question.query_type, RecordType::AXFR | RecordType::IXFR);
        if transfer || question.query_class != DNSClass::IN {
            return coded(reply, ResponseCode::Refused);
        }
        if !*self.ready.borrow() {
            return coded(reply, ResponseCode::ServFail);
        }
        Some(self.resolve(reply, question.clone(), 0))
    }

    fn resolve(&self, mut reply: Message, question: Query, depth: usize) -> Reply {
        if let Some(labels) = self.zone.relative(&question.name) {
            let kind = question.query_type;
            let found = self.zone.look_up(&question.name, kind, &labels);
            return self.found(reply, found, kind, depth);
        }
        let reverse = (question.query_type == RecordType::PTR)
            .then(|| reverse_address(&question.name))
            .flatten()
            .and_then(|ip| self.zone.reverse(&question.name, ip));
        if let Some(records) = reverse {
            reply.metadata.authoritative = true;
            reply.insert_answers(records);
            return Reply::Now(Box::new(reply));
        }
        Reply::Ask(Box::new(reply), question)
    }

    fn found(&self, mut reply: Message, found: Found, kind: RecordType, depth: usize) -> Reply {
        reply.metadata.authoritative = true;
        let negative = found.absent || found.answers.is_empty();
        if found.absent && depth == 0 {
            reply.metadata.response_code = ResponseCode::NXDomain;
        }
        let mut answers = found.answers;
        if matches!(kind, RecordType::A | RecordType::AAAA) && answers.len() > 1 {
            answers.shuffle(&mut rand::rng());
        }
        reply.add_answers(answers);
        reply.add_additionals(found.additionals);
        if negative && depth == 0 {
            reply.add_authorities(self.zone.soa());
        }
        match found.alias {
            Some(_) if depth >= limits::ALIASES_MAX => Reply::Now(Box::new(reply)),
            Some(target) => self.resolve(reply, Query::query(target, kind), depth + 1),
            None => Reply::Now(Box::new(reply)),
        }
    }

    async fn finish(&self, reply: Reply) -> Message {
        match reply {
            Reply::Now(message) => *message,
            Reply::Ask(mut message, question) => {
                let edns = message.edns.as_ref();
                let dnssec = edns.is_some_and(|e| e.flags().dnssec_ok);
                let answer = self.forwarder.ask(&question, dnssec).await;
                add_forwarded(&mut message, answer);
                *message
            }
        }
    }

    /// The bytes to send for a query over TCP; `None` for none.
    async fn answer_tcp(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let reply = self.begin(bytes)?;
        let message = self.finish(reply).await;
        encode(message, usize::from(u16::MAX))
    }
}

fn add_forwarded(message: &mut Message, answer: Answer) {
    // Behind an alias, a target that cannot be resolved leaves the alias.
    if message.answers.is_empty() {
        message.metadata.response_code = answer.code;
        message.add_authorities(answer.authorities);
    }
    message.add_answers(answer.answers);
    let plain = |r: &Record| !matches!(r.data, RData::OPT(_));
    message.add_additionals(answer.additionals.into_iter().filter(plain));
}

/// Whether a packet may hold what its header counts: room is made for that many before any is read. A question takes five bytes
/// or more, a record eleven.
fn plausible(bytes: &[u8]) -> bool {
    let count = |at: usize| match bytes.get(at..at + 2) {
        Some(n) => usize::from(u16::from_be_bytes([n[0], n[1]])),
        None => 0,
    };
    let records = count(6) + count(8) + count(10);
    bytes.len() >= 12 + 5 * count(4) + 11 * records
}

/// FORMERR for what has a query's header, silence for the rest.
fn malformed(bytes: &[u8]) -> Option<Message> {
    let head = bytes.get(..12)?;
    if head[2] & 0x80 != 0 {
        return None;
    }
    let id = u16::from_be_bytes([head[0], head[1]]);
    Some(Message::error_msg(id, OpCode::Query, ResponseCode::FormErr))
}

/// A message's bytes, cut to a size: first without additional records, then with fewer answers and TC.
pub(crate) fn encode(mut message: Message, limit: usize) -> Option<Vec<u8>> {
    loop {
        match message.to_vec() {
            Ok(bytes) if bytes.len() <= limit => return Some(bytes),
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "answer does not encode"),
        }
        if !message.additionals.is_empty() {
            message.additionals.clear();
        } else if !message.answers.is_empty() {
            message.metadata.truncation = true;
            let half = message.answers.len() / 2;
            message.answers.truncate(half);
        } else if !message.authorities.is_empty() {
            message.metadata.truncation = true;
            message.authorities.clear();
        } else {
            return None;
        }
    }
}

/// The largest answer that a query's sender takes over UDP.
pub(crate) fn udp_limit(message: &Message, query: &[u8]) -> usize {
    let Some(_) = &message.edns else {
        return limits::UDP_BYTES_PLAIN;
    };
    let offered = Message::from_vec(query).ok().and_then(|q| q.edns);
    let offered = offered.map_or(limits::UDP_BYTES_PLAIN, |e| usize::from(e.max_payload()));
    offered.clamp(limits::UDP_BYTES_PLAIN, limits::UDP_BYTES_MAX)
}

/// Answers datagrams until `shutdown`.
pub(crate) async fn serve_udp(
    socket: Arc<UdpSocket>,
    responder: Arc<Responder>,
    mut shutdown: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; limits::QUERY_BYTES_MAX];
    loop {
        let received = tokio::select! {
            _ = shutdown.wait_for(|s| *s) => return,
            received = socket.recv_from(&mut buffer) => received,
        };
        let (n, peer) = match received {
            Ok(received) => received,
            // ICMP errors of earlier answers arrive here; the socket goes on.
            Err(error) => {
                tracing::debug!(%error, "receive failed");
                continue;
            }
        };
        let query = &buffer[..n];
        match responder.begin(query) {
            None => {}
            Some(Reply::Now(message)) => {
                let limit = udp_limit(&message, query);
                send(&socket, *message, limit, peer).await;
            }
            Some(reply @ Reply::Ask(..)) => {
                let (socket, responder) = (socket.clone(), responder.clone());
                let query = query.to_vec();
                // Bounded: the forwarder refuses beyond its limit, and answers in bounded time.
                tokio::spawn(async move {
                    let message = responder.finish(reply).await;
                    let limit = udp_limit(&message, &query);
                    send(&socket, message, limit, peer).await;
                });
            }
        }
    }
}

async fn send(socket: &UdpSocket, message: Message, limit: usize, peer: SocketAddr) {
    let Some(bytes) = encode(message, limit) else {
        return;
    };
    if let Err(error) = socket.send_to(&bytes, peer).await {
        tracing::debug!(%peer, %error, "answer not sent");
    }
}

/// Answers connections until `shutdown`.
pub(crate) async fn serve_tcp(
    listener: TcpListener,
    responder: Arc<Responder>,
    mut shutdown: watch::Receiver<bool>,
) {
    let open = Arc::new(Semaphore::new(limits::CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            _ = shutdown.wait_for(|s| *s) => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "connection not accepted");
                // Out of descriptors, most likely: others must close some first.
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            }
        };
        // Beyond the limit a connection is closed at once.
        let Ok(permit) = open.clone().try_acquire_owned() else {
            continue;
        };
        let (responder, mut ended) = (responder.clone(), shutdown.clone());
        tokio::spawn(async move {
            let _permit = permit;
            tokio::select! {
                _ = ended.wait_for(|s| *s) => {}
                done = converse(stream, &responder) => {
                    if let Err(error) = done {
                        tracing::debug!(%error, "connection ended");
                    }
                }
            }
        });
    }
}

async fn converse(mut stream: TcpStream, responder: &Responder) -> io::Result<()> {
    for _ in 0..limits::CONNECTION_QUERIES_MAX {
        let Ok(query) = timeout(limits::CONNECTION_IDLE, read_query(&mut stream)).await else {
            return Ok(());
        };
        let Some(bytes) = responder.answer_tcp(&query?).await else {
            return Ok(());
        };
        let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
        let framed = [&length.to_be_bytes()[..], &bytes].concat();
        let sent = timeout(limits::CONNECTION_IDLE, stream.write_all(&framed)).await;
        sent.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    }
    Ok(())
}

async fn read_query(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut bytes = vec![0; usize::from(length)];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}
