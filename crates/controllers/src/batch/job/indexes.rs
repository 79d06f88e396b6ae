//! Sets of completion indexes, written as `1,3-5,7`. Upstream: pkg/controller/job/indexed_job_utils.go.

use std::collections::BTreeSet;

/// A set of indexes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Indexes(pub BTreeSet<i32>);

// === Indexes ===

impl Indexes {
    /// Reads a text; what is malformed or beyond `completions` is left out.
    pub fn parse(text: &str, completions: i32) -> Self {
        let mut set = BTreeSet::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (Ok(first), Ok(last)) = (first.parse::<i32>(), last.parse::<i32>()) else {
                continue;
            };
            set.extend(first.max(0)..=last.min(completions - 1));
        }
        Self(set)
    }

    /// How many there are.
    pub fn len(&self) -> i32 {
        i32::try_from(self.0.len()).unwrap_or(i32::MAX)
    }

    /// Whether an index is there.
    pub fn has(&self, index: i32) -> bool {
        self.0.contains(&index)
    }
}

impl std::fmt::Display for Indexes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut parts: Vec<String> = Vec::new();
        let mut all = self.0.iter().copied().peekable();
        while let Some(first) = all.next() {
            let mut last = first;
            while all.next_if_eq(&(last + 1)).is_some() {
                last += 1;
            }
            parts.push(match last - first {
                0 => first.to_string(),
                1 => format!("{first},{last}"),
                _ => format!("{first}-{last}"),
            });
        }
        f.write_str(&parts.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_three_and_more_are_ranges() {
        let set = Indexes::parse("0,1,3-5,7,9-20,x", 12);
        assert_eq!(set.to_string(), "0,1,3-5,7,9-11");
        assert_eq!(set.len(), 9);
        assert_eq!(Indexes::default().to_string(), "");
    }
}
