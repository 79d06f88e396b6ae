//! Quantities of resources, such as `100m`, `1Gi` or `2e3`, with Go's canonical text.
//! Upstream: k8s.io/apimachinery/pkg/api/resource. Exact from 10^-9 to 2^63-1; smaller parts round up.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// Which suffixes the canonical text uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// `1e3`.
    DecimalExponent,
    /// `1Ki`.
    BinarySi,
    /// `1k`.
    DecimalSi,
}

/// An amount with the format it was written in. Comparisons look at the amount only.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    nanos: i128,
    pub format: Format,
}

/// Why a text is no quantity. Texts equal upstream's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuantityError {
    Format,
    Suffix,
}

const NANO: i128 = 1_000_000_000;
/// Upstream caps amounts at 2^63-1.
const NANOS_MAX: i128 = (i64::MAX as i128) * NANO;
/// Longest text looked at, in bytes.
const TEXT_BYTES_MAX: usize = 256;

impl fmt::Display for QuantityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Format => {
                "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
            }
            Self::Suffix => "unable to parse quantity's suffix",
        })
    }
}

impl std::error::Error for QuantityError {}

// === Quantity ===

impl Quantity {
    /// Nothing, in decimal format.
    pub const ZERO: Self = Self {
        nanos: 0,
        format: Format::DecimalSi,
    };

    /// A whole amount.
    pub fn new(value: i64, format: Format) -> Self {
        Self {
            nanos: i128::from(value) * NANO,
            format,
        }
    }

    /// An amount in thousandths, as CPU is counted.
    pub fn from_milli(milli: i64) -> Self {
        Self {
            nanos: i128::from(milli) * (NANO / 1000),
            format: Format::DecimalSi,
        }
    }

    /// Reads a text.
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        if text.is_empty() || text.len() > TEXT_BYTES_MAX {
            return Err(QuantityError::Format);
        }
        let (negative, rest) = match text.as_bytes()[0] {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, suffix) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(QuantityError::Format);
        }
        let (format, base, power) = suffix_of(suffix)?;
        let nanos = scale(whole, fraction, base, power);
        Ok(Self {
            nanos: if negative { -nanos } else { nanos },
            format,
        })
    }

    /// The amount rounded up to whole units (away from zero).
    pub fn value(&self) -> i64 {
        saturate(divide_up(self.nanos, NANO))
    }

    /// The amount in thousandths, rounded up.
    pub fn milli_value(&self) -> i64 {
        saturate(divide_up(self.nanos, NANO / 1000))
    }

    /// -1, 0 or 1.
    pub fn sign(&self) -> i32 {
        match self.nanos.cmp(&0) {
            Ordering::Less => -1,
            Ordering::Equal => 0,
            Ordering::Greater => 1,
        }
    }

    /// Whether this is nothing.
    pub fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    /// As a floating-point number.
    pub fn as_f64(&self) -> f64 {
        self.nanos as f64 / NANO as f64
    }

    /// The sum; the format of `self`, or of `other` where `self` is zero.
    pub fn add(&self, other: &Self) -> Self {
        self.combine(other, self.nanos.saturating_add(other.nanos))
    }

    /// The difference; format as with `add`.
    pub fn sub(&self, other: &Self) -> Self {
        self.combine(other, self.nanos.saturating_sub(other.nanos))
    }

    /// This amount `times` times.
    pub fn times(&self, times: i64) -> Self {
        Self {
            nanos: self
                .nanos
                .saturating_mul(i128::from(times))
                .clamp(-NANOS_MAX, NANOS_MAX),
            format: self.format,
        }
    }

    fn combine(&self, other: &Self, nanos: i128) -> Self {
        Self {
            nanos: nanos.clamp(-NANOS_MAX, NANOS_MAX),
            format: if self.nanos == 0 {
                other.format
            } else {
                self.format
            },
        }
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        Self::parse(text)
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

/// The canonical text: the largest suffix that needs no fraction.
impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let whole = self.nanos % NANO == 0;
        if self.format == Format::BinarySi && whole && self.nanos.abs() >= 1024 * NANO {
            let (mut n, mut i) = (self.nanos / NANO, 0);
            while n % 1024 == 0 && i < 6 {
                n /= 1024;
                i += 1;
            }
            return write!(f, "{n}{}", ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][i]);
        }
        let (mut n, mut power) = (self.nanos, -9);
        while n % 1000 == 0 && power < 18 {
            n /= 1000;
            power += 3;
        }
        if self.format == Format::DecimalExponent {
            return match power {
                0 => write!(f, "{n}"),
                p => write!(f, "{n}e{p}"),
            };
        }
        let suffixes = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
        write!(f, "{n}{}", suffixes[((power + 9) / 3) as usize])
    }
}

/// Format, base (10 or 2) and power of a suffix.
fn suffix_of(suffix: &str) -> Result<(Format, u32, i32), QuantityError> {
    let binary = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    if let Some(i) = binary.iter().position(|s| *s == suffix) {
        return Ok((Format::BinarySi, 2, 10 * (i as i32 + 1)));
    }
    let decimal = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
    if let Some(i) = decimal.iter().position(|s| *s == suffix) {
        return Ok((Format::DecimalSi, 10, 3 * (i as i32 - 3)));
    }
    let exponent = suffix
        .strip_prefix(['e', 'E'])
        .ok_or_else(|| bad_suffix(suffix))?;
    let power: i32 = exponent.parse().map_err(|_| bad_suffix(suffix))?;
    Ok((Format::DecimalExponent, 10, power))
}

