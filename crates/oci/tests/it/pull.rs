//! Pulls from Debian's docker-registry on loopback. Its storage is written directly, there is nothing to push with.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use oci::{Auth, Digest, ImageStore, ProgressSink, RegistryOptions, StoreOptions};

use crate::archive::{Image, image, image_for, index, layer, root, write};

/// `user`, `pass`, in bcrypt.
const HTPASSWD: &str = "user:$2b$04$Qnzb3Bf0/2wzXSIZo8nfpuDRHlw5knJ4MH7nzejoeDOtAHl/EcfiK\n";

struct Registry {
    process: Child,
    address: String,
    storage: PathBuf,
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Registry {
    /// Starts one; `None`, said aloud, where there is no such program.
    fn start(dir: &Path, further: &str) -> Option<Self> {
        if !root() {
            return None;
        }
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let address = format!("127.0.0.1:{port}");
        let storage = dir.join(format!("registry-{port}"));
        std::fs::create_dir_all(&storage).unwrap();
        let config = dir.join(format!("{port}.yml"));
        let text = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {address}\n{further}",
            storage.display()
        );
        write(&config, text.as_bytes());
        let started = Command::new("docker-registry")
            .args([Path::new("serve"), &config])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let process = match started {
            Ok(process) => process,
            Err(e) => {
                println!("SKIPPED: docker-registry: {e}");
                return None;
            }
        };
        let deadline = Instant::now() + Duration::from_secs(30);
        while std::net::TcpStream::connect(&address).is_err() {
            assert!(Instant::now() < deadline, "the registry does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(Self {
            process,
            address,
            storage,
        })
    }

    fn put(&self, path: String, data: &[u8]) {
        let path = self.storage.join("docker/registry/v2").join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        write(&path, data);
    }

    fn blob(&self, repository: &str, data: &[u8]) {
        let digest = Digest::of(data);
        let hex = digest.hex();
        self.put(format!("blobs/sha256/{}/{hex}/data", &hex[..2]), data);
        let link = digest.as_str().as_bytes();
        self.put(
            format!("repositories/{repository}/_layers/sha256/{hex}/link"),
            link,
        );
    }

    fn manifest(&self, repository: &str, tag: &str, data: &[u8]) {
        let digest = Digest::of(data);
        let hex = digest.hex();
        self.blob(repository, data);
        let link = digest.as_str().as_bytes();
        let manifests = format!("repositories/{repository}/_manifests");
        self.put(format!("{manifests}/revisions/sha256/{hex}/link"), link);
        if !tag.is_empty() {
            self.put(format!("{manifests}/tags/{tag}/current/link"), link);
            self.put(
                format!("{manifests}/tags/{tag}/index/sha256/{hex}/link"),
                link,
            );
        }
    }

    fn push(&self, repository: &str, tag: &str, image: &Image) {
        self.blob(repository, &image.config);
        for layer in &image.layers {
            self.blob(repository, layer);
        }
        self.manifest(repository, tag, &image.manifest);
    }
}

fn store(dir: &Path) -> ImageStore {
    let options = StoreOptions {
        registry: RegistryOptions {
            config_path: Some(dir.join("certs.d")),
        },
    };
    ImageStore::open(&dir.join("store"), options).unwrap()
}

fn quiet() -> ProgressSink {
    Arc::new(|_| {})
}

async fn refused(store: &ImageStore, reference: &str, auth: Option<Auth>) -> String {
    store
        .pull(reference, auth, quiet())
        .await
        .unwrap_err()
        .to_string()
}

#[tokio::test]
async fn images_are_pulled_over_http() {
    let dir = tempfile::tempdir().unwrap();
    let Some(registry) = Registry::start(dir.path(), "") else {
        return;
    };
    let one = image(&[layer("a", &[1; 3_000_000]), layer("b", b"b")]);
    let foreign = image_for("s390x", &[layer("no", b"")]);
    registry.push("x/one", "1", &one);
    registry.push("x/multi", "", &one);
    let list = index(vec![
        foreign.entry(serde_json::json!(null)),
        one.entry(serde_json::json!(null)),
    ]);
    registry.manifest("x/multi", "2", &list);
    let (store, address) = (store(dir.path()), &registry.address);
    let reference = format!("{address}/x/one:1");

    let seen = Arc::new(AtomicU64::new(0));
    let count = seen.clone();
    let progress: ProgressSink = Arc::new(move |p| count.store(p.bytes_done, Ordering::SeqCst));
    let pulls = (0..4).map(|_| store.pull(&reference, None, progress.clone()));
    for id in futures::future::join_all(pulls).await {
        assert_eq!(id.unwrap(), one.id());
    }
    assert!(seen.load(Ordering::SeqCst) > 3_000_000);
    let found = store.resolve(&reference).unwrap();
    assert_eq!(
        found.digest_reference,
        format!("{address}/x/one@{}", Digest::of(&one.manifest))
    );
    assert_eq!(std::fs::read(found.layers[1].join("b")).unwrap(), b"b");

    // By digest, and through an index whose digest the image then has.
    let pinned = format!("{address}/x/one@{}", Digest::of(&one.manifest));
    assert_eq!(store.pull(&pinned, None, quiet()).await.unwrap(), one.id());
    let multi = format!("{address}/x/multi:2");
    store.remove(&reference).await.unwrap();
    assert_eq!(store.pull(&multi, None, quiet()).await.unwrap(), one.id());
    let digest = format!("{address}/x/multi@{}", Digest::of(&list));
    assert_eq!(store.resolve(&multi).unwrap().digest_reference, digest);

    let missing = format!("{address}/x/one:none");
    assert_eq!(
        refused(&store, &missing, None).await,
        format!(
            "failed to pull and unpack image \"{missing}\": failed to resolve reference \"{missing}\": {missing}: not found"
        )
    );
    let nobody = refused(&store, "127.0.0.1:9/x:1", None).await;
    assert!(nobody.contains("failed to do request: Head"), "{nobody}");
    assert!(nobody.contains("connection refused"), "{nobody}");
    let unknown = refused(&store, "invalid.example.invalid/x:1", None).await;
    assert!(
        unknown.contains("lookup invalid.example.invalid"),
        "{unknown}"
    );
    let wrong = refused(&store, "Bad//Name", None).await;
    assert!(wrong.contains("failed to parse image reference"), "{wrong}");
}

