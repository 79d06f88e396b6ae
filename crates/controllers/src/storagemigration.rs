//! Controllers of group storagemigration.k8s.io.

pub mod storage_version_migrator;
