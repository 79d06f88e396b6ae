//! PEM texts of certificates: what blocks they hold and whether those are certificates.

use x509_parser::pem::Pem;

/// The blocks of a text. Text around blocks is passed over, as Go does.
pub fn blocks(text: &str) -> Vec<Pem> {
    Pem::iter_from_buffer(text.as_bytes())
        .map_while(Result::ok)
        .collect()
}

/// Whether a block has headers such as `Proc-Type`.
pub fn headers(text: &str) -> bool {
    text.lines()
        .any(|l| !l.starts_with("-----") && l.contains(": "))
}

/// What is wrong with a text that may hold certificates only, in PEM without headers.
pub fn certificates(text: &str) -> Option<String> {
    let all = blocks(text);
    for block in &all {
        if block.label != "CERTIFICATE" {
            return Some(format!(
                "only CERTIFICATE PEM blocks are allowed, found \"{}\"",
                block.label
            ));
        }
        if headers(text) {
            return Some("no PEM block headers are permitted".into());
        }
        if let Err(e) = block.parse_x509() {
            return Some(format!("x509: malformed certificate: {e}"));
        }
    }
    all.is_empty()
        .then(|| "must contain at least one CERTIFICATE PEM block".into())
}
