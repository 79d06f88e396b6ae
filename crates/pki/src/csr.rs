//! Certificate signing requests: what they ask for, and signing them.
//! Upstream: certificates.k8s.io signers of kube-controller-manager.

use std::net::IpAddr;

use rcgen::{
    CertificateSigningRequestParams, DistinguishedName, ExtendedKeyUsagePurpose, KeyUsagePurpose,
};
use x509_parser::prelude::{GeneralName, ParsedExtension, X509Certificate};

use crate::ca::{Ca, base_params};
use crate::error::Error;
use crate::limits;

/// A request whose signature was checked.
pub struct Csr {
    inner: CertificateSigningRequestParams,
    subject: Vec<u8>,
    pub common_name: String,
    pub organizations: Vec<String>,
    pub dns_names: Vec<String>,
    pub ip_addresses: Vec<IpAddr>,
    pub emails: Vec<String>,
    pub uris: Vec<String>,
}

// === Csr ===

impl Csr {
    /// Reads a PEM request and checks that it is signed by its own key.
    pub fn parse(pem: &str) -> Result<Self, Error> {
        let bad = |why: &str| Error::ParseCsr { why: why.into() };
        if pem.len() > limits::CSR_BYTES_MAX {
            return Err(bad("longer than 64 KiB"));
        }
        if !pem.contains("CERTIFICATE REQUEST-----") {
            return Err(bad("PEM block type must be CERTIFICATE REQUEST"));
        }
        let inner = CertificateSigningRequestParams::from_pem(pem)
            .map_err(|e| Error::ParseCsr { why: e.to_string() })?;
        let mut csr = Self {
            inner,
            subject: Vec::new(),
            common_name: String::new(),
            organizations: Vec::new(),
            dns_names: Vec::new(),
            ip_addresses: Vec::new(),
            emails: Vec::new(),
            uris: Vec::new(),
        };
        csr.read_names(pem)?;
        Ok(csr)
    }

    fn read_names(&mut self, pem: &str) -> Result<(), Error> {
        use x509_parser::certification_request::X509CertificationRequest;
        use x509_parser::prelude::FromDer;
        let bad = |why: String| Error::ParseCsr { why };
        let (_, block) =
            x509_parser::pem::parse_x509_pem(pem.as_bytes()).map_err(|e| bad(e.to_string()))?;
        let (_, csr) =
            X509CertificationRequest::from_der(&block.contents).map_err(|e| bad(e.to_string()))?;
        let subject = &csr.certification_request_info.subject;
        self.subject = subject.as_raw().to_vec();
        if let Some(cn) = subject.iter_common_name().last() {
            self.common_name = cn.as_str().map_err(|e| bad(e.to_string()))?.into();
        }
        for o in subject.iter_organization() {
            self.organizations
                .push(o.as_str().map_err(|e| bad(e.to_string()))?.into());
        }
        for extension in csr.requested_extensions().into_iter().flatten() {
            if let ParsedExtension::SubjectAlternativeName(names) = extension {
                self.add_names(&names.general_names);
            }
        }
        Ok(())
    }

    fn add_names(&mut self, names: &[GeneralName<'_>]) {
        for name in names {
            match name {
                GeneralName::DNSName(n) => self.dns_names.push((*n).into()),
                GeneralName::RFC822Name(n) => self.emails.push((*n).into()),
                GeneralName::URI(n) => self.uris.push((*n).into()),
                GeneralName::IPAddress(bytes) => self.ip_addresses.extend(ip(bytes)),
                _ => {}
            }
        }
    }

    /// Signs the request. `usages` are names of certificates.k8s.io (`client auth`, `digital signature` ...);
    /// an unknown one is an error. The answer is the PEM certificate.
    pub fn sign(&self, ca: &Ca, usages: &[&str], validity_seconds: i64) -> Result<String, Error> {
        let mut params = base_params(crate::now(), validity_seconds);
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = self.inner.params.subject_alt_names.clone();
        params.key_usages = Vec::new();
        for usage in usages {
            match key_usage(usage) {
                Some(UsageKind::Key(k)) => params.key_usages.push(k),
                Some(UsageKind::Extended(e)) => params.extended_key_usages.push(e),
                None => {
                    return Err(Error::ParseCsr {
                        why: format!("unrecognized usage value: {usage}"),
                    });
                }
            }
        }
        ca.sign_params(&params, &self.inner.public_key, &self.subject)
    }
}

enum UsageKind {
    Key(KeyUsagePurpose),
    Extended(ExtendedKeyUsagePurpose),
}

/// Upstream's table of usage names.
fn key_usage(name: &str) -> Option<UsageKind> {
    use ExtendedKeyUsagePurpose as E;
    use KeyUsagePurpose as K;
    use UsageKind::{Extended, Key};
    Some(match name {
        "signing" | "digital signature" => Key(K::DigitalSignature),
        "content commitment" => Key(K::ContentCommitment),
        "key encipherment" => Key(K::KeyEncipherment),
        "key agreement" => Key(K::KeyAgreement),
        "data encipherment" => Key(K::DataEncipherment),
        "cert sign" => Key(K::KeyCertSign),
        "crl sign" => Key(K::CrlSign),
        "encipher only" => Key(K::EncipherOnly),
        "decipher only" => Key(K::DecipherOnly),
        "any" => Extended(E::Any),
        "server auth" => Extended(E::ServerAuth),
        "client auth" => Extended(E::ClientAuth),
        "code signing" => Extended(E::CodeSigning),
        "email protection" | "s/mime" => Extended(E::EmailProtection),
        "timestamping" => Extended(E::TimeStamping),
        "ocsp signing" => Extended(E::OcspSigning),
        _ => return None,
    })
}

/// All DNS names and addresses of a certificate.
pub(crate) fn names_of(cert: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = cert.subject_alternative_name() else {
        return Vec::new();
    };
    let names = extension.value.general_names.iter();
    names
        .filter_map(|n| match n {
            GeneralName::DNSName(n) => Some((*n).to_string()),
            GeneralName::IPAddress(bytes) => ip(bytes).map(|i| i.to_string()),
            _ => None,
        })
        .collect()
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(four.into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}
