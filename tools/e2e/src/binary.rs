//! Where the programs are that the tests start.

use std::path::PathBuf;

/// The repository's root.
pub fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).map(PathBuf::from).unwrap_or(here)
}

/// Cargo's target directory.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map(PathBuf::from)
        .unwrap_or_else(|| root().join("target"))
}

/// The k0s under test: `$K0S_BINARY`, else the release binary.
pub fn k0s() -> PathBuf {
    std::env::var_os("K0S_BINARY")
        .map(PathBuf::from)
        .unwrap_or_else(|| target().join("x86_64-unknown-linux-gnu/release/k0s"))
}

/// Where the test images are: `$K0S_IMAGES`, else where `cargo xtask images` puts them.
pub fn images() -> PathBuf {
    std::env::var_os("K0S_IMAGES")
        .map(PathBuf::from)
        .unwrap_or_else(|| target().join("images"))
}

/// A real kubectl of upstream's, where one is installed: the newest.
pub fn kubectl() -> Option<PathBuf> {
    kubectls().into_iter().next()
}

/// All real kubectls that are installed, the newest first.
pub fn kubectls() -> Vec<PathBuf> {
    let home = std::env::var_os("HOME")
        .map(PathBuf::from)
        .unwrap_or_default();
    let mut candidates = vec![home.join(".cache/upstream/bin/kubectl")];
    for minor in (27..=37).rev() {
        candidates.push(format!("/usr/lib/google-cloud-sdk/bin/kubectl.1.{minor}").into());
    }
    candidates.retain(|p| p.is_file());
    candidates
}
