//! Who asks, and whether they may: decided by the main API server.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};
use serde_json::{Value, json};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::objects::Place;
use super::text;
use crate::client::{self, Options};
use crate::commands::issuer;
use crate::http1::Request;
use crate::{log, tls};

const AUTHENTICATION: &str =
    "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication";
const MASTERS: &str = "system:masters";

/// Why a request is not answered.
pub enum Refused {
    Nobody,
    Forbidden(String),
    Unknown(String),
}

/// Whom the main API server says to trust.
struct Trust {
    authorities: Vec<CertificateDer<'static>>,
    names: Vec<String>,
    user: Vec<String>,
    uid: Vec<String>,
    group: Vec<String>,
    extra: Vec<String>,
}

/// A user.
#[derive(Default)]
struct User {
    name: String,
    uid: String,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

pub struct Access {
    /// `https://host:port` of the main API server.
    api: String,
    trust: RwLock<Option<Trust>>,
}

// === Access ===

impl Access {
    pub fn in_cluster() -> Result<Self> {
        Ok(Self {
            api: format!("https://{}", issuer::api_server()?),
            trust: RwLock::default(),
        })
    }

    pub fn is_ready(&self) -> bool {
        let trust = self.trust.read().unwrap_or_else(PoisonError::into_inner);
        trust.is_some()
    }

    /// Reads whom to trust.
    pub fn learn(&self) -> Result<()> {
        let map = self.ask("GET", AUTHENTICATION, None)?;
        let list = |key: &str| -> Result<Vec<String>> {
            let value = text(&map, &format!("/data/requestheader-{key}"));
            if value.is_empty() {
                return Ok(Vec::new());
            }
            serde_json::from_str(value).with_context(|| key.to_string())
        };
        let pem = text(&map, "/data/requestheader-client-ca-file");
        let authorities: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|e| anyhow!("requestheader-client-ca-file: {e}"))?;
        ensure!(!authorities.is_empty(), "no requestheader-client-ca-file");
        let trust = Trust {
            authorities,
            names: list("allowed-names")?,
            user: list("username-headers")?,
            uid: list("uid-headers")?,
            group: list("group-headers")?,
            extra: list("extra-headers-prefix")?,
        };
        *self.trust.write().unwrap_or_else(PoisonError::into_inner) = Some(trust);
        Ok(())
    }

    /// The name of who asks, where they may.
    pub fn admit(&self, request: &Request, place: Option<&Place>) -> Result<String, Refused> {
        let user = self.user(request)?;
        if user.groups.iter().any(|g| g == MASTERS) {
            return Ok(user.name);
        }
        let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": spec(&user, request, place)});
        let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
        let answer = self.ask("POST", path, Some(&review));
        let answer = answer.map_err(|e| Refused::Unknown(format!("{e:#}")))?;
        if answer["status"]["allowed"] == true {
            return Ok(user.name);
        }
        let name = &user.name;
        let reason = text(&answer, "/status/reason");
        let what = match place {
            Some(p) => format!(
                "{} is forbidden: User \"{name}\" cannot {} resource \"{}\" in API group \"{}\"",
                p.qualified(),
                p.verb,
                p.kind.plural,
                super::GROUP
            ),
            None => format!(
                "forbidden: User \"{name}\" cannot {} path \"{}\"",
                request.method.to_lowercase(),
                request.path
            ),
        };
        Err(Refused::Forbidden(match reason {
            "" => what,
            reason => format!("{what}: {reason}"),
        }))
    }

