//! `create poddisruptionbudget`.

use clap::Args;
use serde_json::{Value, json};

use super::{Common, head};
use crate::error::{Error, Result};

#[derive(Clone, Debug, Args)]
pub struct Budget {
    name: String,
    /// A label selector to use for this budget
    #[arg(long)]
    selector: Option<String>,
    /// The minimum number or percentage of available pods this budget requires
    #[arg(long)]
    min_available: Option<String>,
    /// The maximum number or percentage of unavailable pods this budget requires
    #[arg(long)]
    max_unavailable: Option<String>,
    #[command(flatten)]
    common: Common,
}

impl Budget {
    pub fn object(self) -> Result<(Common, Value)> {
        let selector = self.selector.filter(|s| !s.is_empty());
        let selector = selector.ok_or_else(|| Error::text("a selector must be specified"))?;
        let (field, amount) = match (self.min_available, self.max_unavailable) {
            (Some(amount), None) => ("minAvailable", amount),
            (None, Some(amount)) => ("maxUnavailable", amount),
            (None, None) => {
                return Err(Error::text(
                    "one of min-available or max-unavailable must be specified",
                ));
            }
            _ => {
                return Err(Error::text(
                    "min-available and max-unavailable cannot be both specified",
                ));
            }
        };
        let mut labels = json!({});
        for pair in selector.split(',') {
            let Some((key, value)) = pair.split_once('=') else {
                return Err(Error::text(format!("selector {pair} is not KEY=VALUE")));
            };
            labels[key] = value.trim_start_matches('=').into();
        }
        let mut made = head("policy/v1", "PodDisruptionBudget", &self.name);
        made["spec"] = json!({"selector": {"matchLabels": labels}});
        made["spec"][field] = match amount.parse::<i64>() {
            Ok(number) => number.into(),
            Err(_) => amount.into(),
        };
        made["status"] = json!({"currentHealthy": 0, "desiredHealthy": 0,
            "disruptionsAllowed": 0, "expectedPods": 0});
        Ok((self.common, made))
    }
}
