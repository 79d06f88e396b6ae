//! Certificate authorities and the leaf certificates they issue.

use std::net::IpAddr;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber, SigningKey as _,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::error::Error;
use crate::{key, limits};

/// A certificate authority with its key.
pub struct Ca {
    pem: String,
    der: CertificateDer<'static>,
    key_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// What a leaf may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    Server,
    Client,
}

/// What a leaf certificate shall say.
#[derive(Clone, Debug)]
pub struct LeafRequest {
    pub common_name: String,
    pub organizations: Vec<String>,
    /// DNS names and IP addresses.
    pub sans: Vec<String>,
    pub usages: Vec<Usage>,
    pub validity_seconds: i64,
}

/// A certificate (chain) with its key, both PEM.
#[derive(Clone)]
pub struct Identity {
    pub cert_pem: String,
    pub key_pem: String,
}

// === LeafRequest ===

impl LeafRequest {
    /// A client certificate: the name becomes the user, organizations its groups.
    pub fn client(common_name: &str, organizations: &[&str]) -> Self {
        Self {
            common_name: common_name.into(),
            organizations: organizations.iter().map(|o| (*o).to_string()).collect(),
            sans: Vec::new(),
            usages: vec![Usage::Client],
            validity_seconds: limits::LEAF_VALIDITY_SECONDS,
        }
    }

    /// A server certificate for these names and addresses.
    pub fn server(common_name: &str, organizations: &[&str], sans: Vec<String>) -> Self {
        Self {
            sans,
            usages: vec![Usage::Server],
            ..Self::client(common_name, organizations)
        }
    }

    /// The subject as a DER Name. Written here because rcgen holds one value per attribute type and a user
    /// may be in several groups.
    fn subject(&self) -> Vec<u8> {
        let mut names = Vec::new();
        for o in &self.organizations {
            attribute(ORGANIZATION, o, &mut names);
        }
        attribute(COMMON_NAME, &self.common_name, &mut names);
        let mut out = Vec::new();
        key::tlv(0x30, &names, &mut out);
        out
    }

    fn params(&self, now: i64) -> Result<CertificateParams, Error> {
        check_count(
            "organizations",
            self.organizations.len(),
            limits::ORGANIZATIONS_MAX,
        )?;
        check_count(
            "subject alternative names",
            self.sans.len(),
            limits::SANS_MAX,
        )?;
        let mut params = base_params(now, self.validity_seconds);
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = sans(&self.sans)?;
        params.extended_key_usages = self.usages.iter().map(|u| u.extended()).collect();
        Ok(params)
    }
}

impl Usage {
    fn extended(self) -> ExtendedKeyUsagePurpose {
        match self {
            Self::Server => ExtendedKeyUsagePurpose::ServerAuth,
            Self::Client => ExtendedKeyUsagePurpose::ClientAuth,
        }
    }
}

// === Ca ===

