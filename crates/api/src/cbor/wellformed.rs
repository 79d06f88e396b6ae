//! Whether bytes are one well-formed data item within the limits, told before anything is made of them.

use super::CborError;
use super::decode::float;
use super::head::{Head, Input, Major};
use crate::limits::{CBOR_DEPTH, CBOR_PAIRS};

/// The tags of integers of any length, which are never taken.
const BIGNUMS: [u64; 2] = [2, 3];

/// Goes past one item.
pub fn item(input: &mut Input<'_>, depth: usize) -> Result<(), CborError> {
    let head = input.head()?;
    match head.major {
        Major::Positive | Major::Negative => Ok(()),
        Major::Primitive => primitive(head),
        Major::Bytes | Major::Text if head.is_indefinite() => chunks(input, head.major),
        Major::Bytes | Major::Text => {
            let too_large = "is too large, causing integer overflow";
            let length = length(head, too_large)?;
            input.take(length).map(|_| ())
        }
        Major::Array | Major::Map => container(input, head, deeper(depth)?),
        Major::Tag => tagged(input, head.argument, depth),
    }
}

fn deeper(depth: usize) -> Result<usize, CborError> {
    if depth == CBOR_DEPTH {
        return Err(CborError(format!(
            "cbor: exceeded max nested level {CBOR_DEPTH}"
        )));
    }
    Ok(depth + 1)
}

fn length(head: Head, too_large: &str) -> Result<usize, CborError> {
    let argument = head.argument;
    let length = i64::try_from(argument).ok();
    length.and_then(|n| usize::try_from(n).ok()).ok_or_else(|| {
        let kind = head.major.name();
        CborError(format!("cbor: {kind} length {argument} {too_large}"))
    })
}

fn primitive(head: Head) -> Result<(), CborError> {
    if head.info == 24 && head.argument < 32 {
        let (value, kind) = (head.argument, head.major.name());
        return Err(CborError(format!(
            "cbor: invalid simple value {value} for type {kind}"
        )));
    }
    let what = match float(head) {
        Some(f) if f.is_nan() => "floating-point NaN",
        Some(f) if f.is_infinite() => "floating-point infinity",
        _ => return Ok(()),
    };
    Err(CborError::unacceptable(Major::Primitive, what))
}

/// The parts of a string of indefinite length.
fn chunks(input: &mut Input<'_>, major: Major) -> Result<(), CborError> {
    let kind = major.name();
    while !input.found_break()? {
        let next = Major::of(input.peek()?);
        if next != major {
            let next = next.name();
            return Err(CborError(format!(
                "cbor: wrong element type {next} for indefinite-length {kind}"
            )));
        }
        let head = input.head()?;
        if head.is_indefinite() {
            return Err(CborError(format!(
                "cbor: indefinite-length {kind} chunk is not definite-length"
            )));
        }
        let length = length(head, "is too large, causing integer overflow")?;
        input.take(length)?;
    }
    Ok(())
}

fn container(input: &mut Input<'_>, head: Head, depth: usize) -> Result<(), CborError> {
    let is_map = head.major == Major::Map;
    let too_many = || {
        CborError(format!(
            "cbor: exceeded max number of key-value pairs {CBOR_PAIRS} for CBOR map"
        ))
    };
    if !head.is_indefinite() {
        let length = length(head, "is too large, it would cause integer overflow")?;
        if is_map && length > CBOR_PAIRS {
            return Err(too_many());
        }
        // Each element takes a byte at least: a count that lies ends with the data.
        let items = if is_map { length * 2 } else { length };
        return (0..items).try_for_each(|_| item(input, depth));
    }
    let mut items = 0;
    while !input.found_break()? {
        item(input, depth)?;
        items += 1;
        if is_map && items / 2 > CBOR_PAIRS {
            return Err(too_many());
        }
    }
    if is_map && items % 2 == 1 {
        return Err(CborError::new("cbor: unexpected \"break\" code"));
    }
    Ok(())
}

/// The content of a tag; tags within tags nest too.
fn tagged(input: &mut Input<'_>, mut number: u64, mut depth: usize) -> Result<(), CborError> {
    loop {
        let next = Major::of(input.peek()?);
        if BIGNUMS.contains(&number) {
            return Err(CborError::unacceptable(Major::Tag, "bignum"));
        }
        if next != Major::Tag {
            return item(input, depth);
        }
        number = input.head()?.argument;
        depth = deeper(depth)?;
    }
}
