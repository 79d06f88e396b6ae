use std::os::unix::fs::PermissionsExt;

use super::*;

fn options(dir: &Path) -> PkiOptions {
    PkiOptions {
        dir: dir.join("pki"),
        sans: vec!["node1".into(), "10.0.0.5".into(), "fd00::1".into()],
        cluster_domain: "cluster.local".into(),
        service_ips: vec!["10.96.0.1".parse().unwrap()],
        server_url: "https://localhost:6443".into(),
        issuer: "https://kubernetes.default.svc".into(),
        audiences: vec!["https://kubernetes.default.svc".into()],
        etcd_peer: None,
    }
}

#[test]
fn second_start_keeps_every_file() {
    let temp = tempfile::tempdir().unwrap();
    let first = Pki::ensure(&options(temp.path())).unwrap();
    let second = Pki::ensure(&options(temp.path())).unwrap();
    assert_eq!(first.ca.pem(), second.ca.pem());
    for (name, leaf) in &first.leaves {
        assert_eq!(leaf.cert_pem, second.leaf(name).unwrap().cert_pem, "{name}");
    }
    let token = first.token_signer().unwrap();
    assert_eq!(
        token.public().kid,
        second.token_signer().unwrap().public().kid
    );
}

#[test]
fn files_have_k0s_names_and_keys_are_private() {
    let temp = tempfile::tempdir().unwrap();
    let mut o = options(temp.path());
    o.etcd_peer = Some("10.0.0.5".into());
    Pki::ensure(&o).unwrap();
    for name in [
        "ca",
        "front-proxy-ca",
        "admin",
        "server",
        "k0s-api",
        "ccm",
        "scheduler",
        "konnectivity",
        "apiserver-kubelet-client",
        "front-proxy-client",
        "apiserver-etcd-client",
        "etcd/ca",
        "etcd/server",
        "etcd/peer",
    ] {
        let stem = o.dir.join(name);
        assert!(with_ending(&stem, ".crt").exists(), "{name}");
        let mode = with_ending(&stem, ".key")
            .metadata()
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    for name in [
        "admin.conf",
        "ccm.conf",
        "scheduler.conf",
        "konnectivity.conf",
        "sa.key",
    ] {
        let mode = o.dir.join(name).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let conf = std::fs::read_to_string(o.dir.join("admin.conf")).unwrap();
    assert!(conf.contains("server: \"https://localhost:6443\""));
    assert!(conf.contains("current-context: Default"));
}

#[test]
fn leaf_is_issued_anew_when_it_no_longer_fits() {
    let temp = tempfile::tempdir().unwrap();
    let pki = Pki::ensure(&options(temp.path())).unwrap();
    let now = crate::now();
    let leaf = pki.ca.issue(&LeafRequest::client("a", &["g"])).unwrap();
    let same = LeafRequest::client("a", &["g"]);
    assert_eq!(pki.ca.outdated(&leaf, &same, now), None);
    let later = now + limits::LEAF_VALIDITY_SECONDS * 9 / 10;
    assert_eq!(pki.ca.outdated(&leaf, &same, later), Some("near its end"));
    let other = LeafRequest::client("b", &["g"]);
    assert_eq!(pki.ca.outdated(&leaf, &other, now), Some("subject changed"));
    let named = LeafRequest {
        sans: vec!["x".into()],
        ..same.clone()
    };
    assert_eq!(pki.ca.outdated(&leaf, &named, now), Some("names changed"));
    let foreign = Ca::generate("kubernetes-ca", now).unwrap();
    assert_eq!(
        foreign.outdated(&leaf, &same, now),
        Some("signed by another CA")
    );
}

#[test]
fn subject_holds_several_groups_and_openssl_agrees() {
    let ca = Ca::generate("kubernetes-ca", crate::now()).unwrap();
    let request = LeafRequest::client("u", &["a", "b", "c"]);
    let leaf = ca.issue(&request).unwrap();
    assert_eq!(ca.outdated(&leaf, &request, crate::now()), None);
    let temp = tempfile::tempdir().unwrap();
    let (ca_path, leaf_path) = (temp.path().join("ca"), temp.path().join("leaf"));
    std::fs::write(&ca_path, ca.pem()).unwrap();
    std::fs::write(&leaf_path, &leaf.cert_pem).unwrap();
    let verify = std::process::Command::new("openssl")
        .args(["verify", "-purpose", "sslclient", "-CAfile"])
        .args([&ca_path, &leaf_path])
        .output();
    match verify {
        Ok(out) => assert!(
            out.status.success(),
            "{}",
            String::from_utf8_lossy(&out.stderr)
        ),
        Err(e) => eprintln!("SKIPPED: openssl as oracle: {e}"),
    }
}

#[test]
fn ca_without_key_is_an_error_not_a_new_ca() {
    let temp = tempfile::tempdir().unwrap();
    let o = options(temp.path());
    Pki::ensure(&o).unwrap();
    std::fs::remove_file(o.dir.join("ca.key")).unwrap();
    assert!(matches!(Pki::ensure(&o), Err(Error::HalfPair { .. })));
}

#[test]
fn csr_is_signed_with_the_asked_usages() {
    use x509_parser::prelude::ParsedExtension;
    let temp = tempfile::tempdir().unwrap();
    let pki = Pki::ensure(&options(temp.path())).unwrap();
    let key = key::generate().unwrap();
    let mut params =
        rcgen::CertificateParams::new(vec!["n1".to_string(), "10.0.0.9".into()]).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(rcgen::DnType::OrganizationName, "system:nodes");
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "system:node:n1");
    let pem = params.serialize_request(&key).unwrap().pem().unwrap();
    let csr = crate::Csr::parse(&pem).unwrap();
    assert_eq!(csr.common_name, "system:node:n1");
    assert_eq!(csr.organizations, ["system:nodes"]);
    assert_eq!(csr.dns_names, ["n1"]);
    assert_eq!(csr.ip_addresses, ["10.0.0.9".parse::<IpAddr>().unwrap()]);
    let cert = csr
        .sign(&pki.ca, &["digital signature", "server auth"], 3600)
        .unwrap();
    let der = crate::ca::first_certificate(&cert).unwrap();
    let parsed = crate::ca::parse_certificate(&der).unwrap();
    assert!(parsed.extensions().iter().any(|e| matches!(
        e.parsed_extension(),
        ParsedExtension::ExtendedKeyUsage(u) if u.server_auth && !u.client_auth
    )));
    assert!(csr.sign(&pki.ca, &["nonsense"], 3600).is_err());
}

#[test]
fn broken_pem_files_never_panic() {
    let now = crate::now();
    let ca = Ca::generate("c", now).unwrap();
    let leaf = ca.issue(&LeafRequest::client("a", &[])).unwrap();
    let key = key::generate().unwrap();
    let csr = rcgen::CertificateParams::default()
        .serialize_request(&key)
        .unwrap()
        .pem()
        .unwrap();
    for text in [
        ca.pem(),
        ca.key_pem(),
        &leaf.cert_pem,
        &csr,
        "",
        "-----BEGIN CERTIFICATE-----",
    ] {
        for i in (0..text.len()).step_by(3) {
            let mut bytes = text.as_bytes().to_vec();
            bytes[i] = bytes[i].wrapping_add(1) & 0x7f;
            let broken = String::from_utf8_lossy(&bytes).into_owned();
            // Whatever the answer, it is an answer.
            let _ = (
                key::parse(&broken).is_ok(),
                Ca::load(&broken, ca.key_pem()).is_ok(),
            );
            let _ = (
                crate::Csr::parse(&broken).is_ok(),
                PublicJwk::parse_all(&broken).is_ok(),
            );
            let identity = Identity {
                cert_pem: broken,
                key_pem: leaf.key_pem.clone(),
            };
            let _ = ca.outdated(&identity, &LeafRequest::client("a", &[]), now);
        }
    }
}