impl Ca {
    /// A new self-signed CA with a P-256 key.
    pub fn generate(common_name: &str, now: i64) -> Result<Self, Error> {
        let key = key::generate()?;
        let mut name = DistinguishedName::new();
        name.push(DnType::CommonName, common_name);
        let mut params = base_params(now, limits::CA_VALIDITY_SECONDS);
        params.distinguished_name = name;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
        ];
        let cert = params.self_signed(&key).map_err(|source| Error::Issue {
            name: common_name.into(),
            source,
        })?;
        Self::load(&cert.pem(), &key.serialize_pem())
    }

    /// A CA from its files. RSA and EC keys in PKCS#8, PKCS#1 and SEC1 form are taken.
    pub fn load(cert_pem: &str, key_pem: &str) -> Result<Self, Error> {
        let key = key::parse(key_pem)?;
        let der = first_certificate(cert_pem)?;
        {
            let cert = parse_certificate(&der)?;
            if !cert.is_ca() {
                return Err(Error::ParseCertificate {
                    why: "not a CA".into(),
                });
            }
            if cert.public_key().raw != key.subject_public_key_info() {
                return Err(Error::KeyMismatch {
                    name: cert.subject().to_string(),
                });
            }
        }
        let issuer = Issuer::from_ca_cert_der(&der, key)
            .map_err(|e| Error::ParseCertificate { why: e.to_string() })?;
        Ok(Self {
            pem: cert_pem.into(),
            der,
            key_pem: key_pem.into(),
            issuer,
        })
    }

    /// The certificate file's text.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The key file's text.
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// The certificate.
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// A new key and a certificate for it.
    pub fn issue(&self, request: &LeafRequest) -> Result<Identity, Error> {
        let key = key::generate()?;
        let cert_pem =
            self.sign_params(&request.params(crate::now())?, &key, &request.subject())?;
        Ok(Identity {
            cert_pem,
            key_pem: key.serialize_pem(),
        })
    }

    /// A certificate for a key that exists.
    pub fn issue_for(&self, request: &LeafRequest, key_pem: &str) -> Result<Identity, Error> {
        let key = key::parse(key_pem)?;
        let cert_pem =
            self.sign_params(&request.params(crate::now())?, &key, &request.subject())?;
        Ok(Identity {
            cert_pem,
            key_pem: key_pem.into(),
        })
    }

    pub(crate) fn sign_params(
        &self,
        params: &CertificateParams,
        public: &impl PublicKeyData,
        subject: &[u8],
    ) -> Result<String, Error> {
        let failed = |source| Error::Issue {
            name: subject_text(subject),
            source,
        };
        let cert = params.signed_by(public, &self.issuer).map_err(failed)?;
        let (tbs, algorithm) = with_subject(cert.der(), subject)?;
        let signature = self.issuer.key().sign(&tbs).map_err(failed)?;
        let mut bits = vec![0];
        bits.extend_from_slice(&signature);
        let mut body = tbs;
        body.extend_from_slice(&algorithm);
        key::tlv(0x03, &bits, &mut body);
        let mut der = Vec::new();
        key::tlv(0x30, &body, &mut der);
        Ok(pem("CERTIFICATE", &der))
    }

    /// Why a leaf on disk must be issued anew, `None` while it still says what `request` asks, belongs to
    /// its key, is signed by this CA and has enough life left.
    pub fn outdated(
        &self,
        leaf: &Identity,
        request: &LeafRequest,
        now: i64,
    ) -> Option<&'static str> {
        let Ok(key) = key::parse(&leaf.key_pem) else {
            return Some("key does not parse");
        };
        let Ok(der) = first_certificate(&leaf.cert_pem) else {
            return Some("certificate does not parse");
        };
        let (Ok(cert), Ok(ca)) = (parse_certificate(&der), parse_certificate(&self.der)) else {
            return Some("certificate does not parse");
        };
        if cert.public_key().raw != key.subject_public_key_info() {
            return Some("certificate and key do not belong together");
        }
        if cert.issuer() != ca.subject() || cert.verify_signature(Some(ca.public_key())).is_err() {
            return Some("signed by another CA");
        }
        let (start, end) = (
            cert.validity().not_before.timestamp(),
            cert.validity().not_after.timestamp(),
        );
        if end - now < (end - start) / limits::RENEW_REMAINING_DIVISOR || now < start {
            return Some("near its end");
        }
        if !same_subject(&cert, request) {
            return Some("subject changed");
        }
        let present = crate::csr::names_of(&cert);
        if request.sans.iter().any(|s| !present.contains(&normal(s))) {
            return Some("names changed");
        }
        None
    }
}

// === Identity ===

impl Identity {
    /// The certificate chain, leaf first.
    pub fn chain(&self) -> Result<Vec<CertificateDer<'static>>, Error> {
        CertificateDer::pem_slice_iter(self.cert_pem.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| Error::ParseCertificate { why: e.to_string() })
    }

    /// The key as TLS libraries take it.
    pub fn key(&self) -> Result<PrivateKeyDer<'static>, Error> {
        PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes())
            .map_err(|e| Error::ParseKey { why: e.to_string() })
    }

    /// When the leaf ends, in seconds since 1970.
    pub fn not_after(&self) -> Result<i64, Error> {
        let der = first_certificate(&self.cert_pem)?;
        Ok(parse_certificate(&der)?.validity().not_after.timestamp())
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identity")
    }
}

/// Parameters that every certificate of ours has.
pub(crate) fn base_params(now: i64, validity_seconds: i64) -> CertificateParams {
    let mut params = CertificateParams::default();
    // rcgen's dates are of crate `time`; counting from an epoch saves naming it.
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let seconds = |s: i64| std::time::Duration::from_secs(u64::try_from(s).unwrap_or(0));
    params.not_before = epoch + seconds(now - limits::BACKDATE_SECONDS);
    params.not_after = epoch + seconds(now + validity_seconds);
    let mut serial = rand::random::<[u8; 16]>();
    // Positive and never zero, as RFC 5280 asks.
    serial[0] = (serial[0] & 0x7f) | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
    ];
    params.is_ca = IsCa::ExplicitNoCa;
    params
}

const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const ORGANIZATION: &[u8] = &[0x55, 0x04, 0x0a];