    fn user(&self, request: &Request) -> Result<User, Refused> {
        let trust = self.trust.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(trust) = trust.as_ref()
            && !request.certificates.is_empty()
        {
            match trust.proxy(&request.certificates) {
                Ok(()) => {
                    if let Some(user) = trust.told(request) {
                        return Ok(user);
                    }
                }
                Err(error) => log::line(&format!("not a front proxy: {error:#}")),
            }
        }
        drop(trust);
        let bearer = request.header("Authorization").unwrap_or_default();
        let Some(token) = bearer.strip_prefix("Bearer ") else {
            return Ok(User {
                name: "system:anonymous".into(),
                groups: vec!["system:unauthenticated".into()],
                ..User::default()
            });
        };
        let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
            "spec": {"token": token}});
        let path = "/apis/authentication.k8s.io/v1/tokenreviews";
        let answer = self.ask("POST", path, Some(&review));
        let answer = answer.map_err(|e| Refused::Unknown(format!("{e:#}")))?;
        if answer["status"]["authenticated"] != true {
            return Err(Refused::Nobody);
        }
        let found = &answer["status"]["user"];
        Ok(User {
            name: text(found, "/username").into(),
            uid: text(found, "/uid").into(),
            groups: serde_json::from_value(found["groups"].clone()).unwrap_or_default(),
            extra: serde_json::from_value(found["extra"].clone()).unwrap_or_default(),
        })
    }

    /// Asks the main API server, as the pod's service account.
    fn ask(&self, method: &'static str, path: &str, body: Option<&Value>) -> Result<Value> {
        let mut options = Options {
            method,
            body: body.map(|b| b.to_string().into_bytes()).unwrap_or_default(),
            connect: Duration::from_secs(10),
            patience: Duration::from_secs(10),
            ..issuer::in_cluster()?
        };
        if body.is_some() {
            let json = ("Content-Type".to_string(), "application/json".to_string());
            options.headers.push(json);
        }
        let url = format!("{}{path}", self.api);
        let (status, data) = client::fetch(&url, &options)?;
        let said = String::from_utf8_lossy(&data).into_owned();
        ensure!((200..300).contains(&status), "{url}: {status}: {said}");
        Ok(serde_json::from_slice(&data)?)
    }
}

fn spec(user: &User, request: &Request, place: Option<&Place>) -> Value {
    let mut spec =
        json!({"user": user.name, "uid": user.uid, "groups": user.groups, "extra": user.extra});
    match place {
        Some(p) => {
            spec["resourceAttributes"] = json!({"group": super::GROUP, "version": p.version,
                "resource": p.kind.plural, "namespace": p.namespace, "name": p.name, "verb": p.verb});
        }
        None => {
            let verb = request.method.to_lowercase();
            spec["nonResourceAttributes"] = json!({"path": request.path, "verb": verb});
        }
    }
    spec
}

// === Trust ===

impl Trust {
    /// Whether certificates are a front proxy's.
    fn proxy(&self, shown: &[Vec<u8>]) -> Result<()> {
        let (own, between) = shown.split_first().context("no certificate")?;
        let anchors = self
            .authorities
            .iter()
            .map(anchor_from_trusted_cert)
            .collect::<Result<Vec<_>, _>>()?;
        let leaf = CertificateDer::from(own.as_slice());
        let between: Vec<CertificateDer<'_>> =
            between.iter().map(|c| c.as_slice().into()).collect();
        EndEntityCert::try_from(&leaf)?.verify_for_usage(
            tls::algorithms().all,
            &anchors,
            &between,
            UnixTime::now(),
            KeyUsage::client_auth(),
            None,
            None,
        )?;
        let (_, certificate) = X509Certificate::from_der(own)?;
        let name = certificate.subject().iter_common_name().last();
        let name = name.and_then(|n| n.as_str().ok()).unwrap_or_default();
        let known = self.names.is_empty() || self.names.iter().any(|n| n == name);
        ensure!(
            known,
            "x509: subject with cn={name} is not in the allowed list"
        );
        Ok(())
    }

    fn told(&self, request: &Request) -> Option<User> {
        let all = |names: &[String]| -> Vec<String> {
            let has = |h: &str| names.iter().any(|n| n.eq_ignore_ascii_case(h));
            let found = request.headers.iter().filter(|(h, _)| has(h));
            found.map(|(_, v)| v.clone()).collect()
        };
        let mut user = User {
            name: all(&self.user).into_iter().next()?,
            uid: all(&self.uid).into_iter().next().unwrap_or_default(),
            groups: all(&self.group),
            extra: BTreeMap::new(),
        };
        for (header, value) in &request.headers {
            let header = header.to_lowercase();
            let mut prefixes = self.extra.iter().map(|p| p.to_lowercase());
            if let Some(key) = prefixes.find_map(|p| header.strip_prefix(&p).map(str::to_string)) {
                let key = crate::http1::decode(&key, false);
                user.extra.entry(key).or_default().push(value.clone());
            }
        }
        Some(user)
    }
}
