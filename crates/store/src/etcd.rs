//! The backend that asks a real etcd cluster, ours or somebody else's: gRPC over HTTP/2, TLS, several
//! endpoints, a key prefix. Upstream: etcd api/etcdserverpb/rpc.proto.

mod call;
mod convert;
mod guarded;
mod members;
mod proto;
mod snapshot;
mod watch;

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use crate::backend::{Backend, WatchStream};
use crate::check;
use crate::error::Error;
use crate::file;
use crate::limits;
use crate::types::{LeaseInfo, Range, RangeResponse, Txn, TxnResponse};
use call::{Caller, Method};
use convert::{Prefix, number, to_i64};

/// Which etcd, and how to talk to it.
#[derive(Clone, Debug, Default)]
pub struct EtcdConfig {
    /// `http://host:port` or `https://host:port`; any that answers is used.
    pub endpoints: Vec<String>,
    /// Put before every key, so that several clusters can share one etcd; may be empty.
    pub prefix: String,
    /// What every key begins with here, and `prefix` stands for in etcd; may be empty. kube-apiserver's
    /// `--etcd-prefix` stands for `/registry`. Both end in a slash or neither does.
    pub replaces: String,
    /// PEM of the authorities that sign the servers' certificates; needed for `https`.
    pub ca: Option<Vec<u8>>,
    /// PEM of the client's certificate chain and of its private key.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

/// An etcd cluster as a store. Connections are made when needed and made anew when they break.
pub struct Etcd {
    caller: Caller,
    prefix: Prefix,
    watches: watch::Watches,
}

/// Time for a connection to be made.
const CONNECT: Duration = Duration::from_secs(5);

const RANGE: Method = Method::read("/etcdserverpb.KV/Range", "range");
const TXN: Method = Method::write("/etcdserverpb.KV/Txn", "txn");
const COMPACT: Method = Method::write("/etcdserverpb.KV/Compact", "compact");
const GRANT: Method = Method::write("/etcdserverpb.Lease/LeaseGrant", "lease grant");
const REVOKE: Method = Method::write("/etcdserverpb.Lease/LeaseRevoke", "lease revoke");
const KEEP_ALIVE: Method = Method::read("/etcdserverpb.Lease/LeaseKeepAlive", "lease keep alive");
const TIME_TO_LIVE: Method =
    Method::read("/etcdserverpb.Lease/LeaseTimeToLive", "lease time to live");
const STATUS: Method = Method::read("/etcdserverpb.Maintenance/Status", "status");

// === Etcd ===

impl Etcd {
    /// Checks the configuration and asks the cluster for its revision, so that a wrong address or
    /// certificate is told at once. Waits up to `limits::ETCD_CALL` for a cluster that is starting.
    pub async fn connect(config: EtcdConfig) -> Result<Self, Error> {
        if config.endpoints.is_empty() || config.endpoints.len() > limits::ETCD_ENDPOINTS {
            return Err(configuration("the number of endpoints", "none or too many"));
        }
        if config.prefix.len() > limits::KEY_BYTES / 2 {
            return Err(configuration("the prefix", "too long"));
        }
        let mut endpoints = Vec::with_capacity(config.endpoints.len());
        for address in &config.endpoints {
            endpoints.push(endpoint(address, &config)?);
        }
        let etcd = Self {
            caller: Caller::new(members::Members::new(&endpoints, CONNECT)),
            prefix: Prefix::new(
                config.prefix.into_bytes().into(),
                config.replaces.into_bytes().into(),
            ),
            watches: watch::Watches::default(),
        };
        let revision = etcd.revision().await?;
        tracing::info!(endpoints = ?config.endpoints, revision, "connected to etcd");
        Ok(etcd)
    }

    /// Puts in what etcd's error texts leave out.
    async fn explain(&self, error: Error) -> Error {
        match error {
            Error::Compacted { .. } => match watch::compact_revision(&self.caller).await {
                Ok(compact_revision) => Error::Compacted { compact_revision },
                Err(e) => e,
            },
            other => other,
        }
    }

