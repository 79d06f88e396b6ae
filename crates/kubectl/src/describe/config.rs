//! Config maps, secrets, service accounts.

use base64::Engine;
use serde_json::Value;

use super::lines::Lines;
use super::{Describer, Seen};
use crate::object;

pub const CONFIG_MAP: Describer = Describer::of("", "ConfigMap", config_map);
pub const SECRET: Describer = Describer::of("", "Secret", secret).without_events();
pub const SERVICE_ACCOUNT: Describer = Describer::of("", "ServiceAccount", service_account);

fn bytes(text: &str) -> Vec<u8> {
    let decoded = base64::engine::general_purpose::STANDARD.decode(text);
    decoded.unwrap_or_default()
}

fn config_map(seen: &Seen<'_>, w: &mut Lines) {
    seen.head(w);
    seen.marks(w);
    w.raw("\nData\n====\n");
    for (key, value) in object::pairs(&seen.object["data"]) {
        w.raw(&format!("{key}:\n----\n{value}\n\n"));
    }
    w.raw("\nBinaryData\n====\n");
    for (key, value) in object::pairs(&seen.object["binaryData"]) {
        w.raw(&format!("{key}: {} bytes\n", bytes(&value).len()));
    }
    w.raw("\n");
}

fn secret(seen: &Seen<'_>, w: &mut Lines) {
    let kind = object::text(seen.object, "/type");
    seen.head(w);
    seen.marks(w);
    w.raw(&format!("\nType:\t{kind}\n\nData\n====\n"));
    for (key, value) in object::pairs(&seen.object["data"]) {
        let value = bytes(&value);
        let is_token = key == "token" && kind == "kubernetes.io/service-account-token";
        let text = match is_token {
            true => String::from_utf8_lossy(&value).into_owned(),
            false => format!("{} bytes", value.len()),
        };
        w.put(0, format!("{key}:\t{text}"));
    }
}

fn service_account(seen: &Seen<'_>, w: &mut Lines) {
    seen.head(w);
    seen.marks(w);
    let secrets: Vec<&Value> = object::items(seen.object, "/imagePullSecrets")
        .iter()
        .collect();
    if secrets.is_empty() {
        w.put(0, "Image pull secrets:\t<none>");
    }
    for (i, secret) in secrets.into_iter().enumerate() {
        let before = if i == 0 {
            "Image pull secrets:"
        } else {
            "                   "
        };
        w.put(0, format!("{before}\t{}", object::text(secret, "/name")));
    }
}
