//! A real docker-registry, started for one test and stopped with it.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

/// The password of user `ann`.
pub(super) const PASSWORD: &str = "s3cret-Passw0rd";
/// Its bcrypt, as htpasswd writes it.
const HTPASSWD: &str = "ann:$2b$05$abcdefghijklmnopqrstuugcO5vo4i5a2aa/W7eUDccAcfGbEhsYO\n";

/// A running registry and its directory.
#[derive(Debug)]
pub(super) struct Registry {
    child: Child,
    /// `127.0.0.1:port`
    pub(super) host: String,
    directory: tempfile::TempDir,
}

/// How a registry is set up.
#[derive(Debug, Default)]
pub(super) struct Setup {
    /// User `ann` with [`PASSWORD`], and nobody else.
    pub(super) htpasswd: bool,
    pub(super) tls: Option<ServerTls>,
    /// The token server's URL and the certificate it signs with (PEM).
    pub(super) tokens: Option<(String, String)>,
}

/// The PEM files of a TLS server.
#[derive(Debug)]
pub(super) struct ServerTls {
    pub(super) certificate: String,
    pub(super) key: String,
    /// Who signs the clients it lets in; anybody without.
    pub(super) clients: Option<String>,
}

impl Registry {
    /// An open registry in the clear.
    pub(super) fn open() -> Self {
        Self::start(&Setup::default())
    }

    pub(super) fn start(setup: &Setup) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).display().to_string();
        let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
        let mut config = format!(
            "version: 0.1\nlog: {{level: info, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\n\
             http:\n  addr: 127.0.0.1:0\n",
            path("data")
        );
        if let Some(tls) = &setup.tls {
            write("server.crt", &tls.certificate);
            write("server.key", &tls.key);
            write!(
                config,
                "  tls:\n    certificate: {}\n    key: {}\n",
                path("server.crt"),
                path("server.key")
            )
            .unwrap();
            if let Some(clients) = &tls.clients {
                write("clients.crt", clients);
                writeln!(config, "    clientcas: [{}]", path("clients.crt")).unwrap();
            }
        }
        if setup.htpasswd {
            write("htpasswd", HTPASSWD);
            writeln!(config, "auth: {{htpasswd: {{realm: test, path: {}}}}}", path("htpasswd")).unwrap();
        }
        if let Some((realm, certificate)) = &setup.tokens {
            write("tokens.crt", certificate);
            let bundle = path("tokens.crt");
            writeln!(
                config,
                "auth: {{token: {{realm: '{realm}', service: test-registry, issuer: test-issuer, rootcertbundle: {bundle}}}}}"
            )
            .unwrap();
        }
        write("config.yml", &config);
        let mut child = Command::new(binary())
            .args(["serve", &path("config.yml")])
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let host = listening(&mut child);
        Self { child, host, directory }
    }

    /// How many bytes of unfinished uploads lie in the repository `name`.
    pub(super) fn has_uploads(&self, name: &str) -> bool {
        let uploads =
            self.directory.path().join("data/docker/registry/v2/repositories").join(name).join("_uploads");
        std::fs::read_dir(uploads).is_ok_and(|mut entries| entries.next().is_some())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads the log up to the address; the rest is read away, so that the registry never waits for us.
fn listening(child: &mut Child) -> String {
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut seen = String::new();
    let host = loop {
        let mut line = String::new();
        assert!(log.read_line(&mut line).unwrap() > 0, "docker-registry ended: {seen}");
        if let Some((_, rest)) = line.split_once("listening on ") {
            break rest.split(['"', ',']).next().unwrap().to_owned();
        }
        seen.push_str(&line);
    };
    std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
    host
}

fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("DOCKPLUG_TEST_REGISTRY") {
        return path.into();
    }
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers/usr/bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([own])
        .map(|directory| directory.join("docker-registry"))
        .find(|path| path.is_file())
        .expect("docker-registry: set DOCKPLUG_TEST_REGISTRY, or unpack Debian's package to target/peers")
}

/// An authority that signs for one test.
pub(super) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "a test's authority");
        Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    /// Its own certificate (PEM).
    pub(super) fn certificate(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for `names` and its key (PEM).
    pub(super) fn sign(&self, names: &[&str]) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}