    /// One request of a range.
    async fn page(&self, range: &Range) -> Result<RangeResponse, Error> {
        let request = self.prefix.range_request(range);
        match self.caller.unary(RANGE, request).await {
            Ok(answer) => Ok(self.prefix.range_response(answer)),
            Err(Error::FutureRevision { .. }) => Err(Error::FutureRevision {
                asked: range.revision,
                current: self.revision().await?,
            }),
            Err(e) => Err(self.explain(e).await),
        }
    }

    /// A range of any size as pages of one revision, so that no answer of etcd grows without bound.
    async fn pages(&self, range: &Range) -> Result<RangeResponse, Error> {
        let mut page = Range {
            limit: limits::ETCD_PAGE,
            ..range.clone()
        };
        let mut all = self.page(&page).await?;
        if page.revision == 0 {
            page.revision = all.revision;
        }
        while all.more && (range.limit == 0 || all.kvs.len() < range.limit) {
            let Some(last) = all.kvs.last() else { break };
            page.key = [&last.key[..], &[0]].concat().into();
            if range.limit != 0 {
                page.limit = limits::ETCD_PAGE.min(range.limit - all.kvs.len());
            }
            let next = self.page(&page).await?;
            all.kvs.extend(next.kvs);
            all.more = next.more;
        }
        Ok(all)
    }
}

fn endpoint(address: &str, config: &EtcdConfig) -> Result<Endpoint, Error> {
    let endpoint = Endpoint::from_shared(address.to_string())
        .map_err(|e| configuration(address, e))?
        .connect_timeout(CONNECT)
        // A machine that went silent is noticed by the kernel (`limits::ETCD_SILENT`); a process that did, within the sum of
        // both. etcd allows a ping each 5 s, and only while something is asked.
        .http2_keep_alive_interval(Duration::from_millis(5_500))
        .keep_alive_timeout(Duration::from_secs(3))
        .keep_alive_while_idle(false)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20);
    match endpoint.uri().scheme_str() {
        Some("http") => Ok(endpoint),
        Some("https") => {
            let ca = config
                .ca
                .as_ref()
                .ok_or_else(|| configuration(address, "https needs the authority's certificate"))?;
            let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca));
            if let Some((chain, key)) = &config.identity {
                tls = tls.identity(Identity::from_pem(chain, key));
            }
            endpoint
                .tls_config(tls)
                .map_err(|e| configuration(address, call::causes(&e)))
        }
        _ => Err(configuration(address, "neither http:// nor https://")),
    }
}

fn configuration(what: &str, e: impl std::fmt::Display) -> Error {
    Error::Backend {
        operation: "etcd configuration",
        message: format!("{what}: {e}"),
    }
}

#[async_trait]
impl Backend for Etcd {
    async fn txn(&self, txn: Txn) -> Result<TxnResponse, Error> {
        check::txn(&txn)?;
        self.prefix.check(&txn)?;
        let request = self.prefix.txn_request(&txn);
        let answer: proto::TxnResponse =
            match self.caller.has_others() && guarded::is_guarded(&request) {
                true => guarded::answer(&self.caller, TXN, &request).await?,
                false => self.caller.unary(TXN, request).await?,
            };
        let ops = if answer.succeeded {
            &txn.success
        } else {
            &txn.failure
        };
        self.prefix.txn_response(answer, ops)
    }

    async fn range(&self, range: Range) -> Result<RangeResponse, Error> {
        if range.count_only || (range.limit != 0 && range.limit <= limits::ETCD_PAGE) {
            return self.page(&range).await;
        }
        // A compaction between two pages takes their revision away only if the range was slower
        // than the history that is kept; then everything is read again.
        match self.pages(&range).await {
            Err(Error::Compacted { .. }) if range.revision == 0 => self.pages(&range).await,
            done => done,
        }
    }

