//! Calls to webhooks: HTTPS POSTs of JSON to a Service or a URL that an object of the cluster names, verified by
//! the object's CA bundle. Every call has a deadline, every answer a bound, every failure Go's words.
//! Servers that a kubeconfig file names are called the same way, and documents of OIDC issuers fetched.
//! Aggregated API servers are dialled by the same means. Upstream: k8s.io/apiserver/pkg/util/webhook, util/proxy.

#![forbid(unsafe_code)]

mod caller;
pub mod certificates;
mod config;
mod dial;
mod endpoint;
mod error;
mod fetch;
pub mod limits;
mod names;
mod remote;
mod tls;
pub mod trace;

pub use caller::{Caller, HttpClient, pool};
pub use config::{ClientConfig, Service, Target};
pub use endpoint::{Endpoint, resolve};
pub use error::{CallError, cause};
pub use fetch::{Fetched, Fetcher};
pub use names::Names;
pub use remote::{Failure, Remote};
pub use tls::{Identity, Verification, client_config};
