//! A node on a three-member etcd, each member in a network of its own: members are killed and cut off under write load.
//! Nothing acknowledged is lost, watches resume without a gap, and writes stall no longer than for etcd's own client, or than etcd itself takes.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::etcd::find;
use super::load::Load;
use super::{Outcome, until};
use crate::cluster::{Cluster, run as program};

const MEMBERS: usize = 3;

pub fn run() -> Result<Outcome> {
    let (Some(etcd), Some(ctl)) = (find("etcd"), find("etcdctl")) else {
        return Ok(Outcome::Skipped("no etcd program".into()));
    };
    let dir = tempfile::tempdir()?;
    let mut members = Vec::new();
    for n in 0..MEMBERS {
        members.push(Member::start(&etcd, dir.path(), n)?);
    }
    let urls: Vec<String> = (0..MEMBERS).map(client_url).collect();
    let storage = json!({"type": "etcd", "etcd": {"externalCluster": {"endpoints": urls, "etcdPrefix": "/k0s"}}});
    until("etcd elects a leader", || leader(&ctl, MEMBERS).map(Some))?;
    let mut cluster = Cluster::launch_with(&storage.to_string(), |_| false)?;
    cluster.wait_ready()?;
    let beside = Beside::start(&ctl, &urls);
    let load = Load::start(&cluster)?;
    for (what, of_leader) in [
        (Trouble::Kill, false),
        (Trouble::Kill, true),
        (Trouble::Cut, false),
        (Trouble::Cut, true),
    ] {
        going_on(&load)?;
        load.stall();
        beside.stall();
        let led = leader(&ctl, MEMBERS)?;
        let n = if of_leader { led } else { (led + 1) % MEMBERS };
        let member = &mut members[n];
        match what {
            Trouble::Kill => member.kill()?,
            Trouble::Cut => link(n, "down")?,
        }
        going_on(&load)?;
        // Longer than etcd's election, and than it takes to see that a member is silent.
        std::thread::sleep(Duration::from_secs(3));
        load.check()
            .with_context(|| format!("{what:?} of member {n}"))?;
        match what {
            Trouble::Kill => *member = Member::start(&etcd, dir.path(), n)?,
            Trouble::Cut => link(n, "up")?,
        }
        until("the member is back", || healthy(&ctl, n).map(Some))?;
        going_on(&load)?;
        let (ours, etcds) = (load.stall(), beside.stall());
        let who = if of_leader {
            "the leader"
        } else {
            "a follower"
        };
        println!(
            "etcd: {what:?} of {who}: longest time without an acknowledged write {ours:?}, of etcdctl {etcds:?}"
        );
        ensure!(
            ours <= (etcds * 2).max(ELECTION) + SLACK,
            "{what:?} of {who}: writes stalled for {ours:?}, etcdctl's for {etcds:?}"
        );
    }
    let done = load.finish()?;
    println!(
        "etcd: {} writes acknowledged around two kills and two cuts",
        done.writes
    );
    Ok(Outcome::Passed)
}

/// What etcd's members take to elect a leader, with the vote before the vote. Writes that were under way to a leader that went are
/// answered after 7 s (server/config `ReqTimeout`); those of this check change what they know, so that they are asked for again.
const ELECTION: Duration = Duration::from_secs(3);

/// What the machine's own load may add to a stall.
const SLACK: Duration = Duration::from_secs(3);

#[derive(Clone, Copy, Debug)]
enum Trouble {
    Kill,
    /// Its cable is pulled.
    Cut,
}

/// Waits until more writes are acknowledged.
fn going_on(load: &Load) -> Result<()> {
    let before = load.writes();
    until("writes go on", || {
        Ok((load.writes() > before + 30).then_some(()))
    })
}

/// A member in a network namespace of its own, on the check's bridge.
struct Member {
    child: Child,
}

