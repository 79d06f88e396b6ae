//! The DNS server over loopback sockets, on caches without an API server.
#![allow(clippy::unwrap_used)] // A test may panic, in its helpers too.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use client::Client;
use client::memory::MemoryReads;
use dns::{Config, Server, Upstreams};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME, SOA};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(5);

struct World {
    reads: Arc<MemoryReads>,
    address: SocketAddr,
    stop: watch::Sender<bool>,
    server: tokio::task::JoinHandle<Result<(), dns::Error>>,
}

async fn world(upstreams: Vec<SocketAddr>) -> World {
    let reads = Arc::new(MemoryReads::new(&[
        ("", "services"),
        ("", "namespaces"),
        ("discovery.k8s.io", "endpointslices"),
    ]));
    fill(&reads);
    let refuse = tower::service_fn(async |_: http::Request<kube::client::Body>| {
        Err::<http::Response<kube::client::Body>, _>(std::io::Error::other("no server"))
    });
    let kube = kube::Client::new(refuse, "default");
    let client = Client::new(kube, reads.clone(), Default::default());
    let config = Config {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        cluster_domain: "cluster.local".into(),
        upstreams: Upstreams::Fixed(upstreams),
        ttl: 30,
    };
    let server = Server::listen(client, config).await.unwrap();
    let address = server.addresses()[0];
    let (stop, stopped) = watch::channel(false);
    let server = tokio::spawn(server.run(stopped));
    let world = World {
        reads,
        address,
        stop,
        server,
    };
    // SERVFAIL until the caches were read.
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while world
        .ask("dns-version.cluster.local.", RecordType::TXT)
        .await
        .metadata
        .response_code
        != ResponseCode::NoError
    {
        assert!(tokio::time::Instant::now() < deadline);
    }
    world
}

fn put(reads: &MemoryReads, object: Value) {
    let (group, resource) = match object["kind"].as_str().unwrap() {
        "Service" => ("", "services"),
        "Namespace" => ("", "namespaces"),
        _ => ("discovery.k8s.io", "endpointslices"),
    };
    reads
        .memory(group, resource)
        .unwrap()
        .apply(object)
        .unwrap();
}

fn service(name: &str, spec: Value) -> Value {
    json!({"kind":"Service","metadata":{"name":name,"namespace":"d"},"spec":spec})
}

fn slice(name: &str, service: &str, endpoints: Value) -> Value {
    json!({"kind":"EndpointSlice",
        "metadata":{"name":name,"namespace":"d","labels":{"kubernetes.io/service-name":service}},
        "addressType":"IPv4","endpoints":endpoints,
        "ports":[{"name":"http","port":8080,"protocol":"TCP"}]})
}

fn fill(reads: &MemoryReads) {
    put(reads, json!({"kind":"Namespace","metadata":{"name":"d"}}));
    let ports = json!([{"name":"http","port":80,"protocol":"TCP"},
        {"name":"dns","port":53,"protocol":"UDP"}]);
    put(
        reads,
        service(
            "web",
            json!({"clusterIP":"10.96.0.20","clusterIPs":["10.96.0.20","fd00::20"],
        "ports":ports}),
        ),
    );
    put(
        reads,
        slice("web-1", "web", json!([{"addresses":["10.244.0.9"]}])),
    );
    put(
        reads,
        service(
            "db",
            json!({"clusterIP":"None","clusterIPs":["None"],
        "ports":[{"name":"http","port":80}]}),
        ),
    );
    put(
        reads,
        slice(
            "db-1",
            "db",
            json!([
        {"addresses":["10.244.0.5"],"hostname":"db-0"},
        {"addresses":["10.244.0.6"],"conditions":{"ready":true}},
        {"addresses":["10.244.0.7"],"hostname":"db-2","conditions":{"ready":false}}]),
        ),
    );
    put(reads, service("empty", json!({"clusterIP":"None"})));
    put(
        reads,
        service(
            "ext",
            json!({"type":"ExternalName","externalName":"www.example.com"}),
        ),
    );
    put(
        reads,
        service(
            "inner",
            json!({"type":"ExternalName",
        "externalName":"web.d.svc.cluster.local"}),
        ),
    );
    put(
        reads,
        service(
            "loop",
            json!({"type":"ExternalName",
        "externalName":"loop.d.svc.cluster.local"}),
        ),
    );
    put(
        reads,
        service(
            "literal",
            json!({"type":"ExternalName","externalName":"1.2.3.4"}),
        ),
    );
}

