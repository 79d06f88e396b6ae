//! A machine of its own for a cluster: the program starts itself again in new network, mount, process and
//! host name namespaces, so that clusters of tests neither see the host nor one another, and all they
//! started ends with them. Uses util-linux's unshare and iproute2's ip, as tests may.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};

use crate::cluster::run;

const INSIDE: &str = "K0S_E2E_INSIDE";
/// Name of the node.
const HOST: &str = "e2e-node";

/// Goes on in namespaces of its own. Nothing happens where it is there already.
pub fn enter() -> Result<()> {
    if std::env::var_os(INSIDE).is_some() {
        return set_up();
    }
    let this = std::env::current_exe()?;
    let error = Command::new("unshare")
        .args(["--net", "--mount", "--uts", "--ipc", "--pid"])
        .args([
            "--propagation",
            "private",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ])
        .arg(this)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1")
        .exec();
    Err(error).context("starting unshare (Debian package util-linux)")
}

/// A network with one address and a default route that leads nowhere.
fn set_up() -> Result<()> {
    std::fs::write("/proc/sys/kernel/hostname", HOST).context("setting the host name")?;
    for command in [
        "link set lo up",
        "link add e2e0 type bridge",
        "address add 192.168.77.2/24 dev e2e0",
        "link set e2e0 up",
        "route add default via 192.168.77.1",
    ] {
        run(Command::new("ip").args(command.split(' ')))?;
    }
    Ok(())
}

/// A `/etc` whose changes end with the namespaces, for those who are in some: the configuration of registries
/// lies there.
pub fn own_etc() -> Result<()> {
    // What a container engine bind-mounted would be hidden.
    let kept = ["/etc/hosts", "/etc/resolv.conf"].map(|path| (path, std::fs::read(path)));
    let layers = tempfile::tempdir()?.keep();
    let dir = layers.display();
    run(Command::new("mount")
        .args(["-t", "tmpfs", "tmpfs"])
        .arg(&layers))?;
    std::fs::create_dir(layers.join("upper"))?;
    std::fs::create_dir(layers.join("work"))?;
    let options = format!("lowerdir=/etc,upperdir={dir}/upper,workdir={dir}/work");
    run(Command::new("mount").args(["-t", "overlay", "overlay", "-o", &options, "/etc"]))?;
    for (path, text) in kept {
        if let Ok(text) = text {
            std::fs::write(path, text).with_context(|| format!("writing {path}"))?;
        }
    }
    // The overlay holds the layers; the folder on the host goes.
    run(Command::new("umount").arg("--lazy").arg(&layers))?;
    std::fs::remove_dir(&layers)?;
    Ok(())
}