fn bad_suffix(suffix: &str) -> QuantityError {
    let letters = suffix.trim_end_matches(|c: char| c.is_ascii_digit());
    let letters = letters.strip_suffix(['+', '-']).unwrap_or(letters);
    if letters.chars().all(|c| "eEinumkKMGTP".contains(c)) {
        QuantityError::Suffix
    } else {
        QuantityError::Format
    }
}

/// `whole.fraction * base^power` in nanos, rounded up and capped.
fn scale(whole: &str, fraction: &str, base: u32, power: i32) -> i128 {
    let digits: Vec<u8> = whole
        .bytes()
        .chain(fraction.bytes())
        .map(|b| b - b'0')
        .collect();
    let first = digits.iter().position(|d| *d != 0);
    let Some(first) = first else { return 0 };
    // The value is 0.d1d2d3... * 10^point before the suffix.
    let ten = if base == 10 { i64::from(power) } else { 0 };
    let point = whole.len() as i64 - first as i64 + ten + 9;
    let two: i128 = if base == 2 { 1 << power } else { 1 };
    if point > 30 {
        return NANOS_MAX;
    }
    let (mut n, mut lost) = (0_i128, false);
    let mut fractional = Vec::new();
    for i in 0..(digits.len() - first).max(point.max(0) as usize) {
        let digit = digits.get(first + i).copied().unwrap_or(0);
        if (i as i64) < point {
            n = n.saturating_mul(10).saturating_add(i128::from(digit));
        } else {
            fractional.push(digit);
        }
    }
    let mut value = n.saturating_mul(two);
    // The digits below a nano still count when a binary suffix multiplies them.
    let zeros = (-point).clamp(0, 40) as usize;
    let mut below: f64 = 0.0;
    for (i, d) in fractional.iter().enumerate().take(30) {
        below += f64::from(*d) * 10_f64.powi(-((zeros + i + 1) as i32));
        lost |= *d != 0;
    }
    lost |= fractional.iter().any(|d| *d != 0);
    if lost {
        let extra = (below * two as f64).ceil().max(1.0);
        value = value.saturating_add(extra as i128);
    }
    value.min(NANOS_MAX)
}

fn divide_up(n: i128, by: i128) -> i128 {
    let (q, r) = (n / by, n % by);
    match r.cmp(&0) {
        Ordering::Greater => q + 1,
        Ordering::Less => q - 1,
        Ordering::Equal => q,
    }
}

fn saturate(n: i128) -> i64 {
    i64::try_from(n).unwrap_or(if n < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_text_equals_gos() {
        let table = [
            ("0", "0"),
            ("100m", "100m"),
            ("0.1", "100m"),
            ("1", "1"),
            ("1000m", "1"),
            ("1.5", "1500m"),
            ("1000", "1k"),
            ("1500", "1500"),
            ("1024", "1024"),
            ("1Ki", "1Ki"),
            ("1024Ki", "1Mi"),
            ("0.5Gi", "512Mi"),
            ("1.5Gi", "1536Mi"),
            ("1000Ki", "1000Ki"),
            ("512Ki", "512Ki"),
            ("1e3", "1e3"),
            ("1E3", "1e3"),
            ("12e1", "120"),
            ("1E", "1E"),
            ("+5", "5"),
            ("-5", "-5"),
            ("0.0000000001", "1n"),
            (".5", "500m"),
            ("5.", "5"),
            ("1000000000000000000000E", "9223372036854775807"),
        ];
        for (text, expected) in table {
            assert_eq!(
                Quantity::parse(text).unwrap().to_string(),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn bad_texts_are_refused() {
        for text in ["", "a", "1.1.1", "--1", "1 ", " 1", ".", "-", "+", "1é"] {
            assert_eq!(
                Quantity::parse(text),
                Err(QuantityError::Format),
                "{text:?}"
            );
        }
        for text in ["1KK", "1ee3", "1Kii", "1e", "1mi"] {
            assert_eq!(
                Quantity::parse(text),
                Err(QuantityError::Suffix),
                "{text:?}"
            );
        }
    }

    #[test]
    fn values_round_up_and_compare_by_amount() {
        let q = |t: &str| Quantity::parse(t).unwrap();
        assert_eq!(q("100m").value(), 1);
        assert_eq!(q("1.5").milli_value(), 1500);
        assert_eq!(q("1Gi").value(), 1 << 30);
        assert_eq!(q("0.1m").milli_value(), 1);
        assert_eq!(q("1000m"), q("1"));
        assert!(q("1Ki") > q("1k"));
        assert_eq!(q("1Gi").add(&q("1Gi")).to_string(), "2Gi");
        assert_eq!(q("1").sub(&q("250m")).to_string(), "750m");
        assert_eq!(q("0").add(&q("1Ki")).to_string(), "1Ki");
    }
}