impl Member {
    fn start(etcd: &Path, dir: &Path, n: usize) -> Result<Self> {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(dir.join(format!("log{n}")))?;
        let (client, peer) = (client_url(n), peer_url(n));
        let all: Vec<String> = (0..MEMBERS)
            .map(|n| format!("m{n}={}", peer_url(n)))
            .collect();
        // It waits for its cable, then becomes etcd.
        let script = "ip link set lo up; read line; ip address add $0/24 dev eth0; ip link set eth0 up; exec \"$@\"";
        let mut child = Command::new("unshare")
            .args(["--net", "sh", "-c", script, &address(n)])
            .arg(etcd)
            .arg(format!("--name=m{n}"))
            .arg(format!(
                "--data-dir={}",
                dir.join(format!("data{n}")).display()
            ))
            .arg(format!("--listen-client-urls={client}"))
            .arg(format!("--advertise-client-urls={client}"))
            .arg(format!("--listen-peer-urls={peer}"))
            .arg(format!("--initial-advertise-peer-urls={peer}"))
            .arg(format!("--initial-cluster={}", all.join(",")))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("starting etcd")?;
        let pid = child.id().to_string();
        let own = std::fs::read_link("/proc/self/ns/net")?;
        until("the member's network", || {
            let its = std::fs::read_link(format!("/proc/{pid}/ns/net"))?;
            Ok((its != own).then_some(()))
        })?;
        let cable = format!("link add m{n} type veth peer name eth0 netns {pid}");
        for command in [
            cable,
            format!("link set m{n} master e2e0"),
            format!("link set m{n} up"),
        ] {
            program(Command::new("ip").args(command.split(' ')))?;
        }
        drop(child.stdin.take());
        Ok(Self { child })
    }

    fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // One that is gone already is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn address(n: usize) -> String {
    format!("192.168.77.{}", 10 + n)
}

fn client_url(n: usize) -> String {
    format!("http://{}:2379", address(n))
}

fn peer_url(n: usize) -> String {
    format!("http://{}:2380", address(n))
}

fn link(n: usize, state: &str) -> Result<()> {
    program(Command::new("ip").args(["link", "set", &format!("m{n}"), state])).map(drop)
}

fn healthy(ctl: &Path, n: usize) -> Result<()> {
    let asked = ["endpoint", "health", "--command-timeout=2s"];
    program(
        Command::new(ctl)
            .args(asked)
            .args(["--endpoints", &client_url(n)]),
    )
    .map(drop)
}

/// Which member leads.
fn leader(ctl: &Path, members: usize) -> Result<usize> {
    let status = |n: usize| -> Result<serde_json::Value> {
        let asked = ["endpoint", "status", "-w", "json", "--command-timeout=2s"];
        let text = program(
            Command::new(ctl)
                .args(asked)
                .args(["--endpoints", &client_url(n)]),
        )?;
        Ok(serde_json::from_str(&text)?)
    };
    for n in 0..members {
        let known = status(n)?;
        let of = &known[0]["Status"];
        if !of["leader"].is_null() && of["leader"] == of["header"]["member_id"] {
            return Ok(n);
        }
    }
    anyhow::bail!("no member leads")
}

/// etcd's own client, writing beside the node; each write with a new connection, so that nothing but the cluster itself
/// can hold it up.
struct Beside {
    stop: Arc<AtomicBool>,
    stall: Arc<parking_lot::Mutex<Duration>>,
    writer: Option<std::thread::JoinHandle<()>>,
}

impl Beside {
    fn start(ctl: &Path, urls: &[String]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stall = Arc::new(parking_lot::Mutex::new(Duration::ZERO));
        let (ended, longest) = (stop.clone(), stall.clone());
        let (ctl, urls): (PathBuf, String) = (ctl.into(), urls.join(","));
        let writer = std::thread::spawn(move || {
            let mut last = Instant::now();
            while !ended.load(Ordering::Relaxed) {
                let put = [
                    "put",
                    "/beside",
                    "x",
                    "--command-timeout=1s",
                    "--dial-timeout=1s",
                ];
                if program(Command::new(&ctl).args(put).args(["--endpoints", &urls])).is_ok() {
                    let mut longest = longest.lock();
                    *longest = longest.max(last.elapsed());
                    last = Instant::now();
                }
                // What it costs to start a program must not slow the cluster down.
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        Self {
            stop,
            stall,
            writer: Some(writer),
        }
    }

    /// The longest time without an acknowledged write since it was asked last.
    fn stall(&self) -> Duration {
        std::mem::take(&mut *self.stall.lock())
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(writer) = self.writer.take() {
            // It does not panic.
            let _ = writer.join();
        }
    }
}
