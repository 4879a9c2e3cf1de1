//! The vocabulary of images: digests, references, media types, descriptors, manifests.
//!
//! Pure: nothing here touches a file or a socket, and nothing here knows what a plugin does with the things that
//! are named. Facts come from the OCI image and distribution specifications, and, where a client can see the
//! difference, from `github.com/distribution/reference` and `github.com/opencontainers/go-digest` as dockerd
//! vendors them.

mod digest;
mod error;
mod manifest;
mod media_type;
mod reference;

pub use digest::{DiffId, Digest, Hasher};
pub use error::Error;
pub use manifest::{CONFIG_MAX_BYTES, Descriptor, LAYERS_MAX, MANIFEST_MAX_BYTES, Manifest};
pub use media_type::MediaType;
pub use reference::Reference;

/// The result of everything in this room that can fail.
pub type Result<T> = std::result::Result<T, Error>;
