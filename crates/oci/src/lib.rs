//! Container images: references, the store of a node's images, archives, layers unpacked for overlayfs, and
//! registries. Follows containerd's image store and CRI plugin, OCI image spec 1.1 and distribution spec 1.1.

#![forbid(unsafe_code)]

pub mod digest;
mod disk;
mod error;
mod import;
pub mod limits;
mod manifest;
mod pull;
mod records;
pub mod reference;
mod registry;
mod store;
mod unpack;
#[doc(hidden)]
pub mod untrusted;

pub use digest::Digest;
pub use error::Error;
pub use pull::{Progress, ProgressSink};
pub use reference::{Reference, ReferenceError};
pub use registry::{Auth, RegistryOptions};
pub use store::{ImageStore, ResolvedImage, StoreOptions, StoredImage, Usage};
