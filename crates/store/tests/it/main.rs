//! The store's integration tests: one suite for every backend, and what only one of them has.

mod crash;
mod differential;
mod etcd;
mod sqlite;
