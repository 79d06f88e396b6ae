//! What a container says at its end. Upstream: kuberuntime getTerminationMessage.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use cri::ContainerStatus;

use crate::labels;
use crate::limits;

/// The message of a container that ended: its file, or the end of its log.
pub fn read(status: &ContainerStatus) -> String {
    let annotation = |key: &str| status.annotations.get(key).map(String::as_str);
    let mut message = status.message.clone();
    let path = annotation(labels::TERMINATION_HOST_PATH).unwrap_or_default();
    let from_file = if path.is_empty() {
        String::new()
    } else {
        tail(Path::new(path), limits::TERMINATION_MESSAGE).unwrap_or_else(|e| {
            if e.kind() == io::ErrorKind::NotFound {
                String::new()
            } else {
                let shown = annotation(labels::TERMINATION_PATH).unwrap_or(path);
                format!("Error on reading termination log {shown}: {e}")
            }
        })
    };
    let fallback = annotation(labels::TERMINATION_POLICY) == Some("FallbackToLogsOnError")
        && status.exit_code != 0
        && status.reason != "ContainerCannotRun"
        && from_file.is_empty();
    let text = if fallback {
        log_tail(Path::new(&status.log_path))
    } else {
        from_file
    };
    if !message.is_empty() && !text.is_empty() {
        message.push_str(": ");
    }
    message.push_str(&text);
    message
}

fn tail(path: &Path, bytes: u64) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(bytes)))?;
    let mut data = Vec::new();
    file.take(bytes).read_to_end(&mut data)?;
    Ok(String::from_utf8_lossy(&data).into_owned())
}

/// The last lines of a log in CRI's format, without times and tags.
fn log_tail(path: &Path) -> String {
    // A line is longer in the file than what it says.
    let Ok(text) = tail(path, limits::TERMINATION_LOG * 8) else {
        return String::new();
    };
    let lines: Vec<&str> = text.lines().collect();
    let first = lines.len().saturating_sub(limits::TERMINATION_LOG_LINES);
    let mut out = String::new();
    for line in &lines[first..] {
        let mut parts = line.splitn(4, ' ');
        let tag = parts.nth(2);
        if let (Some(tag), Some(content)) = (tag, parts.next()) {
            out.push_str(content);
            if !tag.starts_with('P') {
                out.push('\n');
            }
        }
    }
    let bound = usize::try_from(limits::TERMINATION_LOG).unwrap_or(2048);
    let mut start = out.len().saturating_sub(bound);
    while !out.is_char_boundary(start) {
        start += 1;
    }
    out[start..].to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::container;
    use cri::ContainerState;

    #[test]
    fn file_wins_and_the_log_is_for_errors() {
        let dir = tempfile::tempdir().unwrap();
        let (file, log) = (dir.path().join("m"), dir.path().join("0.log"));
        std::fs::write(&file, "").unwrap();
        std::fs::write(
            &log,
            "2026-01-01T00:00:00Z stdout P DO\n2026-01-01T00:00:00Z stdout P NE\n",
        )
        .unwrap();
        let mut s = container("a", "s", 0, ContainerState::Exited, 1);
        s.log_path = log.display().to_string();
        s.annotations.insert(
            labels::TERMINATION_HOST_PATH.into(),
            file.display().to_string(),
        );
        assert_eq!(read(&s), "");
        s.annotations.insert(
            labels::TERMINATION_POLICY.into(),
            "FallbackToLogsOnError".into(),
        );
        assert_eq!(read(&s), "DONE");
        s.exit_code = 0;
        assert_eq!(read(&s), "");
        std::fs::write(&file, "OK").unwrap();
        assert_eq!(read(&s), "OK");
    }
}
