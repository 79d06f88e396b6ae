//! The authorizers of an AuthorizationConfiguration, which may be replaced while requests are decided.
//! Upstream: pkg/kubeapiserver/authorizer/reload.go.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use machinery::request::{Attributes, Authorizer, Decision, User};
use machinery::series::Registry;
use parking_lot::RwLock;
use serde_json::Value;

use crate::Authorizers;
use crate::Link;
use crate::config::AuthorizationConfiguration;
use crate::config::authorization::validate;
use crate::masters::Masters;
use crate::webhook_authorizer::Webhook;

/// What stays whatever the configuration is.
pub struct Lasting {
    pub node: Arc<dyn Authorizer>,
    pub rbac: Arc<dyn Authorizer>,
    pub metrics: Arc<Registry>,
}

/// Who decides now.
pub struct Chain {
    lasting: Lasting,
    /// Types that every configuration must have, as the first one has them.
    required: Vec<String>,
    current: RwLock<Arc<Authorizers>>,
}

// === Chain ===

impl Chain {
    /// The authorizers of a first configuration.
    pub fn new(config: &AuthorizationConfiguration, lasting: Lasting) -> Result<Self, String> {
        validate(config, &[])?;
        let types = config.authorizers.iter().map(|a| a.kind.clone());
        let required: BTreeSet<String> = types.filter(|t| t != "Webhook").collect();
        let current = RwLock::new(Arc::new(made(config, &lasting, None)?));
        Ok(Self {
            lasting,
            required: required.into_iter().collect(),
            current,
        })
    }

    /// Takes over another configuration, or nothing of it.
    pub fn replace(&self, config: &AuthorizationConfiguration) -> Result<(), String> {
        validate(config, &self.required)?;
        let new = made(config, &self.lasting, Some(&self.required))?;
        *self.current.write() = Arc::new(new);
        Ok(())
    }

    fn now(&self) -> Arc<Authorizers> {
        self.current.read().clone()
    }
}

fn made(
    config: &AuthorizationConfiguration,
    lasting: &Lasting,
    started: Option<&[String]>,
) -> Result<Authorizers, String> {
    // Upstream: the privileged group comes first and is in no configuration.
    let mut links = vec![Link::uncounted(Arc::new(Masters))];
    for a in &config.authorizers {
        let kind = a.kind.as_str();
        if kind != "Webhook" && started.is_some_and(|s| !s.contains(&a.kind)) {
            return Err(format!(
                "authorizer type {kind} is not allowed if it was not enabled at initial server startup"
            ));
        }
        let authorizer: Arc<dyn Authorizer> = match (kind, &a.webhook) {
            ("Node", _) => lasting.node.clone(),
            ("RBAC", _) => lasting.rbac.clone(),
            ("Webhook", Some(w)) => Arc::new(Webhook::open(&a.name, w, lasting.metrics.clone())?),
            _ => return Err(format!("unknown authorization mode {kind} specified")),
        };
        links.push(Link::new(kind, &a.name, authorizer, &lasting.metrics));
    }
    Ok(Authorizers(links))
}

#[async_trait]
impl Authorizer for Chain {
    fn name(&self) -> &'static str {
        "union"
    }

    async fn authorize(&self, a: &Attributes) -> Decision {
        self.now().authorize(a).await
    }

    async fn rules(&self, user: &User, namespace: &str) -> (Vec<Value>, Vec<Value>, bool) {
        self.now().rules(user, namespace).await
    }

    fn rules_problem(&self, user: &User) -> Option<String> {
        self.now().rules_problem(user)
    }
}
