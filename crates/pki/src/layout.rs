//! The directory `<data-dir>/pki`: which files there are, made where missing, issued anew where outdated.
//! k0s: cmd/controller/certificates.go. CAs and sa.key are never replaced.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::ca::{Ca, Identity, LeafRequest, Usage};
use crate::error::Error;
use crate::jwt::PublicJwk;
use crate::kubeconfig::{self, Credential};
use crate::token::{TokenSigner, TokenVerifier};
use crate::{file, key, limits};

/// What the certificates must name.
#[derive(Clone, Debug)]
pub struct PkiOptions {
    /// `<data-dir>/pki`.
    pub dir: PathBuf,
    /// `spec.api.sans`, addresses of the host, its name.
    pub sans: Vec<String>,
    pub cluster_domain: String,
    /// First address(es) of the service network.
    pub service_ips: Vec<IpAddr>,
    /// What kubeconfig files point at, such as `https://localhost:6443`.
    pub server_url: String,
    /// `iss` of service account tokens.
    pub issuer: String,
    /// The server's own audiences; usually the issuer alone.
    pub audiences: Vec<String>,
    /// The address etcd peers use, where we manage an etcd.
    pub etcd_peer: Option<String>,
}

/// Everything in the directory, loaded.
pub struct Pki {
    pub dir: PathBuf,
    pub ca: Arc<Ca>,
    pub front_proxy_ca: Ca,
    pub etcd_ca: Option<Ca>,
    leaves: BTreeMap<&'static str, Identity>,
    signer_pem: String,
    public_keys: Vec<PublicJwk>,
    issuer: String,
    audiences: Vec<String>,
}

/// One leaf of the table below.
struct Leaf {
    /// File name without ending, relative to the directory.
    file: &'static str,
    common_name: &'static str,
    organizations: &'static [&'static str],
    signer: Signer,
    names: Names,
    /// A kubeconfig file made with this leaf.
    kubeconfig: Option<&'static str>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Signer {
    Ca,
    FrontProxy,
    Etcd,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Names {
    /// A client: none.
    Client,
    /// The API server's names.
    Api,
    /// localhost and 127.0.0.1.
    Local,
    /// The etcd peer address, also as common name.
    EtcdPeer,
}

const fn client(
    file: &'static str,
    common_name: &'static str,
    organizations: &'static [&'static str],
    kubeconfig: Option<&'static str>,
) -> Leaf {
    Leaf {
        file,
        common_name,
        organizations,
        signer: Signer::Ca,
        names: Names::Client,
        kubeconfig,
    }
}

const MASTERS: &[&str] = &["system:masters"];

/// k0s's leaves, with its names and groups.
static LEAVES: &[Leaf] = &[
    client("admin", "kubernetes-admin", MASTERS, Some("admin.conf")),
    client(
        "konnectivity",
        "kubernetes-konnectivity",
        MASTERS,
        Some("konnectivity.conf"),
    ),
    client(
        "ccm",
        "system:kube-controller-manager",
        &["system:kube-controller-manager"],
        Some("ccm.conf"),
    ),
    client(
        "scheduler",
        "system:kube-scheduler",
        &["system:kube-scheduler"],
        Some("scheduler.conf"),
    ),
    client(
        "apiserver-kubelet-client",
        "apiserver-kubelet-client",
        MASTERS,
        None,
    ),
    Leaf {
        signer: Signer::FrontProxy,
        ..client(
            "front-proxy-client",
            "front-proxy-client",
            &["front-proxy-client"],
            None,
        )
    },
    Leaf {
        names: Names::Api,
        ..client("server", "kubernetes", &["kubernetes"], None)
    },
    Leaf {
        names: Names::Api,
        ..client("k0s-api", "k0s-api", &["kubernetes"], None)
    },
    Leaf {
        signer: Signer::Etcd,
        ..client(
            "apiserver-etcd-client",
            "apiserver-etcd-client",
            &["apiserver-etcd-client"],
            None,
        )
    },
    Leaf {
        signer: Signer::Etcd,
        names: Names::Local,
        ..client("etcd/server", "etcd-server", &["etcd-server"], None)
    },
    Leaf {
        signer: Signer::Etcd,
        names: Names::EtcdPeer,
        ..client("etcd/peer", "", &["etcd-peer"], None)
    },
];

// === Pki ===

