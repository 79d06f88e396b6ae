//! Private keys: made as P-256, read also as RSA, and in the forms PKCS#8, PKCS#1 and SEC1.

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;

use crate::error::Error;

/// Makes a P-256 key.
pub fn generate() -> Result<KeyPair, Error> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(Error::GenerateKey)
}

/// Reads the first private key of a PEM text.
pub fn parse(pem: &str) -> Result<KeyPair, Error> {
    let der = PrivateKeyDer::from_pem_slice(pem.as_bytes())
        .map_err(|e| Error::ParseKey { why: e.to_string() })?;
    let candidates = match &der {
        PrivateKeyDer::Pkcs8(k) => vec![k.secret_pkcs8_der().to_vec()],
        PrivateKeyDer::Pkcs1(k) => vec![wrap(RSA_ALGORITHM, k.secret_pkcs1_der())],
        PrivateKeyDer::Sec1(k) => vec![
            wrap(P256_ALGORITHM, k.secret_sec1_der()),
            wrap(P384_ALGORITHM, k.secret_sec1_der()),
        ],
        _ => Vec::new(),
    };
    let mut why = String::from("unknown key format");
    for candidate in candidates {
        match KeyPair::try_from(candidate) {
            Ok(key) => return Ok(key),
            Err(e) => why = e.to_string(),
        }
    }
    Err(Error::ParseKey { why })
}

// AlgorithmIdentifier values of PKCS#8, DER (RFC 5958, RFC 5480, RFC 8017).
pub(crate) const RSA_ALGORITHM: &[u8] = &[
    0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00,
];
const P256_ALGORITHM: &[u8] = &[
    0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48,
    0xce, 0x3d, 0x03, 0x01, 0x07,
];
const P384_ALGORITHM: &[u8] = &[
    0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81, 0x04,
    0x00, 0x22,
];

/// Wraps a bare key into PKCS#8.
pub(crate) fn wrap(algorithm: &[u8], key: &[u8]) -> Vec<u8> {
    let mut body = vec![0x02, 0x01, 0x00];
    body.extend_from_slice(algorithm);
    tlv(0x04, key, &mut body);
    let mut out = Vec::new();
    tlv(0x30, &body, &mut out);
    out
}

/// Appends a DER element.
pub(crate) fn tlv(tag: u8, content: &[u8], out: &mut Vec<u8>) {
    out.push(tag);
    let n = content.len();
    if n < 0x80 {
        out.push(n as u8);
    } else {
        let bytes = n.to_be_bytes();
        let skip = bytes.iter().take_while(|b| **b == 0).count();
        out.push(0x80 | (bytes.len() - skip) as u8);
        out.extend_from_slice(&bytes[skip..]);
    }
    out.extend_from_slice(content);
}