fn query(name: &str, kind: RecordType) -> Message {
    let mut m = Message::query();
    m.metadata.recursion_desired = true;
    m.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    m
}

async fn exchange(address: SocketAddr, bytes: &[u8]) -> Option<Vec<u8>> {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(bytes, address).await.unwrap();
    let mut buffer = vec![0; 8192];
    let n = timeout(PATIENCE, socket.recv(&mut buffer))
        .await
        .ok()?
        .unwrap();
    Some(buffer[..n].to_vec())
}

async fn over_tcp(address: SocketAddr, queries: &[Message]) -> Vec<Message> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    for q in queries {
        let bytes = q.to_vec().unwrap();
        stream.write_u16(bytes.len() as u16).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
    }
    let mut answers = Vec::new();
    for _ in queries {
        let mut bytes = vec![0; usize::from(stream.read_u16().await.unwrap())];
        stream.read_exact(&mut bytes).await.unwrap();
        answers.push(Message::from_vec(&bytes).unwrap());
    }
    answers
}

impl World {
    async fn send(&self, m: &Message) -> Message {
        let bytes = exchange(self.address, &m.to_vec().unwrap()).await.unwrap();
        let answer = Message::from_vec(&bytes).unwrap();
        assert_eq!(answer.metadata.id, m.metadata.id);
        answer
    }

    async fn ask(&self, name: &str, kind: RecordType) -> Message {
        self.send(&query(name, kind)).await
    }

    async fn end(self) {
        self.stop.send(true).unwrap();
        timeout(PATIENCE, self.server)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
    }
}

/// `NXDOMAIN`, or the sorted data of the answers (empty: NODATA).
fn summary(m: &Message) -> String {
    if m.metadata.response_code != ResponseCode::NoError {
        return format!("{:?}", m.metadata.response_code);
    }
    let mut texts: Vec<_> = m.answers.iter().map(|r| r.data.to_string()).collect();
    texts.sort();
    texts.join(" | ")
}