impl Pki {
    /// Loads the directory, making what is missing. Idempotent; blocking file I/O.
    pub fn ensure(options: &PkiOptions) -> Result<Self, Error> {
        let dir = &options.dir;
        file::make_dir(dir, 0o751)?;
        let ca = ensure_ca(&dir.join("ca"), "kubernetes-ca")?;
        let front_proxy_ca = ensure_ca(&dir.join("front-proxy-ca"), "kubernetes-front-proxy-ca")?;
        let etcd_ca = match options.etcd_peer {
            Some(_) => {
                file::make_dir(&dir.join("etcd"), 0o711)?;
                Some(ensure_ca(&dir.join("etcd/ca"), "etcd-ca")?)
            }
            None => None,
        };
        // Authorities and the token key must outlive a power cut before anything trusts them.
        let (signer_pem, public_keys) = ensure_token_keys(dir)?;
        file::sync_dir(dir)?;
        let mut leaves = BTreeMap::new();
        for leaf in LEAVES {
            let signer = match leaf.signer {
                Signer::Ca => &ca,
                Signer::FrontProxy => &front_proxy_ca,
                Signer::Etcd => match &etcd_ca {
                    Some(ca) => ca,
                    None => continue,
                },
            };
            let identity = ensure_leaf(dir, leaf.file, signer, &leaf.request(options))?;
            if let Some(name) = leaf.kubeconfig {
                write_kubeconfig(&dir.join(name), &options.server_url, &ca, &identity)?;
            }
            leaves.insert(leaf.file, identity);
        }
        Ok(Self {
            dir: dir.clone(),
            ca: Arc::new(ca),
            front_proxy_ca,
            etcd_ca,
            leaves,
            signer_pem,
            public_keys,
            issuer: options.issuer.clone(),
            audiences: options.audiences.clone(),
        })
    }

    /// A leaf by its file name without ending: `server`, `admin`, `apiserver-kubelet-client` ...
    pub fn leaf(&self, file: &str) -> Option<&Identity> {
        self.leaves.get(file)
    }

    /// The API server's serving certificate.
    pub fn server(&self) -> &Identity {
        self.leaves
            .get("server")
            .expect("ensure makes every leaf of the table")
    }

    /// The certificate of `admin.conf`.
    pub fn admin(&self) -> &Identity {
        self.leaves
            .get("admin")
            .expect("ensure makes every leaf of the table")
    }

    /// A signer of service account tokens.
    pub fn token_signer(&self) -> Result<TokenSigner, Error> {
        TokenSigner::new(&self.signer_pem, &self.issuer)
    }

    /// A verifier of service account tokens.
    pub fn token_verifier(&self) -> TokenVerifier {
        TokenVerifier::new(
            self.public_keys.clone(),
            vec![self.issuer.clone()],
            self.audiences.clone(),
        )
    }

    /// The kubelet's client certificate (user `system:node:<name>`), kept at `<path>.crt` and `.key`.
    pub fn kubelet_client(&self, path: &Path, node: &str) -> Result<Identity, Error> {
        let user = format!("system:node:{node}");
        ensure_pair(
            path,
            &self.ca,
            &LeafRequest::client(&user, &["system:nodes"]),
        )
    }

    /// The kubelet's serving certificate for these names, kept at `<path>.crt` and `.key`.
    pub fn kubelet_server(
        &self,
        path: &Path,
        node: &str,
        sans: Vec<String>,
    ) -> Result<Identity, Error> {
        let user = format!("system:node:{node}");
        ensure_pair(
            path,
            &self.ca,
            &LeafRequest::server(&user, &["system:nodes"], sans),
        )
    }

    /// The text of a kubeconfig for a client certificate.
    pub fn kubeconfig(&self, server_url: &str, identity: &Identity) -> String {
        render(server_url, &self.ca, identity)
    }
}

impl Leaf {
    fn request(&self, options: &PkiOptions) -> LeafRequest {
        let mut request = LeafRequest::client(self.common_name, self.organizations);
        match self.names {
            Names::Client => return request,
            Names::Api => {
                request.sans = api_names(options);
                request.usages = vec![Usage::Server, Usage::Client];
            }
            Names::Local => {
                request.sans = vec!["127.0.0.1".into(), "localhost".into()];
                request.usages = vec![Usage::Server, Usage::Client];
            }
            Names::EtcdPeer => {
                let peer = options.etcd_peer.clone().unwrap_or_default();
                request.common_name = peer.clone();
                request.sans = vec![peer];
                request.usages = vec![Usage::Server, Usage::Client];
            }
        }
        request
    }
}

/// Names of the API server's certificate; `kubernetes.default.svc.cluster` is k0s's own.
fn api_names(options: &PkiOptions) -> Vec<String> {
    let domain = &options.cluster_domain;
    let mut names: Vec<String> = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster",
        "localhost",
        "127.0.0.1",
    ]
    .map(String::from)
    .to_vec();
    names.push(format!("kubernetes.svc.{domain}"));
    // Upstream: clients in pods may use the full name, which k0s's list lacks.
    names.push(format!("kubernetes.default.svc.{domain}"));
    names.extend(options.service_ips.iter().map(IpAddr::to_string));
    for san in &options.sans {
        if !names.contains(san) {
            names.push(san.clone());
        }
    }
    names
}

