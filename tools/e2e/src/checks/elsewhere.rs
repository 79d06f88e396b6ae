//! Users, decisions, audit events, keys and spans that servers elsewhere deal with: an OIDC issuer, a token review, an
//! authorization webhook, an audit webhook, a KMS v2 plug-in and an OTLP collector. What hangs there, garbles or sends
//! without end harms nobody else, and does not bloat the node.

mod flags;
mod setting;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use http::Method;
use kube::config::Kubeconfig;
use serde_json::{Value, json};

use super::{Outcome, until_async};
use crate::cluster::Cluster;
use crate::outsiders::Manner;
use crate::rest::{Cx, Failure};
use setting::{Setting, Signer};

/// What the node may take more of memory, in KiB, while servers send without end.
const BLOAT_KIB: u64 = 64 << 10;
/// How long a request may take that waits for nobody elsewhere. Upstream's time for webhooks is 30 s.
const SOON: Duration = Duration::from_secs(10);
const REVIEW: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
const JSON: &str = "application/json";

pub fn run() -> Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let dir = tempfile::tempdir()?;
    let setting = runtime.block_on(Setting::new(dir.path()))?;
    let mut cluster = Cluster::launch_configured(dir, "{}", &setting.flags())?;
    cluster.wait_ready()?;
    runtime.block_on(async {
        let clients = Clients::new(&cluster)?;
        let admin = clients.admin()?;
        users(&clients, &setting).await?;
        decisions(&clients, &setting).await?;
        keys(&admin, &cluster).await?;
        told(&admin, &setting).await?;
        let bad = Bad {
            clients: &clients,
            setting: &setting,
            cluster: &cluster,
        };
        for manner in [Manner::Hang, Manner::Garble, Manner::Flood] {
            let done = bad.bear(manner).await;
            done.with_context(|| format!("all servers elsewhere: {manner:?}"))?;
        }
        bad.recover().await?;
        reload(&clients, &setting).await
    })?;
    drop(cluster);
    flags::run(&runtime).context("by flags")?;
    Ok(Outcome::Passed)
}

/// Clients with the credentials of various users.
struct Clients(Kubeconfig);

impl Clients {
    fn new(cluster: &Cluster) -> Result<Self> {
        Ok(Self(Kubeconfig::read_from(cluster.kubeconfig())?))
    }

    fn made(config: kube::Config) -> Result<Cx> {
        Ok(Cx::within(kube::Client::try_from(config)?, "default"))
    }

    async fn config(&self) -> Result<kube::Config> {
        Ok(kube::Config::from_custom_kubeconfig(self.0.clone(), &Default::default()).await?)
    }

    fn admin(&self) -> Result<Cx> {
        Self::made(futures::executor::block_on(self.config())?)
    }

    /// Whoever a token is of.
    async fn bearing(&self, token: &str) -> Result<Cx> {
        let mut config = self.config().await?;
        config.auth_info = serde_json::from_value(json!({"token": token}))?;
        Self::made(config)
    }
}

/// Who the server takes us for.
async fn whoami(cx: &Cx) -> Result<Value> {
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let mut answer = cx.ok(Method::POST, REVIEW, &review).await?;
    Ok(answer["status"]["userInfo"].take())
}

async fn refusal(cx: &Cx, path: &str) -> Result<Failure> {
    match cx.send(Method::GET, path, JSON, None).await? {
        Ok(found) => anyhow::bail!("GET {path}: {found}"),
        Err(failure) => Ok(failure),
    }
}

