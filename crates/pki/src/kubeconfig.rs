//! kubeconfig files as k0s writes them: cluster `local`, context `Default`, user `user`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// How the file's user proves who it is.
pub enum Credential<'a> {
    Certificate { cert_pem: &'a str, key_pem: &'a str },
    Token(&'a str),
}

/// The text of a kubeconfig file.
pub fn render(server: &str, ca_pem: &str, credential: &Credential<'_>) -> String {
    let user = match credential {
        Credential::Certificate { cert_pem, key_pem } => format!(
            "    client-certificate-data: {}\n    client-key-data: {}\n",
            STANDARD.encode(cert_pem),
            STANDARD.encode(key_pem)
        ),
        Credential::Token(token) => format!("    token: {}\n", quoted(token)),
    };
    let ca = STANDARD.encode(ca_pem);
    let server = quoted(server);
    format!(
        "apiVersion: v1\nkind: Config\nclusters:\n- name: local\n  cluster:\n    certificate-authority-data: {ca}\n    server: {server}\n\
         contexts:\n- name: Default\n  context:\n    cluster: local\n    user: user\ncurrent-context: Default\npreferences: {{}}\n\
         users:\n- name: user\n  user:\n{user}"
    )
}

/// A YAML double-quoted scalar; JSON's form is a subset of it.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
