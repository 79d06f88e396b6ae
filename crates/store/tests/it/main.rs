//! The store's integration tests: one suite for every backend, and what only one of them has.

mod crash;
mod databases;
mod differential;
mod etcd;
mod kine;
mod sqlite;
