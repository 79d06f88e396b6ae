//! Names outside of the cluster: asked of the host's name servers, and kept for a short while.
//! Upstream: CoreDNS plugins forward and cache.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use hickory_proto::rr::{RData, Record};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::error::Error;
use crate::limits;

const PORT: u16 = 53;
/// How often the file is looked at for changes.
const CHECK_EVERY: Duration = Duration::from_secs(5);

/// Where upstream servers come from.
#[derive(Clone, Debug)]
pub enum Upstreams {
    /// The `nameserver` lines of a resolv.conf, read again when it changes.
    File(PathBuf),
    Fixed(Vec<SocketAddr>),
}

/// Asks upstream servers.
pub(crate) struct Forwarder {
    upstreams: Upstreams,
    /// Addresses of this server, which must not be asked.
    own: Vec<SocketAddr>,
    known: Mutex<Known>,
    running: Semaphore,
    cache: Mutex<HashMap<Key, Kept>>,
}

#[derive(Default)]
struct Known {
    servers: Vec<SocketAddr>,
    modified: Option<SystemTime>,
    checked: Option<Instant>,
}

/// Name (lower case), type, and whether DNSSEC records are wanted.
type Key = (String, u16, bool);

struct Kept {
    answer: Answer,
    at: Instant,
    seconds: u32,
}

/// The sections of an upstream's answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub code: ResponseCode,
    pub answers: Vec<Record>,
    pub authorities: Vec<Record>,
    pub additionals: Vec<Record>,
}

// === Answer ===

impl Answer {
    fn of(code: ResponseCode) -> Self {
        Self {
            code,
            answers: Vec::new(),
            authorities: Vec::new(),
            additionals: Vec::new(),
        }
    }

    /// Seconds for which it may be kept.
    fn seconds(&self) -> u32 {
        let lowest = |records: &[Record]| records.iter().map(|r| r.ttl).min();
        let seconds = match self.code {
            ResponseCode::NoError if !self.answers.is_empty() => lowest(&self.answers),
            ResponseCode::NoError | ResponseCode::NXDomain => {
                self.authorities.iter().find_map(|r| match &r.data {
                    RData::SOA(soa) => Some(soa.minimum.min(r.ttl)),
                    _ => None,
                })
            }
            _ => Some(limits::CACHE_SECONDS_MIN),
        };
        let seconds = seconds.unwrap_or(limits::CACHE_SECONDS_MIN);
        seconds.clamp(limits::CACHE_SECONDS_MIN, limits::CACHE_SECONDS_MAX)
    }
}

// === Forwarder ===

impl Forwarder {
    pub(crate) fn new(upstreams: Upstreams, own: Vec<SocketAddr>) -> Self {
        Self {
            upstreams,
            own,
            known: Mutex::default(),
            running: Semaphore::new(limits::FORWARDED_MAX),
            cache: Mutex::default(),
        }
    }

    /// Answers a question from the cache or an upstream server. Never fails: what cannot be answered
    /// is SERVFAIL, and REFUSED where too many questions are waiting.
    pub(crate) async fn ask(&self, query: &Query, dnssec: bool) -> Answer {
        let key = (
            query.name.to_ascii().to_ascii_lowercase(),
            u16::from(query.query_type),
            dnssec,
        );
        if let Some(answer) = self.recall(&key) {
            return answer;
        }
        let Ok(_running) = self.running.try_acquire() else {
            return Answer::of(ResponseCode::Refused);
        };
        let asked = timeout(limits::FORWARD_TIMEOUT, self.ask_servers(query, dnssec)).await;
        let answer = asked.ok().flatten();
        let answer = answer.unwrap_or_else(|| Answer::of(ResponseCode::ServFail));
        self.keep(key, &answer);
        answer
    }

    async fn ask_servers(&self, query: &Query, dnssec: bool) -> Option<Answer> {
        let servers = match self.servers() {
            Ok(servers) => servers,
            Err(error) => {
                tracing::warn!(%error, "upstream name servers unknown");
                return None;
            }
        };
        let start = rand::random_range(0..servers.len().max(1));
        let mut last = None;
        for n in 0..servers.len() {
            let server = servers[(start + n) % servers.len()];
            match exchange(server, query, dnssec).await {
                Ok(answer) if answer.code == ResponseCode::ServFail => last = Some(answer),
                Ok(answer) => return Some(answer),
                Err(error) => tracing::debug!(%server, %error, "name server does not answer"),
            }
        }
        last
    }

    fn servers(&self) -> Result<Vec<SocketAddr>, Error> {
        let path = match &self.upstreams {
            Upstreams::Fixed(servers) => return Ok(servers.clone()),
            Upstreams::File(path) => path,
        };
        let mut known = self.known.lock();
        if known.checked.is_some_and(|c| c.elapsed() < CHECK_EVERY) {
            return Ok(known.servers.clone());
        }
        let fail = |source| Error::ResolvConf {
            path: path.clone(),
            source,
        };
        let facts = std::fs::metadata(path).map_err(fail)?;
        let modified = facts.modified().ok();
        if known.checked.is_none() || modified.is_none() || modified != known.modified {
            if facts.len() > limits::RESOLV_CONF_BYTES_MAX {
                return Err(fail(std::io::ErrorKind::FileTooLarge.into()));
            }
            let text = std::fs::read_to_string(path).map_err(fail)?;
            let mut servers = parse_resolv_conf(&text);
            servers.retain(|s| !self.own.contains(s));
            known.servers = servers;
            known.modified = modified;
        }
        known.checked = Some(Instant::now());
        Ok(known.servers.clone())
    }