#[tokio::test]
async fn an_interrupted_download_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let Some(registry) = Registry::start(dir.path(), "") else {
        return;
    };
    let one = image(&[layer("a", &[1; 300_000])]);
    registry.push("x", "1", &one);
    let store = store(dir.path());
    let hex = Digest::of(&one.layers[0]).hex().to_string();
    let partial = dir.path().join(format!("store/ingest/{hex}.partial"));
    write(&partial, &one.layers[0][..100_000]);
    let reference = format!("{}/x:1", registry.address);
    assert_eq!(
        store.pull(&reference, None, quiet()).await.unwrap(),
        one.id()
    );
    store.remove(&reference).await.unwrap();
    // Rubbish in it is found out, and the next pull is clean.
    write(&partial, &[9; 100_000]);
    let error = refused(&store, &reference, None).await;
    assert!(error.contains("unexpected commit digest"), "{error}");
    assert_eq!(
        store.pull(&reference, None, quiet()).await.unwrap(),
        one.id()
    );
    assert!(!partial.exists());
}

#[tokio::test]
async fn https_with_credentials_and_a_mirror() {
    let dir = tempfile::tempdir().unwrap();
    let certified = rcgen::generate_simple_self_signed(["127.0.0.1".to_string()]).unwrap();
    let (cert, key) = (dir.path().join("tls.crt"), dir.path().join("tls.key"));
    write(&cert, certified.cert.pem().as_bytes());
    write(&key, certified.signing_key.serialize_pem().as_bytes());
    let passwords = dir.path().join("htpasswd");
    write(&passwords, HTPASSWD.as_bytes());
    let further = format!(
        "  tls:\n    certificate: {}\n    key: {}\nauth:\n  htpasswd:\n    realm: test\n    path: {}\n",
        cert.display(),
        key.display(),
        passwords.display()
    );
    let Some(registry) = Registry::start(dir.path(), &further) else {
        return;
    };
    let one = image(&[layer("a", b"a")]);
    registry.push("library/x", "1", &one);
    let store = store(dir.path());
    let config = |name: &str, text: &str| {
        let folder = dir.path().join("certs.d").join(name);
        std::fs::create_dir_all(&folder).unwrap();
        write(&folder.join("hosts.toml"), text.as_bytes());
    };
    let address = &registry.address;
    let auth = |password: &str| {
        Some(Auth {
            username: "user".into(),
            password: password.into(),
            ..Auth::default()
        })
    };
    let reference = format!("{address}/library/x:1");
    config(
        address,
        &format!(
            "server = \"https://{address}\"\nca = \"{}\"\n",
            cert.display()
        ),
    );
    let anonymous = refused(&store, &reference, None).await;
    assert!(
        anonymous
            .contains("pull access denied, repository does not exist or may require authorization"),
        "{anonymous}"
    );
    let wrong = refused(&store, &reference, auth("wrong")).await;
    assert!(wrong.contains("pull access denied"), "{wrong}");
    assert_eq!(
        store.pull(&reference, auth("pass"), quiet()).await.unwrap(),
        one.id()
    );

    // Docker Hub's image by a mirror; one that is down before it is passed over.
    let mirrors = format!(
        "[host.\"http://127.0.0.1:9\"]\n[host.\"https://{address}\"]\nca = \"{}\"\n",
        cert.display()
    );
    config("docker.io", &mirrors);
    assert_eq!(
        store.pull("x:1", auth("pass"), quiet()).await.unwrap(),
        one.id()
    );
    assert!(store.get("docker.io/library/x:1").is_some());
    // Without its authority the certificate is refused.
    config(address, &format!("server = \"https://{address}\"\n"));
    let untrusted = refused(&store, &reference, auth("pass")).await;
    assert!(untrusted.contains("certificate"), "{untrusted}");
}
