//! Where a legacy plugin listens, as its file says: `unix://`, `tcp://`, `http://` or `https://`, alone or in JSON with
//! the certificates that TLS needs.
//!
//! The rules are dockerd's (moby `pkg/plugins/discovery.go`, `client.go`): a path in an address is ignored; an address
//! alone, and JSON with a `TLSConfig` that names no authority, believe anybody. Blocking, for files are read.

use std::fs::File;
use std::io::{self, Read as _};
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::super::answer::Answer;
use super::super::error::LegacyError;
use super::super::way::{Remote, Way};
use super::discover::{Form, Source};
use crate::trust::{self, Identity, Trust};

/// How much of a file is read, in bytes: an address, or some certificates.
const FILE_MAX_BYTES: u64 = 1024 * 1024;

type Result<T> = std::result::Result<T, LegacyError>;

/// An address, taken apart.
#[derive(Debug, PartialEq, Eq)]
enum Address {
    Unix(PathBuf),
    Tcp { authority: String, host: String, port: u16, is_secure: bool },
}

/// Reads how a plugin is reached.
pub(super) fn read(source: &Source) -> Result<Way> {
    let path = &source.path;
    let wrong = |problem| LegacyError::Content { path: path.clone(), problem };
    let (address, trust, identity) = match source.form {
        Form::Socket => return Ok(Way::Socket(path.clone())),
        Form::Spec => {
            let bytes = contents(path)?;
            let text = std::str::from_utf8(&bytes).map_err(|_| wrong("it is not UTF-8".to_owned()))?;
            (text.trim().to_owned(), Trust::Anybody, None)
        }
        Form::Json => {
            let mut json = Answer::parse(&contents(path)?).map_err(wrong)?;
            let address = json.text("Addr").map_err(wrong)?;
            let tls = json.object("TLSConfig").map_err(wrong)?;
            let (trust, identity) = match tls {
                Some(tls) => read_tls(path, tls)?,
                None => (Trust::SystemAnd(Vec::new()), None),
            };
            (address, trust, identity)
        }
    };
    let remote = match parse(&address).map_err(wrong)? {
        Address::Unix(socket) => return Ok(Way::Socket(socket)),
        Address::Tcp { authority, host, port, is_secure: false } => {
            Remote { authority, host, port, tls: None }
        }
        Address::Tcp { authority, host, port, is_secure: true } => {
            if matches!(trust, Trust::Anybody) {
                let path = path.display();
                tracing::warn!(%path, "the legacy plugin is not asked who it is: JSON with a TLSConfig.CAFile would say");
            }
            let tls = trust::client(trust, identity).map_err(|error| wrong(error.to_string()))?;
            Remote { authority, host, port, tls: Some(Arc::new(tls)) }
        }
    };
    Ok(Way::Tcp(remote))
}

/// Go's `tlsconfig.Options`, as far as they can be written.
fn read_tls(path: &Path, mut tls: Answer) -> Result<(Trust, Option<Identity>)> {
    let wrong = |problem| LegacyError::Content { path: path.to_owned(), problem };
    let skips = tls.flag("InsecureSkipVerify").map_err(wrong)?;
    let [authority, certificate, key] =
        ["CAFile", "CertFile", "KeyFile"].map(|field| tls.path(field).map(PathBuf::from));
    let (authority, certificate, key) =
        (authority.map_err(wrong)?, certificate.map_err(wrong)?, key.map_err(wrong)?);
    let is_set = |file: &Path| !file.as_os_str().is_empty();
    let trust = if skips || !is_set(&authority) {
        Trust::Anybody
    } else {
        Trust::SystemAnd(certificates(&authority)?)
    };
    let identity = match (is_set(&certificate), is_set(&key)) {
        (false, false) => None,
        (true, true) => Some((certificates(&certificate)?, private_key(&key)?)),
        _ => return Err(wrong("CertFile and KeyFile go together, only one of them is set".to_owned())),
    };
    Ok((trust, identity))
}

