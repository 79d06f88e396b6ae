//! The test images, as OCI archives, under the references that the conformance tests use: our own test server
//! (`tools/testserver`) in the place of upstream's programs, with Debian's busybox and bash.

mod layer;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::binary;
use layer::Layer;

/// Where the programs are on Debian.
const BUSYBOX: &str = "/bin/busybox";
const BASH: &str = "/bin/bash-static";

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The references the conformance tests use.
pub const BUSYBOX_IMAGE: &str = "registry.k8s.io/e2e-test-images/busybox:1.37.0-2";
pub const AGNHOST_IMAGE: &str = "registry.k8s.io/e2e-test-images/agnhost:2.66.0";
/// The agnhost that update tests begin with.
pub const OLD_AGNHOST_IMAGE: &str = "registry.k8s.io/e2e-test-images/agnhost:2.55";
pub const PAUSE_IMAGE: &str = "registry.k8s.io/pause:3.10.2";
pub const NGINX_IMAGE: &str = "registry.k8s.io/e2e-test-images/nginx:1.27.0-1";
pub const NEW_NGINX_IMAGE: &str = "registry.k8s.io/e2e-test-images/nginx:1.28.0-1";
pub const SAMPLE_APISERVER_IMAGE: &str = "registry.k8s.io/e2e-test-images/sample-apiserver:1.29.2";
pub const ETCD_IMAGE: &str = "registry.k8s.io/etcd:3.6.8-0";
pub const NAUTILUS_IMAGE: &str = "registry.k8s.io/e2e-test-images/nautilus:1.8";

/// What the images are made of.
struct Programs {
    busybox: Vec<u8>,
    bash: Vec<u8>,
    server: Vec<u8>,
    applets: Vec<String>,
    /// Certificate and key that `porter` shows.
    identity: (String, String),
}

/// Layers, bottom first, and what the config says about running.
type Made = Result<(Vec<Layer>, Value)>;

/// An image: its archive, its references, and how it is made.
struct Image {
    name: &'static str,
    references: &'static [&'static str],
    make: fn(&Programs) -> Made,
}

static IMAGES: &[Image] = &[
    Image {
        name: "busybox",
        references: &[
            BUSYBOX_IMAGE,
            "registry.k8s.io/e2e-test-images/busybox:1.36.1-1",
        ],
        make: busybox,
    },
    Image {
        name: "agnhost",
        references: &[
            "registry.k8s.io/e2e-test-images/agnhost:2.66.0",
            "registry.k8s.io/e2e-test-images/agnhost:2.66.1",
            "registry.k8s.io/e2e-test-images/agnhost:2.67.0",
            "registry.k8s.io/e2e-test-images/agnhost:2.55",
            "registry.k8s.io/e2e-test-images/agnhost:2.53",
        ],
        make: agnhost,
    },
    Image {
        name: "pause",
        references: &[
            "registry.k8s.io/pause:3.10.2",
            "registry.k8s.io/pause:3.10.1",
            "registry.k8s.io/pause:3.10",
            "registry.k8s.io/pause:3.9",
        ],
        make: pause,
    },
    Image {
        name: "nonewprivs",
        references: &[
            "registry.k8s.io/e2e-test-images/nonewprivs:1.4",
            "registry.k8s.io/e2e-test-images/nonewprivs:1.3",
        ],
        make: nonewprivs,
    },
    Image {
        name: "kitten",
        references: &[
            "registry.k8s.io/e2e-test-images/kitten:1.8",
            "registry.k8s.io/e2e-test-images/kitten:1.7",
        ],
        make: |programs| picture(programs, "kitten"),
    },
    Image {
        name: "nautilus",
        references: &[
            "registry.k8s.io/e2e-test-images/nautilus:1.8",
            "registry.k8s.io/e2e-test-images/nautilus:1.7",
        ],
        make: |programs| picture(programs, "nautilus"),
    },
    // Two archives: update tests change from one web server to another and want to see other images.
    Image {
        name: "nginx",
        references: &[
            "registry.k8s.io/e2e-test-images/nginx:1.27.0-1",
            "registry.k8s.io/e2e-test-images/nginx:1.14-4",
            "registry.k8s.io/e2e-test-images/httpd:2.4.38-4",
        ],
        make: |programs| web(programs, "1"),
    },
    Image {
        name: "nginx-new",
        references: &[
            "registry.k8s.io/e2e-test-images/nginx:1.28.0-1",
            "registry.k8s.io/e2e-test-images/nginx:1.15-4",
            "registry.k8s.io/e2e-test-images/httpd:2.4.39-4",
        ],
        make: |programs| web(programs, "2"),
    },
    Image {
        name: "sample-apiserver",
        references: &[SAMPLE_APISERVER_IMAGE],
        make: sample_apiserver,
    },
    // It keeps nothing: what the sample API server stores is in that one's memory.
    Image {
        name: "etcd",
        references: &[ETCD_IMAGE, "registry.k8s.io/etcd:3.6.6-0"],
        make: etcd,
    },
    Image {
        name: "dnsutils",
        references: &[
            "registry.k8s.io/e2e-test-images/glibc-dns-testing:2.0.0",
            "registry.k8s.io/e2e-test-images/jessie-dnsutils:1.7",
        ],
        make: |programs| {
            let (layers, _) = agnhost(programs)?;
            Ok((layers, json!({"Cmd": ["sh"], "Env": [PATH]})))
        },
    },
];

