//! Certificates, made by the machine's openssl when a test needs them: a private authority, and what it vouches for.

use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::process;

/// A private authority, and a server's certificate that it has signed.
#[derive(Debug)]
pub(crate) struct Authority {
    directory: PathBuf,
}

impl Authority {
    /// Makes both below `directory`; the server is known by its address.
    pub(crate) fn new(directory: &Path, server: IpAddr) -> Self {
        fs::create_dir_all(directory).unwrap();
        let config = format!(
            "[req]\ndistinguished_name=name\n[name]\n\
             [authority]\nbasicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\nsubjectKeyIdentifier=hash\n\
             [server]\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\nsubjectAltName=IP:{server}\n"
        );
        fs::write(directory.join("openssl.cnf"), config).unwrap();
        let new_key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        openssl(
            directory,
            &format!(
                "req -x509 -config openssl.cnf -extensions authority -subj /CN=compat-authority -days 2 {new_key} \
                 -keyout authority.key -out authority.crt"
            ),
            b"",
        );
        openssl(
            directory,
            &format!(
                "req -new -config openssl.cnf -subj /CN=compat-server {new_key} -keyout server.key -out server.csr"
            ),
            b"",
        );
        openssl(
            directory,
            "x509 -req -in server.csr -CA authority.crt -CAkey authority.key -set_serial 2 -days 2 \
             -extfile openssl.cnf -extensions server -out server.crt",
            b"",
        );
        Self { directory: directory.to_owned() }
    }

    /// The authority's own certificate (PEM).
    pub(crate) fn root(&self) -> PathBuf {
        self.directory.join("authority.crt")
    }

    /// The server's certificate (PEM).
    pub(crate) fn certificate(&self) -> PathBuf {
        self.directory.join("server.crt")
    }

    /// The server's key (PEM).
    pub(crate) fn key(&self) -> PathBuf {
        self.directory.join("server.key")
    }
}

/// A key that signs tokens (RS256), and its own certificate.
#[derive(Debug)]
pub(crate) struct Signer {
    directory: PathBuf,
}

impl Signer {
    pub(crate) fn new(directory: &Path) -> Self {
        fs::create_dir_all(directory).unwrap();
        fs::write(directory.join("openssl.cnf"), "[req]\ndistinguished_name=name\n[name]\n").unwrap();
        openssl(
            directory,
            "req -x509 -config openssl.cnf -subj /CN=compat-tokens -days 2 -newkey rsa:2048 -nodes \
             -keyout signer.key -out signer.crt",
            b"",
        );
        Self { directory: directory.to_owned() }
    }

    /// Its certificate (PEM).
    pub(crate) fn certificate(&self) -> PathBuf {
        self.directory.join("signer.crt")
    }

    /// Its certificate (DER) in base64.
    pub(crate) fn certificate_base64(&self) -> String {
        let pem = fs::read_to_string(self.certificate()).unwrap();
        pem.lines().filter(|l| !l.starts_with('-')).collect()
    }

    /// The signature over some bytes.
    pub(crate) fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        openssl(&self.directory, "dgst -sha256 -sign signer.key", bytes)
    }
}

fn openssl(directory: &Path, arguments: &str, input: &[u8]) -> Vec<u8> {
    let mut command = Command::new(process::program("openssl"));
    command.args(arguments.split_whitespace()).current_dir(directory).stdin(Stdio::piped());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}
