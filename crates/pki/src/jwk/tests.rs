//! The vectors are of Python's `cryptography`: one key of each kind, one token of each algorithm.

use serde_json::Value;

use super::*;

fn vectors() -> (Vec<Jwk>, Value) {
    let all: Value = serde_json::from_str(include_str!("../../testdata/jwk.json")).unwrap();
    let keys = parse_set(all["jwks"].to_string().as_bytes()).unwrap();
    (keys, all["tokens"].clone())
}

#[test]
fn every_algorithm_is_checked_by_its_key_alone() {
    let (keys, tokens) = vectors();
    // The symmetric one is passed over.
    assert_eq!(keys.len(), 4);
    for alg in ALGORITHMS {
        let text = tokens[alg].as_str().unwrap();
        let token = crate::jwt::parse(text).unwrap();
        for key in &keys {
            assert_eq!(
                key.verifies(&token),
                key.kid == token.kid(),
                "{alg} {}",
                key.kid
            );
        }
        let key = keys.iter().find(|k| k.kid == token.kid()).unwrap();
        let (signed, signature) = text.rsplit_once('.').unwrap();
        let (header, _) = signed.split_once('.').unwrap();
        let forged = URL_SAFE_NO_PAD.encode(r#"{"sub":"root"}"#);
        let forged = format!("{header}.{forged}.{signature}");
        assert!(!key.verifies(&crate::jwt::parse(&forged).unwrap()), "{alg}");
        // The same signature under another algorithm's name.
        let other = if alg == "RS256" { "PS256" } else { "RS256" };
        let header = format!(r#"{{"alg":"{other}","kid":"{}"}}"#, key.kid);
        let header = URL_SAFE_NO_PAD.encode(header);
        let renamed = format!("{header}.{}.{signature}", signed.split_once('.').unwrap().1);
        assert!(
            !key.verifies(&crate::jwt::parse(&renamed).unwrap()),
            "{alg}"
        );
    }
}

#[test]
fn bad_keys_and_signatures_are_refused() {
    for (set, wanted) in [
        (r#"[]"#, "expected struct"),
        (
            r#"{"keys":[{"kty":"RSA","n":"","e":"AQAB"}]}"#,
            "missing n value",
        ),
        (
            r#"{"keys":[{"kty":"EC","crv":"P-256K","x":"AA","y":"AA"}]}"#,
            "unsupported elliptic curve",
        ),
        (
            r#"{"keys":[{"kty":"EC","crv":"P-521","x":"AA","y":"AA"}]}"#,
            "not on declared curve",
        ),
        (
            r#"{"keys":[{"kty":"RSA","n":"?","e":"AQAB"}]}"#,
            "invalid key, n",
        ),
    ] {
        let e = parse_set(set.as_bytes()).unwrap_err();
        assert!(e.contains(wanted), "{set}: {e}");
    }
    let (keys, tokens) = vectors();
    let key = keys.iter().find(|k| k.kid == "P-521").unwrap();
    let (signed, good) = tokens["ES512"].as_str().unwrap().rsplit_once('.').unwrap();
    let good = URL_SAFE_NO_PAD.decode(good).unwrap();
    let zeros = vec![0; good.len()];
    let ones = vec![0xff; good.len()];
    let mut swapped = good[66..].to_vec();
    swapped.extend(&good[..66]);
    for bad in [&zeros[..], &ones, &swapped, &good[1..], &[]] {
        let text = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(bad));
        assert!(!key.verifies(&crate::jwt::parse(&text).unwrap()));
    }
}
