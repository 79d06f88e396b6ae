//! The words of the API: the typed Kubernetes objects (k8s-openapi, v1.37) re-exported, and what that
//! crate lacks: names, selectors, quantities, the schema table, the protobuf and CBOR codecs and YAML's writer.

#![forbid(unsafe_code)]

pub mod cbor;
pub mod duration;
pub mod go;
pub mod limits;
pub mod names;
pub mod protobuf;
pub mod quantity;
pub mod schema;
pub mod selector;
pub mod yaml;

pub use k8s_openapi;
pub use k8s_openapi::api::*;
pub use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
