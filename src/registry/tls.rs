//! Whom to believe over TLS, and who we are: the system's roots, `certs.d/<host>/`, and the insecure ones.
//!
//! Blocking, because files are read; knows nothing of HTTP. The directory's rules and complaints are dockerd's
//! (`ReadCertsDirectory` in `registry/registry.go`): `*.crt` are roots beside the system's, `*.cert` with `*.key` is a
//! client certificate, one without the other is an error. Unlike dockerd, a client certificate is shown to insecure
//! registries too; of several, the first by name is. The system's roots are read as Go does (`SSL_CERT_FILE` and
//! `SSL_CERT_DIR` are honoured).

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::error::{Error, Result};
use super::limits::CERTIFICATE_FILE_LIMIT_BYTES;
use crate::trust::{self, Identity, Trust};

/// What `certs.d` says about one registry.
#[derive(Debug, Default)]
pub(super) struct Certificates {
    roots: Vec<CertificateDer<'static>>,
    identity: Option<Identity>,
}

impl Certificates {
    /// Reads the directories, of which any may be missing.
    ///
    /// # Errors
    /// [`Error::CertificateFile`], [`Error::CertificateContent`], [`Error::CertificateWithoutKey`],
    /// [`Error::KeyWithoutCertificate`].
    pub(super) fn read(directories: &[PathBuf]) -> Result<Self> {
        let mut certificates = Self::default();
        for directory in directories {
            certificates.read_directory(directory)?;
        }
        Ok(certificates)
    }

    fn read_directory(&mut self, directory: &Path) -> Result<()> {
        let failed = |source| Error::CertificateFile { path: directory.to_owned(), source };
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        let names: io::Result<BTreeSet<String>> = entries
            .map(|entry| entry.map(|entry| entry.file_name()))
            .filter_map(|name| name.map(|name| name.into_string().ok()).transpose())
            .collect();
        let names = names.map_err(failed)?;
        for name in &names {
            let path = directory.join(name);
            if name.strip_suffix(".crt").is_some() {
                self.roots.extend(chain(&path)?);
            } else if let Some(stem) = name.strip_suffix(".cert") {
                let key = format!("{stem}.key");
                if !names.contains(&key) {
                    return Err(Error::CertificateWithoutKey { key, certificate: name.clone() });
                }
                if self.identity.is_none() {
                    self.identity = Some((chain(&path)?, private_key(&directory.join(key))?));
                }
            } else if let Some(stem) = name.strip_suffix(".key") {
                let certificate = format!("{stem}.cert");
                if !names.contains(&certificate) {
                    return Err(Error::KeyWithoutCertificate { certificate, key: name.clone() });
                }
            }
        }
        Ok(())
    }
}

/// The TLS side of a client for `host`. Reads the system's roots unless the host is `insecure`.
///
/// # Errors
/// [`Error::Tls`] when there is no root at all, or a client certificate does not fit its key.
pub(super) fn config(host: &str, certificates: Certificates, insecure: bool) -> Result<ClientConfig> {
    let Certificates { roots, identity } = certificates;
    let trust = if insecure { Trust::Anybody } else { Trust::SystemAnd(roots) };
    trust::client(trust, identity).map_err(|source| Error::Tls { host: host.to_owned(), source })
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let bytes = contents(path)?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&bytes).collect::<Result<_, _>>().unwrap_or_default();
    if chain.is_empty() {
        return Err(Error::CertificateContent {
            path: path.to_owned(),
            reason: "no certificate in it, expected PEM".to_owned(),
        });
    }
    Ok(chain)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(&contents(path)?).map_err(|_| Error::CertificateContent {
        path: path.to_owned(),
        reason: "no private key in it, expected PEM (PKCS#1, PKCS#8 or SEC1, not encrypted)".to_owned(),
    })
}

fn contents(path: &Path) -> Result<Vec<u8>> {
    let failed = |source| Error::CertificateFile { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(failed)?;
    file.take(CERTIFICATE_FILE_LIMIT_BYTES).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(directory.path().join(name), text).unwrap();
        }
        directory
    }

    #[test]
    fn pairs_must_be_whole_and_files_what_they_are_called() {
        let table: [(&[(&str, &str)], &str); 5] = [
            (
                &[("client.cert", "")],
                "missing key client.key for client certificate client.cert. Note that CA certificates should use the extension .crt",
            ),
            (&[("client.key", "")], "missing client certificate client.cert for key client.key"),
            (&[("ca.crt", "not PEM")], "no certificate in it"),
            (&[("a.cert", "x"), ("a.key", "x")], "no certificate in it"),
            (&[("README", "x")], ""),
        ];
        for (files, words) in table {
            let directory = directory(files);
            let result = Certificates::read(&[directory.path().to_owned(), "/nonexistent".into()]);
            match result {
                Ok(certificates) => assert!(words.is_empty() && certificates.roots.is_empty(), "{words}"),
                Err(error) => assert!(!words.is_empty() && error.to_string().contains(words), "{error}"),
            }
        }
    }
}
