//! A real docker-registry on a port of its own: open, with passwords over TLS, or behind a token server.
//!
//! What arrived there is read from its storage directory, so that no client and no authentication stands between.

use std::fs::{self, File};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use serde_json::Value;
use tempfile::TempDir;

use super::certificates::Authority;
use super::tokens::Tokens;
use super::{process, until, wire};

/// The one user of registries that want one.
pub(crate) const USER: &str = "somebody";
/// Its password.
pub(crate) const PASSWORD: &str = "s3cret pass";
/// The same as htpasswd keeps it (bcrypt).
const HASHED: &str = "$2b$04$LkHuli6NpyC3uCKLRIHOtuQrfM9y4Z9kKfj5ELKUYQbOWQKZe8sJm";

/// A running registry, and everything it keeps; all of it goes when this is dropped.
#[derive(Debug)]
pub(crate) struct Registry {
    address: String,
    child: Child,
    place: TempDir,
    authority: Option<Authority>,
}

/// A manifest with what it names, as bytes and digests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) manifest: Vec<u8>,
    /// Of the manifest, the config and the layers, in this order.
    pub(crate) digests: Vec<String>,
}

impl Registry {
    /// In the clear, for everybody.
    pub(crate) fn open() -> Self {
        Self::start("127.0.0.1", "", tempdir(), None)
    }

    /// In the clear, for those who bring a token.
    pub(crate) fn behind(tokens: &Tokens) -> Self {
        let auth = format!(
            "auth: {{token: {{realm: '{}', service: {}, issuer: {}, rootcertbundle: {}}}}}\n",
            tokens.realm(),
            Tokens::SERVICE,
            Tokens::ISSUER,
            tokens.certificate().display()
        );
        Self::start("127.0.0.1", &auth, tempdir(), None)
    }

    /// Over TLS, with a certificate that only a private authority vouches for, for [`USER`] with [`PASSWORD`].
    pub(crate) fn private(host: IpAddr) -> Self {
        let place = tempdir();
        let authority = Authority::new(&place.path().join("certificates"), host);
        fs::write(place.path().join("htpasswd"), format!("{USER}:{HASHED}\n")).unwrap();
        let htpasswd = place.path().join("htpasswd");
        let auth = format!("auth: {{htpasswd: {{realm: compat, path: {}}}}}\n", htpasswd.display());
        Self::start(&host.to_string(), &auth, place, Some(authority))
    }

    fn start(host: &str, auth: &str, place: TempDir, authority: Option<Authority>) -> Self {
        let tls = authority.as_ref().map(|a| {
            format!(", tls: {{certificate: {}, key: {}}}", a.certificate().display(), a.key().display())
        });
        let config = format!(
            "version: 0.1\nlog: {{accesslog: {{disabled: true}}}}\n{auth}\
             storage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\n\
             http: {{addr: '{host}:0', secret: compat{}}}\n",
            place.path().join("data").display(),
            tls.unwrap_or_default()
        );
        fs::write(place.path().join("config.yml"), config).unwrap();
        let log = File::create(place.path().join("log")).unwrap();
        let mut command = Command::new(process::program("docker-registry"));
        command.arg("serve").arg(place.path().join("config.yml")).stdin(Stdio::null());
        let mut child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let address = until("the registry listens", || {
            let said = fs::read_to_string(place.path().join("log")).unwrap_or_default();
            assert!(child.try_wait().unwrap().is_none(), "the registry ended:\n{said}");
            let rest = said.split_once("listening on ")?.1;
            let end = rest.find(|c: char| c != ':' && c != '.' && !c.is_ascii_digit())?;
            Some(rest[..end].to_owned())
        });
        Self { address, child, place, authority }
    }