#[tokio::test]
async fn names_of_the_cluster_are_answered_as_specified() {
    let w = world(vec![]).await;
    use RecordType::{A as V4, AAAA as V6, CNAME as Alias, NS, PTR, SOA as Soa, SRV, TXT};
    let nx = "NXDomain";
    let cases = [
        ("web.d.svc.cluster.local.", V4, "10.96.0.20"),
        ("WEB.d.Svc.cluster.LOCAL.", V4, "10.96.0.20"),
        ("web.d.svc.cluster.local.", V6, "fd00::20"),
        ("web.d.svc.cluster.local.", TXT, ""),
        ("web.e.svc.cluster.local.", V4, nx),
        ("no.d.svc.cluster.local.", V4, nx),
        (
            "_http._tcp.web.d.svc.cluster.local.",
            SRV,
            "0 100 80 web.d.svc.cluster.local.",
        ),
        (
            "_dns._udp.web.d.svc.cluster.local.",
            SRV,
            "0 100 53 web.d.svc.cluster.local.",
        ),
        ("_http._tcp.web.d.svc.cluster.local.", V4, "10.96.0.20"),
        ("_http._udp.web.d.svc.cluster.local.", SRV, nx),
        ("http.tcp.web.d.svc.cluster.local.", SRV, nx),
        (
            "web.d.svc.cluster.local.",
            SRV,
            "0 50 53 web.d.svc.cluster.local. | 0 50 80 web.d.svc.cluster.local.",
        ),
        ("db.d.svc.cluster.local.", V4, "10.244.0.5 | 10.244.0.6"),
        ("db.d.svc.cluster.local.", V6, ""),
        ("db-0.db.d.svc.cluster.local.", V4, "10.244.0.5"),
        ("10-244-0-6.db.d.svc.cluster.local.", V4, "10.244.0.6"),
        ("10-244-0-9.web.d.svc.cluster.local.", V4, "10.244.0.9"),
        ("db-2.db.d.svc.cluster.local.", V4, nx),
        (
            "_http._tcp.db.d.svc.cluster.local.",
            SRV,
            "0 50 8080 10-244-0-6.db.d.svc.cluster.local. | 0 50 8080 db-0.db.d.svc.cluster.local.",
        ),
        ("empty.d.svc.cluster.local.", V4, nx),
        ("ext.d.svc.cluster.local.", Alias, "www.example.com."),
        ("ext.d.svc.cluster.local.", SRV, ""),
        ("x.ext.d.svc.cluster.local.", V4, nx),
        (
            "inner.d.svc.cluster.local.",
            V4,
            "10.96.0.20 | web.d.svc.cluster.local.",
        ),
        ("literal.d.svc.cluster.local.", V4, ""),
        ("1-2-3-4.d.pod.cluster.local.", V4, "1.2.3.4"),
        ("fd00--1.d.pod.cluster.local.", V6, "fd00::1"),
        ("1-2-3-4.d.pod.cluster.local.", V6, ""),
        ("1-2-3-4.e.pod.cluster.local.", V4, nx),
        ("1-2-3.d.pod.cluster.local.", V4, nx),
        ("d.svc.cluster.local.", V4, ""),
        ("e.svc.cluster.local.", V4, nx),
        ("svc.cluster.local.", V4, ""),
        ("x.cluster.local.", V4, nx),
        ("a.b.c.d.e.svc.cluster.local.", V4, nx),
        ("dns-version.cluster.local.", TXT, "1.1.0"),
        ("cluster.local.", NS, "ns.dns.cluster.local."),
        ("ns.dns.cluster.local.", V4, "127.0.0.1"),
        ("20.0.96.10.in-addr.arpa.", PTR, "web.d.svc.cluster.local."),
        (
            "5.0.244.10.in-addr.arpa.",
            PTR,
            "db-0.db.d.svc.cluster.local.",
        ),
        (
            "0.2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa.",
            PTR,
            "web.d.svc.cluster.local.",
        ),
    ];
    for (name, kind, wanted) in cases {
        let answer = w.ask(name, kind).await;
        assert_eq!(summary(&answer), wanted, "{name} {kind}");
        assert!(answer.metadata.authoritative, "{name} {kind}");
        let negative = answer.answers.is_empty();
        let soa = answer.authorities.iter().any(|r| r.record_type() == Soa);
        assert_eq!(soa, negative, "{name} {kind}");
        assert!(answer.answers.iter().all(|r| r.ttl == 30 || kind == TXT));
    }
    // The case of the question comes back.
    let answer = w.ask("WEB.d.Svc.cluster.LOCAL.", V4).await;
    assert_eq!(
        answer.answers[0].name.to_ascii(),
        "WEB.d.Svc.cluster.LOCAL."
    );
    let answer = w.ask("_http._tcp.db.d.svc.cluster.local.", SRV).await;
    assert_eq!(answer.additionals.len(), 2);
    w.end().await;
}

#[tokio::test]
async fn changes_show_at_once() {
    let w = world(vec![]).await;
    let services = w.reads.memory("", "services").unwrap();
    let slices = w
        .reads
        .memory("discovery.k8s.io", "endpointslices")
        .unwrap();
    put(
        &w.reads,
        slice("db-1", "db", json!([{"addresses":["10.244.0.8"]}])),
    );
    put(
        &w.reads,
        slice("db-2", "db", json!([{"addresses":["10.244.0.10"]}])),
    );
    services.delete("d", "web");
    let gone = w.ask("web.d.svc.cluster.local.", RecordType::A).await;
    assert_eq!(summary(&gone), "NXDomain");
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let wanted = "10.244.0.10 | 10.244.0.8";
    while summary(&w.ask("db.d.svc.cluster.local.", RecordType::A).await) != wanted {
        assert!(tokio::time::Instant::now() < deadline);
    }
    slices.delete("d", "db-1");
    slices.delete("d", "db-2");
    while summary(&w.ask("db.d.svc.cluster.local.", RecordType::A).await) != "NXDomain" {
        assert!(tokio::time::Instant::now() < deadline);
    }
    // What an address belonged to is forgotten too: nobody else knows it either.
    let reverse = w.ask("5.0.244.10.in-addr.arpa.", RecordType::PTR).await;
    assert_eq!(summary(&reverse), "ServFail");
    w.end().await;
}

