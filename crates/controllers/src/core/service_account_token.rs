//! Secrets of type `kubernetes.io/service-account-token` get the token of the account they name, and go with it.
//! Upstream: pkg/controller/serviceaccount/tokens_controller.go. No Secret is made here.

use std::sync::Arc;

use api::core::v1::{Secret, ServiceAccount};
use api::k8s_openapi::ByteString;
use async_trait::async_trait;
use client::Client;
use client::api::DeleteParams;
use pki::{LegacyClaims, TokenSigner};
use reconciler::{During, Error, Event, Key, Next, Reconcile, Reconciler, Trigger, Wake};

use crate::common::act;
use crate::common::object::Object;
use crate::context::Facts;
use crate::{Controller, Setup};

pub static CONTROLLER: Controller = Controller {
    name: "serviceaccount-token-controller",
    // Upstream: with the rights of kube-controller-manager itself.
    account: "",
    component: "serviceaccount-token-controller",
    needs: &[("", "secrets"), ("", "serviceaccounts")],
    build,
};

const TYPE: &str = "kubernetes.io/service-account-token";
const NAME: &str = "kubernetes.io/service-account.name";
const UID: &str = "kubernetes.io/service-account.uid";
const RETRIES: u32 = 10;
/// Parts the account from the Secret in the key of a Secret that is gone.
const GONE: char = ':';

fn build(setup: &Setup) -> Result<Reconciler, Error> {
    let signer = setup.signing.tokens.clone();
    let signer = signer.ok_or_else(|| Error::Other("there is no key for tokens".into()))?;
    let this = Tokens {
        client: setup.client.clone(),
        facts: setup.facts.clone(),
        signer,
    };
    let reads = setup.client.clone();
    Ok(Reconciler::new("serviceaccount-token-controller", 5, this)
        .retries(RETRIES)
        .on(Trigger::map("", "secrets", secret_keys))
        .on(Trigger::map("", "serviceaccounts", move |e| {
            account_keys(&reads, e)
        })))
}

struct Tokens {
    client: Client,
    facts: Arc<Facts>,
    signer: Arc<TokenSigner>,
}

fn is_token(secret: &Secret) -> bool {
    secret.type_.as_deref() == Some(TYPE)
}

fn secret_keys(e: &Event<'_>) -> Vec<Wake> {
    let Some(secret) = e.typed::<Secret>().filter(|s| is_token(s)) else {
        return Vec::new();
    };
    if !e.deleted() {
        return vec![Key::of(e.entry).into()];
    }
    let name = format!("{}{GONE}{}", secret.annotation(NAME), secret.name());
    vec![Key::new(&e.entry.namespace, &name).into()]
}

/// An account that goes takes its Secrets along; one that comes may be waited for.
fn account_keys(client: &Client, e: &Event<'_>) -> Vec<Wake> {
    if !e.deleted() {
        return Vec::new();
    }
    let Ok(secrets) = client.lister::<Secret>() else {
        return Vec::new();
    };
    let all = secrets.list(Some(&e.entry.namespace));
    let own = all
        .iter()
        .filter(|s| is_token(s) && s.annotation(NAME) == &*e.entry.name);
    own.map(|s| Key::new(s.namespace(), s.name()).into())
        .collect()
}

/// What is missing in a Secret: the CA, the namespace, the token.
fn missing(secret: &Secret, root_ca: &str) -> [bool; 3] {
    let data = |key: &str| {
        let found = secret.data.as_ref().and_then(|d| d.get(key));
        found.map(|b| b.0.as_slice()).unwrap_or_default()
    };
    [
        !root_ca.is_empty() && data("ca.crt") != root_ca.as_bytes(),
        data("namespace").is_empty(),
        data("token").is_empty(),
    ]
}

#[async_trait]
impl Reconcile for Tokens {
    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        if let Some((account, secret)) = key.name.split_once(GONE) {
            self.forget(&key.namespace, account, secret).await?;
            return Ok(Next::Done);
        }
        let found = self.client.lister::<Secret>()?;
        let found = found.get(&key.namespace, &key.name);
        let Some(secret) = found.filter(|s| is_token(s)) else {
            return Ok(Next::Done);
        };
        match self.account(&secret).await? {
            None => self.delete(&secret).await?,
            Some(account) => self.fill(&secret, &account).await?,
        }
        Ok(Next::Done)
    }
}

