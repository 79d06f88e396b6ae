//! Controllers of the core group.

pub mod bootstrap_signer;
pub mod endpoints;
pub mod garbage_collector;
pub mod namespace;
pub mod replication_controller;
pub mod resource_quota;
pub mod root_ca_certificate_publisher;
pub mod service_account;
pub mod service_account_token;
pub mod token_cleaner;
