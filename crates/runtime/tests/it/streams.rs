//! Commands, attaching, terminals, port-forward.

use std::time::Duration;

use cri::{AttachRequest, ErrorKind, ExecExit, ExecRequest, Runtime as _, TerminalSize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::Test;
use crate::world::{PATIENCE, log, script, world};

pub const TESTS: &[Test] = &[
    Test {
        name: "exec_sync_collects",
        run: exec_sync,
    },
    Test {
        name: "exec_streams",
        run: exec,
    },
    Test {
        name: "exec_with_a_terminal",
        run: terminal,
    },
    Test {
        name: "attach_sees_and_feeds",
        run: attach,
    },
    Test {
        name: "log_is_reopened_after_rotation",
        run: reopen,
    },
    Test {
        name: "port_forward_reaches_the_pod",
        run: port_forward,
    },
];

fn words(all: &[&str]) -> Vec<String> {
    all.iter().map(|s| (*s).to_owned()).collect()
}

fn exec_sync() {
    world(async |w| {
        let id = w.sandbox("a").await;
        let mut config = script("exec sleep 1000");
        config.envs = vec![("KEY".into(), "value".into())];
        config.security.run_as_user = Some(1000);
        config.resources.oom_score_adj = 500;
        let c = w.start(&id, config).await;
        let sh = |text: &str| words(&["sh", "-c", text]);
        let out = w.runtime.exec_sync(&c, sh("echo $KEY; id -u; cat /proc/self/oom_score_adj; ls /proc/self/ns | wc -l; echo bad >&2; exit 5"), 10).await.unwrap();
        assert_eq!(
            String::from_utf8_lossy(&out.stdout)
                .lines()
                .take(3)
                .collect::<Vec<_>>(),
            ["value", "1000", "500"]
        );
        assert_eq!(
            (out.stderr.as_slice(), out.exit_code),
            (b"bad\n".as_slice(), 5)
        );
        let many = w
            .runtime
            .exec_sync(&c, sh("dd if=/dev/zero bs=1000 count=500 2>/dev/null"), 10)
            .await
            .unwrap();
        assert_eq!(many.stdout.len(), 500_000);
        let late = w
            .runtime
            .exec_sync(&c, sh("sleep 100"), 1)
            .await
            .unwrap_err();
        assert_eq!(late.kind, ErrorKind::DeadlineExceeded);
        let none = w
            .runtime
            .exec_sync(&c, words(&["nothing"]), 1)
            .await
            .unwrap_err();
        assert!(
            none.message
                .ends_with(r#"exec: "nothing": executable file not found in $PATH"#),
            "{none}"
        );
        // A child that keeps the streams open is not waited for.
        let begun = std::time::Instant::now();
        w.runtime
            .exec_sync(&c, sh("sleep 1000 & echo x"), 60)
            .await
            .unwrap();
        assert!(begun.elapsed() < Duration::from_secs(30));
        w.runtime.stop_container(&c, 0).await.unwrap();
        let ended = w.runtime.exec_sync(&c, sh("true"), 1).await.unwrap_err();
        assert_eq!(ended.kind, ErrorKind::FailedPrecondition);
    });
}

fn exec() {
    world(async |w| {
        let id = w.sandbox("a").await;
        let c = w.start(&id, script("exec sleep 1000")).await;
        let request = ExecRequest {
            container: c.clone(),
            command: words(&["sh", "-c", "cat; echo done >&2; exit 4"]),
            stdin: true,
            stdout: true,
            stderr: true,
            tty: false,
        };
        let mut session = w.runtime.exec(request).await.unwrap();
        let mut stdin = session.stdin.take().unwrap();
        stdin.write_all(b"hello\n").await.unwrap();
        drop(stdin);
        let (mut out, mut err) = (String::new(), String::new());
        session
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut out)
            .await
            .unwrap();
        session
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut err)
            .await
            .unwrap();
        assert_eq!((out.as_str(), err.as_str()), ("hello\n", "done\n"));
        assert_eq!(session.exit.await, Ok(ExecExit::Code(4)));
        let request = ExecRequest {
            container: c.clone(),
            command: words(&["/none"]),
            stdout: true,
            ..ExecRequest::default()
        };
        let refused = w.runtime.exec(request).await.err().unwrap();
        assert!(
            refused.message.contains("no such file or directory"),
            "{refused}"
        );
    });
}

fn terminal() {
    world(async |w| {
        let id = w.sandbox("a").await;
        let mut config = script(
            "stty size; read line; echo got $line; ls -l /dev/console >/dev/null && echo console",
        );
        config.tty = true;
        config.stdin = true;
        let c = w.start(&id, config).await;
        let request = ExecRequest {
            container: c.clone(),
            command: words(&["sh", "-c", "echo $TERM; read x; stty size; exit 6"]),
            tty: true,
            stdin: true,
            stdout: true,
            stderr: false,
        };
        let mut session = w.runtime.exec(request).await.unwrap();
        let mut stdout = session.stdout.take().unwrap();
        let mut seen = String::new();
        until(&mut stdout, &mut seen, "xterm").await;
        let size = TerminalSize {
            width: 111,
            height: 33,
        };
        session.resize.send(size).await.unwrap();
        let mut stdin = session.stdin.take().unwrap();
        // The size is set by another task: asked for until it is there.
        while session.resize.capacity() < session.resize.max_capacity() {
            tokio::task::yield_now().await;
        }
        stdin.write_all(b"\n").await.unwrap();
        until(&mut stdout, &mut seen, "33 111").await;
        assert_eq!(session.exit.await, Ok(ExecExit::Code(6)));
        // The container's own terminal.
        let request = AttachRequest {
            container: c.clone(),
            tty: true,
            stdin: true,
            stdout: true,
            stderr: false,
        };
        let mut session = w.runtime.attach(request).await.unwrap();
        let mut stdin = session.stdin.take().unwrap();
        stdin.write_all(b"typed\n").await.unwrap();
        let mut seen = String::new();
        until(session.stdout.as_mut().unwrap(), &mut seen, "console").await;
        assert!(seen.contains("got typed"), "{seen}");
        assert_eq!(session.exit.await, Ok(ExecExit::Code(0)));
        assert!(log(&w.ended(&c).await).contains("got typed"));
    });
}