/// Tokens of the issuer, and those that a webhook knows.
async fn users(clients: &Clients, setting: &Setting) -> Result<()> {
    let jane = clients.bearing(&setting.jane()?).await?;
    // The issuer was looked for when the node started.
    let found = until_async("the issuer's user", async || whoami(&jane).await.ok()).await?;
    let wanted = json!({"username": "oidc:jane", "groups": ["dev", "system:authenticated"],
        "extra": {"example.com/tenant": ["acme"]}});
    ensure!(found == wanted, "{found}");
    let bob = clients.bearing("opaque-bob").await?;
    let found = whoami(&bob).await?;
    let wanted =
        json!({"username": "webhook:bob", "uid": "42", "groups": ["ops", "system:authenticated"]});
    ensure!(found == wanted, "{found}");
    let claims = |more: Value| setting.claims(more);
    for (what, token) in [
        ("unknown to all", "opaque-eve".to_string()),
        ("expired", setting.signer.token(&claims(json!({"exp": 1})))?),
        (
            "for others",
            setting.signer.token(&claims(json!({"aud": "others"})))?,
        ),
        (
            "of a tenant that is refused",
            setting.signer.token(&claims(json!({"tenant": "banned"})))?,
        ),
        (
            "of a reserved name",
            setting.signer.token(&claims(json!({"sub": "root"})))?,
        ),
        (
            "forged",
            Signer::new(&setting.signer.kid)?.token(&claims(json!({})))?,
        ),
    ] {
        let failure = refusal(&clients.bearing(&token).await?, "/version").await?;
        ensure!(failure.code == 401, "a token {what}: {failure:?}");
        ensure!(failure.message == "Unauthorized", "{what}: {failure:?}");
    }
    // The same through the API.
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
        "spec": {"token": setting.jane()?}});
    let path = "/apis/authentication.k8s.io/v1/tokenreviews";
    let review = clients.admin()?.ok(Method::POST, path, &review).await?;
    let status = &review["status"];
    ensure!(status["authenticated"] == true, "{status}");
    ensure!(status["user"]["username"] == "oidc:jane", "{status}");
    Ok(())
}

/// What the webhook allows and denies, and what it is asked about.
async fn decisions(clients: &Clients, setting: &Setting) -> Result<()> {
    let jane = clients.bearing(&setting.jane()?).await?;
    jane.get(&jane.core("configmaps?fieldSelector=metadata.name%3Da&labelSelector=x+in+(y)"))
        .await?;
    let denied = refusal(&jane, &jane.core("secrets")).await?;
    let forbidden = |name: &str, what: &str| {
        format!(
            "{what} is forbidden: User \"{name}\" cannot list resource \"{what}\" in API group \"\" in the namespace \"default\""
        )
    };
    let wanted = format!("{}: elsewhere says no", forbidden("oidc:jane", "secrets"));
    ensure!(
        (denied.code, &denied.message) == (403, &wanted),
        "{denied:?}"
    );
    let denied = refusal(&jane, &jane.core("pods")).await?;
    let wanted = format!(
        "{}: elsewhere: nothing to say",
        forbidden("oidc:jane", "pods")
    );
    ensure!(
        (denied.code, &denied.message) == (403, &wanted),
        "{denied:?}"
    );
    // No condition matches others.
    let bob = clients.bearing("opaque-bob").await?;
    let denied = refusal(&bob, &bob.core("pods")).await?;
    ensure!(
        denied.message == forbidden("webhook:bob", "pods"),
        "{denied:?}"
    );
    let asked = setting.reviews("/authorize");
    ensure!(
        asked.iter().all(|r| r["spec"]["user"] == "oidc:jane"),
        "{asked:?}"
    );
    let list = asked
        .iter()
        .map(|r| &r["spec"])
        .find(|s| s["resourceAttributes"]["resource"] == "configmaps");
    let wanted = json!({"user": "oidc:jane", "groups": ["dev", "system:authenticated"],
        "extra": {"example.com/tenant": ["acme"]},
        "resourceAttributes": {"namespace": "default", "verb": "list", "version": "v1", "resource": "configmaps",
            "name": "a",
            "fieldSelector": {"requirements": [{"key": "metadata.name", "operator": "In", "values": ["a"]}]},
            "labelSelector": {"requirements": [{"key": "x", "operator": "In", "values": ["y"]}]}}});
    ensure!(list == Some(&wanted), "asked {list:?}");
    Ok(())
}

