//! The same issuer and webhooks by the flags of old: `--oidc-*`, `--authentication-token-webhook-*`,
//! `--authorization-webhook-*`; and events that live as long as `--event-ttl` says.

use anyhow::{Result, ensure};
use http::Method;
use serde_json::{Value, json};

use super::setting::Setting;
use super::{Clients, refusal, until_async, whoami};
use crate::cluster::Cluster;
use crate::rest::Cx;

/// Runs a node with these flags.
pub fn run(runtime: &tokio::runtime::Runtime) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let setting = runtime.block_on(Setting::new(dir.path()))?;
    let mut cluster = Cluster::launch_configured(dir, "{}", &setting.old_flags())?;
    cluster.wait_ready()?;
    runtime.block_on(async {
        let clients = Clients::new(&cluster)?;
        users(&clients, &setting).await?;
        decisions(&clients, &setting).await?;
        events(&clients.admin()?).await
    })
}

async fn users(clients: &Clients, setting: &Setting) -> Result<()> {
    let jane = clients.bearing(&setting.jane()?).await?;
    // The issuer was looked for when the node started.
    let found = until_async("the issuer's user", async || whoami(&jane).await.ok()).await?;
    let wanted = json!({"username": "flag:jane", "groups": ["team:dev", "system:authenticated"]});
    ensure!(found == wanted, "{found}");
    for more in [json!({"tenant": "others"}), json!({"aud": "others"})] {
        let token = setting.signer.token(&setting.claims(more.clone()))?;
        let failure = refusal(&clients.bearing(&token).await?, "/version").await?;
        ensure!(failure.code == 401, "{more}: {failure:?}");
    }
    let bob = clients.bearing("opaque-bob").await?;
    let found = whoami(&bob).await?;
    ensure!(found["username"] == "webhook:bob", "{found}");
    let asked = setting.reviews("/tokens");
    let versions = asked.iter().map(|r| r["apiVersion"].as_str());
    // The default version is the old one, as upstream.
    let old = versions
        .into_iter()
        .all(|v| v == Some("authentication.k8s.io/v1beta1"));
    ensure!(old && !asked.is_empty(), "{asked:?}");
    Ok(())
}

async fn decisions(clients: &Clients, setting: &Setting) -> Result<()> {
    let jane = clients.bearing(&setting.jane()?).await?;
    jane.get(&jane.core("configmaps")).await?;
    let denied = refusal(&jane, &jane.core("secrets")).await?;
    let why = "secrets is forbidden: User \"flag:jane\" cannot list resource \"secrets\" in API group \"\" in the namespace \"default\"";
    ensure!(
        denied.code == 403 && denied.message.starts_with(why),
        "{denied:?}"
    );
    ensure!(denied.message.ends_with("elsewhere says no"), "{denied:?}");
    let asked = setting.reviews("/authorize");
    let spec = asked.iter().map(|r| (&r["apiVersion"], &r["spec"]));
    let mut janes = spec.filter(|(_, s)| s["user"] == "flag:jane");
    let old = json!("authorization.k8s.io/v1beta1");
    let groups = json!(["team:dev", "system:authenticated"]);
    ensure!(
        janes.any(|(version, s)| *version == old && s["group"] == groups),
        "{asked:?}"
    );
    // The node and the cluster's own users are told of by nobody elsewhere: Node and RBAC come first.
    let own = |r: &&Value| r["spec"]["user"] == "kubernetes-admin";
    ensure!(asked.iter().find(own).is_none(), "{asked:?}");
    Ok(())
}

async fn events(admin: &Cx) -> Result<()> {
    let event = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "short"},
        "involvedObject": {"namespace": "default"}});
    let path = admin.core("events");
    admin.ok(Method::POST, &path, &event).await?;
    let one = admin.core("events/short");
    let gone = async || refusal(admin, &one).await.ok().filter(|f| f.code == 404);
    until_async("the end of an event", gone).await.map(drop)
}
