//! What changed between two objects, for messages that people read. Upstream: pkg/util/diff (unified,
//! three lines around each change).

use serde_json::Value;

/// Lines shown around a change.
const AROUND: usize = 3;
/// Lines compared at most; longer values are said to differ without showing how.
const LINES_MAX: usize = 2000;

/// A unified diff from `old` to `new`, both as JSON with one blank a level.
pub fn unified(old: &Value, new: &Value) -> String {
    let (old, new) = (lines(old), lines(new));
    if old.len().max(new.len()) > LINES_MAX {
        return String::new();
    }
    // What is equal at both ends is not part of the change.
    let head = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let tail = old[head..]
        .iter()
        .rev()
        .zip(new[head..].iter().rev())
        .take_while(|(a, b)| a == b)
        .count();
    let (old_end, new_end) = (old.len() - tail, new.len() - tail);
    if head == old_end && head == new_end {
        return String::new();
    }
    let from = head.saturating_sub(AROUND);
    let after = tail.min(AROUND);
    let mut out = format!(
        "@@ -{},{} +{},{} @@\n",
        from + 1,
        old_end + after - from,
        from + 1,
        new_end + after - from
    );
    let mut put = |mark: char, all: &[String]| {
        for line in all {
            out.push(mark);
            out.push_str(line);
            out.push('\n');
        }
    };
    put(' ', &old[from..head]);
    put('-', &old[head..old_end]);
    put('+', &new[head..new_end]);
    put(' ', &old[old_end..old_end + after]);
    out
}

fn lines(v: &Value) -> Vec<String> {
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b" ");
    let mut text = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
    if serde::Serialize::serialize(v, &mut serializer).is_ok() {
        let text = String::from_utf8_lossy(&text);
        out.extend(text.lines().map(str::to_string));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_change_is_shown_with_its_surroundings() {
        let old = json!({"a": 1, "b": 2, "c": 3, "d": 4, "e": 5, "f": 6});
        let mut new = old.clone();
        new["c"] = json!(9);
        assert_eq!(
            unified(&old, &new),
            "@@ -1,7 +1,7 @@\n {\n  \"a\": 1,\n  \"b\": 2,\n-\"c\": 3,\n+\"c\": 9,\n  \"d\": 4,\n  \"e\": 5,\n  \"f\": 6\n"
                .replace("-\"c\"", "- \"c\"").replace("+\"c\"", "+ \"c\"")
        );
        assert_eq!(unified(&old, &old), "");
    }
}
