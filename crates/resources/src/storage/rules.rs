//! What the storage kinds share. Upstream: pkg/apis/storage/validation.

use api::names;
use api::quantity::Quantity;
use machinery::Causes;
use machinery::object::{at, map_at, str_at};
use serde_json::{Value, json};

use crate::fields;

/// Most parameters of a class, and their bytes in all.
const PARAMETERS_MAX: usize = 512;
const PARAMETERS_BYTES_MAX: usize = 256 << 10;
/// Longest name of a CSI driver.
pub const DRIVER_MAX: usize = 63;

/// The name of a provisioner or driver: a qualified name, compared and shown in lower case.
pub fn provisioner(obj: &Value, field: &str, c: &mut Causes) {
    let name = str_at(obj, field).to_lowercase();
    c.at(field, |c| {
        if name.is_empty() {
            c.required("");
        } else {
            fields::text(&name, names::qualified_name, c);
        }
    });
}

/// `parameters` of a class; `needed` asks for at least one.
pub fn parameters(obj: &Value, needed: bool, c: &mut Causes) {
    let map = map_at(obj, "parameters");
    let count = map.map_or(0, serde_json::Map::len);
    c.at("parameters", |c| {
        if needed && count == 0 {
            return c.required("must contain at least one key/value pair");
        }
        if count > PARAMETERS_MAX {
            return c.too_long(PARAMETERS_MAX);
        }
        let mut bytes = 0;
        for (key, value) in map.into_iter().flatten() {
            if key.is_empty() {
                c.invalid(&json!(key), "field can not be empty.");
            }
            bytes += key.len() + value.as_str().map_or(0, str::len);
        }
        if bytes > PARAMETERS_BYTES_MAX {
            c.too_long(PARAMETERS_BYTES_MAX);
        }
    });
}

/// The name of a CSI driver in a field.
pub fn driver(obj: &Value, field: &str, c: &mut Causes) {
    let name = str_at(obj, field);
    c.at(field, |c| {
        if name.is_empty() {
            return c.required("");
        }
        if name.len() > DRIVER_MAX {
            c.too_long(DRIVER_MAX);
        }
        for problem in names::dns1123_subdomain(&name.to_lowercase()) {
            c.invalid(&json!(name), problem);
        }
    });
}

/// A quantity that, where it is, may not be negative.
pub fn quantity(obj: &Value, field: &str, c: &mut Causes) {
    let Some(value) = at(obj, field) else { return };
    let text = value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_string);
    c.at(field, |c| match Quantity::parse(&text) {
        Ok(q) if q.sign() < 0 => c.invalid(&json!(text), fields::NON_NEGATIVE),
        Ok(_) => {}
        Err(e) => c.invalid(&json!(text), e.to_string()),
    });
}
