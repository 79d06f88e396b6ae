//! Netlink and nf_tables against the real kernel, in throw-away network namespaces. `nft` and `ip`
//! serve as independent readers.

#![allow(clippy::unwrap_used)] // A test may panic, in its helpers too.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::process::Command;

use linux::netlink::address::PrefixRoute;
use linux::netlink::link::Peer;
use linux::netlink::route::Route;
use linux::netlink::{Socket, Subsystem, namespace};
use linux::nftables::*;

/// Runs `f` on a thread in a new namespace; `false` (and a note) where the kernel refuses.
fn in_namespace(f: impl FnOnce() + Send) -> bool {
    let Ok(netns) = namespace::create() else {
        eprintln!("SKIPPED: cannot create a network namespace");
        return false;
    };
    namespace::run_in(netns.as_fd(), || {
        f();
        Ok(())
    })
    .unwrap();
    true
}

fn output(program: &str, arguments: &[&str]) -> String {
    let done = Command::new(program).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(
        done.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
    text
}

fn v4(text: &str) -> IpAddr {
    IpAddr::V4(text.parse::<Ipv4Addr>().unwrap())
}

#[test]
fn bridge_veth_addresses_and_routes_are_as_ip_shows_them() {
    in_namespace(|| {
        let mut here = Socket::open(Subsystem::Route).unwrap();
        here.create_bridge("br0", Some([2, 0, 0, 0, 0, 1])).unwrap();
        let again = here.create_bridge("br0", None).unwrap_err();
        assert!(again.is_present(), "{again}");
        let bridge = here.link("br0").unwrap().unwrap();
        assert_eq!(
            (bridge.kind.as_str(), bridge.mac),
            ("bridge", [2, 0, 0, 0, 0, 1])
        );
        let ip = v4("10.1.0.1");
        here.add_address(bridge.index, ip, 24, PrefixRoute::Add)
            .unwrap();
        here.set_up(bridge.index, true).unwrap();

        let pod = namespace::create().unwrap();
        let peer = Peer {
            name: "eth0",
            netns: pod.as_fd(),
            mac: Some([2, 0, 0, 0, 0, 9]),
        };
        here.create_veth("veth1", 1400, peer).unwrap();
        let veth = here.link("veth1").unwrap().unwrap();
        here.set_master(veth.index, bridge.index).unwrap();
        here.set_hairpin(veth.index, true).unwrap();
        here.set_up(veth.index, true).unwrap();
        let shown = output("ip", &["-d", "link", "show", "veth1"]);
        for part in ["master br0", "hairpin on", "mtu 1400", "UP"] {
            assert!(shown.contains(part), "{part} in {shown}");
        }

        let mut there = namespace::socket_in(pod.as_fd(), Subsystem::Route).unwrap();
        let eth0 = there.link("eth0").unwrap().unwrap();
        assert_eq!((eth0.mtu, eth0.mac), (1400, [2, 0, 0, 0, 0, 9]));
        there
            .add_address(eth0.index, v4("10.1.0.2"), 32, PrefixRoute::Add)
            .unwrap();
        there.set_up(eth0.index, true).unwrap();
        there
            .add_route(&Route::direct(v4("10.1.0.1"), 32, eth0.index))
            .unwrap();
        there
            .add_route(&Route::via(v4("0.0.0.0"), 0, v4("10.1.0.1"), eth0.index))
            .unwrap();
        let routes = there.routes().unwrap();
        assert!(
            routes
                .iter()
                .any(|r| r.prefix == 0 && r.gateway == Some(v4("10.1.0.1")))
        );
        let listener = std::net::TcpListener::bind((ip, 0)).unwrap();
        let to = listener.local_addr().unwrap();
        namespace::run_in(pod.as_fd(), || {
            std::net::TcpStream::connect_timeout(&to, std::time::Duration::from_secs(5)).unwrap();
            Ok(())
        })
        .unwrap();

        let onlink = Route {
            onlink: true,
            ..Route::via(v4("10.2.0.0"), 24, v4("192.168.9.9"), bridge.index)
        };
        here.add_route(&onlink).unwrap();
        assert!(output("ip", &["route"]).contains("10.2.0.0/24 via 192.168.9.9 dev br0"));
        assert!(here.routes().unwrap().contains(&onlink));
        here.delete_route(&onlink).unwrap();
        let gone = here.delete_route(&onlink).unwrap_err();
        assert!(gone.is_absent(), "{gone}");

        here.delete_link(veth.index).unwrap();
        assert!(there.link("eth0").unwrap().is_none());
        here.delete_address(bridge.index, ip, 24).unwrap();
        assert!(!here.addresses().unwrap().iter().any(|a| a.ip == ip));
    });
}

fn payload(base: PayloadBase, offset: u32, length: u32, n: u32) -> Expr {
    Expr::Payload {
        base,
        offset,
        length,
        register: register::data(n),
    }
}

fn service_key(ip: [u8; 4], port: u16) -> Key {
    Key::of(&[&ip, &[6], &port.to_be_bytes()])
}

fn base(kind: ChainType, hook: Hook, priority: i32) -> Option<Base> {
    Some(Base {
        kind,
        hook,
        priority,
        policy: Policy::Accept,
    })
}

fn service_batch() -> Batch {
    let mut b = Batch::new(Table::new(Family::Ipv4, "t"));
    b.destroy_table();
    b.add_table();
    for chain in ["svc", "ep"] {
        b.add_chain(chain, None);
    }
    b.add_chain("pre", base(ChainType::Nat, Hook::Prerouting, -100));
    b.add_chain("post", base(ChainType::Nat, Hook::Postrouting, 100));
    b.add_chain("fwd", base(ChainType::Filter, Hook::Forward, 0));
    let key = vec![
        DataType::Ipv4Address,
        DataType::InetProto,
        DataType::InetService,
    ];
    b.add_set(&Set::new("services", key, SetKind::VerdictMap));
    b.add_set(&Set {
        dynamic: true,
        timeout_ms: Some(10_000),
        ..Set::new("affinity", vec![DataType::Ipv4Address], SetKind::Set)
    });
    b.add_set(&Set {
        interval: true,
        ..Set::new("ranges", vec![DataType::Ipv4Address], SetKind::Set)
    });
    b.add_rule(
        "pre",
        &Rule::new(vec![
            payload(PayloadBase::Network, 16, 4, 0),
            Expr::Meta {
                key: MetaKey::L4Proto,
                register: register::data(1),
            },
            payload(PayloadBase::Transport, 2, 2, 2),
            Expr::Lookup {
                set: "services".into(),
                register: register::data(0),
                target: Some(register::VERDICT),
                invert: false,
            },
        ])
        .comment("by destination"),
    );
    let endpoint = |n: u8| {
        Element::pair(
            Key::of(&[&u32::from(n).to_ne_bytes()]),
            Data::Value(Key::of(&[&[10, 1, 1, n], &80u16.to_be_bytes()]).0),
        )
    };
    b.add_rule(
        "svc",
        &Rule::new(vec![
            Expr::Meta {
                key: MetaKey::L4Proto,
                register: register::data(0),
            },
            Expr::Cmp {
                op: Op::Eq,
                register: register::data(0),
                value: vec![6],
            },
            Expr::Numgen {
                modulus: 2,
                random: true,
                register: register::data(0),
            },
            Expr::LookupAnonymous {
                set: Box::new(AnonymousSet {
                    key: vec![DataType::Integer32],
                    kind: SetKind::Map(vec![DataType::Ipv4Address, DataType::InetService]),
                    interval: false,
                    elements: vec![endpoint(0), endpoint(1)],
                }),
                register: register::data(0),
                target: Some(register::data(0)),
                invert: false,
            },
            Expr::Nat {
                kind: NatKind::Destination,
                ipv6: false,
                address: Some(register::data(0)),
                port: Some(register::data(1)),
                flags: 0,
            },
        ]),
    );
    b.add_rule(
        "ep",
        &Rule::new(vec![
            payload(PayloadBase::Network, 12, 4, 0),
            Expr::Update {
                set: "affinity".into(),
                register: register::data(0),
                timeout_ms: Some(10_000),
            },
            Expr::Fib {
                flags: fib_flags::DADDR,
                result: FibResult::AddressType,
                register: register::data(0),
            },
            Expr::Cmp {
                op: Op::Eq,
                register: register::data(0),
                value: 2u32.to_ne_bytes().to_vec(),
            },
            Expr::Counter,
            Expr::Limit {
                rate: 5,
                unit: LimitUnit::Second,
                burst: 5,
                over: false,
            },
            Expr::Log { prefix: "x".into() },
        ]),
    );
    b.add_rule(
        "post",
        &Rule::new(vec![
            Expr::Meta {
                key: MetaKey::Mark,
                register: register::data(0),
            },
            Expr::Bitwise {
                source: register::data(0),
                target: register::data(0),
                mask: 0x4000u32.to_ne_bytes().to_vec(),
                xor: vec![0; 4],
            },
            Expr::Cmp {
                op: Op::Ne,
                register: register::data(0),
                value: vec![0; 4],
            },
            Expr::Masquerade {
                flags: nat_flags::RANDOM_FULLY,
            },
        ]),
    );
    b.add_rule(
        "fwd",
        &Rule::new(vec![
            Expr::Ct {
                key: CtKey::State,
                register: register::data(0),
            },
            Expr::Bitwise {
                source: register::data(0),
                target: register::data(0),
                mask: ct_state::NEW.to_ne_bytes().to_vec(),
                xor: vec![0; 4],
            },
            Expr::Cmp {
                op: Op::Ne,
                register: register::data(0),
                value: vec![0; 4],
            },
            payload(PayloadBase::Network, 12, 4, 0),
            Expr::Lookup {
                set: "ranges".into(),
                register: register::data(0),
                target: None,
                invert: true,
            },
            Expr::Reject(RejectKind::PortUnreachable),
        ]),
    );
    b.add_elements(
        "services",
        &[
            Element::pair(
                service_key([10, 96, 0, 1], 443),
                Data::Verdict(Verdict::Goto("svc".into())),
            ),
            Element::pair(
                service_key([10, 96, 0, 2], 80),
                Data::Verdict(Verdict::Drop),
            ),
        ],
    );
    b.add_elements(
        "ranges",
        &[
            Element::range(Key::of(&[&[10, 0, 0, 0]]), Key::of(&[&[10, 255, 255, 255]])),
            Element::range(Key::of(&[&[192, 168, 1, 7]]), Key::of(&[&[192, 168, 1, 7]])),
            Element::range(
                Key::of(&[&[240, 0, 0, 0]]),
                Key::of(&[&[255, 255, 255, 255]]),
            ),
        ],
    );
    b
}

#[test]
fn ruleset_reads_in_nft_as_meant() {
    in_namespace(|| {
        service_batch().commit().unwrap();
        let shown = output("nft", &["list", "ruleset"]);
        for part in [
            "type ipv4_addr . inet_proto . inet_service : verdict",
            "10.96.0.1 . tcp . 443 : goto svc",
            "10.96.0.2 . tcp . 80 : drop",
            "type nat hook prerouting priority dstnat; policy accept;",
            "ip daddr . meta l4proto . th dport vmap @services comment \"by destination\"",
            "meta l4proto tcp dnat ip to numgen random mod 2 map { 0 : 10.1.1.0 . 80, 1 : 10.1.1.1 . 80 }",
            "update @affinity { ip saddr timeout 10s }",
            "fib daddr type local counter packets 0 bytes 0 limit rate 5/second log prefix \"x\"",
            "meta mark & 0x00004000 != 0x00000000 masquerade fully-random",
            "ct state new ip saddr != @ranges reject",
            "10.0.0.0/8, 192.168.1.7",
            "240.0.0.0/4",
        ] {
            assert!(shown.contains(part), "{part:?} not in\n{shown}");
        }
        let mut socket = Socket::open(Subsystem::Netfilter).unwrap();
        let table = Table::new(Family::Ipv4, "t");
        assert_eq!(chains(&mut socket, &table).unwrap().len(), 5);
        assert_eq!(rules(&mut socket, &table).unwrap().len(), 5);
        assert_eq!(
            element_keys(&mut socket, &table, "services").unwrap().len(),
            2
        );
        // A second run replaces all of it, and removal leaves nothing.
        service_batch().commit().unwrap();
        assert_eq!(rules(&mut socket, &table).unwrap().len(), 5);
        let mut b = Batch::new(table);
        b.destroy_table();
        b.commit_on(&mut socket).unwrap();
        assert_eq!(output("nft", &["list", "ruleset"]), "");
    });
}

#[test]
fn ten_thousand_elements_go_in_one_transaction() {
    in_namespace(|| {
        service_batch().commit().unwrap();
        let table = Table::new(Family::Ipv4, "t");
        let elements: Vec<_> = (0..10_000u32)
            .map(|n| {
                let ip = (0x0a70_0000u32 + n).to_be_bytes();
                Element::pair(
                    service_key(ip, 80),
                    Data::Verdict(Verdict::Goto("svc".into())),
                )
            })
            .collect();
        let mut b = Batch::new(table.clone());
        b.add_elements("services", &elements);
        b.commit().unwrap();
        let mut socket = Socket::open(Subsystem::Netfilter).unwrap();
        assert_eq!(
            element_keys(&mut socket, &table, "services").unwrap().len(),
            10_002
        );
        let mut b = Batch::new(table.clone());
        b.delete_elements("services", &elements);
        b.commit_on(&mut socket).unwrap();
        assert_eq!(
            element_keys(&mut socket, &table, "services").unwrap().len(),
            2
        );
    });
}

#[test]
fn refused_transaction_names_the_operation_and_changes_nothing() {
    in_namespace(|| {
        service_batch().commit().unwrap();
        let before = output("nft", &["list", "ruleset"]);
        let mut b = Batch::new(Table::new(Family::Ipv4, "t"));
        b.add_chain("new", None);
        b.flush_chain("absent");
        let error = b.commit().unwrap_err();
        assert_eq!(error.failures.len(), 1, "{error}");
        assert_eq!(error.failures[0].operation, "flush chain absent");
        assert!(error.failures[0].is_absent());
        assert_eq!(output("nft", &["list", "ruleset"]), before);
    });
}

#[test]
fn chains_of_removed_elements_go_in_the_same_transaction() {
    in_namespace(|| {
        service_batch().commit().unwrap();
        let mut b = Batch::new(Table::new(Family::Ipv4, "t"));
        b.flush_chain("svc");
        b.delete_elements(
            "services",
            &[Element::key(service_key([10, 96, 0, 1], 443))],
        );
        b.delete_chain("svc");
        b.commit().unwrap();
        assert!(!output("nft", &["list", "ruleset"]).contains("svc"));
    });
}

#[test]
fn rate_limit_is_as_tc_shows_it() {
    in_namespace(|| {
        let mut here = Socket::open(Subsystem::Route).unwrap();
        here.create_bridge("br0", None).unwrap();
        let index = here.link_index("br0").unwrap().unwrap();
        here.set_rate_limit(index, 1_250_000, 65_536, 100_000)
            .unwrap();
        here.set_rate_limit(index, 1_250_000, 65_536, 100_000)
            .unwrap();
        let shown = output("tc", &["qdisc", "show", "dev", "br0"]);
        assert!(
            shown.contains("tbf 1: root") && shown.contains("rate 10Mbit burst 64Kb"),
            "{shown}"
        );
        here.set_rate_limit(index, 10_000_000_000, 65_536, 100_000)
            .unwrap();
        let shown = output("tc", &["qdisc", "show", "dev", "br0"]);
        assert!(shown.contains("rate 80Gbit"), "{shown}");
    });
}