    fn recall(&self, key: &Key) -> Option<Answer> {
        let cache = self.cache.lock();
        let kept = cache.get(key)?;
        let age = u32::try_from(kept.at.elapsed().as_secs()).unwrap_or(u32::MAX);
        if age >= kept.seconds {
            return None;
        }
        let mut answer = kept.answer.clone();
        let sections = [
            &mut answer.answers,
            &mut answer.authorities,
            &mut answer.additionals,
        ];
        for record in sections.into_iter().flatten() {
            record.ttl = record.ttl.saturating_sub(age);
        }
        Some(answer)
    }

    fn keep(&self, key: Key, answer: &Answer) {
        let mut cache = self.cache.lock();
        if cache.len() >= limits::CACHE_ENTRIES_MAX {
            let fresh = |k: &Kept| k.at.elapsed().as_secs() < u64::from(k.seconds);
            cache.retain(|_, k| fresh(k));
        }
        if cache.len() >= limits::CACHE_ENTRIES_MAX {
            // Everything is fresh: any eighth of it makes room.
            let mut n = 0;
            cache.retain(|_, _| {
                n += 1;
                n % 8 != 0
            });
        }
        let kept = Kept {
            answer: answer.clone(),
            at: Instant::now(),
            seconds: answer.seconds(),
        };
        cache.insert(key, kept);
    }
}

/// One question to one server: over UDP, and over TCP where the answer does not fit.
async fn exchange(
    server: SocketAddr,
    query: &Query,
    dnssec: bool,
) -> Result<Answer, std::io::Error> {
    let timed_out = || std::io::Error::from(std::io::ErrorKind::TimedOut);
    let mut question = Message::query();
    question.metadata.recursion_desired = true;
    question.add_query(query.clone());
    let mut edns = Edns::new();
    edns.set_max_payload(1232);
    edns.set_dnssec_ok(dnssec);
    question.set_edns(edns);
    let bytes = question.to_vec().map_err(std::io::Error::other)?;
    let over_udp = timeout(limits::UPSTREAM_TIMEOUT, ask_udp(server, &question, &bytes));
    let mut answer = over_udp.await.map_err(|_| timed_out())??;
    if answer.metadata.truncation {
        let over_tcp = timeout(limits::UPSTREAM_TIMEOUT, ask_tcp(server, &question, &bytes));
        answer = over_tcp.await.map_err(|_| timed_out())??;
    }
    Ok(Answer {
        code: answer.metadata.response_code,
        answers: answer.answers,
        authorities: answer.authorities,
        additionals: answer.additionals,
    })
}

async fn ask_udp(
    server: SocketAddr,
    question: &Message,
    bytes: &[u8],
) -> Result<Message, std::io::Error> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // A new socket for each question: its random port makes forged answers harder.
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(bytes).await?;
    let mut buffer = vec![0; limits::UDP_BYTES_MAX];
    loop {
        let n = socket.recv(&mut buffer).await?;
        // What answers something else, or is no answer, is not waited for any less.
        if let Ok(answer) = Message::from_vec(&buffer[..n])
            && fits(&answer, question)
        {
            return Ok(answer);
        }
    }
}

async fn ask_tcp(
    server: SocketAddr,
    question: &Message,
    bytes: &[u8],
) -> Result<Message, std::io::Error> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(bytes.len()).map_err(std::io::Error::other)?;
    let framed = [&length.to_be_bytes()[..], bytes].concat();
    stream.write_all(&framed).await?;
    let length = stream.read_u16().await?;
    let mut buffer = vec![0; usize::from(length)];
    stream.read_exact(&mut buffer).await?;
    let answer = Message::from_vec(&buffer).map_err(std::io::Error::other)?;
    if !fits(&answer, question) {
        return Err(std::io::ErrorKind::InvalidData.into());
    }
    Ok(answer)
}

/// Whether a message answers a question.
fn fits(answer: &Message, question: &Message) -> bool {
    let same = |a: &Query, q: &Query| {
        a.query_type == q.query_type && a.name.to_ascii().eq_ignore_ascii_case(&q.name.to_ascii())
    };
    answer.metadata.id == question.metadata.id
        && answer.metadata.message_type == hickory_proto::op::MessageType::Response
        && match (answer.queries.first(), question.queries.first()) {
            (Some(a), Some(q)) => same(a, q),
            // Some servers leave the question out of errors.
            (None, _) => answer.metadata.response_code != ResponseCode::NoError,
            (Some(_), None) => false,
        }
}

/// The servers of a resolv.conf.
pub(crate) fn parse_resolv_conf(text: &str) -> Vec<SocketAddr> {
    let servers = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let ip = match (words.next(), words.next()) {
            // A zone (`fe80::1%eth0`) is not kept: such servers cannot be asked.
            (Some("nameserver"), Some(ip)) => ip.parse::<IpAddr>().ok()?,
            _ => return None,
        };
        Some(SocketAddr::new(ip, PORT))
    });
    servers.take(limits::UPSTREAMS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_read_as_the_resolver_does() {
        let text = "# nameserver 1.1.1.1\nsearch x\nnameserver 10.0.0.1 extra\n nameserver ::1\nnameserver no\nnameserver\n";
        let servers = parse_resolv_conf(text);
        let servers: Vec<_> = servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["10.0.0.1:53", "[::1]:53"]);
    }
}
