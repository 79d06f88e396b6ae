//! runtime

pub mod bundles;
pub mod ctr;
pub mod images;
