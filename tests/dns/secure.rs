//! Authorities' certificates of upstreams over TLS and HTTPS. Such upstreams are asked in `tests/programs`.

use netd::faces::dns::Roots;

#[test]
fn a_file_without_certificates_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    let error = Roots::read(&file).unwrap_err();
    assert!(error.contains("ca.pem: No such file"), "{error}");
    for text in ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        std::fs::write(&file, text).unwrap();
        let error = Roots::read(&file).unwrap_err();
        assert!(error.starts_with("read the certificates in "), "{error}");
    }
}
