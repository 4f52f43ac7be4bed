//! How connections are encrypted. Made once for a store: what is read from disk is read then.

use std::fmt;
use std::sync::Arc;

use cache_core::{Error, ErrorKind, Result};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// What the user has said about it, as PEM.
#[derive(Default)]
pub(crate) struct Certificates {
    pub(crate) roots: Option<Vec<u8>>,
    pub(crate) client: Option<(Vec<u8>, Vec<u8>)>,
}

#[derive(Clone)]
pub(crate) struct Tls(TlsConnector);

impl Tls {
    /// With those of the system, if there are no roots.
    pub(crate) fn new(certificates: &Certificates) -> Result<Self> {
        let roots = match &certificates.roots {
            Some(pem) => own_roots(pem)?,
            None => system_roots()?,
        };
        // Named, so that neither two providers in the program nor none are a panic.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| invalid("tls", error))?
            .with_root_certificates(roots);
        let config = match &certificates.client {
            None => config.with_no_client_auth(),
            Some((chain, key)) => {
                let refused = |error: &dyn fmt::Display| invalid("client_certificate", error);
                let chain = chain_of(chain).map_err(|error| refused(&error))?;
                let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| refused(&error))?;
                config.with_client_auth_cert(chain, key).map_err(|error| refused(&error))?
            }
        };
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    /// Shakes hands with the server of this name.
    pub(crate) async fn wrap(&self, host: &str, tcp: TcpStream) -> Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned());
        let name = name.map_err(|error| invalid("tls", format!("{host}: {error}")))?;
        self.0.connect(name, tcp).await.map_err(|error| {
            let kind = if matches!(error.get_ref(), Some(cause) if cause.is::<rustls::Error>()) {
                ErrorKind::Store
            } else {
                ErrorKind::Unavailable
            };
            Error::with_cause(kind, format!("no TLS with {host}: {error}"))
        })
    }
}

fn own_roots(pem: &[u8]) -> Result<RootCertStore> {
    let refused = |error: &dyn fmt::Display| invalid("root_certificates", error);
    let mut roots = RootCertStore::empty();
    for certificate in chain_of(pem).map_err(|error| refused(&error))? {
        roots.add(certificate).map_err(|error| refused(&error))?;
    }
    Ok(roots)
}

/// Those that can be read: one that can't be does not make the others worse.
fn system_roots() -> Result<RootCertStore> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
        return Err(invalid(
            "tls",
            format!("the system has no root certificates{why}; give some by `root_certificates`"),
        ));
    }
    Ok(roots)
}

fn chain_of(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(|error| error.to_string())?;
    if chain.is_empty() { Err("there is no certificate in the PEM".to_owned()) } else { Ok(chain) }
}

fn invalid(option: &str, why: impl fmt::Display) -> Error {
    Error::with_cause(ErrorKind::InvalidOption, format!("{option}: {why}"))
}
