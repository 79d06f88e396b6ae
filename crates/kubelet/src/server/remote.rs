//! exec, attach, port-forward and run: a client's streams joined with the runtime's.

use std::sync::Arc;

use cri::{AttachRequest, ContainerState, ContainerStatus, ExecRequest};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use streams::remote_command::Wanted;

use super::body::{self, Body, query};
use super::info::find_worker;
use crate::kubelet::Kubelet;
use crate::pod;
use crate::worker::PodWorker;

/// Status and text of a refusal.
type Refusal = (StatusCode, String);

fn refuse(status: StatusCode, text: impl Into<String>) -> Response<Body> {
    body::text(status, text.into())
}

fn failed(e: streams::Error) -> Response<Body> {
    refuse(e.status, e.message)
}

fn switched(response: Response<Empty<bytes::Bytes>>) -> Response<Body> {
    response.map(|b| b.map_err(|never| match never {}).boxed_unsync())
}

/// The streams that a query asks for: `input`, `output`, `error`, `tty`, or kubectl's names.
fn wanted(text: &str) -> Wanted {
    let on = |names: [&str; 2]| {
        let mut all = names
            .into_iter()
            .flat_map(|n| query(text, n).collect::<Vec<_>>());
        all.any(|v| v == "1" || v == "true")
    };
    Wanted {
        stdin: on(["input", "stdin"]),
        stdout: on(["output", "stdout"]),
        stderr: on(["error", "stderr"]),
        tty: on(["tty", "tty"]),
    }
}

/// Pod and running container of a path: `[uid/]container`.
fn find(
    kubelet: &Kubelet,
    ns: &str,
    name: &str,
    rest: &[&str],
) -> Result<(Arc<PodWorker>, ContainerStatus), Refusal> {
    let worker = find_pod(
        kubelet,
        ns,
        name,
        rest.len().checked_sub(2).map(|_| rest[0]),
    )?;
    let Some(container) = rest.last() else {
        return Err((StatusCode::NOT_FOUND, "404 page not found\n".into()));
    };
    let seen = worker.observed.borrow().clone();
    let running = seen
        .latest(container)
        .filter(|c| c.state == ContainerState::Running);
    let running = running.cloned().ok_or_else(|| {
        let text = format!("container not found ({container:?})");
        (StatusCode::INTERNAL_SERVER_ERROR, text)
    })?;
    Ok((worker, running))
}

fn find_pod(
    kubelet: &Kubelet,
    ns: &str,
    name: &str,
    uid: Option<&str>,
) -> Result<Arc<PodWorker>, Refusal> {
    let found = find_worker(kubelet, ns, name);
    let found = found.filter(|w| uid.is_none_or(|u| u == w.uid));
    found.ok_or_else(|| (StatusCode::NOT_FOUND, "pod does not exist".into()))
}

/// Runs a command with streams.
pub async fn exec(
    kubelet: &Arc<Kubelet>,
    ns: &str,
    name: &str,
    rest: &[&str],
    text: &str,
    request: &mut Request<Incoming>,
) -> Response<Body> {
    let container = match find(kubelet, ns, name, rest) {
        Ok((_, container)) => container,
        Err((status, text)) => return refuse(status, text),
    };
    let streams = wanted(text);
    let (response, pending) = match streams::remote_command::accept(request, streams) {
        Ok(both) => both,
        Err(e) => return failed(e),
    };
    let exec = ExecRequest {
        container: container.id,
        command: query(text, "command").collect(),
        tty: streams.tty,
        stdin: streams.stdin,
        stdout: streams.stdout,
        stderr: streams.stderr && !streams.tty,
    };
    let runtime = kubelet.runtime.clone();
    tokio::spawn(pending.serve(move || async move {
        let mut session = runtime.exec(exec).await;
        if let Err(e) = &mut session {
            e.message = format!("error executing command in container: {}", e.message);
        }
        session
    }));
    switched(response)
}

/// Connects to a running container.
pub async fn attach(
    kubelet: &Arc<Kubelet>,
    ns: &str,
    name: &str,
    rest: &[&str],
    text: &str,
    request: &mut Request<Incoming>,
) -> Response<Body> {
    let (worker, container) = match find(kubelet, ns, name, rest) {
        Ok(both) => both,
        Err((status, text)) => return refuse(status, text),
    };
    let p = worker.pod();
    let place = pod::find_container(&p, &container.metadata.name);
    let Some(place) = place else {
        let text = format!(
            "container {} not found in pod {name}",
            container.metadata.name
        );
        return refuse(StatusCode::INTERNAL_SERVER_ERROR, text);
    };
    let tty = place.container.tty == Some(true);
    let streams = Wanted {
        tty,
        ..wanted(text)
    };
    let (response, pending) = match streams::remote_command::accept(request, streams) {
        Ok(both) => both,
        Err(e) => return failed(e),
    };
    let attach = AttachRequest {
        container: container.id,
        tty,
        stdin: streams.stdin,
        stdout: streams.stdout,
        stderr: streams.stderr && !tty,
    };
    let runtime = kubelet.runtime.clone();
    tokio::spawn(pending.serve(move || async move {
        let mut session = runtime.attach(attach).await;
        if let Err(e) = &mut session {
            e.message = format!("error attaching to container: {}", e.message);
        }
        session
    }));
    switched(response)
}

/// Forwards ports of a pod.
pub async fn port_forward(
    kubelet: &Arc<Kubelet>,
    ns: &str,
    name: &str,
    rest: &[&str],
    request: &mut Request<Incoming>,
) -> Response<Body> {
    let worker = match find_pod(kubelet, ns, name, rest.first().copied()) {
        Ok(worker) => worker,
        Err(_) => return refuse(StatusCode::NOT_FOUND, "pod not found"),
    };
    let sandbox = worker
        .observed
        .borrow()
        .ready_sandbox()
        .map(|s| s.id.clone());
    let Some(sandbox) = sandbox else {
        let text = format!("unable to find the sandbox of pod {name}");
        return refuse(StatusCode::INTERNAL_SERVER_ERROR, text);
    };
    let (response, pending) = match streams::port_forward::accept(request) {
        Ok(both) => both,
        Err(e) => return failed(e),
    };
    let runtime = kubelet.runtime.clone();
    let (pod_name, uid) = (format!("{name}_{ns}"), worker.uid.clone());
    tokio::spawn(pending.serve(move |port| {
        let (runtime, sandbox) = (runtime.clone(), sandbox.clone());
        let (pod_name, uid) = (pod_name.clone(), uid.clone());
        async move {
            let opened = runtime.port_forward(&sandbox, port).await;
            opened.map_err(|e| {
                format!("error forwarding port {port} to pod {pod_name}, uid {uid}: {e}")
            })
        }
    }));
    switched(response)
}

/// Runs a command and answers with its output.
pub async fn run(
    kubelet: &Arc<Kubelet>,
    ns: &str,
    name: &str,
    rest: &[&str],
    text: &str,
) -> Response<Body> {
    let container = match find(kubelet, ns, name, rest) {
        Ok((_, container)) => container,
        Err((status, text)) => return refuse(status, text),
    };
    let command = query(text, "cmd").next().unwrap_or_default();
    let command = command.split_whitespace().map(str::to_string).collect();
    match kubelet.runtime.exec_sync(&container.id, command, 0).await {
        Ok(mut done) => {
            done.stdout.extend_from_slice(&done.stderr);
            let status = if done.exit_code == 0 {
                StatusCode::OK
            } else {
                StatusCode::INTERNAL_SERVER_ERROR
            };
            body::text(status, done.stdout)
        }
        Err(e) => refuse(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()),
    }
}