/// Secrets lie in the store as the plug-in's keys seal them.
async fn keys(admin: &Cx, cluster: &Cluster) -> Result<()> {
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "sealed"},
        "stringData": {"word": "xyzzy-plugh"}});
    admin
        .ok(Method::POST, &admin.core("secrets"), &secret)
        .await?;
    let found = admin.get(&admin.core("secrets/sealed")).await?;
    ensure!(found["data"]["word"] == "eHl6enktcGx1Z2g=", "{found}");
    let health = kube_text(admin, "/readyz?verbose").await?;
    ensure!(health.contains("[+]kms-providers ok"), "{health}");
    let (mut sealed, mut open) = (false, false);
    let contains = |text: &[u8], part: &[u8]| text.windows(part.len()).any(|w| w == part);
    for file in walk(&cluster.data_dir().join("db"))? {
        let text = std::fs::read(file)?;
        sealed |= contains(&text, b"k8s:enc:kms:v2:guard:");
        open |= contains(&text, b"eHl6enktcGx1Z2g");
    }
    ensure!(
        sealed && !open,
        "in the store: sealed {sealed}, open {open}"
    );
    Ok(())
}

fn walk(dir: &std::path::Path) -> Result<Vec<std::path::PathBuf>> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => out.extend(walk(&entry.path())?),
            false => out.push(entry.path()),
        }
    }
    Ok(out)
}

async fn kube_text(cx: &Cx, path: &str) -> Result<String> {
    let request = http::Request::get(path).body(Vec::new())?;
    Ok(cx.client.request_text(request).await?)
}

/// Audit events, spans and metrics of what was done until now.
async fn told(admin: &Cx, setting: &Setting) -> Result<()> {
    let jane = |e: &Value, resource: &str| {
        e["user"]["username"] == "oidc:jane" && e["objectRef"]["resource"] == resource
    };
    for (resource, decision, reason) in [
        ("configmaps", "allow", "elsewhere agrees"),
        ("secrets", "forbid", "elsewhere says no"),
    ] {
        let event = until_async("an audit event", async || {
            let events = setting.events();
            events.into_iter().find(|e| jane(e, resource))
        });
        let event = event.await?;
        let notes = [
            ("authorization.k8s.io/decision", decision),
            ("authorization.k8s.io/reason", reason),
        ];
        for (key, value) in notes {
            ensure!(event["annotations"][key] == value, "{event}");
        }
    }
    for part in ["etcdserverpb.KV", "apiserver"] {
        let there = async || setting.traced(part).then_some(());
        until_async(&format!("a span with {part}"), there).await?;
    }
    let metrics = kube_text(admin, "/metrics").await?;
    for line in [
        "apiserver_authorization_webhook_evaluations_total{name=\"elsewhere\",result=\"success\"}",
        "apiserver_authorization_decisions_total{type=\"Webhook\",name=\"elsewhere\",decision=\"denied\"}",
        "apiserver_authentication_jwt_authenticator_latency_seconds_count{result=\"success\",",
        "apiserver_authentication_config_controller_last_config_info{",
        "apiserver_authorization_config_controller_last_config_info{",
        "apiserver_encryption_config_controller_last_config_info{",
        "apiserver_envelope_encryption_key_id_hash_status_last_timestamp_seconds{",
        "apiserver_envelope_encryption_kms_operations_latency_seconds_count{",
        "apiserver_audit_event_total ",
    ] {
        ensure!(metrics.contains(&format!("\n{line}")), "no metric {line}");
    }
    Ok(())
}

/// The servers elsewhere misbehave.
struct Bad<'a> {
    clients: &'a Clients,
    setting: &'a Setting,
    cluster: &'a Cluster,
}

