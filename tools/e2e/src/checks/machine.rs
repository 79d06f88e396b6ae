//! A virtual machine of 512 MB whose initramfs holds the binary as `/init`, the kernel's modules, a data
//! directory and nothing else: a node, pods with limits on cgroup v2, a Service, a log, an exec. Emulated by
//! QEMU (Debian's qemu-system-x86), with a kernel of Debian's that `cargo xtask vm` unpacks.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use serde_json::Value;

use super::{Outcome, until};
use crate::binary;
use crate::cluster::run as program;

/// Where the kernel's package is unpacked: `boot/vmlinuz-…` and `lib/modules/…`.
const KERNEL: &str = "K0S_TEST_KERNEL";
/// Parts of the kernel's modules that the machine has hardware or use for.
const MODULES: &[&str] = &[
    "net",
    "lib",
    "crypto",
    "fs/overlayfs",
    "drivers/net",
    "drivers/virtio",
    "drivers/vhost",
    "arch",
];
const PORT: u16 = 16443;

const PODS: &str = r#"apiVersion: v1
kind: Pod
metadata: {name: limits, namespace: default, labels: {app: limits}}
spec:
  containers:
  - name: c
    image: registry.k8s.io/e2e-test-images/busybox:1.37.0-2
    command: [sh, -c, "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.max; mkdir /www; echo served > /www/index.html; httpd -f -p 80 -h /www"]
    readinessProbe: {httpGet: {port: 80, path: /index.html}}
    resources: {limits: {memory: 64Mi, cpu: 500m}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {selector: {app: limits}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: oom, namespace: default}
spec:
  restartPolicy: Never
  containers:
  - name: c
    image: registry.k8s.io/e2e-test-images/busybox:1.37.0-2
    command: [tail, /dev/zero]
    resources: {limits: {memory: 20Mi}}
"#;

pub fn run() -> Result<Outcome> {
    let Some(kernel) = std::env::var_os(KERNEL).map(PathBuf::from) else {
        return Ok(Outcome::Skipped(format!(
            "{KERNEL} is not set: cargo xtask vm"
        )));
    };
    let dir = tempfile::tempdir()?;
    keys(dir.path())?;
    let initramfs = initramfs(dir.path(), &kernel)?;
    let mut machine = Machine::boot(dir.path(), &kernel, &initramfs)?;
    let done = works(dir.path(), &mut machine);
    machine.child.kill()?;
    machine.child.wait()?;
    let console = fs::read_to_string(dir.path().join("console")).unwrap_or_default();
    done.with_context(|| format!("the machine's console:\n{console}"))?;
    Ok(Outcome::Passed)
}

/// What must be seen from outside.
fn works(dir: &Path, machine: &mut Machine) -> Result<()> {
    let kubectl = |args: &[&str]| {
        let mut command = Command::new(binary::k0s());
        command.args(["kubectl", "--request-timeout=10s", "--kubeconfig"]);
        program(command.arg(dir.join("kubeconfig")).args(args))
    };
    let pod = |name: &str| -> Result<Value> {
        Ok(serde_json::from_str(&kubectl(&[
            "get", "pod", name, "-o", "json",
        ])?)?)
    };
    until("a pod that serves", || {
        if machine.child.try_wait()?.is_some() {
            return Ok(Some(()));
        }
        let ready = pod("limits")?["status"]["conditions"].as_array().cloned();
        let ready = ready.unwrap_or_default();
        Ok(ready
            .iter()
            .any(|c| c["type"] == "Ready" && c["status"] == "True")
            .then_some(()))
    })?;
    ensure!(machine.child.try_wait()?.is_none(), "the machine has ended");
    let log = kubectl(&["logs", "limits"])?;
    ensure!(log == "67108864\n50000 100000\n", "limits are {log}");
    let said = kubectl(&[
        "exec",
        "limits",
        "--",
        "wget",
        "-q",
        "-O-",
        "http://web.default.svc.cluster.local/",
    ])?;
    ensure!(said == "served\n", "the Service answered {said}");
    until("a pod out of memory", || {
        let status = pod("oom")?["status"].take();
        let reason = &status["containerStatuses"][0]["state"]["terminated"]["reason"];
        Ok((reason == "OOMKilled").then_some(()))
    })?;
    let processes = kubectl(&["get", "--raw", "/api/v1/nodes/vm/proxy/healthz"])?;
    ensure!(processes == "ok", "the kubelet says {processes}");
    Ok(())
}

// === Machine ===

struct Machine {
    child: Child,
}

impl Machine {
    fn boot(dir: &Path, kernel: &Path, initramfs: &Path) -> Result<Self> {
        let console = fs::File::create(dir.join("console"))?;
        let forward = format!("user,model=virtio-net-pci,hostfwd=tcp:127.0.0.1:{PORT}-:6443");
        let child = Command::new("qemu-system-x86_64")
            .args(["-accel", "tcg", "-m", "512", "-smp", "1", "-nographic", "-no-reboot", "-nic", &forward])
            .arg("-kernel")
            .arg(only(&kernel.join("boot"), "vmlinuz-")?)
            .arg("-initrd")
            .arg(initramfs)
            .args(["-append", "console=ttyS0 quiet panic=-1 ip=10.0.2.15::10.0.2.2:255.255.255.0:vm:eth0:off:10.0.2.3"])
            .stdin(Stdio::null())
            .stdout(console)
            .spawn()
            .context("start qemu-system-x86_64 (Debian package qemu-system-x86)")?;
        Ok(Self { child })
    }
}

/// The one entry of a directory whose name begins so.
fn only(dir: &Path, begin: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))?;
    let mut names = entries.flatten().map(|e| e.path());
    let found = names.find(|p| {
        p.file_name()
            .is_some_and(|n| n.to_string_lossy().starts_with(begin))
    });
    found.with_context(|| format!("{begin}… in {}", dir.display()))
}

