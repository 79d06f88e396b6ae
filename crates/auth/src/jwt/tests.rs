//! What a token's claims come to, without a network: apiserver/tests/it/access.rs has issuers.

use serde_json::{Value, json};

use super::claims::{Claims, user};
use super::keys::KeySet;
use super::token::{Verifier, untrusted_issuer};
use super::*;
use crate::config::authentication::JwtAuthenticator;

fn claims(value: Value) -> Claims {
    value.as_object().cloned().unwrap()
}

fn mapped(config: Value, token: Value) -> Result<machinery::request::User, String> {
    let mut jwt = json!({"issuer": {"url": "https://i", "audiences": ["a"]}});
    for (key, value) in config.as_object().unwrap() {
        jwt[key] = value.clone();
    }
    let jwt: JwtAuthenticator = serde_json::from_value(jwt).unwrap();
    let config = AuthenticationConfiguration {
        jwt: vec![jwt],
        anonymous: None,
    };
    let (mappers, causes) = validate(&config, &[]);
    assert!(causes.is_empty(), "{causes:?}");
    user(&config.jwt[0], &mappers[0], &claims(token))
}

#[test]
fn claims_tell_users() {
    let sub = json!({"username": {"claim": "sub", "prefix": "p:"}, "groups": {"claim": "roles", "prefix": "g:"}});
    let expressions = json!({
        "username": {"expression": "claims.name + '@' + claims.nested.org__dot__id"},
        "groups": {"expression": "claims.roles.split(',')"},
        "uid": {"expression": "claims.uid"},
        "extra": [
            {"key": "example.org/a", "valueExpression": "claims.a"},
            {"key": "example.org/b", "valueExpression": "claims.?b.orValue('')"},
        ],
    });
    let email = json!({"username": {"claim": "email", "prefix": ""}});
    for (mappings, token, wanted) in [
        (
            &sub,
            json!({"sub": "jane", "roles": ["x", "y"], "jti": "1"}),
            "p:jane  [g:x g:y] {\"authentication.kubernetes.io/credential-id\": [\"JTI=1\"]}",
        ),
        (
            &sub,
            json!({"sub": "jane", "roles": "x"}),
            "p:jane  [g:x] {}",
        ),
        (&sub, json!({"sub": "jane"}), "p:jane  [] {}"),
        (
            &sub,
            json!({"roles": []}),
            "oidc: parse username claims \"sub\": claim not present",
        ),
        (
            &sub,
            json!({"sub": 1}),
            "oidc: parse username claims \"sub\": json: cannot unmarshal number into Go value of type string",
        ),
        (
            &sub,
            json!({"sub": "j", "roles": [1]}),
            "oidc: parse groups claim \"roles\": json: cannot unmarshal array into Go value of type string",
        ),
        (
            &expressions,
            json!({"name": "jane", "nested": {"org.id": "o"}, "roles": "x,,y", "uid": "u", "a": ["1", ""]}),
            "jane@o u [x y] {\"example.org/a\": [\"1\"]}",
        ),
        (
            &expressions,
            json!({"name": "", "nested": {"org.id": "o"}, "roles": "", "uid": 1, "a": []}),
            "oidc: error evaluating uid claim expression: uid claim expression must return a string",
        ),
        (
            &expressions,
            json!({"name": "jane"}),
            "oidc: error evaluating username claim expression: expression 'claims.name + '@' + claims.nested.org__dot__id' resulted in error: no such key: nested",
        ),
        (&email, json!({"email": "a@b"}), "a@b  [] {}"),
        (
            &email,
            json!({"email": "a@b", "email_verified": true}),
            "a@b  [] {}",
        ),
        (
            &email,
            json!({"email": "a@b", "email_verified": false}),
            "oidc: email not verified",
        ),
        (
            &email,
            json!({"email": "a@b", "email_verified": "true"}),
            "oidc: parse 'email_verified' claim: json: cannot unmarshal string into Go value of type bool",
        ),
    ] {
        let got = match mapped(json!({"claimMappings": mappings}), token.clone()) {
            Ok(u) => format!(
                "{} {} [{}] {:?}",
                u.name,
                u.uid,
                u.groups.join(" "),
                u.extra
            ),
            Err(e) => e,
        };
        assert_eq!(got, wanted, "{token}");
    }
}

#[test]
fn rules_must_hold() {
    let config = json!({
        "claimMappings": {"username": {"claim": "sub", "prefix": ""}},
        "claimValidationRules": [
            {"claim": "hd", "requiredValue": "example.com"},
            {"expression": "claims.exp - claims.iat <= 3600", "message": "lives too long"},
        ],
        "userValidationRules": [{"expression": "!user.username.startsWith('system:')", "message": "reserved"}],
    });
    for (change, wanted) in [
        (json!({}), ""),
        (
            json!({"hd": "x"}),
            "oidc: required claim hd value does not match. Got = x, want = example.com",
        ),
        (
            json!({"exp": 9000}),
            "oidc: error evaluating claim validation expression: validation expression 'claims.exp - claims.iat <= 3600' failed: lives too long",
        ),
        (
            json!({"sub": "system:admin"}),
            "oidc: error evaluating user info validation rule: validation expression '!user.username.startsWith('system:')' failed: reserved",
        ),
    ] {
        let mut token = json!({"sub": "jane", "hd": "example.com", "iat": 1, "exp": 3000});
        for (key, value) in change.as_object().unwrap() {
            token[key] = value.clone();
        }
        let got = mapped(config.clone(), token).err().unwrap_or_default();
        assert_eq!(got, wanted, "{change}");
    }
    let without = json!({"sub": "jane", "iat": 1, "exp": 2});
    assert_eq!(
        mapped(config, without).unwrap_err(),
        "oidc: required claim hd not present in ID token"
    );
}

