//! postStart and preStop hooks. Upstream: pkg/kubelet/lifecycle/handlers.go.

use std::time::Duration;

use api::core::v1::{Container, LifecycleHandler, Pod};
use client::EventType;

use crate::http_client;
use crate::kubelet::Kubelet;
use crate::limits;
use crate::pod::{self, PodContainer};
use crate::probes;

/// What hooks call themselves.
const AGENT: &str = "kube-lifecycle/1.37";
/// An HTTP hook has no timeout of its own; this bounds one that hangs.
const HTTP_LIMIT: Duration = Duration::from_secs(600);

/// Runs a hook of a running container to its end.
pub async fn run(
    kubelet: &Kubelet,
    p: &Pod,
    place: &PodContainer<'_>,
    id: &str,
    pod_ip: &str,
    handler: &LifecycleHandler,
) -> Result<(), String> {
    let c: &Container = &place.container;
    let named = format!(
        "for Container {:?} in Pod {:?} failed",
        c.name,
        pod::format(p)
    );
    if let Some(exec) = &handler.exec {
        let command = exec.command.clone().unwrap_or_default();
        let shown = format!("[{}]", command.join(" "));
        let prefix = format!("Exec lifecycle hook ({shown}) {named} - error: ");
        let done = kubelet.runtime.exec_sync(id, command, 0).await;
        return match done {
            Ok(done) if done.exit_code == 0 => Ok(()),
            Ok(done) => {
                let mut out = done.stdout;
                out.extend_from_slice(&done.stderr);
                out.truncate(limits::PROBE_BODY);
                Err(format!(
                    "{prefix}command '{}' exited with {}: , message: {:?}",
                    shown.trim_matches(['[', ']']),
                    done.exit_code,
                    String::from_utf8_lossy(&out)
                ))
            }
            Err(e) => Err(format!("{prefix}{e}, message: \"\"")),
        };
    }
    if let Some(action) = &handler.http_get {
        let port = probes::port(&action.port, c)?;
        let headers =
            http_client::headers(action.http_headers.as_deref().unwrap_or_default(), AGENT);
        let url = http_client::url(action, pod_ip, port);
        let path = action.path.as_deref().unwrap_or_default();
        let fail = |e: String| format!("HTTP lifecycle hook ({path}) {named} - error: {e}");
        return match http_client::get(&url, &headers, HTTP_LIMIT).await {
            Ok(_) => Ok(()),
            Err(e) if e.plain => {
                let mut headers = headers;
                headers.remove(http::header::AUTHORIZATION);
                let plain = url.replacen("https://", "http://", 1);
                let again = http_client::get(&plain, &headers, HTTP_LIMIT).await;
                again.map_err(|e| fail(e.message))?;
                let host = action.host.as_deref().filter(|h| !h.is_empty());
                let text = format!(
                    "request to HTTPS lifecycle hook {} got HTTP response, retry with HTTP succeeded",
                    host.unwrap_or(pod_ip)
                );
                kubelet.container_event(
                    p,
                    place,
                    EventType::Warning,
                    "LifecycleHTTPFallback",
                    &text,
                );
                Ok(())
            }
            Err(e) => Err(fail(e.message)),
        };
    }
    if let Some(sleep) = &handler.sleep {
        let seconds = u64::try_from(sleep.seconds).unwrap_or(0);
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        return Ok(());
    }
    Err(format!("invalid handler: {handler:?}"))
}