fn initramfs(dir: &Path, kernel: &Path) -> Result<PathBuf> {
    let root = dir.join("root");
    let data = root.join("var/lib/k0s");
    for sub in ["images", "manifests/once", "pki"] {
        fs::create_dir_all(data.join(sub))?;
    }
    fs::copy(binary::k0s(), root.join("init"))?;
    fs::copy(
        binary::images().join("busybox.tar"),
        data.join("images/busybox.tar"),
    )?;
    fs::write(data.join("manifests/once/pods.yaml"), PODS)?;
    for name in ["ca.crt", "ca.key"] {
        fs::copy(dir.join(name), data.join("pki").join(name))?;
    }
    let modules = only(&kernel.join("lib/modules"), "")?;
    let release = modules.file_name().context("a release")?;
    let target = root.join("lib/modules").join(release);
    for part in MODULES {
        let to = target.join("kernel").join(part);
        let from = modules.join("kernel").join(part);
        if from.is_dir() {
            fs::create_dir_all(to.parent().context("a parent")?)?;
            program(Command::new("cp").arg("-a").arg(from).arg(to))?;
        }
    }
    program(Command::new("depmod").arg("-b").arg(&root).arg(release))?;
    let archive = dir.join("initramfs");
    let pack = "find . | cpio --create --format=newc --quiet";
    let done = Command::new("sh")
        .args(["-c", pack])
        .current_dir(&root)
        .stdout(fs::File::create(&archive)?)
        .status()?;
    ensure!(done.success(), "{pack}: {done}");
    Ok(archive)
}

/// The cluster's authority, an administrator's certificate, and the kubeconfig that names both.
fn keys(dir: &Path) -> Result<()> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(DnType::CommonName, "kubernetes-ca");
    let ca_key = KeyPair::generate()?;
    let ca = params.self_signed(&ca_key)?;
    fs::write(dir.join("ca.crt"), ca.pem())?;
    fs::write(dir.join("ca.key"), ca_key.serialize_pem())?;
    let issuer = Issuer::new(params, ca_key);
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::OrganizationName, "system:masters");
    params.distinguished_name.push(DnType::CommonName, "e2e");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate()?;
    fs::write(
        dir.join("admin.crt"),
        params.signed_by(&key, &issuer)?.pem(),
    )?;
    fs::write(dir.join("admin.key"), key.serialize_pem())?;
    let config = format!(
        r#"{{"apiVersion": "v1", "kind": "Config", "current-context": "e2e",
  "clusters": [{{"name": "e2e", "cluster": {{"server": "https://127.0.0.1:{PORT}", "tls-server-name": "kubernetes",
    "certificate-authority": "{0}/ca.crt"}}}}],
  "users": [{{"name": "e2e", "user": {{"client-certificate": "{0}/admin.crt", "client-key": "{0}/admin.key"}}}}],
  "contexts": [{{"name": "e2e", "context": {{"cluster": "e2e", "user": "e2e"}}}}]}}"#,
        dir.display()
    );
    Ok(fs::write(dir.join("kubeconfig"), config)?)
}
