//! Kill -9 of the daemon and what the next one finds. The daemon here is this program again.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use cri::{ContainerState, PodSandboxState, Runtime as _};

use crate::Test;
use crate::world::{PATIENCE, World, log, script};

pub const TESTS: &[Test] = &[Test {
    name: "killed_daemon_loses_nothing",
    run: killed_daemon,
}];

const DAEMON: &str = "test-daemon";

/// Runs as a daemon with two containers and one that is only created, until it is killed.
pub fn daemon(args: &[OsString]) -> Option<ExitCode> {
    let dir = match args {
        [_, name, dir] if name == DAEMON => Path::new(dir).to_owned(),
        _ => return None,
    };
    let tokio = tokio::runtime::Runtime::new().unwrap();
    tokio.block_on(async {
        let w = World::open(&dir, None).await;
        let sandbox = w.sandbox("a").await;
        let long = w
            .start(&sandbox, script("i=0; while ! [ -e /dev/shm/end ]; do i=$((i+1)); echo line $i; sleep 0.001; done; echo $i > /dev/shm/count; exit 21"))
            .await;
        let short = w
            .start(&sandbox, script("while ! [ -e /dev/shm/soon ]; do sleep 0.001; done; echo unseen; exit 22"))
            .await;
        let created = w.runtime.create_container(&sandbox, script("echo later")).await;
        println!("{sandbox} {long} {short} {}", created.unwrap());
        std::future::pending::<()>().await;
    });
    Some(ExitCode::SUCCESS)
}

fn killed_daemon() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path().to_owned();
    let mut daemon = Command::new("/proc/self/exe")
        .arg(DAEMON)
        .arg(&dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut out = BufReader::new(daemon.stdout.take().unwrap());
    out.read_line(&mut line).unwrap();
    let ids: Vec<&str> = line.split_whitespace().collect();
    let [sandbox, long, short, created] = ids[..] else {
        panic!("daemon said {line:?}")
    };
    daemon.kill().unwrap();
    assert_eq!(daemon.wait().unwrap().signal(), Some(9));
    // One container ends while there is no daemon, and one sandbox was only half made.
    let shm = dir.join("run/sandboxes").join(sandbox).join("shm");
    std::fs::write(shm.join("soon"), "").unwrap();
    exists(&dir.join("root/containers").join(short).join("exit.json"));
    leave_half_made(&dir, sandbox);
    let tokio = tokio::runtime::Runtime::new().unwrap();
    tokio.block_on(async {
        let w = World::open(&dir, Some(temporary)).await;
        let status = w.runtime.pod_sandbox_status(sandbox).await.unwrap();
        assert_eq!(status.state, PodSandboxState::Ready);
        assert_eq!(status.ips, ["10.9.8.7"]);
        for (id, state) in [
            (long, ContainerState::Running),
            (short, ContainerState::Exited),
            (created, ContainerState::Created),
        ] {
            let status = w.runtime.container_status(id).await.unwrap();
            assert_eq!(status.state, state);
        }
        let file = shm.join("end");
        let keeper = status.keeper_pid;
        std::fs::write(&file, "").unwrap();
        let status = w.ended(long).await;
        assert_eq!(status.exit_code, 21);
        let unseen = w.ended(short).await;
        assert_eq!(unseen.exit_code, 22);
        assert_eq!(log(&unseen), "unseen");
        let count = std::fs::read_to_string(file.with_file_name("count")).unwrap();
        let text = log(&status);
        let wanted: usize = count.trim().parse().unwrap();
        let numbered = text.lines().enumerate();
        for (at, line) in numbered {
            assert_eq!(line, format!("line {}", at + 1));
        }
        assert_eq!(text.lines().count(), wanted, "no line is lost");
        w.runtime.start_container(created).await.unwrap();
        assert_eq!(log(&w.ended(created).await), "later");
        let again = w.runtime.pod_sandbox_status(sandbox).await.unwrap();
        assert_eq!(again.keeper_pid, keeper);
        // The next one finds exits of containers that nobody watched.
        let next = World::open(&dir, None).await;
        let status = next.runtime.container_status(long).await.unwrap();
        assert_eq!(
            (status.exit_code, status.state),
            (21, ContainerState::Exited)
        );
        drop(next);
        until_gone(&dir.join("root/sandboxes/half")).await;
        assert_eq!(w.runtime.list_pod_sandboxes().await.unwrap().len(), 1);
        w.network.attached.lock().unwrap().clear();
        w.take_down().await;
    });
}

fn exists(path: &Path) {
    let begun = std::time::Instant::now();
    while !path.exists() {
        assert!(begun.elapsed() < PATIENCE, "{} appears", path.display());
        std::thread::yield_now();
    }
}

async fn until_gone(path: &Path) {
    let gone = async {
        while path.exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
}

/// What a crash in the middle of `run_pod_sandbox` leaves.
fn leave_half_made(dir: &Path, sandbox: &str) {
    let sandboxes = dir.join("root/sandboxes");
    let text = std::fs::read(sandboxes.join(sandbox).join("sandbox.json")).unwrap();
    let mut record: serde_json::Value = serde_json::from_slice(&text).unwrap();
    record["id"] = "half".into();
    record["phase"] = "Creating".into();
    record["config"]["metadata"]["uid"] = "uid-half".into();
    record["config"]["cgroup_parent"] = "kubepods/podhalf".into();
    record["netns"] = dir.join("run/netns/half").display().to_string().into();
    std::fs::create_dir(sandboxes.join("half")).unwrap();
    std::fs::write(sandboxes.join("half/sandbox.json"), record.to_string()).unwrap();
    std::fs::create_dir_all(dir.join("run/sandboxes/half/shm")).unwrap();
    std::fs::write(dir.join("run/netns/half"), "").unwrap();
}
