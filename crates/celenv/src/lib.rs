//! The Kubernetes environment of the Common Expression Language over the parser of the crate `cel`.
