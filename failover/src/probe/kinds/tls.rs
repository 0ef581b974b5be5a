//! TLS connections, and whose certificates they trust.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{CertificateError, ClientConfig, Error, RootCertStore};

use crate::config::{Host, Identity, Security};
use crate::health::Failure;
use crate::probe::way;

/// Certificates are read again after this time, and after the second one when there were none.
const KEPT: Duration = Duration::from_hours(1);
const RETRIED: Duration = Duration::from_secs(10);

/// The settings of connections that trust the host's authorities (`None`) or those of a file. All
/// uplinks share them: the authorities of a host are more than a hundred.
static TRUST: Mutex<BTreeMap<Option<PathBuf>, Trust>> = Mutex::const_new(BTreeMap::new());

struct Trust {
    read_at: Instant,
    read: Result<Arc<ClientConfig>, String>,
}

/// The settings of connections to a page; none where it has no TLS.
pub(crate) async fn trust(security: &Security) -> Result<Option<Arc<ClientConfig>>, Failure> {
    let file = match security {
        Security::None => return Ok(None),
        Security::Host => None,
        Security::File(file) => Some(file.clone()),
    };
    // Held while reading, so that all who wait take what one has read.
    let mut known = TRUST.lock().await;
    if let Some(Trust { read_at, read }) = known.get(&file) {
        let kept = if read.is_ok() { KEPT } else { RETRIED };
        if read_at.elapsed() < kept {
            return read.clone().map(Some).map_err(Failure::NotSent);
        }
    }
    let path = file.clone();
    let read = tokio::task::spawn_blocking(move || settings(path.as_deref(), None))
        .await
        .map_err(|error| Failure::NotSent(error.to_string()))?;
    let read_at = Instant::now();
    known.insert(
        file,
        Trust {
            read_at,
            read: read.clone(),
        },
    );
    read.map(Some).map_err(Failure::NotSent)
}

/// The same for who shows a certificate of our own. Read anew each time: such connections are rare, and
/// what was renewed counts at once.
pub(crate) async fn trust_as(
    security: &Security,
    identity: Identity,
) -> Result<Option<Arc<ClientConfig>>, Failure> {
    let file = match security {
        Security::None => return Ok(None),
        Security::Host => None,
        Security::File(file) => Some(file.clone()),
    };
    tokio::task::spawn_blocking(move || settings(file.as_deref(), Some(&identity)))
        .await
        .map_err(|error| Failure::NotSent(error.to_string()))?
        .map(Some)
        .map_err(Failure::NotSent)
}

fn settings(file: Option<&Path>, identity: Option<&Identity>) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    match file {
        Some(file) => {
            for certificate in certificates(file)? {
                roots
                    .add(certificate)
                    .map_err(|error| no_certificate(file, &error))?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            let (_, unusable) = roots.add_parsable_certificates(found.certs);
            if unusable > 0 {
                tracing::debug!(unusable, "authorities of this host that cannot be used");
            }
            if roots.is_empty() {
                let why = found.errors.first().map(ToString::to_string);
                return Err(format!(
                    "this host trusts no authority for https: install the package \
                     ca-certificates{}",
                    why.map(|why| format!(" ({why})")).unwrap_or_default()
                ));
            }
        }
    }
    let settings = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    let mut settings = match identity {
        None => settings.with_no_client_auth(),
        Some(identity) => {
            let key = PrivateKeyDer::from_pem_file(&identity.key)
                .map_err(|error| format!("no key in {}: {error}", identity.key.display()))?;
            settings
                .with_client_auth_cert(certificates(&identity.certificate)?, key)
                .map_err(|error| no_certificate(&identity.certificate, &error))?
        }
    };
    // A resumed session would not show the certificate, and uplinks share these settings.
    settings.resumption = Resumption::disabled();
    Ok(Arc::new(settings))
}

/// The certificates of a PEM file; at least one.
fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| no_certificate(file, &error))?;
    if certificates.is_empty() {
        return Err(no_certificate(file, &"it has none"));
    }
    Ok(certificates)
}

fn no_certificate(file: &Path, why: &dyn std::fmt::Display) -> String {
    format!("no certificate can be read from {}: {why}", file.display())
}

/// Makes a connection a TLS connection with the host.
pub(crate) async fn connect(
    trust: &Arc<ClientConfig>,
    host: &Host,
    stream: TcpStream,
) -> Result<TlsStream<TcpStream>, Failure> {
    let name = match host {
        Host::Address(address) => ServerName::from(*address),
        Host::Name(name) => ServerName::try_from(name.as_str().to_owned())
            .map_err(|error| Failure::Tls(format!("{name}: {error}")))?,
    };
    let connector = TlsConnector::from(Arc::clone(trust));
    connector.connect(name, stream).await.map_err(|error| {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return Failure::Tls("the server closed the connection".to_owned());
        }
        failure(&error).unwrap_or_else(|| way::failure(&error))
    })
}

/// What an error of a connection means, if it is one of TLS.
pub(crate) fn failure(error: &io::Error) -> Option<Failure> {
    let error = error.get_ref()?.downcast_ref::<Error>()?;
    Some(Failure::Tls(match error {
        Error::InvalidCertificate(error) => certificate(error),
        Error::InvalidMessage(_) => "what the server speaks is not TLS".to_owned(),
        other => other.to_string(),
    }))
}

fn certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the certificate has expired (or this host's clock is wrong)".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the certificate is not valid yet (or this host's clock is wrong)".to_owned()
        }
        CertificateError::UnknownIssuer => {
            "the certificate is from an authority that is not trusted: a captive portal?".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "the certificate is for another name: a captive portal?".to_owned()
        }
        CertificateError::Revoked => "the certificate is revoked".to_owned(),
        other => format!("the certificate is not valid: {other}"),
    }
}
