//! The client against real registries and against hostile ones.
//!
//! docker-registry comes from Debian's package: `DOCKPLUG_TEST_REGISTRY`, `PATH`, or `target/peers/usr/bin`. Tests that need
//! it fail without it.

mod bad_input;
mod cutter;
mod process;
mod proxy;
mod real;
mod resume;
mod strangers;
mod stub;
mod token_server;
mod tokens;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;

use super::limits::Pace;
use super::*;
use crate::oci::{Descriptor, Digest, MediaType, Reference};

/// Quick to come back, slow to give up.
fn pace() -> Pace {
    let long = Duration::from_secs(20);
    Pace {
        connect: long,
        first_byte: long,
        idle: long,
        commit: long,
        pause: Duration::from_millis(1),
        pause_longest: Duration::from_millis(4),
    }
}

/// Quick to give up.
fn impatient() -> Pace {
    let short = Duration::from_millis(200);
    // To connect there is time: a busy machine is no silent registry.
    Pace { connect: short * 10, first_byte: short, idle: short, commit: short, ..pace() }
}

fn ann() -> Credentials {
    Credentials {
        username: "ann".to_owned(),
        password: process::PASSWORD.to_owned(),
        ..Credentials::default()
    }
}

fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

async fn open(reference: &str, credentials: Credentials, access: Access) -> Session {
    open_on(Hosts::default(), reference, credentials, access, pace()).await
}

async fn open_on(hosts: Hosts, text: &str, credentials: Credentials, access: Access, pace: Pace) -> Session {
    Session::open_with(Arc::new(hosts), &reference(text), credentials, access, pace).await.unwrap()
}

/// `size` bytes in which no two places look alike.
fn content(size: usize) -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&(state >> 8).to_le_bytes()[..7]);
    }
    bytes.truncate(size);
    bytes.into()
}

fn descriptor(bytes: &[u8], media_type: MediaType) -> Descriptor {
    Descriptor { media_type, digest: Digest::of(bytes), size: bytes.len().try_into().unwrap() }
}

fn layer(bytes: &[u8]) -> Descriptor {
    descriptor(bytes, MediaType::DockerLayerGzip)
}

/// The bytes as a source, in pieces of 32 KiB.
fn source(bytes: &Bytes) -> impl Fn(u64) -> BoxStream<'static, io::Result<Bytes>> + Send + Sync + use<> {
    let bytes = bytes.clone();
    move |offset| {
        let rest = bytes.slice(usize::try_from(offset).unwrap()..);
        let pieces: Vec<_> = rest.chunks(32 * 1024).map(|piece| Ok(rest.slice_ref(piece))).collect();
        futures_util::stream::iter(pieces).boxed()
    }
}

async fn read(mut download: Download) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(chunk) = download.chunk().await? {
        assert!(!chunk.is_empty());
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// An error and its causes, as a client would see it.
fn told(error: &Error) -> String {
    crate::error::chain(error)
}

/// A plugin of one small layer: its manifest, and the blobs it names.
fn plugin() -> (Bytes, [(Descriptor, Bytes); 2]) {
    let config = Bytes::from_static(b"{\"description\":\"a test\"}");
    let rootfs = content(300_000);
    let parts = [(descriptor(&config, MediaType::PluginConfig), config), (layer(&rootfs), rootfs)];
    let [config, rootfs] = [&parts[0].0, &parts[1].0].map(|part| (part.digest, part.size));
    (crate::oci::Manifest::plugin_bytes(config, rootfs).unwrap().into(), parts)
}

/// Pushes [`plugin`].
async fn push_plugin(session: &Session) -> Result<Digest> {
    let (manifest, parts) = plugin();
    for (descriptor, bytes) in &parts {
        session.push_blob(descriptor, None, &source(bytes)).await?;
    }
    session.put_manifest(manifest, &MediaType::DockerManifest).await
}

/// Pulls what is there and compares it with [`plugin`].
async fn pull_plugin(session: &Session) -> Result<()> {
    let (manifest, parts) = plugin();
    let resolved = session.resolve(&[MediaType::DockerManifest, MediaType::OciManifest]).await?;
    assert_eq!(resolved.bytes, manifest);
    assert_eq!(resolved.descriptor, descriptor(&manifest, MediaType::DockerManifest));
    for (descriptor, bytes) in &parts {
        assert_eq!(read(session.fetch_blob(descriptor, 0).await?).await?, *bytes);
    }
    Ok(())
}
