use super::*;

const NOW: i64 = 1_800_000_000;

fn pair() -> (TokenSigner, TokenVerifier) {
    let key = crate::key::generate().unwrap().serialize_pem();
    let signer = TokenSigner::new(&key, "https://kubernetes.default.svc").unwrap();
    let verifier = TokenVerifier::new(
        vec![signer.public().clone()],
        vec!["https://kubernetes.default.svc".into()],
        vec!["api".into()],
    );
    (signer, verifier)
}

fn claims() -> Claims {
    Claims {
        sub: "system:serviceaccount:ns:sa".into(),
        aud: vec!["api".into(), "vault".into()],
        exp: Some(NOW + 3600),
        iat: Some(NOW),
        nbf: Some(NOW),
        jti: "id".into(),
        kubernetes: Kubernetes {
            namespace: "ns".into(),
            serviceaccount: ObjectRef {
                name: "sa".into(),
                uid: "u".into(),
            },
            ..Kubernetes::default()
        },
        ..Claims::default()
    }
}

#[test]
fn signed_token_verifies_and_gives_common_audiences() {
    let (signer, verifier) = pair();
    let token = signer.sign(&claims()).unwrap();
    let (found, audiences) = verifier.verify(&token, &[], NOW).unwrap();
    assert_eq!(found.kubernetes, claims().kubernetes);
    assert_eq!(audiences, ["api"]);
    let (_, audiences) = verifier.verify(&token, &["vault".into()], NOW).unwrap();
    assert_eq!(audiences, ["vault"]);
}

#[test]
fn refusals_name_their_reason() {
    let (signer, verifier) = pair();
    type Change = fn(&mut Claims);
    let table: &[(Change, &str)] = &[
        (
            |c| c.exp = Some(NOW - 61),
            "service account token has expired",
        ),
        (
            |c| c.nbf = Some(NOW + 61),
            "service account token is not valid yet",
        ),
        (
            |c| c.iat = Some(NOW + 61),
            "service account token is issued in the future",
        ),
        (
            |c| c.aud = vec!["x".into()],
            "token audiences [\"x\"] is invalid for the target audiences [\"api\"]",
        ),
        (
            |c| c.sub = "system:serviceaccount:ns:other".into(),
            "sub claim does not match the service account",
        ),
    ];
    for (change, text) in table {
        let mut c = claims();
        change(&mut c);
        let token = signer.sign(&c).unwrap();
        let e = verifier.verify(&token, &[], NOW).unwrap_err();
        assert_eq!(e.to_string(), *text);
    }
}

#[test]
fn foreign_key_and_foreign_issuer_are_told_apart() {
    let (_, verifier) = pair();
    let (other, _) = pair();
    let token = other.sign(&claims()).unwrap();
    assert_eq!(
        verifier.verify(&token, &[], NOW).unwrap_err(),
        TokenError::Signature
    );
    let key = crate::key::generate().unwrap().serialize_pem();
    let foreign = TokenSigner::new(&key, "https://elsewhere").unwrap();
    let token = foreign.sign(&claims()).unwrap();
    assert_eq!(
        verifier.verify(&token, &[], NOW).unwrap_err(),
        TokenError::NotMine
    );
}

#[test]
fn no_mutation_of_a_token_verifies_or_panics() {
    let (signer, verifier) = pair();
    let token = signer.sign(&claims()).unwrap();
    let bytes = token.as_bytes();
    let replacements = [b'A', b'z', b'.', b'=', b'{', 0xff, 0];
    for i in 0..bytes.len() {
        for r in replacements {
            let mut changed = bytes.to_vec();
            if changed[i] == r {
                continue;
            }
            changed[i] = r;
            let text = String::from_utf8_lossy(&changed);
            // The signature's last character holds two bits that no byte uses: strict decoding refuses them.
            assert!(verifier.verify(&text, &[], NOW).is_err(), "at {i} with {r}");
        }
        assert!(verifier.verify(&token[..i], &[], NOW).is_err());
    }
    let long = "a".repeat(limits::TOKEN_BYTES_MAX + 1);
    assert_eq!(
        verifier.verify(&long, &[], NOW).unwrap_err(),
        TokenError::NotMine
    );
}

#[test]
fn alg_none_is_refused() {
    use base64::Engine as _;
    let (signer, verifier) = pair();
    let token = signer.sign(&claims()).unwrap();
    let payload = token.split('.').nth(1).unwrap();
    let b64 = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    for alg in ["none", "HS256", "RS256"] {
        let header = b64.encode(format!("{{\"alg\":\"{alg}\"}}"));
        for signature in ["", "AAAA"] {
            let forged = format!("{header}.{payload}.{signature}");
            assert_eq!(
                verifier.verify(&forged, &[], NOW).unwrap_err(),
                TokenError::Signature
            );
        }
    }
}

/// An RSA key as k0s makes it (openssl genrsa 2048, traditional form), for this test only.
const RSA_PKCS1: &str = include_str!("../../testdata/sa-rsa-pkcs1.pem");
const EC_SEC1: &str = include_str!("../../testdata/ec-sec1.pem");

#[test]
fn keys_made_by_k0s_sign_too() {
    for (pem, alg) in [(RSA_PKCS1, "RS256"), (EC_SEC1, "ES256")] {
        let signer = TokenSigner::new(pem, "i").unwrap();
        let public = signer.public().clone();
        let doc = crate::jwt::jwks(std::slice::from_ref(&public));
        assert_eq!(doc["keys"][0]["alg"], alg);
        assert_eq!(doc["keys"][0]["use"], "sig");
        let verifier = TokenVerifier::new(vec![public], vec!["i".into()], vec!["api".into()]);
        let token = signer.sign(&claims()).unwrap();
        verifier.verify(&token, &[], NOW).unwrap();
    }
}
