//! Connections to pods as the twins need them: plain requests through proxies, commands and logs over WebSocket.

use anyhow::{Context, Result, anyhow, bail, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use fastwebsockets::{OpCode, Role, WebSocket};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use kube::client::Body;
use serde_json::Value;

use crate::rest::Cx;

/// The subprotocol of commands that upstream's clients try first.
const CHANNELS: &str = "v5.channel.k8s.io";
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;

/// An answer as it came, whatever its status.
#[derive(Clone, Debug)]
pub struct Answer {
    pub code: u16,
    pub content: String,
    /// Where a redirect leads.
    pub location: String,
    pub text: String,
    /// Its ETag.
    pub tag: String,
}

/// What a command in a container did.
#[derive(Clone, Debug, Default)]
pub struct Output {
    pub stdout: String,
    pub stderr: String,
    /// 0, or the exit code that the server told.
    pub code: i64,
}

// === Cx ===

impl Cx {
    /// Sends bytes; whatever comes back. Redirects are not followed.
    pub async fn raw(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Vec<u8>>,
    ) -> Result<Answer> {
        let mut request = Request::builder().method(method.clone()).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body.into()))?;
        let what = || format!("{method} {path}");
        let response = self.client.send(request).await.with_context(what)?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.with_context(what)?.to_bytes();
        let header = |name: &str| -> Result<String> {
            let value = head.headers.get(name).map(|v| v.to_str()).transpose()?;
            Ok(value.unwrap_or_default().to_string())
        };
        Ok(Answer {
            code: head.status.as_u16(),
            content: header("content-type")?,
            location: header("location")?,
            tag: header("etag")?,
            text: String::from_utf8_lossy(&body).into_owned(),
        })
    }

    /// GET of bytes; one redirect within the server is followed, as client-go does.
    pub async fn raw_get(&self, path: &str) -> Result<Answer> {
        let answer = self.raw(Method::GET, path, &[], "").await?;
        if answer.code != 301 {
            return Ok(answer);
        }
        self.raw(Method::GET, &answer.location, &[], "").await
    }

    /// Runs a command in a container and gives what it printed, however it ended.
    pub async fn exec(&self, pod: &str, container: &str, command: &[&str]) -> Result<Output> {
        let words: Vec<String> = command
            .iter()
            .map(|w| format!("command={}", escape(w)))
            .collect();
        let query = format!(
            "container={}&{}&stdout=true&stderr=true",
            escape(container),
            words.join("&")
        );
        let path = self.core(&format!("pods/{pod}/exec?{query}"));
        let mut output = Output::default();
        let mut status = None;
        for message in self.websocket(&path, CHANNELS).await? {
            let Some((channel, data)) = message.split_first() else {
                continue;
            };
            let text = String::from_utf8_lossy(data);
            match *channel {
                STDOUT => output.stdout.push_str(&text),
                STDERR => output.stderr.push_str(&text),
                ERROR => status = Some(serde_json::from_slice::<Value>(data)?),
                _ => {}
            }
        }
        let status =
            status.with_context(|| format!("{command:?} in {pod} ended without status"))?;
        if status["status"] != "Success" {
            let causes = status["details"]["causes"].as_array().into_iter().flatten();
            let code = causes
                .filter(|c| c["reason"] == "ExitCode")
                .find_map(|c| c["message"].as_str()?.parse().ok());
            output.code = code.with_context(|| format!("{command:?} in {pod}: {status}"))?;
        }
        Ok(output)
    }

    /// Runs a command that must end with 0; what it printed without the white space around it.
    pub async fn exec_ok(&self, pod: &str, container: &str, command: &[&str]) -> Result<String> {
        let output = self.exec(pod, container, command).await?;
        ensure!(output.code == 0, "{command:?} in {pod}: {output:?}");
        Ok(output.stdout.trim().to_string())
    }

    /// Runs a line of shell that must end with 0.
    pub async fn shell(&self, pod: &str, container: &str, line: &str) -> Result<String> {
        self.exec_ok(pod, container, &["/bin/sh", "-c", line]).await
    }

    /// All messages of a WebSocket until the server closes it.
    pub async fn websocket(&self, path: &str, protocol: &str) -> Result<Vec<Vec<u8>>> {
        let mut socket = self.open(path, protocol).await?;
        let (mut messages, mut current) = (Vec::new(), Vec::new());
        loop {
            let frame = match socket.read_frame().await {
                Ok(frame) => frame,
                Err(fastwebsockets::WebSocketError::UnexpectedEOF) => return Ok(messages),
                Err(e) => bail!("{path}: {e}"),
            };
            match frame.opcode {
                OpCode::Close => return Ok(messages),
                OpCode::Ping | OpCode::Pong => continue,
                OpCode::Text | OpCode::Binary | OpCode::Continuation => {}
            }
            current.extend_from_slice(&frame.payload);
            if frame.fin {
                messages.push(std::mem::take(&mut current));
            }
        }
    }

    async fn open(&self, path: &str, protocol: &str) -> Result<WebSocket<TokioIo<Upgraded>>> {
        let request = Request::get(path)
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("origin", "http://localhost")
            .header("sec-websocket-version", "13")
            .header(
                "sec-websocket-key",
                BASE64.encode(rand::random::<[u8; 16]>()),
            )
            .header("sec-websocket-protocol", protocol)
            .body(Body::from(Vec::new()))?;
        let response = self.client.send(request).await;
        let response = response.with_context(|| path.to_string())?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let status = response.status();
            let body = response.into_body().collect().await?.to_bytes();
            bail!("{path}: {status}: {}", String::from_utf8_lossy(&body));
        }
        let chosen = response.headers().get("sec-websocket-protocol").cloned();
        ensure!(
            chosen.as_ref().is_some_and(|c| c == protocol),
            "{path}: asked for {protocol}, got {chosen:?}"
        );
        let upgraded = hyper::upgrade::on(response).await;
        let upgraded = upgraded.map_err(|e| anyhow!("{path}: {e}"))?;
        Ok(WebSocket::after_handshake(
            TokioIo::new(upgraded),
            Role::Client,
        ))
    }
}

/// A word of a query, percent-encoded.
pub fn escape(word: &str) -> String {
    word.bytes()
        .map(|b| match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(b).to_string()
            }
            _ => format!("%{b:02X}"),
        })
        .collect()
}
