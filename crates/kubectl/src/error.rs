//! What a command may end with, in kubectl's words. Upstream: kubectl/pkg/cmd/util/helpers.go.

use std::fmt;

use serde_json::Value;

use crate::discovery::Resource;

/// The result of a command and of its helpers.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a command ends.
#[derive(Debug)]
pub enum Error {
    /// The server answered with a Status; `source` says what was being done, where a file is the input.
    Status {
        status: Box<Value>,
        doing: Option<String>,
    },
    /// A message of ours; `error: ` goes before it.
    Text(String),
    /// A message that is printed as it is.
    Plain(String),
    /// Several, one a line.
    Many(Vec<Error>),
    /// Nothing to print, only the exit code.
    Exit(u8),
    /// A message and the exit code of a remote command.
    Code(String, u8),
}

// === Error ===

impl Error {
    /// A message of ours.
    pub fn text(message: impl Into<String>) -> Self {
        Self::Text(message.into())
    }

    /// An error of the server.
    pub fn status(status: Value) -> Self {
        Self::Status {
            status: Box::new(status),
            doing: None,
        }
    }

    /// One error as it is, several as `Many`, none as success.
    pub fn collect(mut errors: Vec<Self>) -> Result<()> {
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Err(Self::Many(errors)),
        }
    }

    /// The reason the server gave.
    pub fn reason(&self) -> &str {
        match self {
            Self::Status { status, .. } => status["reason"].as_str().unwrap_or_default(),
            _ => "",
        }
    }

    /// Whether the server says that the object is not there.
    pub fn is_not_found(&self) -> bool {
        self.reason() == "NotFound"
    }

    /// Whether the object changed meanwhile.
    pub fn is_conflict(&self) -> bool {
        self.reason() == "Conflict"
    }

    /// Says what was being done with which file, as `error when creating "x.yaml"`.
    pub fn when(self, verb: &str, source: &str) -> Self {
        let text = format!("error when {verb} \"{source}\"");
        match self {
            Self::Status { status, .. } => Self::Status {
                status,
                doing: Some(text),
            },
            Self::Text(t) => Self::Text(format!("{text}: {t}")),
            other => other,
        }
    }

    /// Says which list was asked for. Upstream: cli-runtime's EnhanceListError.
    pub fn of_list(self, resource: &Resource, labels: &str, fields: &str) -> Self {
        if !["BadRequest", "NotFound"].contains(&self.reason()) {
            return self;
        }
        let Self::Status { mut status, doing } = self else {
            return self;
        };
        let message = status["message"].as_str().unwrap_or("unknown");
        let what = format!(
            "{}/{}, Resource={}",
            resource.group, resource.version, resource.plural
        );
        let message = match labels.is_empty() && fields.is_empty() {
            true => format!("Unable to list \"{what}\": {message}"),
            false => format!(
                "Unable to find \"{what}\" that match label selector \"{labels}\", field selector \"{fields}\": {message}"
            ),
        };
        status["message"] = message.into();
        Self::Status { status, doing }
    }

    /// The server's message behind words of ours.
    pub fn because(self, doing: &str) -> Self {
        match self {
            Self::Status { status, .. } => {
                let message = status["message"].as_str().unwrap_or("unknown");
                Self::Text(format!("{doing}: {message}"))
            }
            other => other,
        }
    }

    /// The exit code of the process.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Exit(code) | Self::Code(_, code) => *code,
            _ => 1,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status { status, doing } => f.write_str(&status_text(status, doing.as_deref())),
            Self::Text(t) if t.starts_with("error: ") => f.write_str(t),
            Self::Text(t) => write!(f, "error: {t}"),
            Self::Plain(t) | Self::Code(t, _) => f.write_str(t),
            Self::Many(all) => {
                let lines: Vec<String> = all.iter().map(ToString::to_string).collect();
                f.write_str(&lines.join("\n"))
            }
            Self::Exit(_) => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

impl From<std::io::Error> for Error {
    fn from(e: std::io::Error) -> Self {
        Self::Text(io_text(&e))
    }
}

impl From<clap::Error> for Error {
    fn from(e: clap::Error) -> Self {
        Self::Plain(e.to_string())
    }
}

/// An I/O error in the words of the system.
pub fn io_text(e: &std::io::Error) -> String {
    match e.kind() {
        std::io::ErrorKind::NotFound => "no such file or directory".into(),
        std::io::ErrorKind::PermissionDenied => "permission denied".into(),
        _ => e.to_string(),
    }
}

fn status_text(status: &Value, doing: Option<&str>) -> String {
    let message = status["message"].as_str().unwrap_or("unknown");
    let message = match doing {
        Some(doing) => format!("{doing}: {message}"),
        None => message.to_string(),
    };
    match status["reason"].as_str().unwrap_or_default() {
        "Invalid" if doing.is_none() => invalid_text(status, &message),
        "Unauthorized" => format!("error: You must be logged in to the server ({message})"),
        "" => format!("Error from server: {message}"),
        "Invalid" => invalid_text(status, &message),
        reason => format!("Error from server ({reason}): {message}"),
    }
}

fn invalid_text(status: &Value, message: &str) -> String {
    let details = &status["details"];
    if !details.is_object() {
        return format!("The request is invalid: {message}");
    }
    let (kind, name) = (
        details["kind"].as_str().unwrap_or_default(),
        details["name"].as_str().unwrap_or_default(),
    );
    let mut causes: Vec<String> = Vec::new();
    for cause in details["causes"].as_array().into_iter().flatten() {
        let text = format!(
            "{}: {}",
            cause["field"].as_str().unwrap_or_default(),
            cause["message"].as_str().unwrap_or_default()
        );
        if !causes.contains(&text) {
            causes.push(text);
        }
    }
    let head = if !kind.is_empty() && !name.is_empty() {
        format!("The {kind} \"{name}\" is invalid")
    } else if causes.is_empty() {
        format!("The request is invalid: {message}")
    } else {
        "The request is invalid".to_string()
    };
    match causes.as_slice() {
        [] => head,
        [one] => format!("{head}: {one}"),
        many => format!("{head}: \n* {}", many.join("\n* ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn answers_of_the_server_are_said_as_upstream_says_them() {
        let e = Error::status(json!({"reason": "NotFound", "message": "pods \"x\" not found"}));
        assert_eq!(
            e.to_string(),
            "Error from server (NotFound): pods \"x\" not found"
        );
        let e = e.when("creating", "f.yaml");
        assert_eq!(
            e.to_string(),
            "Error from server (NotFound): error when creating \"f.yaml\": pods \"x\" not found"
        );
        let e = Error::status(json!({
            "reason": "Invalid", "message": "long",
            "details": {"kind": "Pod", "name": "x", "causes": [
                {"field": "spec.a", "message": "Required value"},
                {"field": "spec.b", "message": "Required value"}]}
        }));
        assert_eq!(
            e.to_string(),
            "The Pod \"x\" is invalid: \n* spec.a: Required value\n* spec.b: Required value"
        );
    }
}
