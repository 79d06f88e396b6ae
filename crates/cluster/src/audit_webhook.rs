//! The server that takes audit events, as a kubeconfig file names it: `https` only; exec plug-ins, auth providers and
//! proxies are refused by name. Upstream: apiserver/pkg/util/webhook, LoadKubeconfig.

use std::path::Path;

use api::k8s_openapi::ByteString;
use apiserver::audit::Post;
use apiserver::limits;
use async_trait::async_trait;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use http::{Method, Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;
use webhook::{HttpClient, Identity, Names, Verification};

/// Bytes of a kubeconfig file, and of each file that it names.
const FILE_BYTES: u64 = 1 << 20;

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Kubeconfig {
    current_context: String,
    clusters: Vec<NamedCluster>,
    contexts: Vec<NamedContext>,
    users: Vec<NamedUser>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct NamedCluster {
    name: String,
    cluster: Cluster,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct NamedContext {
    name: String,
    context: Context,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct NamedUser {
    name: String,
    user: User,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Context {
    cluster: String,
    user: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Cluster {
    server: String,
    certificate_authority: String,
    certificate_authority_data: String,
    insecure_skip_tls_verify: bool,
    tls_server_name: String,
    proxy_url: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct User {
    token: String,
    #[serde(rename = "tokenFile")]
    token_file: String,
    username: String,
    password: String,
    client_certificate: String,
    client_certificate_data: String,
    client_key: String,
    client_key_data: String,
    exec: Option<serde_json::Value>,
    auth_provider: Option<serde_json::Value>,
}

/// The server and who we are to it.
pub struct AuditWebhook {
    client: HttpClient,
    url: Uri,
    host: HeaderValue,
    authorization: Option<HeaderValue>,
    /// Read at each call, as it may be renewed.
    token_file: String,
}

impl AuditWebhook {
    /// The server of a file's current context.
    pub fn open(path: &Path) -> Result<Self, String> {
        let opened = read(&path.display().to_string()).and_then(|text| {
            let file: Kubeconfig = serde_saphyr::from_slice(&text).map_err(|e| e.to_string())?;
            Self::new(&file)
        });
        opened.map_err(|e| format!("initializing audit webhook: {}: {e}", path.display()))
    }

    fn new(file: &Kubeconfig) -> Result<Self, String> {
        let name = &file.current_context;
        let context = file.contexts.iter().find(|c| c.name == *name);
        let context = &context
            .ok_or_else(|| format!("context {name:?} does not exist"))?
            .context;
        let cluster = file.clusters.iter().find(|c| c.name == context.cluster);
        let cluster = &cluster
            .ok_or_else(|| format!("cluster {:?} does not exist", context.cluster))?
            .cluster;
        let nobody = User::default();
        let user = file.users.iter().find(|u| u.name == context.user);
        let user = match user {
            Some(user) => &user.user,
            None if context.user.is_empty() => &nobody,
            None => return Err(format!("auth info {:?} does not exist", context.user)),
        };
        if user.exec.is_some() || user.auth_provider.is_some() {
            return Err("exec and auth-provider are not supported".into());
        }
        if !cluster.proxy_url.is_empty() {
            return Err("proxy-url is not supported".into());
        }
        let uri: Uri = cluster.server.parse().map_err(|e| format!("server: {e}"))?;
        let (Some("https"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(format!("server: {:?} must use https", cluster.server));
        };
        let url = format!("https://{authority}{}?timeout=30s", uri.path());
        let host = authority.host().trim_matches(['[', ']']);
        let name = match cluster.tls_server_name.as_str() {
            "" => host,
            name => name,
        };
        let tls = webhook::client_config(&verification(cluster)?, identity(user)?)?;
        Ok(Self {
            client: webhook::pool(&Names::default(), tls, name)?,
            url: url.parse().map_err(|e| format!("server: {e}"))?,
            host: HeaderValue::from_str(authority.as_str()).map_err(|e| e.to_string())?,
            authorization: authorization(user)?,
            token_file: user.token_file.clone(),
        })
    }

    async fn exchange(&self, body: Bytes) -> Result<(), String> {
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(self.url.clone())
            .header(HOST, self.host.clone())
            .header(ACCEPT, "application/json, */*")
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, "kube-apiserver");
        if !self.token_file.is_empty() {
            let token = tokio::fs::read_to_string(&self.token_file).await;
            let token = token.map_err(|e| format!("{}: {e}", self.token_file))?;
            request = request.header(AUTHORIZATION, secret("Bearer", token.trim())?);
        } else if let Some(value) = &self.authorization {
            request = request.header(AUTHORIZATION, value.clone());
        }
        let request = request.body(Full::new(body)).map_err(|e| e.to_string())?;
        let answer = self.client.request(request).await;
        let answer = answer.map_err(|e| webhook::cause(&e))?;
        let code = answer.status();
        // Nobody reads what it says, but the connection is free only then.
        let rest = Limited::new(answer.into_body(), limits::AUDIT_ANSWER_BYTES);
        rest.collect().await.map_err(|e| webhook::cause(&*e))?;
        match code.is_success() {
            true => Ok(()),
            false => Err(format!("the server answered {code}")),
        }
    }
}

#[async_trait]
impl Post for AuditWebhook {
    async fn post(&self, body: Bytes) -> Result<(), String> {
        let done = tokio::time::timeout(limits::AUDIT_CALL, self.exchange(body)).await;
        let done = done.unwrap_or_else(|_| Err("context deadline exceeded".into()));
        done.map_err(|why| format!("Post {:?}: {why}", self.url.to_string()))
    }
}

fn read(path: &str) -> Result<Vec<u8>, String> {
    let size = std::fs::metadata(path).map_err(|e| format!("{path}: {e}"))?;
    if size.len() > FILE_BYTES {
        return Err(format!("{path}: the file is too large"));
    }
    std::fs::read(path).map_err(|e| format!("{path}: {e}"))
}

/// What a field has in itself, or in a file.
fn data(inline: &str, file: &str) -> Result<Vec<u8>, String> {
    match (inline, file) {
        ("", "") => Ok(Vec::new()),
        ("", file) => read(file),
        (inline, _) => {
            // Bytes of Kubernetes' objects are base64 too.
            let bytes = serde_json::from_value(serde_json::Value::from(inline));
            bytes.map(|ByteString(b)| b).map_err(|e| e.to_string())
        }
    }
}

fn verification(cluster: &Cluster) -> Result<Verification, String> {
    let file = &cluster.certificate_authority;
    let ca = data(&cluster.certificate_authority_data, file);
    let ca = ca.map_err(|e| format!("certificate-authority: {e}"))?;
    match (cluster.insecure_skip_tls_verify, ca.is_empty()) {
        (true, true) => Ok(Verification::Nobody),
        (true, false) => {
            Err("specifying a root certificates file with the insecure flag is not allowed".into())
        }
        (false, _) => Ok(Verification::of_bundle(&ca)),
    }
}

fn identity(user: &User) -> Result<Option<Identity>, String> {
    let cert = data(&user.client_certificate_data, &user.client_certificate);
    let cert = cert.map_err(|e| format!("client-certificate: {e}"))?;
    let key = data(&user.client_key_data, &user.client_key);
    let key = key.map_err(|e| format!("client-key: {e}"))?;
    if cert.is_empty() && key.is_empty() {
        return Ok(None);
    }
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&cert).collect();
    let chain = chain.map_err(|e| format!("client-certificate: {e}"))?;
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|e| format!("client-key: {e}"))?;
    Ok(Some((chain, key)))
}

fn authorization(user: &User) -> Result<Option<HeaderValue>, String> {
    if !user.token.is_empty() {
        return secret("Bearer", &user.token).map(Some);
    }
    if user.username.is_empty() {
        return Ok(None);
    }
    let both = ByteString(format!("{}:{}", user.username, user.password).into_bytes());
    let both = serde_json::to_value(both).map_err(|e| e.to_string())?;
    secret("Basic", both.as_str().unwrap_or_default()).map(Some)
}

fn secret(scheme: &str, value: &str) -> Result<HeaderValue, String> {
    let made = HeaderValue::from_str(&format!("{scheme} {value}"));
    let mut made = made.map_err(|_| "the credentials are no header".to_string())?;
    made.set_sensitive(true);
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_kubeconfig_may_not_ask_for_is_named() {
        let open = |cluster: &str, user: &str| {
            let text = format!(
                "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts:\n- name: c\n  context: {{cluster: k, user: u}}\nclusters:\n- name: k\n  cluster: {{{cluster}}}\nusers:\n- name: u\n  user: {{{user}}}\n"
            );
            let file: Kubeconfig = serde_saphyr::from_str(&text).expect("a file");
            AuditWebhook::new(&file)
        };
        let good = open("server: 'https://audit:8443/k8s'", "token: t").expect("a server");
        assert_eq!(good.url, "https://audit:8443/k8s?timeout=30s");
        assert!(good.authorization.is_some_and(|a| a.is_sensitive()));
        for (cluster, user, why) in [
            ("server: 'http://audit'", "", "must use https"),
            ("server: 'https://a', proxy-url: p", "", "proxy-url"),
            ("server: 'https://a'", "exec: {command: x}", "exec"),
            (
                "server: 'https://a', certificate-authority-data: '?'",
                "",
                "certificate-authority",
            ),
        ] {
            let error = open(cluster, user).err().expect("a mistake");
            assert!(error.contains(why), "{cluster} {user}: {error}");
        }
    }
}
