//! TLS to an engine, with client certificates, by rustls.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::endpoint::Endpoint;
use crate::options::{ConfigError, ConnectOptions, TlsFiles};

/// Makes TLS connections with one set of certificates.
pub(crate) struct Connector {
    tls: TlsConnector,
}

impl Connector {
    /// The connector that `options` ask for; `None` when the endpoint has no TLS.
    pub(crate) fn for_options(options: &ConnectOptions) -> Result<Option<Self>, ConfigError> {
        if !matches!(options.endpoint, Endpoint::Tls { .. }) {
            return Ok(None);
        }
        let files = options.tls.clone().unwrap_or_default();
        Ok(Some(Self {
            tls: TlsConnector::from(Arc::new(config(&files)?)),
        }))
    }

    /// Shakes hands with `host` over `stream`.
    pub(crate) async fn connect(
        &self,
        host: &str,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, std::io::Error> {
        let name = ServerName::try_from(host.to_owned()).map_err(std::io::Error::other)?;
        self.tls.connect(name, stream).await
    }
}

fn config(files: &TlsFiles) -> Result<ClientConfig, ConfigError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| ConfigError::tls("TLS", error.to_string()))?;
    let builder = if files.verify {
        builder.with_root_certificates(roots(files.ca.as_deref())?)
    } else {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Unverified(provider)))
    };
    match (&files.cert, &files.key) {
        (Some(cert), Some(key)) => {
            let chain = certificates(cert)?;
            let key_der =
                PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable(key, &error))?;
            builder
                .with_client_auth_cert(chain, key_der)
                .map_err(|error| unreadable(cert, &error))
        }
        (None, None) => Ok(builder.with_no_client_auth()),
        (Some(lone), None) | (None, Some(lone)) => Err(ConfigError::tls(
            lone.display().to_string(),
            "a client certificate needs both cert.pem and key.pem",
        )),
    }
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, ConfigError> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => {
            for certificate in certificates(path)? {
                roots
                    .add(certificate)
                    .map_err(|error| unreadable(path, &error))?;
            }
        }
        None => {
            // Single certificates of the system that rustls cannot use are no reason to refuse the others.
            let (usable, _) =
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if usable == 0 {
                return Err(ConfigError::tls(
                    "the system's certificates",
                    "none can be used; name a ca.pem with DOCKER_CERT_PATH",
                ));
            }
        }
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    match all {
        Ok(certificates) if certificates.is_empty() => Err(ConfigError::tls(
            path.display().to_string(),
            "it has no certificate",
        )),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(unreadable(path, &error)),
    }
}

fn unreadable(path: &Path, error: &impl ToString) -> ConfigError {
    ConfigError::tls(path.display().to_string(), error.to_string())
}

/// Accepts any certificate: what `DOCKER_TLS` without `DOCKER_TLS_VERIFY` asks for. Signatures are still checked, so the peer holds the key
/// it shows.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