fn with_ending(stem: &Path, ending: &str) -> PathBuf {
    let mut name = stem.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Loads or makes the CA at `<stem>.crt` and `<stem>.key`.
fn ensure_ca(stem: &Path, common_name: &str) -> Result<Ca, Error> {
    let (cert_path, key_path) = (with_ending(stem, ".crt"), with_ending(stem, ".key"));
    match (file::read(&cert_path)?, file::read(&key_path)?) {
        (Some(cert), Some(key)) => Ca::load(&cert, &key),
        (Some(_), None) => Err(Error::HalfPair {
            path: cert_path,
            missing: key_path,
        }),
        // A key alone is what a crash between our two writes leaves: nothing was issued with it.
        (None, _) => {
            let ca = Ca::generate(common_name, crate::now())?;
            file::write(&key_path, ca.key_pem().as_bytes(), file::SECRET)?;
            file::write(&cert_path, ca.pem().as_bytes(), file::PUBLIC)?;
            tracing::info!(path = %cert_path.display(), "certificate authority made");
            Ok(ca)
        }
    }
}

fn ensure_leaf(dir: &Path, name: &str, ca: &Ca, request: &LeafRequest) -> Result<Identity, Error> {
    ensure_pair(&dir.join(name), ca, request)
}

/// Loads the pair at `<stem>.crt` and `<stem>.key`, issuing it anew where it is missing or outdated.
/// A usable key is kept.
pub fn ensure_pair(stem: &Path, ca: &Ca, request: &LeafRequest) -> Result<Identity, Error> {
    let (cert_path, key_path) = (with_ending(stem, ".crt"), with_ending(stem, ".key"));
    let (cert, key) = (file::read(&cert_path)?, file::read(&key_path)?);
    if let (Some(cert_pem), Some(key_pem)) = (cert, &key) {
        let found = Identity {
            cert_pem,
            key_pem: key_pem.clone(),
        };
        match ca.outdated(&found, request, crate::now()) {
            None => return Ok(found),
            Some(why) => {
                tracing::info!(path = %cert_path.display(), why, "certificate issued anew");
            }
        }
    }
    let identity = match &key {
        Some(key_pem) if key::parse(key_pem).is_ok() => ca.issue_for(request, key_pem)?,
        _ => ca.issue(request)?,
    };
    if key.as_ref() != Some(&identity.key_pem) {
        file::write(&key_path, identity.key_pem.as_bytes(), file::SECRET)?;
    }
    file::write(&cert_path, identity.cert_pem.as_bytes(), file::PUBLIC)?;
    Ok(identity)
}

/// Loads or makes `sa.key` and `sa.pub`. Gives the private key and all public keys of `sa.pub`
/// (several while keys are rotated).
fn ensure_token_keys(dir: &Path) -> Result<(String, Vec<PublicJwk>), Error> {
    let (key_path, pub_path) = (dir.join("sa.key"), dir.join("sa.pub"));
    let key_pem = match file::read(&key_path)? {
        Some(pem) => pem,
        None => {
            let pem = key::generate()?.serialize_pem();
            file::write(&key_path, pem.as_bytes(), file::SECRET)?;
            pem
        }
    };
    let pair = key::parse(&key_pem)?;
    let own = TokenSigner::new(&key_pem, "")?.public().clone();
    let mut public = match file::read(&pub_path)? {
        Some(pem) => PublicJwk::parse_all(&pem)?,
        None => {
            file::write(&pub_path, pair.public_key_pem().as_bytes(), file::PUBLIC)?;
            Vec::new()
        }
    };
    if !public.iter().any(|k| k.kid == own.kid) {
        public.insert(0, own);
    }
    Ok((key_pem, public))
}

fn write_kubeconfig(path: &Path, server: &str, ca: &Ca, identity: &Identity) -> Result<(), Error> {
    let text = render(server, ca, identity);
    if file::read(path)?.as_deref() == Some(text.as_str()) {
        return Ok(());
    }
    file::write(path, text.as_bytes(), file::SECRET)
}

fn render(server: &str, ca: &Ca, identity: &Identity) -> String {
    kubeconfig::render(
        server,
        ca.pem(),
        &Credential::Certificate {
            cert_pem: &identity.cert_pem,
            key_pem: &identity.key_pem,
        },
    )
}

/// Seconds until the first leaf must be issued anew; a caller may then run `Pki::ensure` again.
pub fn renew_after(identities: &[&Identity], now: i64) -> Result<i64, Error> {
    let mut first = i64::MAX;
    for identity in identities {
        let margin = limits::LEAF_VALIDITY_SECONDS / limits::RENEW_REMAINING_DIVISOR;
        first = first.min(identity.not_after()? - margin - now);
    }
    Ok(first.max(0))
}

#[cfg(test)]
mod tests;