fn parse(address: &str) -> std::result::Result<Address, String> {
    let expected = "expected unix:///PATH, tcp://HOST:PORT, http://HOST:PORT or https://HOST:PORT";
    let wrong = |why: &str| format!("the address {address:?} {why}, {expected}");
    let (scheme, rest) = address.split_once("://").ok_or_else(|| wrong("has no protocol"))?;
    let (is_secure, default_port) = match scheme {
        "unix" if rest.starts_with('/') && !rest.contains('\0') => return Ok(Address::Unix(rest.into())),
        "unix" => return Err(wrong("names no absolute path")),
        "tcp" | "http" => (false, 80),
        "https" => (true, 443),
        _ => return Err(wrong("has an unknown protocol")),
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
    if authority.is_empty() || !authority.chars().all(is_plain) {
        return Err(wrong("names no host"));
    }
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) if host.parse::<Ipv6Addr>().is_ok() => {
            (host, port.strip_prefix(':').or(Some(port)))
        }
        Some(_) => return Err(wrong("names no host")),
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let port = match port.filter(|port| !port.is_empty()) {
        Some(port) => port.parse().map_err(|_| wrong("has a port that is no number below 65536"))?,
        None => default_port,
    };
    if host.is_empty() || host.contains(['[', ']']) {
        return Err(wrong("names no host"));
    }
    Ok(Address::Tcp { authority: authority.to_owned(), host: host.to_owned(), port, is_secure })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let bytes = contents(path)?;
    let found: Vec<_> =
        CertificateDer::pem_slice_iter(&bytes).collect::<std::result::Result<_, _>>().unwrap_or_default();
    if found.is_empty() {
        let problem = "there is no certificate in it, expected PEM".to_owned();
        return Err(LegacyError::Content { path: path.to_owned(), problem });
    }
    Ok(found)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(&contents(path)?).map_err(|_| LegacyError::Content {
        path: path.to_owned(),
        problem: "there is no private key in it, expected PEM (not encrypted)".to_owned(),
    })
}

fn contents(path: &Path) -> Result<Vec<u8>> {
    let failed = |source| LegacyError::Read { path: path.to_owned(), source };
    // A pipe, say, would be waited for.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(failed(io::Error::other("it is no regular file")));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(FILE_MAX_BYTES).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart_as_dockerd_does() {
        let tcp = |authority: &str, host: &str, port, is_secure| {
            Ok(Address::Tcp { authority: authority.into(), host: host.into(), port, is_secure })
        };
        let table = [
            ("unix:///run/p.sock", Ok(Address::Unix("/run/p.sock".into()))),
            ("tcp://10.0.0.1:7070", tcp("10.0.0.1:7070", "10.0.0.1", 7070, false)),
            ("http://plugin.lan", tcp("plugin.lan", "plugin.lan", 80, false)),
            ("https://plugin.lan/some/path?x", tcp("plugin.lan", "plugin.lan", 443, true)),
            ("https://[::1]:8443", tcp("[::1]:8443", "::1", 8443, true)),
            ("tcp://[::1]", tcp("[::1]", "::1", 80, false)),
            ("", Err("has no protocol")),
            ("/run/p.sock", Err("has no protocol")),
            ("unix://p.sock", Err("no absolute path")),
            ("npipe:////./pipe/p", Err("unknown protocol")),
            ("tcp://", Err("no host")),
            ("tcp://:7070", Err("no host")),
            ("tcp://me:secret@host", Err("no host")),
            ("tcp://host:70000", Err("no number")),
            ("tcp://host:1:2", Err("no number")),
            ("tcp://[nope]:1", Err("no host")),
            ("tcp://[::1]x:1", Err("no number")),
            ("http://ho st", Err("no host")),
        ];
        for (address, expected) in table {
            match (parse(address), expected) {
                (Ok(got), Ok(expected)) => assert_eq!(got, expected, "{address}"),
                (Err(got), Err(words)) => assert!(got.contains(words), "{address}: {got}"),
                (got, expected) => panic!("{address}: {got:?}, expected {expected:?}"),
            }
        }
    }

    #[test]
    fn what_is_wrong_with_a_file_is_told() {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name).display().to_string();
        std::fs::write(path("nothing.pem"), "no PEM").unwrap();
        for (file, content, words) in [
            ("p.spec", "\u{1}".to_owned(), "has no protocol"),
            ("p.json", "{".to_owned(), "the body is not JSON"),
            ("p.json", r#"{"Addr": 1}"#.to_owned(), "Addr is a number, expected a string"),
            ("p.json", r#"{"Name": "p"}"#.to_owned(), "has no protocol"),
            (
                "p.json",
                r#"{"Addr": "https://h", "TLSConfig": {"CAFile": "/nonexistent"}}"#.to_owned(),
                "reading /none",
            ),
            (
                "p.json",
                format!(r#"{{"Addr": "https://h", "TLSConfig": {{"CAFile": {:?}}}}}"#, path("nothing.pem")),
                "no certificate in it",
            ),
            (
                "p.json",
                r#"{"Addr": "https://h", "TLSConfig": {"InsecureSkipVerify": true, "KeyFile": "/k"}}"#
                    .to_owned(),
                "CertFile and KeyFile go together",
            ),
            (
                "p.json",
                r#"{"Addr": "https://h", "TLSConfig": {"InsecureSkipVerify": "yes"}}"#.to_owned(),
                "InsecureSkipVerify is a string, expected a boolean",
            ),
        ] {
            std::fs::write(path(file), &content).unwrap();
            let source = super::super::discover::find(&[place.path().to_owned()], "p").unwrap();
            let error = read(&source).unwrap_err().to_string();
            assert!(error.contains(words), "{content}: {error}");
            std::fs::remove_file(path(file)).unwrap();
        }
    }
}