/// Appends a RelativeDistinguishedName with one UTF-8 attribute.
fn attribute(oid: &[u8], value: &str, out: &mut Vec<u8>) {
    let mut pair = Vec::new();
    key::tlv(0x06, oid, &mut pair);
    key::tlv(0x0c, value.as_bytes(), &mut pair);
    let mut sequence = Vec::new();
    key::tlv(0x30, &pair, &mut sequence);
    key::tlv(0x31, &sequence, out);
}

/// The part of a certificate that is signed, with another subject put in, and its signature algorithm.
fn with_subject(der: &[u8], subject: &[u8]) -> Result<(Vec<u8>, Vec<u8>), Error> {
    let bad = || Error::ParseCertificate {
        why: "unexpected shape".into(),
    };
    let cert = parse_certificate(der)?;
    let tbs: &[u8] = cert.tbs_certificate.as_ref();
    let offset = |inner: &[u8]| (inner.as_ptr() as usize).checked_sub(tbs.as_ptr() as usize);
    let old = cert.subject().as_raw();
    let start = offset(old).ok_or_else(bad)?;
    let algorithm = offset(cert.issuer().as_raw()).ok_or_else(bad)?;
    // The issuer stands right behind the algorithm, which is short: walk the fields up to it.
    let mut field = tbs.len() - content(tbs).ok_or_else(bad)?.len();
    let mut last = field..field;
    while field < algorithm {
        let rest = tbs.get(field..).ok_or_else(bad)?;
        let len = rest.len() - after(rest).ok_or_else(bad)?.len();
        last = field..field + len;
        field += len;
    }
    let head = tbs.len() - content(tbs).ok_or_else(bad)?.len();
    let mut body = tbs.get(head..start).ok_or_else(bad)?.to_vec();
    body.extend_from_slice(subject);
    body.extend_from_slice(tbs.get(start + old.len()..).ok_or_else(bad)?);
    let mut out = Vec::new();
    key::tlv(0x30, &body, &mut out);
    Ok((out, tbs.get(last).ok_or_else(bad)?.to_vec()))
}

/// The content of the first DER element and everything behind it.
fn content(der: &[u8]) -> Option<&[u8]> {
    let first = *der.get(1)?;
    let skip = if first < 0x80 {
        2
    } else {
        2 + usize::from(first & 0x7f)
    };
    der.get(skip..)
}

/// What stands behind the first DER element.
fn after(der: &[u8]) -> Option<&[u8]> {
    let body = content(der)?;
    let first = *der.get(1)?;
    let len = if first < 0x80 {
        usize::from(first)
    } else {
        let bytes = der.get(2..2 + usize::from(first & 0x7f))?;
        bytes
            .iter()
            .fold(0_usize, |n, b| n.wrapping_shl(8) | usize::from(*b))
    };
    body.get(len..)
}

fn subject_text(der: &[u8]) -> String {
    use x509_parser::x509::X509Name;
    X509Name::from_der(der).map_or_else(|_| String::new(), |(_, n)| n.to_string())
}

/// A PEM block.
fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        out.extend(line.iter().map(|b| char::from(*b)));
        out.push('\n');
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}

fn sans(names: &[String]) -> Result<Vec<SanType>, Error> {
    let mut out = Vec::with_capacity(names.len());
    for name in names {
        out.push(match name.parse::<IpAddr>() {
            Ok(ip) => SanType::IpAddress(ip),
            Err(_) => SanType::DnsName(
                name.as_str()
                    .try_into()
                    .map_err(|_| Error::BadName { name: name.clone() })?,
            ),
        });
    }
    Ok(out)
}

fn normal(name: &str) -> String {
    match name.parse::<IpAddr>() {
        Ok(ip) => ip.to_string(),
        Err(_) => name.to_string(),
    }
}

fn same_subject(cert: &X509Certificate<'_>, request: &LeafRequest) -> bool {
    let subject = cert.subject();
    let cn = subject
        .iter_common_name()
        .next()
        .and_then(|a| a.as_str().ok());
    let os: Vec<&str> = subject
        .iter_organization()
        .filter_map(|a| a.as_str().ok())
        .collect();
    cn == Some(request.common_name.as_str()) && os == request.organizations
}

fn check_count(what: &'static str, count: usize, max: usize) -> Result<(), Error> {
    if count > max {
        return Err(Error::TooMany { what, count });
    }
    Ok(())
}

pub(crate) fn first_certificate(pem: &str) -> Result<CertificateDer<'static>, Error> {
    CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|e| Error::ParseCertificate { why: e.to_string() })
}

pub(crate) fn parse_certificate(der: &[u8]) -> Result<X509Certificate<'_>, Error> {
    match X509Certificate::from_der(der) {
        Ok((_, cert)) => Ok(cert),
        Err(e) => Err(Error::ParseCertificate { why: e.to_string() }),
    }
}
