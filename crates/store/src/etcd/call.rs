//! One gRPC call: deadline, repeats where they are safe, etcd's error texts as this crate's errors.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use prost::Message;
use tokio::time::Instant;
use tokio_stream::Stream;
use tonic::client::Grpc;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;

use super::members::Members;
use super::proto::{RangeRequest, RangeResponse};
use crate::error::Error;
use crate::limits;

/// An RPC of etcd.
#[derive(Clone, Copy)]
pub struct Method {
    path: &'static str,
    operation: &'static str,
    /// Whether a second call does no harm when the fate of the first is not known.
    repeatable: bool,
}

impl Method {
    /// An RPC that may be repeated.
    pub const fn read(path: &'static str, operation: &'static str) -> Self {
        Self {
            path,
            operation,
            repeatable: true,
        }
    }

    /// An RPC that is repeated only if the first one was never sent.
    pub const fn write(path: &'static str, operation: &'static str) -> Self {
        Self {
            path,
            operation,
            repeatable: false,
        }
    }

    /// What errors call it.
    pub fn operation(self) -> &'static str {
        self.operation
    }
}

/// The way to the cluster. Cheap to clone.
#[derive(Clone)]
pub struct Caller {
    members: Arc<Members>,
}

impl Caller {
    pub fn new(members: Arc<Members>) -> Self {
        Self { members }
    }

    /// The outcome of what a member was asked, which may leave that one out.
    fn told<T>(&self, member: usize, done: Result<T, Status>) -> Result<T, Status> {
        if let Err(status) = &done {
            self.broke(member, status);
        }
        done
    }

    /// Calls and waits for the answer.
    pub async fn unary<Q, A>(&self, method: Method, request: Q) -> Result<A, Error>
    where
        Q: Message + Clone + Default + 'static,
        A: Message + Default + 'static,
    {
        let mut tries = Tries::new(method);
        loop {
            let once = self.unary_once(method, request.clone());
            match tokio::time::timeout_at(tries.deadline, once).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(status)) => tries.pause(&status).await?,
                Err(_) => return Err(tries.late()),
            }
        }
    }

    async fn unary_once<Q, A>(&self, method: Method, request: Q) -> Result<A, Status>
    where
        Q: Message + Clone + Default + 'static,
        A: Message + Default + 'static,
    {
        let (member, channel) = self.members.next();
        self.told(member, unary(channel, method.path, request).await)
    }

    /// Whether there is another member to ask.
    pub fn has_others(&self) -> bool {
        self.members.len() > 1
    }

    /// Calls once, rather not the member that was asked last; gives who is asked as well.
    pub fn attempt<Q, A>(
        &self,
        last: Option<usize>,
        method: Method,
        request: Q,
    ) -> (usize, impl Future<Output = Result<A, Status>> + Send)
    where
        Q: Message + Clone + Default + 'static,
        A: Message + Default + 'static,
    {
        let (member, channel) = self.members.next_but(last);
        let call = async move { self.told(member, unary(channel, method.path, request).await) };
        (member, call)
    }

    /// Calls a streaming RPC with one request and takes the first answer.
    pub async fn first<Q, A>(&self, method: Method, request: Q) -> Result<A, Error>
    where
        Q: Message + Clone + Default + 'static,
        A: Message + Default + 'static,
    {
        let mut tries = Tries::new(method);
        loop {
            let once = self.first_once(method, request.clone());
            match tokio::time::timeout_at(tries.deadline, once).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(status)) => tries.pause(&status).await?,
                Err(_) => return Err(tries.late()),
            }
        }
    }

    async fn first_once<Q, A>(&self, method: Method, request: Q) -> Result<A, Status>
    where
        Q: Message + Clone + Default + 'static,
        A: Message + Default + 'static,
    {
        let (member, mut answers) = self.open(method, tokio_stream::once(request)).await?;
        let first = self.told(member, answers.message().await)?;
        first.ok_or_else(|| Status::unavailable("the stream ended without an answer"))
    }

    /// Opens a streaming RPC, once; gives whose answers come as well.
    pub async fn open<Q, A>(
        &self,
        method: Method,
        requests: impl Stream<Item = Q> + Send + 'static,
    ) -> Result<(usize, Streaming<A>), Status>
    where
        Q: Message + Default + 'static,
        A: Message + Default + 'static,
    {
        let (member, channel) = self.members.next();
        let mut grpc = grpc(channel);
        let opened = async {
            ready(&mut grpc).await?;
            let path = PathAndQuery::from_static(method.path);
            let codec = ProstCodec::<Q, A>::default();
            let answer = grpc.streaming(request_of(requests), path, codec).await?;
            Ok((member, answer.into_inner()))
        };
        let done = opened.await;
        self.told(member, done)
    }

    /// A stream of a member broke.
    pub fn broke(&self, member: usize, status: &Status) {
        self.members.failed(member, status, probe);
    }
}

fn grpc(channel: Channel) -> Grpc<Channel> {
    Grpc::new(channel)
        .max_decoding_message_size(limits::ETCD_ANSWER)
        .max_encoding_message_size(limits::ETCD_REQUEST)
}

