//! Lines of a limited width, broken between words; longer words stay whole.

/// Breaks a text into lines of at most `width` characters where spaces allow it.
pub fn wrap(text: &str, width: usize) -> String {
    let lines: Vec<String> = text
        .split('\n')
        .map(|line| wrap_line(line, width))
        .collect();
    lines.join("\n")
}

fn wrap_line(line: &str, width: usize) -> String {
    let mut out = String::new();
    // Characters of the present line, spaces since its last word.
    let (mut used, mut spaces) = (0, String::new());
    for (i, part) in line.split(' ').enumerate() {
        if i > 0 {
            spaces.push(' ');
        }
        if part.is_empty() {
            continue;
        }
        let length = part.chars().count();
        let breaks = used + spaces.len() + length > width && length < width && used > 0;
        if breaks {
            out.push('\n');
            used = 0;
        } else {
            out.push_str(&spaces);
            used += spaces.len();
        }
        spaces.clear();
        out.push_str(part);
        used += length;
    }
    out.push_str(&spaces);
    out
}

/// Every line behind this many spaces.
pub fn indent(text: &str, by: usize) -> String {
    let pad = " ".repeat(by);
    format!("{pad}{}", text.replace('\n', &format!("\n{pad}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_between_words_only() {
        assert_eq!(wrap("one two three", 8), "one two\nthree");
        assert_eq!(wrap("a verylongword b", 6), "a verylongword\nb");
        assert_eq!(wrap("kept\n\n  inner", 20), "kept\n\n  inner");
        assert_eq!(indent("a\nb", 2), "  a\n  b");
    }
}