impl Bad<'_> {
    /// The cluster's own users notice nothing; those of elsewhere are refused.
    async fn bear(&self, manner: Manner) -> Result<()> {
        let admin = self.clients.admin()?;
        let before = resident(self.cluster.pid())?;
        self.setting.outsiders.behave(manner);
        // Each of them leads to questions elsewhere, which may not be answered until the manner changes.
        let mut waiting = tokio::task::JoinSet::new();
        for n in 0..8 {
            let unknown = Signer::new(&format!("unknown-{manner:?}-{n}"))?;
            let token = unknown.token(&self.setting.claims(json!({})))?;
            for token in [token, format!("opaque-{manner:?}-{n}")] {
                let cx = self.clients.bearing(&token).await?;
                waiting.spawn(async move { refusal(&cx, "/version").await });
            }
        }
        let jane = self.clients.bearing(&self.setting.jane()?).await?;
        let path = jane.core(&format!("configmaps?labelSelector=manner%3D{manner:?}"));
        waiting.spawn(async move { refusal(&jane, &path).await });
        let served = tokio::time::timeout(SOON, self.serve(&admin, manner));
        served.await.context("the cluster's own users wait")??;
        if manner == Manner::Hang {
            self.setting.outsiders.behave(Manner::Good);
        }
        let mut refused = BTreeMap::new();
        while let Some(failure) = waiting.join_next().await {
            *refused.entry(failure??.code).or_insert(0) += 1;
        }
        // A webhook that fails is an error, as upstream.
        ensure!(
            refused == BTreeMap::from([(401, 16), (500, 1)]),
            "refused: {refused:?}"
        );
        let after = resident(self.cluster.pid())?;
        ensure!(
            after < before + BLOAT_KIB,
            "resident: {before} KiB before, {after} KiB after"
        );
        Ok(())
    }

    async fn serve(&self, admin: &Cx, manner: Manner) -> Result<()> {
        for n in 0..10 {
            let name = format!("{manner:?}-{n}").to_lowercase();
            for (kind, plural) in [("Secret", "secrets"), ("ConfigMap", "configmaps")] {
                let object = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}});
                admin.ok(Method::POST, &admin.core(plural), &object).await?;
                admin.get(&admin.core(&format!("{plural}/{name}"))).await?;
            }
        }
        admin.get("/api/v1/secrets").await?;
        kube_text(admin, "/livez").await.map(drop)
    }

    /// All is as before once they behave.
    async fn recover(&self) -> Result<()> {
        self.setting.outsiders.behave(Manner::Good);
        let jane = self.clients.bearing(&self.setting.jane()?).await?;
        jane.get(&jane.core("configmaps?labelSelector=again"))
            .await?;
        let again = |e: &Value| {
            let uri = e["requestURI"].as_str().unwrap_or_default();
            uri.ends_with("labelSelector=again")
        };
        let there = async || self.setting.events().iter().any(again).then_some(());
        until_async("audit events come again", there).await
    }
}

/// KiB that a process holds.
fn resident(pid: u32) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let kib = line.and_then(|l| l.trim().strip_suffix(" kB"));
    Ok(kib.context("VmRSS")?.trim().parse()?)
}

/// Another text of a configuration file is taken over; one that is wrong is not.
async fn reload(clients: &Clients, setting: &Setting) -> Result<()> {
    let jane = clients.bearing(&setting.jane()?).await?;
    setting.write_authentication("new:")?;
    let renamed = async || {
        whoami(&jane)
            .await
            .ok()
            .filter(|u| u["username"] == "new:jane")
    };
    until_async("the issuer's users have new names", renamed).await?;
    setting.write_authorization("false")?;
    let bypassed = async || {
        let failure = refusal(&jane, &jane.core("configmaps")).await.ok()?;
        (failure.code == 403).then_some(())
    };
    until_async("the webhook is not asked any more", bypassed).await?;
    std::fs::write(setting.authentication(), "kind: Nonsense")?;
    let failed =
        "apiserver_authentication_config_controller_automatic_reloads_total{status=\"failure\"";
    let admin = clients.admin()?;
    let refused = async || {
        let metrics = kube_text(&admin, "/metrics").await.ok()?;
        metrics.contains(failed).then_some(())
    };
    until_async("a wrong configuration is refused", refused).await?;
    ensure!(whoami(&jane).await?["username"] == "new:jane");
    Ok(())
}