fn verifier(audiences: &[&str]) -> Verifier {
    let fetcher = webhook::Fetcher::new(&webhook::Verification::Nobody).unwrap();
    Verifier {
        issuer: "https://i".into(),
        keys: KeySet::new("https://127.0.0.1:1/".into(), Arc::new(fetcher), None),
        audiences: audiences.iter().map(|a| (*a).to_string()).collect(),
        algorithms: vec!["ES256".into()],
    }
}

#[test]
fn tokens_must_be_for_us_and_now() {
    let now = 1_700_000_000;
    for (audiences, token, wanted) in [
        (&["a"][..], json!({}), ""),
        (&["a"], json!({"aud": ["b", "a"]}), ""),
        (&["b", "a"], json!({}), ""),
        (
            &["a"],
            json!({"aud": "b"}),
            "oidc: expected audience \"a\" got [\"b\"]",
        ),
        (
            &["d", "c"],
            json!({}),
            "oidc: expected audience in [\"c\" \"d\"] got [\"a\"]",
        ),
        (
            &["a"],
            json!({"iss": "https://j"}),
            "oidc: id token issued by a different provider, expected \"https://i\" got \"https://j\"",
        ),
        (
            &["a"],
            json!({"exp": now - 1}),
            "oidc: token is expired (Token Expiry: 2023-11-14 22:13:19 +0000 UTC)",
        ),
        (
            &["a"],
            json!({"exp": null}),
            "oidc: token is expired (Token Expiry: 0001-01-01 00:00:00 +0000 UTC)",
        ),
        (&["a"], json!({"exp": 1e30}), ""),
        (
            &["a"],
            json!({"exp": "soon"}),
            "oidc: failed to unmarshal claims: exp is no number",
        ),
        (&["a"], json!({"nbf": now + 60}), ""),
        (
            &["a"],
            json!({"nbf": now + 61}),
            "oidc: current time 2023-11-14 22:13:20 +0000 UTC before the nbf (not before) time: 2023-11-14 22:14:21 +0000 UTC",
        ),
        (
            &["a"],
            json!({"_claim_names": {"groups": "s"}}),
            "oidc: source does not exist",
        ),
    ] {
        let mut all = json!({"iss": "https://i", "aud": "a", "exp": now + 1});
        for (key, value) in token.as_object().unwrap() {
            all[key] = value.clone();
        }
        let got = verifier(audiences).accept(&claims(all), now).err();
        assert_eq!(got.unwrap_or_default(), wanted, "{token}");
    }
}

#[tokio::test]
async fn only_known_algorithms_get_as_far_as_a_key() {
    let token = |header: &str| {
        use base64::Engine as _;
        let encode = |text: &str| base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.AA", encode(header), encode("{}"))
    };
    for (token, wanted) in [
        (
            token(r#"{"alg":"none"}"#),
            "oidc: id token signed with unsupported algorithm, expected [\"ES256\"] got \"none\"",
        ),
        (
            token(r#"{"alg":"HS256"}"#),
            "oidc: id token signed with unsupported algorithm, expected [\"ES256\"] got \"HS256\"",
        ),
        (
            token(r#"{"alg":"ES256","crit":["x"]}"#),
            "oidc: malformed jwt: no compact JWS",
        ),
        ("a.b.c.d".into(), "oidc: malformed jwt"),
        (
            token(r#"{"alg":"ES256"}"#),
            "failed to verify signature: fetching keys oidc: get keys failed Get \"https://127.0.0.1:1/\": dial tcp 127.0.0.1:1: connect: connection refused",
        ),
    ] {
        let got = verifier(&["a"]).verify(&token, 0).await.unwrap_err();
        assert_eq!(got, wanted, "{token}");
    }
}

/// Tokens that are nearly right, by a generator with a seed: nothing of them makes the parser panic.
#[test]
fn no_token_makes_the_parser_panic() {
    let good = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJodHRwczovL2kifQ.AAAA";
    assert_eq!(untrusted_issuer(good).unwrap(), "https://i");
    let odd = [
        '.', '=', '-', '_', '{', ' ', 'A', '\u{0}', 'é', '/', '+', '"',
    ];
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |n: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed % n as u64).unwrap()
    };
    for _ in 0..20_000 {
        let mut text: Vec<char> = good.chars().collect();
        for _ in 0..=next(6) {
            let at = next(text.len());
            match next(3) {
                0 => text[at] = odd[next(odd.len())],
                1 => text.insert(at, odd[next(odd.len())]),
                _ => text.truncate(at.max(1)),
            }
        }
        let text: String = text.into_iter().collect();
        // Whether it names an issuer is no matter here.
        let _ = untrusted_issuer(&text);
        if let Some(parsed) = pki::jwt::parse(&text)
            && let Ok(claims) = serde_json::from_slice::<Claims>(&parsed.payload)
        {
            let _ = verifier(&["a"]).accept(&claims, 0);
        }
    }
}