    async fn watch(&self, range: Range, start_revision: u64) -> Result<WatchStream, Error> {
        let watching = watch::Watching::new(
            self.caller.clone(),
            self.prefix.clone(),
            self.watches.clone(),
            range,
            start_revision,
        );
        watching.open_first().await
    }

    async fn request_progress(&self) -> Result<(), Error> {
        self.watches.request_progress();
        Ok(())
    }

    async fn revision(&self) -> Result<u64, Error> {
        let request = proto::RangeRequest {
            key: Bytes::from_static(&[0]),
            count_only: true,
            ..Default::default()
        };
        let answer: proto::RangeResponse = self.caller.unary(RANGE, request).await?;
        Ok(number(answer.header.map_or(0, |h| h.revision)))
    }

    async fn lease_grant(&self, id: i64, ttl: Duration) -> Result<i64, Error> {
        let request = proto::LeaseGrantRequest {
            id,
            ttl: seconds(ttl),
        };
        let answer: proto::LeaseGrantResponse = self.caller.unary(GRANT, request).await?;
        Ok(answer.id)
    }

    async fn lease_keep_alive(&self, id: i64) -> Result<Duration, Error> {
        let request = proto::LeaseKeepAliveRequest { id };
        let answer: proto::LeaseKeepAliveResponse = self.caller.first(KEEP_ALIVE, request).await?;
        match answer.ttl {
            ..=0 => Err(Error::LeaseNotFound),
            ttl => Ok(Duration::from_secs(number(ttl))),
        }
    }

    async fn lease_revoke(&self, id: i64) -> Result<(), Error> {
        let request = proto::LeaseRevokeRequest { id };
        let _: proto::LeaseRevokeResponse = self.caller.unary(REVOKE, request).await?;
        Ok(())
    }

    async fn lease_time_to_live(&self, id: i64) -> Result<LeaseInfo, Error> {
        let request = proto::LeaseTimeToLiveRequest { id, keys: true };
        let answer: proto::LeaseTimeToLiveResponse =
            self.caller.unary(TIME_TO_LIVE, request).await?;
        if answer.ttl < 0 {
            return Err(Error::LeaseNotFound);
        }
        let mut keys: Vec<Bytes> = answer
            .keys
            .into_iter()
            .filter_map(|k| self.prefix.strip(k))
            .collect();
        keys.sort();
        Ok(LeaseInfo {
            granted: Duration::from_secs(number(answer.granted_ttl)),
            left: Duration::from_secs(number(answer.ttl)),
            keys,
        })
    }

    async fn compact(&self, revision: u64) -> Result<(), Error> {
        let request = proto::CompactionRequest {
            revision: to_i64(revision),
            physical: false,
        };
        let done: Result<proto::CompactionResponse, Error> =
            self.caller.unary(COMPACT, request).await;
        match done {
            Ok(_) => Ok(()),
            Err(Error::FutureRevision { .. }) => Err(Error::FutureRevision {
                asked: revision,
                current: self.revision().await?,
            }),
            Err(e) => Err(self.explain(e).await),
        }
    }

    async fn size(&self) -> Result<u64, Error> {
        let answer: proto::StatusResponse =
            self.caller.unary(STATUS, proto::StatusRequest {}).await?;
        Ok(number(answer.db_size))
    }

    async fn snapshot(&self, to: &Path) -> Result<u64, Error> {
        let empty = file::create(to)?;
        let copy = snapshot::copy(&self.caller, empty, to).await;
        copy.inspect_err(|_| file::discard(to))
    }

    async fn verify(&self) -> Result<(), Error> {
        let answer: proto::StatusResponse =
            self.caller.unary(STATUS, proto::StatusRequest {}).await?;
        if answer.errors.is_empty() {
            return Ok(());
        }
        Err(Error::Backend {
            operation: "verify",
            message: answer.errors.join("; "),
        })
    }
}

/// Whole seconds, at least one, as etcd counts.
fn seconds(ttl: Duration) -> i64 {
    let whole = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
    to_i64(whole.max(1))
}
