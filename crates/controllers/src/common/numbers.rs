//! Counts that are numbers or percentages. Upstream: apimachinery/pkg/util/intstr.

use api::k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// Which way a percentage rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    Up,
    Down,
}

/// A count, or a percentage of `total`; what is missing or malformed is 0.
pub fn scaled(value: Option<&IntOrString>, total: i32, round: Round) -> i32 {
    match value {
        None => 0,
        Some(IntOrString::Int(n)) => *n,
        Some(IntOrString::String(text)) => {
            let percent = text.strip_suffix('%').and_then(|p| p.parse::<i64>().ok());
            let exact = percent.unwrap_or(0) * i64::from(total);
            let whole = match round {
                Round::Up => exact.div_euclid(100) + i64::from(exact.rem_euclid(100) > 0),
                Round::Down => exact.div_euclid(100),
            };
            i32::try_from(whole).unwrap_or(i32::MAX)
        }
    }
}

/// A count as objects store it.
pub fn count(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_round_as_asked() {
        let p = |s: &str| IntOrString::String(s.into());
        assert_eq!(scaled(Some(&p("25%")), 10, Round::Up), 3);
        assert_eq!(scaled(Some(&p("25%")), 10, Round::Down), 2);
        assert_eq!(scaled(Some(&p("100%")), 7, Round::Up), 7);
        assert_eq!(scaled(Some(&IntOrString::Int(4)), 10, Round::Down), 4);
        assert_eq!(scaled(None, 10, Round::Up), 0);
    }
}
