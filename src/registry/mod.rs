//! Registries: the distribution API as a client.
//!
//! Turns a reference into a manifest's bytes, descriptors into streams of blobs, and blobs and manifests back into a
//! repository. Knows media types and digests, neither plugins nor where blobs are kept: verified storing is the content
//! store's. What was configured is [`Hosts`]; one operation of one user is a [`Session`]; nothing outlives it.
//!
//! Facts come from the OCI distribution specification, the distribution project's token specification, and dockerd 20.10,
//! whose texts clients know. HTTP is reqwest's with rustls; the crate `oci-client`, built on the same, is not used: its
//! client takes no TLS configuration (client certificates) and drops a bad one silently, goes on as nobody when a token
//! cannot be fetched, does not answer a 401 during a transfer, follows URLs that manifests name, reads refusals without
//! a bound, and panics on a `Location` that is no URL.

mod auth;
mod challenge;
mod credentials;
mod error;
mod fetch;
mod hosts;
mod limits;
mod location;
mod login;
mod network;
mod push;
mod refusal;
mod resolve;
mod retry;
mod session;
mod tls;
mod token;
mod transport;

pub use credentials::{Account, Credentials};
pub use error::{Error, Result};
pub use fetch::Download;
pub use hosts::{Access, DOCKER_IO, Endpoint, Hosts, Scheme};
pub use login::{Login, login};
pub use push::{Mount, Pushed, Source, Upload};
pub use resolve::{MANIFEST_TYPES, Platform, Resolved, choose};
pub use session::Session;

#[cfg(test)]
mod tests;