async fn unary<Q, A>(channel: Channel, path: &'static str, request: Q) -> Result<A, Status>
where
    Q: Message + Clone + Default + 'static,
    A: Message + Default + 'static,
{
    let mut grpc = grpc(channel);
    ready(&mut grpc).await?;
    let codec = ProstCodec::<Q, A>::default();
    let path = PathAndQuery::from_static(path);
    let answer = grpc.unary(request_of(request), path, codec).await?;
    Ok(answer.into_inner())
}

/// A read that needs a leader and touches nothing.
async fn probe(channel: Channel) -> Result<(), Status> {
    let request = RangeRequest {
        key: Bytes::from_static(&[0]),
        count_only: true,
        ..Default::default()
    };
    let done = unary::<_, RangeResponse>(channel, "/etcdserverpb.KV/Range", request).await;
    done.map(drop)
}

async fn ready(grpc: &mut Grpc<Channel>) -> Result<(), Status> {
    grpc.ready().await.map_err(|e| Status::from_error(e.into()))
}

/// A member cut off from the others must say so instead of answering with old news.
fn request_of<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let yes = MetadataValue::from_static("true");
    request.metadata_mut().insert("hasleader", yes);
    request
}

/// The tries of one call: repeated until it works, cannot work, or the time is up.
struct Tries {
    method: Method,
    deadline: Instant,
    pause: Duration,
}

impl Tries {
    fn new(method: Method) -> Self {
        Self {
            method,
            deadline: Instant::now() + limits::ETCD_CALL,
            pause: FIRST_PAUSE,
        }
    }

    /// Waits before the next try, or gives the error where there is to be none.
    async fn pause(&mut self, status: &Status) -> Result<(), Error> {
        if let Some(error) = known(status) {
            return Err(error);
        }
        let again = !untrusted(status)
            && (not_sent(status) || (self.method.repeatable && may_pass(status)));
        if !again || Instant::now() + self.pause >= self.deadline {
            return Err(failure(self.method, status));
        }
        tracing::debug!(operation = self.method.operation, %status, "etcd call is repeated");
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LAST_PAUSE);
        Ok(())
    }

    fn late(&self) -> Error {
        fate(self.method, "no answer in time".into())
    }
}

/// Pauses between repeats.
pub const FIRST_PAUSE: Duration = Duration::from_millis(50);
pub const LAST_PAUSE: Duration = Duration::from_secs(1);

/// Whether no connection could be made, so that nothing was asked of any server.
pub fn not_sent(status: &Status) -> bool {
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(status);
    while let Some(e) = cause {
        if e.is::<tonic::ConnectError>() {
            return true;
        }
        cause = e.source();
    }
    false
}

/// Whether TLS refused one side, which no repeat changes.
pub fn untrusted(status: &Status) -> bool {
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(status);
    while let Some(e) = cause {
        let inner = e
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref);
        // What the peer refuses after the handshake comes as text only.
        let alert = inner.is_some_and(|e| e.to_string().starts_with("received fatal alert"));
        if alert || e.is::<rustls::Error>() || inner.is_some_and(|e| e.is::<rustls::Error>()) {
            return true;
        }
        cause = e.source();
    }
    false
}

/// Whether the state of the cluster may change so that the same call works.
pub fn may_pass(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Aborted | Code::Internal
    )
}

pub fn failure(method: Method, status: &Status) -> Error {
    let text = told(status);
    // Statuses that etcd gives before a proposal, or a connection that never was.
    let refused = matches!(
        status.code(),
        Code::InvalidArgument
            | Code::NotFound
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::ResourceExhausted
            | Code::Unimplemented
    );
    if refused || not_sent(status) {
        return Error::Backend {
            operation: method.operation,
            message: text,
        };
    }
    fate(method, text)
}

/// The error of a call that may have been carried out.
fn fate(method: Method, message: String) -> Error {
    let operation = method.operation;
    if method.repeatable {
        Error::Backend { operation, message }
    } else {
        Error::Uncertain { operation, message }
    }
}

/// etcd's errors that have a variant here; what their texts leave out is 0.
pub fn known(status: &Status) -> Option<Error> {
    Some(match status.message() {
        "etcdserver: mvcc: required revision has been compacted" => Error::Compacted {
            compact_revision: 0,
        },
        "etcdserver: mvcc: required revision is a future revision" => Error::FutureRevision {
            asked: 0,
            current: 0,
        },
        "etcdserver: duplicate key given in txn request" => Error::DuplicateKey,
        "etcdserver: requested lease not found" => Error::LeaseNotFound,
        "etcdserver: lease already exists" => Error::LeaseExists,
        text @ ("etcdserver: request is too large"
        | "etcdserver: too many operations in txn request"
        | "etcdserver: key is not provided"
        | "etcdserver: too large lease TTL") => {
            Error::TooLarge(text.trim_start_matches("etcdserver: ").into())
        }
        "etcdserver: mvcc: database space exceeded" => Error::NoSpace,
        _ => return None,
    })
}

/// A status with its causes, which tonic leaves out of the message or shows as they are in memory.
pub fn told(status: &Status) -> String {
    let text = format!("{:?}: {}", status.code(), status.message());
    with_causes(text, std::error::Error::source(status))
}

/// An error with its causes.
pub fn causes(e: &dyn std::error::Error) -> String {
    with_causes(e.to_string(), e.source())
}

fn with_causes(mut text: String, mut cause: Option<&dyn std::error::Error>) -> String {
    while let Some(e) = cause {
        let more = e.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = e.source();
    }
    text
}