    /// `HOST:PORT`
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The full name of something in this registry.
    pub(crate) fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.address)
    }

    /// Has the machine's daemons believe this registry's authority, until the answer is dropped.
    pub(crate) fn trusted(&self) -> Trust {
        let authority = self.authority.as_ref().expect("a registry over TLS");
        Trust::new(&self.address, &authority.root())
    }

    /// What a tag names, and everything below it.
    ///
    /// # Panics
    /// When any of it is missing, or is not what its digest says.
    pub(crate) fn stored(&self, repository: &str, tag: &str) -> Stored {
        let digest = self.tagged(repository, tag).unwrap_or_else(|| panic!("no {repository}:{tag} arrived"));
        let manifest = self.blob(&digest);
        let parsed: Value = serde_json::from_slice(&manifest).unwrap();
        let layers = parsed["layers"].as_array().unwrap_or_else(|| panic!("no layers in {parsed}"));
        let named = [&parsed["config"]].into_iter().chain(layers);
        let mut digests = vec![digest];
        for descriptor in named {
            let digest = descriptor["digest"].as_str().unwrap().to_owned();
            let bytes = self.blob(&digest);
            assert_eq!(descriptor["size"], bytes.len(), "{digest}");
            digests.push(digest);
        }
        Stored { manifest, digests }
    }

    /// The digest that a tag names.
    pub(crate) fn tagged(&self, repository: &str, tag: &str) -> Option<String> {
        let link = format!("repositories/{repository}/_manifests/tags/{tag}/current/link");
        fs::read_to_string(self.storage().join(link)).ok()
    }

    /// A blob, checked.
    pub(crate) fn blob(&self, digest: &str) -> Vec<u8> {
        let hex = digest.strip_prefix("sha256:").unwrap();
        let file = self.storage().join(format!("blobs/sha256/{}/{hex}/data", &hex[..2]));
        let bytes = fs::read(file).unwrap_or_else(|e| panic!("blob {digest}: {e}"));
        assert_eq!(super::artifact::digest(&bytes), digest);
        bytes
    }

    /// Uploads a blob; only to an open registry.
    pub(crate) fn put_blob(&self, repository: &str, bytes: &[u8]) {
        let answer = wire::ask(&self.address, "POST", &format!("/v2/{repository}/blobs/uploads/"), &[], b"");
        assert_eq!(answer.status, 202, "{}", answer.text());
        let location = answer.header("location").unwrap();
        let target = location.split_once(&self.address).map_or(location, |(_, target)| target);
        let target = format!("{target}&digest={}", super::artifact::digest(bytes));
        let kind = [("Content-Type", "application/octet-stream")];
        let answer = wire::ask(&self.address, "PUT", &target, &kind, bytes);
        assert_eq!(answer.status, 201, "{}", answer.text());
    }

    /// Uploads a manifest or an index; only to an open registry.
    pub(crate) fn put_manifest(&self, repository: &str, tag: &str, media_type: &str, bytes: &[u8]) {
        let target = format!("/v2/{repository}/manifests/{tag}");
        let answer = wire::ask(&self.address, "PUT", &target, &[("Content-Type", media_type)], bytes);
        assert_eq!(answer.status, 201, "{}", answer.text());
    }

    fn storage(&self) -> PathBuf {
        self.place.path().join("data/docker/registry/v2")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn tempdir() -> TempDir {
    tempfile::Builder::new().prefix("compat-registry").tempdir().unwrap()
}

/// Where Docker, and dockplugd with it, looks for the authorities of registries.
const AUTHORITIES: &str = "/etc/docker/certs.d";

/// Held while a directory appears below [`AUTHORITIES`] or goes, with parents that were made for it.
static AUTHORITIES_TURN: Mutex<()> = Mutex::new(());

/// An authority that is believed for one registry; no longer when this is dropped.
#[derive(Debug)]
pub(crate) struct Trust {
    directory: PathBuf,
    made: Vec<PathBuf>,
}

impl Trust {
    fn new(registry: &str, root: &Path) -> Self {
        let _turn = AUTHORITIES_TURN.lock();
        let directory = Path::new(AUTHORITIES).join(registry);
        let parents = directory.ancestors().skip(1);
        let made: Vec<PathBuf> = parents.take_while(|p| !p.exists()).map(PathBuf::from).collect();
        fs::create_dir_all(&directory).unwrap();
        fs::copy(root, directory.join("ca.crt")).unwrap();
        Self { directory, made }
    }
}

impl Drop for Trust {
    fn drop(&mut self) {
        let _turn = AUTHORITIES_TURN.lock();
        let _ = fs::remove_dir_all(&self.directory);
        for parent in &self.made {
            // Somebody else's by now, when it is not empty.
            let _ = fs::remove_dir(parent);
        }
    }
}