/// Builds all images into `target/images`; gives their paths.
pub fn build() -> Result<Vec<PathBuf>> {
    let dir = binary::target().join("images");
    std::fs::create_dir_all(&dir)?;
    let programs = Programs::gather()?;
    let mut paths = Vec::new();
    for image in IMAGES {
        let (layers, run) = (image.make)(&programs).with_context(|| image.name.to_string())?;
        let path = dir.join(format!("{}.tar", image.name));
        layer::archive(&path, image.references, &layers, &run)?;
        paths.push(path);
    }
    Ok(paths)
}

impl Programs {
    fn gather() -> Result<Self> {
        let read = |path: &str, package: &str| {
            std::fs::read(path).with_context(|| format!("{path}: install Debian's {package}"))
        };
        Ok(Self {
            busybox: read(BUSYBOX, "busybox-static")?,
            bash: read(BASH, "bash-static")?,
            server: std::fs::read(test_server()?)?,
            applets: applets()?,
            identity: certificate()?,
        })
    }
}

/// Builds the test server, static as all our programs are, unless `$TESTSERVER` is one.
fn test_server() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("TESTSERVER") {
        return Ok(path.into());
    }
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_string());
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "--release", "--package", "testserver"]);
    crate::cluster::run(build.current_dir(binary::root()))?;
    let target = if cfg!(target_arch = "aarch64") {
        "aarch64"
    } else {
        "x86_64"
    };
    Ok(binary::target().join(format!("{target}-unknown-linux-gnu/release/testserver")))
}

/// The applets this busybox has.
fn applets() -> Result<Vec<String>> {
    let list = crate::cluster::run(Command::new(BUSYBOX).arg("--list"))?;
    Ok(list
        .lines()
        .filter(|a| !a.contains('/') && *a != "busybox")
        .map(str::to_string)
        .collect())
}

/// Folders and files that every image with a shell has.
fn base(passwd: &str, group: &str) -> Result<Layer> {
    let mut layer = Layer::new();
    for (path, mode) in [
        ("bin", 0o755),
        ("dev", 0o755),
        ("etc", 0o755),
        ("home", 0o755),
        ("proc", 0o755),
        ("root", 0o700),
        ("sys", 0o755),
        ("tmp", 0o1777),
        ("usr", 0o755),
        ("usr/bin", 0o755),
        ("usr/local", 0o755),
        ("usr/local/bin", 0o755),
        ("usr/share", 0o755),
        ("var", 0o755),
    ] {
        layer.directory(path, mode)?;
    }
    layer.file("etc/passwd", passwd.as_bytes(), 0o644)?;
    layer.file("etc/group", group.as_bytes(), 0o644)?;
    layer.file(
        "etc/os-release",
        b"NAME=\"Alpine Linux\"\nID=alpine\nPRETTY_NAME=\"Alpine Linux\"\n",
        0o644,
    )?;
    Ok(layer)
}

/// Every applet in `/bin`, no entrypoint, command `sh`. The shell is the test server, which hands on to busybox's own
/// but for the one case where that one is wrong.
fn busybox(programs: &Programs) -> Made {
    let passwd = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n";
    let mut layer = base(passwd, "root:x:0:\nnogroup:x:65534:\n")?;
    layer.file("bin/busybox", &programs.busybox, 0o755)?;
    layer.file("bin/sh", &programs.server, 0o755)?;
    for applet in programs.applets.iter().filter(|a| *a != "sh") {
        layer.symlink(&format!("bin/{applet}"), "busybox")?;
    }
    Ok((vec![layer], json!({"Cmd": ["sh"], "Env": [PATH]})))
}

