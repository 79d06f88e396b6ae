//! `cargo xtask vm`: a virtual machine of nothing but a kernel and the binary.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::{conformance, host, images, shell};

/// Names the kernel that Debian's cloud images run on.
const PACKAGE: &str = "linux-image-cloud-amd64";

/// Boots the release binary as the first process of an emulated machine and looks at what it does.
pub fn run(_args: &[String]) -> Result<()> {
    host::ready_for_machines()?;
    images::run(&[])?;
    shell::build_release()?;
    let kernel = kernel()?;
    let kernel = kernel.to_str().context("the path of the kernel")?;
    conformance::checks("first process", &[("K0S_TEST_KERNEL", kernel)])
}

/// A kernel of Debian's, unpacked under the target directory; fetched once.
fn kernel() -> Result<PathBuf> {
    let dir = shell::target_dir().join("vm");
    let root = dir.join("kernel");
    if root.join("boot").is_dir() {
        return Ok(root);
    }
    std::fs::create_dir_all(&dir)?;
    let depends = shell::output("apt-cache", &["depends", PACKAGE])?;
    let mut lines = depends
        .lines()
        .filter_map(|l| l.trim().strip_prefix("Depends: "));
    let package = lines
        .next()
        .context("the kernel that the package stands for")?;
    let dir = dir.to_str().context("the path of the target directory")?;
    let fetch = format!(
        "cd '{dir}' && apt-get download -q '{package}' && dpkg-deb -x {package}_*.deb kernel"
    );
    shell::run("sh", &["-c", &fetch])?;
    Ok(root)
}
