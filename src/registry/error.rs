//! What can go wrong between us and a registry.
//!
//! The texts a client sees are dockerd's where it has them; the registry's own words come last, bounded, without
//! control characters and without any secret of the user's. URLs are told without their query, which may be signed.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::StatusCode;

use crate::error::{Classified, Kind};
use crate::oci;

/// The result of everything in this room that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation on a registry failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A configured `--registry-mirror` is no mirror.
    #[error("invalid mirror: {reason}")]
    Mirror {
        /// What is wrong, with the mirror.
        reason: String,
    },
    /// A configured `--insecure-registry` is neither a host nor a network.
    #[error("insecure registry {registry} {reason}")]
    InsecureRegistry {
        /// As configured.
        registry: String,
        /// What is wrong.
        reason: String,
    },
    /// A file or directory of `certs.d` cannot be read.
    #[error("reading certificates in {}", path.display())]
    CertificateFile {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file of `certs.d` is not what its name says.
    #[error("{}: {reason}", path.display())]
    CertificateContent {
        /// The file.
        path: PathBuf,
        /// What was expected of it.
        reason: String,
    },
    /// A client certificate without its key.
    #[error(
        "missing key {key} for client certificate {certificate}. Note that CA certificates should use the extension .crt"
    )]
    CertificateWithoutKey {
        /// The file that is missing.
        key: String,
        /// The file that is there.
        certificate: String,
    },
    /// A key without its client certificate.
    #[error("missing client certificate {certificate} for key {key}")]
    KeyWithoutCertificate {
        /// The file that is missing.
        certificate: String,
        /// The file that is there.
        key: String,
    },
    /// TLS could not be set up.
    #[error("setting up TLS for {host}")]
    Tls {
        /// For which registry.
        host: String,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// The HTTP client could not be built.
    #[error("setting up HTTP for {host}")]
    Http {
        /// For which registry.
        host: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The registry cannot be reached, or the connection broke before an answer.
    #[error("{method} {url:?}")]
    Unreachable {
        /// In Go's way: `Get`, `Head`, …
        method: String,
        /// Without its query.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The registry went silent.
    #[error("{url} sent nothing for {} s while {phase}", waited.as_secs_f32())]
    Stalled {
        /// Without its query.
        url: String,
        /// What we were waiting for.
        phase: &'static str,
        /// How long we waited.
        waited: Duration,
    },
    /// The registry wants authentication in a way that cannot be understood.
    #[error(
        "{host} asks for authentication with a challenge that is not understood: {got:?}, expected Basic or Bearer"
    )]
    Challenge {
        /// The registry.
        host: String,
        /// What it sent, shortened.
        got: String,
    },
    /// The place where tokens are to be fetched is none.
    #[error("{host} names {realm:?} as its token server: {reason}")]
    Realm {
        /// The registry.
        host: String,
        /// What it sent, shortened.
        realm: String,
        /// What is wrong with that.
        reason: &'static str,
    },
    /// The token server did not give a token, for another reason than the credentials.
    #[error("token server {host}: {words}")]
    TokenServer {
        /// The token server.
        host: String,
        /// What it said, or what is wrong with its answer.
        words: String,
    },
    /// The registry wants user name and password, and we have none.
    #[error("no basic auth credentials")]
    NoBasicCredentials,
    /// Credentials are missing or wrong: `unauthorized: authentication required`.
    #[error("{words}")]
    Unauthorized {
        /// The registry's words.
        words: String,
    },
    /// Credentials are fine and do not permit this: `denied: requested access to the resource is denied`.
    #[error("{words}")]
    Denied {
        /// The registry's words.
        words: String,
    },
    /// The repository is not there, or hidden.
    #[error(
        "pull access denied for {name}, repository does not exist or may require 'docker login': {words}"
    )]
    PullDenied {
        /// Its familiar name, without a tag.
        name: String,
        /// The registry's words.
        words: String,
    },
    /// The repository has no such tag or digest.
    #[error("manifest for {reference} not found: {words}")]
    ManifestUnknown {
        /// The familiar reference.
        reference: String,
        /// The registry's words.
        words: String,
    },
    /// The registry has no such repository.
    #[error("repository {name} not found: {words}")]
    RepositoryUnknown {
        /// Its familiar name.
        name: String,
        /// The registry's words.
        words: String,
    },
    /// The registry lacks a blob that a manifest names.
    #[error("blob {digest} not found: {words}")]
    BlobUnknown {
        /// Which.
        digest: oci::Digest,
        /// The registry's words.
        words: String,
    },
    /// The registry wants to be left alone for longer than we wait.
    #[error("{words}")]
    TooManyRequests {
        /// The registry's words.
        words: String,
    },
    /// Any other refusal.
    #[error("{words}")]
    Refused {
        /// The status.
        status: StatusCode,
        /// The registry's words.
        words: String,
    },
    /// `docker login` did not succeed, in dockerd's words.
    #[error("login attempt to {url} failed with status: {status}")]
    Login {
        /// What was asked.
        url: String,
        /// The status.
        status: StatusCode,
    },
    /// The address to log in to is none.
    #[error("unable to parse server address: {address:?}")]
    ServerAddress {
        /// As the client sent it, shortened.
        address: String,
    },
    /// A body that is too long for what it is.
    #[error("{what} is larger than {limit_bytes} bytes, the most that is read")]
    TooLarge {
        /// Which body.
        what: String,
        /// Its bound.
        limit_bytes: usize,
    },
    /// A blob whose size is not the one its descriptor promises.
    #[error("blob {digest} has {got_bytes} bytes, expected {expected_bytes}")]
    Size {
        /// Which.
        digest: oci::Digest,
        /// So many, or at least so many.
        got_bytes: u64,
        /// What the descriptor says.
        expected_bytes: u64,
    },
    /// Content that is not what its name says.
    #[error("{what} has the digest {got}, expected {expected}")]
    DigestMismatch {
        /// Which content.
        what: String,
        /// What it is.
        got: oci::Digest,
        /// What was asked for.
        expected: oci::Digest,
    },
    /// A `Docker-Content-Digest` that is none.
    #[error("{header:?} in header not a valid digest")]
    DigestHeader {
        /// What the registry sent, shortened.
        header: String,
        /// What is wrong with it.
        #[source]
        source: oci::Error,
    },
    /// A manifest or an index that cannot be read.
    #[error("{reference}: {reason}")]
    Manifest {
        /// The familiar reference.
        reference: String,
        /// What is wrong.
        reason: String,
    },
    /// An index that has nothing for this machine.
    #[error(
        "no matching manifest for {wanted} in the manifest list entries, which are for {}",
        list(available)
    )]
    NoPlatform {
        /// This machine's platform.
        wanted: String,
        /// What there is.
        available: Vec<String>,
    },
    /// The answer to a Range request is about other bytes.
    #[error("blob {digest}: unhandled content range in response: {got:?}, expected bytes from {offset}")]
    Range {
        /// Which blob.
        digest: oci::Digest,
        /// What the registry sent, shortened.
        got: String,
        /// Where we wanted to go on.
        offset: u64,
    },
    /// The connection broke again and again, although the registry answers.
    #[error("blob {digest}: the connection broke after {offset} of {size_bytes} bytes")]
    Broken {
        /// Which blob.
        digest: oci::Digest,
        /// How far we came.
        offset: u64,
        /// How far we wanted to come.
        size_bytes: u64,
        /// The last failure, when the connection did not just end.
        #[source]
        source: Option<reqwest::Error>,
    },
    /// A body that broke off and is not fetched again.
    #[error("reading {what}")]
    Body {
        /// Which body.
        what: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// A `Location` that does not say where.
    #[error("{host} sends us to {location:?}: {reason}")]
    Location {
        /// Who sends us.
        host: String,
        /// Where, shortened.
        location: String,
        /// What is wrong with that.
        reason: &'static str,
    },
    /// What is to be uploaded cannot be read here.
    #[error("reading blob {digest} to upload it")]
    Source {
        /// Which.
        digest: oci::Digest,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Classified for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Mirror { .. }
            | Self::InsecureRegistry { .. }
            | Self::ServerAddress { .. }
            | Self::Manifest { .. } => Kind::Invalid,
            Self::NoBasicCredentials | Self::Unauthorized { .. } => Kind::Unauthorized,
            Self::Denied { .. } => Kind::Forbidden,
            // dockerd: what one may not see is not found.
            Self::PullDenied { .. }
            | Self::ManifestUnknown { .. }
            | Self::RepositoryUnknown { .. }
            | Self::BlobUnknown { .. }
            | Self::NoPlatform { .. } => Kind::NotFound,
            Self::Login { status, .. } if *status == StatusCode::UNAUTHORIZED => Kind::Unauthorized,
            // Whatever else a registry or the network does, dockerd answers 500.
            Self::Login { .. }
            | Self::CertificateFile { .. }
            | Self::CertificateContent { .. }
            | Self::CertificateWithoutKey { .. }
            | Self::KeyWithoutCertificate { .. }
            | Self::Tls { .. }
            | Self::Http { .. }
            | Self::Unreachable { .. }
            | Self::Stalled { .. }
            | Self::Challenge { .. }
            | Self::Realm { .. }
            | Self::TokenServer { .. }
            | Self::TooManyRequests { .. }
            | Self::Refused { .. }
            | Self::TooLarge { .. }
            | Self::Size { .. }
            | Self::DigestMismatch { .. }
            | Self::DigestHeader { .. }
            | Self::Range { .. }
            | Self::Broken { .. }
            | Self::Body { .. }
            | Self::Location { .. }
            | Self::Source { .. } => Kind::Internal,
        }
    }
}

impl Error {
    /// Whether the connection failed, and nothing else: what has arrived is good, and trying again later may help.
    pub fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. } | Self::Stalled { .. } | Self::Broken { .. } | Self::Body { .. }
        )
    }

    /// Whether the endpoint itself was not reached, so that another one may be tried.
    pub(super) fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Stalled { .. })
    }
}

fn list(platforms: &[String]) -> String {
    if platforms.is_empty() { "no platform at all".to_owned() } else { platforms.join(", ") }
}