async fn until(reader: &mut cri::Reader, seen: &mut String, wanted: &str) {
    let read = async {
        let mut buffer = [0; 1024];
        while !seen.contains(wanted) {
            let n = reader.read(&mut buffer).await.unwrap();
            assert!(n > 0, "ended after {seen:?} without {wanted:?}");
            seen.push_str(&String::from_utf8_lossy(&buffer[..n]));
        }
    };
    tokio::time::timeout(PATIENCE, read).await.unwrap();
}

fn attach() {
    world(async |w| {
        let id = w.sandbox("a").await;
        let mut config =
            script("while read l; do echo out $l; echo err $l >&2; done; echo end; exit 9");
        config.stdin = true;
        config.stdin_once = true;
        let c = w.start(&id, config).await;
        let request = |stdin| AttachRequest {
            container: c.clone(),
            stdin,
            stdout: true,
            stderr: true,
            tty: false,
        };
        let mut watcher = w.runtime.attach(request(false)).await.unwrap();
        let mut session = w.runtime.attach(request(true)).await.unwrap();
        let mut stdin = session.stdin.take().unwrap();
        stdin.write_all(b"one\n").await.unwrap();
        let mut seen = String::new();
        until(session.stdout.as_mut().unwrap(), &mut seen, "out one").await;
        let mut seen = String::new();
        until(session.stderr.as_mut().unwrap(), &mut seen, "err one").await;
        // Its end is the container's end of input.
        drop(stdin);
        let mut seen = String::new();
        until(watcher.stdout.as_mut().unwrap(), &mut seen, "end").await;
        assert_eq!(watcher.exit.await, Ok(ExecExit::Code(9)));
        assert_eq!(session.exit.await, Ok(ExecExit::Code(9)));
        let text = log(&w.ended(&c).await);
        assert!(
            text.contains("out one") && text.contains("stderr F err one"),
            "{text}"
        );
        // A reader that goes away leaves the container as it is.
        let c = w
            .start(&id, script("while true; do echo tick; sleep 0.01; done"))
            .await;
        let request = AttachRequest {
            container: c.clone(),
            stdout: true,
            ..AttachRequest::default()
        };
        let mut session = w.runtime.attach(request).await.unwrap();
        until(session.stdout.as_mut().unwrap(), &mut String::new(), "tick").await;
        drop(session);
        let alive = w.runtime.exec_sync(&c, words(&["true"]), 10).await.unwrap();
        assert_eq!(alive.exit_code, 0);
    });
}

fn reopen() {
    world(async |w| {
        let id = w.sandbox("a").await;
        let mut config = script("echo first; while read l; do echo $l; done");
        config.stdin = true;
        let c = w.start(&id, config).await;
        let path = w.runtime.container_status(&c).await.unwrap().log_path;
        let request = AttachRequest {
            container: c.clone(),
            stdin: true,
            stdout: true,
            ..AttachRequest::default()
        };
        let mut session = w.runtime.attach(request).await.unwrap();
        let mut stdin = session.stdin.take().unwrap();
        stdin.write_all(b"second\n").await.unwrap();
        until(
            session.stdout.as_mut().unwrap(),
            &mut String::new(),
            "second",
        )
        .await;
        std::fs::rename(&path, format!("{path}.1")).unwrap();
        w.runtime.reopen_container_log(&c).await.unwrap();
        stdin.write_all(b"third\n").await.unwrap();
        until(
            session.stdout.as_mut().unwrap(),
            &mut String::new(),
            "third",
        )
        .await;
        let old = std::fs::read_to_string(format!("{path}.1")).unwrap();
        let new = std::fs::read_to_string(&path).unwrap();
        assert!(old.contains("first") && old.contains("second") && !old.contains("third"));
        assert!(new.contains("third") && !new.contains("second"));
    });
}

fn port_forward() {
    world(async |w| {
        let id = w.sandbox("a").await;
        let c = w
            .start(&id, script("echo pong | nc -l -p 8080; sleep 1000"))
            .await;
        let ready = "while ! grep -q :1F90 /proc/net/tcp /proc/net/tcp6; do sleep 0.01; done";
        w.runtime
            .exec_sync(&c, words(&["sh", "-c", ready]), 10)
            .await
            .unwrap();
        let mut stream = w.runtime.port_forward(&id, 8080).await.unwrap();
        let mut text = String::new();
        let read = stream.read_to_string(&mut text);
        tokio::time::timeout(PATIENCE, read).await.unwrap().unwrap();
        assert_eq!(text, "pong\n");
        let refused = w.runtime.port_forward(&id, 9).await.err().unwrap();
        assert!(refused.message.contains("connection refused"), "{refused}");
    });
}
