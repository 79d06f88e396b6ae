//! Twins that fail on this product today, each with the reason. The runner prints them as known failures;
//! one that passes nevertheless is reported, so that it leaves the list.

/// Name of the twin and why it fails.
pub static KNOWN: &[(&str, &str)] = &[];

/// Why a twin is known to fail.
pub fn reason(name: &str) -> Option<&'static str> {
    let found = KNOWN.iter().find(|(known, _)| *known == name);
    found.map(|(_, reason)| *reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_failures_are_twins_and_have_a_reason() {
        let all = crate::twins::all();
        for (name, reason) in KNOWN {
            assert!(all.iter().any(|t| t.name == *name), "{name} is no twin");
            assert!(!reason.is_empty(), "{name} has no reason");
        }
    }
}