fn agnhost(programs: &Programs) -> Made {
    let passwd = "root:x:0:0:root:/root:/bin/sh\nuser-defined-in-image:x:1000:1000::/home/user-defined-in-image:/bin/sh\n";
    let group = "root:x:0:\nuser-defined-in-image:x:1000:\ngroup-defined-in-image:x:50000:user-defined-in-image\n";
    let mut layer = base(passwd, group)?;
    layer.file("agnhost", &programs.server, 0o755)?;
    layer.link("agnhost-2", "agnhost")?;
    layer.directory("uploads", 0o777)?;
    let (certificate, key) = &programs.identity;
    layer.file("localhost.crt", certificate.as_bytes(), 0o644)?;
    layer.file("localhost.key", key.as_bytes(), 0o644)?;
    // Busybox's shell would prefer its own nc and nslookup, which lack what the tests need.
    layer.file("bin/bash", &programs.bash, 0o755)?;
    layer.symlink("bin/sh", "bash")?;
    layer.file("bin/busybox", &programs.busybox, 0o755)?;
    let own = ["curl", "nc", "dig", "nslookup", "getent"];
    for tool in own {
        layer.symlink(&format!("usr/bin/{tool}"), "../../agnhost")?;
    }
    for applet in &programs.applets {
        if !own.contains(&applet.as_str()) && !matches!(applet.as_str(), "sh" | "ash" | "bash") {
            layer.symlink(&format!("bin/{applet}"), "busybox")?;
        }
    }
    let run = json!({
        "Entrypoint": ["/agnhost"], "Cmd": ["pause"], "Env": [PATH], "WorkingDir": "/",
        "ExposedPorts": {"80/tcp": {}, "8080/tcp": {}, "8081/tcp": {}, "9376/tcp": {}, "5000/tcp": {}},
    });
    Ok((vec![layer], run))
}

/// What `porter` shows; nobody verifies it.
fn certificate() -> Result<(String, String)> {
    let mut params = rcgen::CertificateParams::new(vec![
        "127.0.0.1".to_string(),
        "::1".to_string(),
        "example.com".to_string(),
    ])?;
    params.not_before = rcgen::date_time_ymd(1970, 1, 1);
    params.not_after = rcgen::date_time_ymd(2084, 1, 1);
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate()?;
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

fn pause(programs: &Programs) -> Made {
    let mut layer = Layer::new();
    layer.file("pause", &programs.server, 0o755)?;
    Ok((
        vec![layer],
        json!({"Entrypoint": ["/pause"], "User": "65535:65535", "Env": [PATH]}),
    ))
}

fn sample_apiserver(programs: &Programs) -> Made {
    let mut layer = Layer::new();
    layer.file("sample-apiserver", &programs.server, 0o755)?;
    Ok((
        vec![layer],
        json!({"Entrypoint": ["/sample-apiserver"], "Env": [PATH]}),
    ))
}

fn etcd(programs: &Programs) -> Made {
    let mut layer = Layer::new();
    for path in ["usr", "usr/local", "usr/local/bin"] {
        layer.directory(path, 0o755)?;
    }
    layer.file("usr/local/bin/etcd", &programs.server, 0o755)?;
    Ok((vec![layer], json!({"Cmd": ["etcd"], "Env": [PATH]})))
}

/// A program of root's with the setuid bit.
fn nonewprivs(programs: &Programs) -> Made {
    let mut layer = Layer::new();
    layer.file("nonewprivs", &programs.server, 0o4755)?;
    Ok((
        vec![layer],
        json!({"Entrypoint": ["/nonewprivs"], "Env": [PATH]}),
    ))
}

/// The test server with a file to show.
fn picture(programs: &Programs, name: &str) -> Made {
    let (mut layers, mut run) = agnhost(programs)?;
    let mut layer = Layer::new();
    layer.file(
        "data.json",
        format!("{{\n  \"image\": \"{name}.jpg\"\n}}\n").as_bytes(),
        0o644,
    )?;
    layers.push(layer);
    run["Cmd"] = json!(["test-webserver"]);
    Ok((layers, run))
}

/// A static page on port 80, in the folders of both nginx and httpd.
fn web(programs: &Programs, version: &str) -> Made {
    let (mut layers, _) = busybox(programs)?;
    let mut layer = Layer::new();
    layer.directory("usr/share/nginx", 0o755)?;
    layer.directory("usr/share/nginx/html", 0o755)?;
    let page = format!(
        "<!DOCTYPE html>\n<html><head><title>Welcome</title></head><body><h1>It works! ({version})</h1></body></html>\n"
    );
    layer.file("usr/share/nginx/html/index.html", page.as_bytes(), 0o644)?;
    layer.directory("usr/local/apache2", 0o755)?;
    layer.symlink("usr/local/apache2/htdocs", "/usr/share/nginx/html")?;
    layer.file("usr/local/bin/webserver", &programs.server, 0o755)?;
    layers.push(layer);
    let run =
        json!({"Cmd": ["/usr/local/bin/webserver"], "Env": [PATH], "ExposedPorts": {"80/tcp": {}}});
    Ok((layers, run))
}

/// Where an image's archive is, once built.
pub fn path(name: &str) -> PathBuf {
    Path::new(&binary::target())
        .join("images")
        .join(format!("{name}.tar"))
}
