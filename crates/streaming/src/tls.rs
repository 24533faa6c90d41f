//! A server's certificate and key, read from files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {reason}", path = .path.display())]
pub struct TlsError {
    path: PathBuf,
    reason: String,
}

/// TLS 1.2 and 1.3 for [`ServerOptions::tls`](crate::ServerOptions::tls), with a certificate (and those of its issuers behind it) and its key,
/// both in PEM. They are read now and not again.
///
/// # Errors
/// When a file cannot be read, or has not what it should, or the key is another certificate's. The error names the file and shows nothing of it.
pub fn server_config(certificates: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let failed = |path: &Path, reason: String| TlsError {
        path: path.to_owned(),
        reason,
    };
    let chain = CertificateDer::pem_file_iter(certificates)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| failed(certificates, error.to_string()))?;
    if chain.is_empty() {
        return Err(failed(certificates, "it has no certificate".to_owned()));
    }
    let key_der =
        PrivateKeyDer::from_pem_file(key).map_err(|error| failed(key, error.to_string()))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(certificates, error.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, key_der)
        .map_err(|error| {
            failed(
                certificates,
                format!("not a certificate for the key {}: {error}", key.display()),
            )
        })?;
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_certificate_and_its_key_are_taken_and_anything_else_is_refused_by_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = directory.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let made = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (one, other) = (made(), made());
        let cert = write("tls.crt", &one.cert.pem());
        let key = write("tls.key", &one.signing_key.serialize_pem());
        let wrong_key = write("other.key", &other.signing_key.serialize_pem());
        let empty = write("empty", "");
        assert!(server_config(&cert, &key).is_ok());
        let missing = directory.path().join("missing");
        for (cert, key, blamed) in [
            (&missing, &key, &missing),
            (&cert, &missing, &missing),
            (&empty, &key, &empty),
            (&cert, &empty, &empty),
            (&key, &key, &key),
            (&cert, &wrong_key, &cert),
        ] {
            let error = server_config(cert, key).unwrap_err().to_string();
            assert!(error.starts_with(&blamed.display().to_string()), "{error}");
        }
    }
}
