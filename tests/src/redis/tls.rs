use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

/// An authority that issues certificates for tests, and the directory in which servers find them.
#[derive(Debug)]
pub struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
    files: TempDir,
}

impl Authority {
    /// A new one, which nobody trusts yet.
    ///
    /// # Panics
    ///
    /// If keys can't be made.
    #[must_use]
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "tests");
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        let files = TempDir::new().expect("a directory for temporary files");
        std::fs::write(files.path().join("root.pem"), &pem).expect("a file");
        Self { pem, issuer: Issuer::new(params, key), files }
    }

    /// Its own certificate, as PEM.
    #[must_use]
    pub fn root(&self) -> String {
        self.pem.clone()
    }

    /// A certificate for these hosts and its key, as PEM.
    ///
    /// # Panics
    ///
    /// If it can't be made.
    #[must_use]
    pub fn issue(&self, hosts: &[&str]) -> (String, String) {
        let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
        let params = CertificateParams::new(hosts).expect("names");
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }

    /// The arguments for a server which talks TLS at this port, with a certificate for these hosts, and asks its
    /// clients for theirs if `clients` is `yes`.
    ///
    /// # Panics
    ///
    /// If it can't be made.
    #[must_use]
    pub fn arguments(&self, port: u16, hosts: &[&str], clients: &str) -> Vec<String> {
        let (certificate, key) = self.issue(hosts);
        let file = |name: &str| -> PathBuf { self.files.path().join(format!("{port}-{name}")) };
        std::fs::write(file("cert.pem"), certificate).expect("a file");
        std::fs::write(file("key.pem"), key).expect("a file");
        let path = |path: PathBuf| path.to_str().expect("a path of text").to_owned();
        [
            ("--tls-port", port.to_string()),
            ("--tls-cert-file", path(file("cert.pem"))),
            ("--tls-key-file", path(file("key.pem"))),
            ("--tls-ca-cert-file", path(self.files.path().join("root.pem"))),
            ("--tls-auth-clients", clients.to_owned()),
        ]
        .into_iter()
        .flat_map(|(option, value)| [option.to_owned(), value])
        .collect()
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}
