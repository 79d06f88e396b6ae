//! Hashes of templates in upstream's alphabet. Upstream's template hash covers a
//! Go-specific dump; clients treat it as opaque, so ours covers the canonical JSON instead.

use api::core::v1::PodTemplateSpec;

/// Letters without vowels and digits that look like letters: no words by accident.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// FNV-1a, 32 bits.
pub fn fnv1a(parts: &[&[u8]]) -> u32 {
    let bytes = parts.iter().flat_map(|p| p.iter());
    bytes.fold(0x811c_9dc5u32, |h, b| {
        (h ^ u32::from(*b)).wrapping_mul(0x0100_0193)
    })
}

/// FNV-1, 32 bits.
pub fn fnv1(parts: &[&[u8]]) -> u32 {
    let bytes = parts.iter().flat_map(|p| p.iter());
    bytes.fold(0x811c_9dc5u32, |h, b| {
        h.wrapping_mul(0x0100_0193) ^ u32::from(*b)
    })
}

/// A text in the alphabet: each byte picks a letter.
pub fn encode(text: &str) -> String {
    let letter = |b: u8| char::from(ALPHABET[usize::from(b) % ALPHABET.len()]);
    text.bytes().map(letter).collect()
}

/// The hash of a pod template; `collisions` makes another one of the same template.
pub fn template(template: &PodTemplateSpec, collisions: Option<i32>) -> String {
    // A JSON value sorts its keys, so equal templates give equal bytes.
    let value = serde_json::to_value(template).unwrap_or_default();
    let bytes = value.to_string().into_bytes();
    let hash = match collisions {
        None => fnv1a(&[&bytes]),
        Some(n) => {
            let mut tail = [0u8; 8];
            tail[..4].copy_from_slice(&n.cast_unsigned().to_le_bytes());
            fnv1a(&[&bytes, &tail])
        }
    };
    encode(&hash.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_map_to_upstreams_letters() {
        assert_eq!(encode("0123456789"), "456789bcdf");
    }

    #[test]
    fn known_fnv_values() {
        assert_eq!(fnv1a(&[b"a"]), 0xe40c_292c);
        assert_eq!(fnv1(&[b"a"]), 0x050c_5d7e);
    }

    #[test]
    fn equal_templates_hash_alike_and_collisions_differ() {
        let t = PodTemplateSpec::default();
        assert_eq!(template(&t, None), template(&t.clone(), None));
        assert_ne!(template(&t, None), template(&t, Some(1)));
    }
}
