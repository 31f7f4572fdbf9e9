//! An authority of the test's own, and a certificate of it for servers on this machine.

use std::path::Path;
use tempfile::TempDir;

pub struct Authority {
    dir: TempDir,
}

impl Authority {
    /// With a certificate for `localhost` and 127.0.0.1.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: String| std::fs::write(dir.path().join(name), text).unwrap();
        let authority_key = rcgen::KeyPair::generate().unwrap();
        let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
        // By the names they have by default OpenSSL would take the other certificate for its own issuer.
        authority
            .distinguished_name
            .push(rcgen::DnType::CommonName, "an authority of the test's own");
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        write("ca.pem", authority.self_signed(&authority_key).unwrap().pem());
        let issuer = rcgen::Issuer::new(authority, authority_key);
        let key = rcgen::KeyPair::generate().unwrap();
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let certificate = rcgen::CertificateParams::new(names).unwrap();
        write("server.pem", certificate.signed_by(&key, &issuer).unwrap().pem());
        write("server.key", key.serialize_pem());
        Self { dir }
    }

    /// What a program that is to believe it gets as `SSL_CERT_FILE`.
    pub fn certificate(&self) -> String {
        self.file("ca.pem")
    }

    /// What makes a Redis server, or a sentinel, listen on this port for clients with TLS: names and values.
    pub fn options(&self, port: u16) -> Vec<(&'static str, String)> {
        vec![
            ("tls-port", port.to_string()),
            ("tls-cert-file", self.file("server.pem")),
            ("tls-key-file", self.file("server.key")),
            ("tls-ca-cert-file", self.file("ca.pem")),
            ("tls-auth-clients", "no".to_owned()),
        ]
    }

    fn file(&self, name: &str) -> String {
        let path: &Path = self.dir.path();
        path.join(name).to_str().unwrap().to_owned()
    }
}

/// The same as arguments of a command.
pub fn arguments(options: &[(&'static str, String)]) -> Vec<String> {
    options.iter().flat_map(|(name, value)| [format!("--{name}"), value.clone()]).collect()
}