impl Tokens {
    /// The account that a Secret names, asked for anew where the cache has none.
    async fn account(&self, secret: &Secret) -> Result<Option<ServiceAccount>, Error> {
        let (name, uid) = (secret.annotation(NAME), secret.annotation(UID));
        let same = |a: &ServiceAccount| uid.is_empty() || uid == a.uid();
        let cached = self.client.lister::<ServiceAccount>()?;
        let cached = cached.get(secret.namespace(), name);
        if let Some(account) = cached.filter(|a| same(a)) {
            return Ok(Some((*account).clone()));
        }
        if name.is_empty() {
            return Ok(None);
        }
        let api = self.client.namespaced::<ServiceAccount>(secret.namespace());
        let live = api.get_opt(name).await.during("get the service account")?;
        Ok(live.filter(same))
    }

    async fn delete(&self, secret: &Secret) -> Result<(), Error> {
        let params = DeleteParams {
            preconditions: client::only_uid(secret.uid()),
            ..DeleteParams::default()
        };
        let (namespace, name) = (secret.namespace(), secret.name());
        match act::delete::<Secret>(&self.client, namespace, name, &params).await {
            Err(e) if client::is_conflict(&e) => Ok(()),
            done => done.during("delete the token"),
        }
    }

    async fn fill(&self, cached: &Secret, account: &ServiceAccount) -> Result<(), Error> {
        if missing(cached, &self.facts.root_ca) == [false; 3] {
            return Ok(());
        }
        let mut secret = cached.clone();
        let [ca, namespace, token] = missing(&secret, &self.facts.root_ca);
        let own = secret.namespace().to_string();
        let claims = LegacyClaims {
            namespace: own.clone(),
            secret: secret.name().into(),
            account: account.name().into(),
            uid: account.uid().into(),
            ..LegacyClaims::default()
        };
        let data = secret.data.get_or_insert_default();
        let mut put = |key: &str, text: String| {
            data.insert(key.into(), ByteString(text.into_bytes()));
        };
        if ca {
            put("ca.crt", self.facts.root_ca.clone());
        }
        if namespace {
            put("namespace", own);
        }
        if token {
            let token = self.signer.sign_legacy(&claims);
            put("token", token.map_err(|e| Error::Other(e.to_string()))?);
        }
        let annotations = secret.metadata.annotations.get_or_insert_default();
        annotations.insert(NAME.into(), account.name().into());
        annotations.insert(UID.into(), account.uid().into());
        match act::update(&self.client, &secret).await {
            // Whoever changed it wakes this again.
            Err(e) if client::is_conflict(&e) || client::is_not_found(&e) => Ok(()),
            done => done.during("fill the token").map(|_| ()),
        }
    }

    /// Takes a Secret that is gone off its account.
    async fn forget(&self, namespace: &str, account: &str, secret: &str) -> Result<(), Error> {
        let found = self.client.lister::<ServiceAccount>()?;
        let Some(found) = found.get(namespace, account) else {
            return Ok(());
        };
        let named = |s: &api::core::v1::ObjectReference| s.name.as_deref() == Some(secret);
        if !found.secrets.iter().flatten().any(named) {
            return Ok(());
        }
        let mut new = (*found).clone();
        new.secrets.get_or_insert_default().retain(|s| !named(s));
        match act::update(&self.client, &new).await {
            Err(e) if client::is_not_found(&e) => Ok(()),
            done => done.during("take the token off its account").map(|_| ()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_is_missing_or_old_is_written() {
        let secret = |data: serde_json::Value| -> Secret {
            serde_json::from_value(json!({"metadata": {"name": "s"}, "type": TYPE, "data": data}))
                .unwrap()
        };
        assert_eq!(missing(&secret(json!({})), "CA"), [true, true, true]);
        let full = secret(json!({"ca.crt": "Q0E=", "namespace": "bg==", "token": "dA=="}));
        assert_eq!(missing(&full, "CA"), [false; 3]);
        assert_eq!(missing(&full, "new"), [true, false, false]);
    }
}
