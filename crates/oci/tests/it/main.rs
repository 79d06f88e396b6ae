//! The store as its users see it: archives made here, and Debian's docker-registry on loopback.

mod archive;
mod import;
mod pull;
