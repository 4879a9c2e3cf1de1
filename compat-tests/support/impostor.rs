//! A registry that serves what it is given, and misbehaves where it is told to.

use std::collections::BTreeMap;

use super::artifact::{self, Artifact};
use super::wire::{Reply, Request, Server};

/// A running impostor.
pub(crate) struct Impostor {
    server: Server,
}

impl Impostor {
    /// Serves artifacts, each as `REPOSITORY:TAG`; `twist` answers in its stead wherever it likes.
    pub(crate) fn start(
        artifacts: &[(&str, &Artifact)],
        twist: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        let mut content = BTreeMap::new();
        for (name, artifact) in artifacts {
            let (repository, tag) = name.rsplit_once(':').expect("REPOSITORY:TAG");
            let manifest = artifact.manifest();
            let digest = artifact::digest(&manifest);
            for blob in artifact.blobs() {
                let reply =
                    Reply::new(200, blob.bytes.clone()).with("Content-Type", "application/octet-stream");
                content.insert(format!("/v2/{repository}/blobs/{}", blob.digest()), reply);
            }
            let reply = Reply::new(200, manifest)
                .with("Content-Type", &artifact.media_type)
                .with("Docker-Content-Digest", &digest);
            content.insert(format!("/v2/{repository}/manifests/{digest}"), reply.clone());
            content.insert(format!("/v2/{repository}/manifests/{tag}"), reply);
        }
        content.insert("/v2/".to_owned(), Reply::new(200, "{}"));
        let server = Server::start(move |request| {
            twist(request).or_else(|| content.get(request.path()).cloned()).unwrap_or_else(|| {
                Reply::new(404, r#"{"errors":[{"code":"NOT_FOUND","message":"there is nothing here"}]}"#)
            })
        });
        Self { server }
    }

    /// The full name of something in it.
    pub(crate) fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.server.address())
    }

    /// `127.0.0.1:PORT`
    pub(crate) fn address(&self) -> &str {
        self.server.address()
    }

    /// Everything that was asked so far.
    pub(crate) fn seen(&self) -> Vec<Request> {
        self.server.seen()
    }
}