#[tokio::test]
async fn odd_queries_get_the_codes_of_the_standard() {
    let w = world(vec![]).await;
    let mut chaos = query("web.d.svc.cluster.local.", RecordType::A);
    chaos.queries[0].query_class = DNSClass::CH;
    assert_eq!(summary(&w.send(&chaos).await), "Refused");
    let transfer = w.ask("cluster.local.", RecordType::AXFR).await;
    assert_eq!(summary(&transfer), "Refused");
    let mut update = query("cluster.local.", RecordType::A);
    update.metadata.op_code = OpCode::Notify;
    assert_eq!(summary(&w.send(&update).await), "NotImp");
    let mut none = query("cluster.local.", RecordType::A);
    none.queries.clear();
    assert_eq!(summary(&w.send(&none).await), "FormErr");
    let mut new = query("web.d.svc.cluster.local.", RecordType::A);
    let mut edns = Edns::new();
    edns.set_version(7);
    new.set_edns(edns);
    // BADVERS, which shares its number with BADSIG.
    assert_eq!(u16::from(w.send(&new).await.metadata.response_code), 16);
    let plain = w.ask("web.d.svc.cluster.local.", RecordType::A).await;
    assert!(plain.edns.is_none());
    w.end().await;
}

#[tokio::test]
async fn large_answers_are_cut_over_udp_and_whole_over_tcp() {
    let w = world(vec![]).await;
    let many: Vec<_> = (1..=120)
        .map(|n| json!({"addresses":[format!("10.244.1.{n}")]}))
        .collect();
    put(&w.reads, slice("db-9", "db", json!(many)));
    let q = query("db.d.svc.cluster.local.", RecordType::A);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while over_tcp(w.address, std::slice::from_ref(&q)).await[0]
        .answers
        .len()
        != 122
    {
        assert!(tokio::time::Instant::now() < deadline);
    }
    let bytes = exchange(w.address, &q.to_vec().unwrap()).await.unwrap();
    assert!(bytes.len() <= 512);
    assert!(Message::from_vec(&bytes).unwrap().metadata.truncation);
    let mut wide = q.clone();
    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    wide.set_edns(edns);
    let answer = w.send(&wide).await;
    assert_eq!(
        (answer.metadata.truncation, answer.answers.len()),
        (false, 122)
    );
    let pair = over_tcp(w.address, &[q.clone(), q]).await;
    assert_eq!(pair.len(), 2);
    w.end().await;
}

/// A name server that knows www.example.com, truncates big.example.com over UDP, and counts.
async fn upstream() -> (SocketAddr, watch::Receiver<usize>) {
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap();
    let udp = UdpSocket::bind(address).await.unwrap();
    let (count, counted) = watch::channel(0);
    tokio::spawn(async move {
        let mut buffer = vec![0; 4096];
        while let Ok((n, peer)) = udp.recv_from(&mut buffer).await {
            count.send_modify(|c| *c += 1);
            let mut reply = upstream_reply(&buffer[..n]);
            if reply.queries[0].name.to_ascii().starts_with("big") {
                reply.answers.clear();
                reply.metadata.truncation = true;
            }
            // A forged answer first: it must not be believed.
            let mut forged = reply.clone();
            forged.metadata.id = reply.metadata.id.wrapping_add(1);
            for m in [forged, reply] {
                udp.send_to(&m.to_vec().unwrap(), peer).await.unwrap();
            }
        }
    });
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = tcp.accept().await {
            let mut bytes = vec![0; usize::from(stream.read_u16().await.unwrap())];
            stream.read_exact(&mut bytes).await.unwrap();
            let reply = upstream_reply(&bytes).to_vec().unwrap();
            stream.write_u16(reply.len() as u16).await.unwrap();
            stream.write_all(&reply).await.unwrap();
        }
    });
    (address, counted)
}

