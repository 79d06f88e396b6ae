//! Certificates that twins make for themselves.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};

/// A certificate authority's certificate, made for one twin, as PEM.
pub fn authority(name: &str) -> Result<String> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519)?;
    Ok(authority_params(name).self_signed(&key)?.pem())
}

/// What a certificate authority's certificate says.
pub fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

/// A server's identity.
pub struct Server {
    /// The authority that signed it, as PEM.
    pub authority: String,
    pub certificate: String,
    pub key: String,
}

/// An identity for a server of one DNS name, signed by an authority of its own.
pub fn server(name: &str) -> Result<Server> {
    let authority_key = KeyPair::generate()?;
    let params = authority_params("e2e-server-cert-ca");
    let authority = params.self_signed(&authority_key)?;
    let issuer = rcgen::Issuer::new(params, authority_key);
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![name.to_string()])?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = params.signed_by(&key, &issuer)?;
    Ok(Server {
        authority: authority.pem(),
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    })
}

/// A self-signed server certificate and its key; valid between two times in seconds.
pub fn self_signed(name: &str, key: &KeyPair, from: u64, to: u64) -> Result<String> {
    let mut params = CertificateParams::new(vec![name.to_string()])?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(from);
    params.not_after = epoch + Duration::from_secs(to);
    Ok(params.self_signed(key)?.pem())
}

/// Seconds since 1970.
pub fn now() -> Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())
}

/// A time as the API writes it.
pub fn rfc3339(seconds: u64) -> Result<String> {
    let time = k8s_openapi::jiff::Timestamp::from_second(i64::try_from(seconds)?)?;
    Ok(time.to_string())
}