fn upstream_reply(bytes: &[u8]) -> Message {
    let query = Message::from_vec(bytes).unwrap();
    let mut reply = Message::response(query.metadata.id, OpCode::Query);
    let question = query.queries[0].clone();
    let name = question.name.clone();
    reply.add_query(question);
    let record = |name: &Name, data| Record::from_rdata(name.clone(), 300, data);
    match name.to_ascii().as_str() {
        "www.example.com." => {
            let real = Name::from_ascii("real.example.com.").unwrap();
            reply.add_answer(record(&name, RData::CNAME(CNAME(real.clone()))));
            reply.add_answer(record(&real, RData::A(A([93, 184, 216, 34].into()))));
        }
        "big.example.com." => {
            for n in 1..=100 {
                reply.add_answer(record(&name, RData::A(A([10, 1, 1, n].into()))));
            }
        }
        _ => {
            reply.metadata.response_code = ResponseCode::NXDomain;
            let soa = SOA::new(name.clone(), name.clone(), 1, 1, 1, 1, 17);
            reply.add_authority(record(&name, RData::SOA(soa)));
        }
    }
    reply
}

#[tokio::test]
async fn other_names_are_asked_of_the_upstreams_and_kept() {
    let (server, counted) = upstream().await;
    let w = world(vec![server]).await;
    let answer = w.ask("www.example.com.", RecordType::A).await;
    assert_eq!(summary(&answer), "93.184.216.34 | real.example.com.");
    assert!(!answer.metadata.authoritative && answer.metadata.recursion_available);
    assert_eq!(*counted.borrow(), 1);
    w.ask("WWW.example.com.", RecordType::A).await;
    assert_eq!(*counted.borrow(), 1, "kept");
    let absent = w.ask("no.example.com.", RecordType::A).await;
    assert_eq!(summary(&absent), "NXDomain");
    assert_eq!(absent.authorities.len(), 1);
    // Too large for UDP upstream: asked again over TCP.
    let q = query("big.example.com.", RecordType::A);
    assert_eq!(over_tcp(w.address, &[q]).await[0].answers.len(), 100);
    // An ExternalName's target is resolved too.
    let alias = w.ask("ext.d.svc.cluster.local.", RecordType::A).await;
    assert_eq!(
        summary(&alias),
        "93.184.216.34 | real.example.com. | www.example.com."
    );
    let endless = w.ask("loop.d.svc.cluster.local.", RecordType::A).await;
    assert_eq!(endless.answers.len(), 11);
    w.end().await;
}

#[tokio::test]
async fn without_an_upstream_only_the_cluster_is_known() {
    let w = world(vec![]).await;
    let answer = w.ask("www.example.com.", RecordType::A).await;
    assert_eq!(summary(&answer), "ServFail");
    let alias = w.ask("ext.d.svc.cluster.local.", RecordType::A).await;
    assert_eq!(summary(&alias), "www.example.com.");
    w.end().await;
}

#[tokio::test]
async fn mutated_packets_never_end_the_server() {
    let w = world(vec![]).await;
    let mut seeds = vec![query("web.d.svc.cluster.local.", RecordType::A)];
    let mut with_edns = query("_http._tcp.db.d.svc.cluster.local.", RecordType::SRV);
    with_edns.set_edns(Edns::new());
    seeds.push(with_edns);
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    // A fixed seed: a failure can be repeated.
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize
    };
    for seed in &seeds {
        let bytes = seed.to_vec().unwrap();
        for _ in 0..3_000 {
            let mut mutant = bytes.clone();
            for _ in 0..=next() % 4 {
                let at = next() % mutant.len();
                mutant[at] = next() as u8;
            }
            mutant.truncate(next() % (mutant.len() + 1));
            socket.send_to(&mutant, w.address).await.unwrap();
        }
    }
    assert!(exchange(w.address, &[0; 12]).await.is_some());
    let good = w.ask("web.d.svc.cluster.local.", RecordType::A).await;
    assert_eq!(summary(&good), "10.96.0.20");
    w.end().await;
}

#[tokio::test]
async fn responses_are_never_answered() {
    let w = world(vec![]).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut response = query("web.d.svc.cluster.local.", RecordType::A);
    response.metadata.message_type = MessageType::Response;
    let good = query("web.d.svc.cluster.local.", RecordType::A);
    for m in [&response, &good] {
        socket
            .send_to(&m.to_vec().unwrap(), w.address)
            .await
            .unwrap();
    }
    let mut buffer = vec![0; 4096];
    let n = timeout(PATIENCE, socket.recv(&mut buffer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        Message::from_vec(&buffer[..n]).unwrap().metadata.id,
        good.metadata.id
    );
    w.end().await;
}
