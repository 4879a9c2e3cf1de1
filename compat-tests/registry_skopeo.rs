//! Another client looks at what we push, and we install what it has copied.
//!
//! skopeo knows images only: copying a schema2 plugin into an OCI layout, it rewrites the config as an image's, and what
//! a plugin is gets lost. So it copies schema2 as it is, into a directory; plugins in OCI's words it takes to a layout.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::artifact::{self, Artifact};
use crate::support::daemon::Daemon;
use crate::support::registry::Registry;
use crate::support::{install, process};

fn skopeo(arguments: &[&str]) -> Vec<u8> {
    let mut command = Command::new(process::program("skopeo"));
    command.arg("--insecure-policy").args(arguments);
    let output = command.output().unwrap();
    assert!(output.status.success(), "skopeo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Creates the tiny plugin, pushes it as `team/tiny:v1`, and removes it again.
fn publish(daemon: &Daemon, registry: &Registry) {
    let name = registry.name("team/tiny:v1");
    daemon.install(&name, &daemon.tiny());
    install::push(daemon, &name, &Value::Null).ok();
    assert_eq!(daemon.http().ask("DELETE", &format!("/plugins/{name}")).status, 200);
}

/// Every file of a directory is what its name says.
fn assert_blobs(directory: &Path, digests: &[String]) {
    for digest in digests {
        let hex = digest.strip_prefix("sha256:").unwrap();
        assert_eq!(artifact::digest(&fs::read(directory.join(hex)).unwrap()), *digest);
    }
}

#[test]
fn skopeo_reads_what_was_pushed() {
    let registry = Registry::open();
    let daemon = Daemon::start();
    publish(&daemon, &registry);
    let stored = registry.stored("team/tiny", "v1");
    let source = format!("docker://{}", registry.name("team/tiny:v1"));
    assert_eq!(skopeo(&["inspect", "--tls-verify=false", "--raw", &source]), stored.manifest);

    let copy = daemon.place().join("copy");
    skopeo(&["copy", "--src-tls-verify=false", &source, &format!("dir:{}", copy.display())]);
    assert_eq!(fs::read(copy.join("manifest.json")).unwrap(), stored.manifest);
    assert_blobs(&copy, &stored.digests[1..]);
}

#[test]
fn what_skopeo_copies_can_be_installed() {
    let (first, second) = (Registry::open(), Registry::open());
    let daemon = Daemon::start();
    publish(&daemon, &first);
    let [from, to] = [&first, &second].map(|r| format!("docker://{}", r.name("team/tiny:v1")));
    skopeo(&["copy", "--src-tls-verify=false", "--dest-tls-verify=false", &from, &to]);
    assert_eq!(second.stored("team/tiny", "v1"), first.stored("team/tiny", "v1"));
    install::consenting(&daemon, &second.name("team/tiny:v1"), "tiny", &Value::Null).ok();
    assert_eq!(daemon.enable("tiny").status, 200);
}

#[test]
fn a_layout_made_of_what_was_pushed_verifies() {
    let Some(daemon) = Daemon::ours() else { return };
    let (first, second) = (Registry::open(), Registry::open());
    publish(&daemon, &first);
    for packing in ["gzip", "zstd"] {
        let tiny = Artifact::of(&first, &first.stored("team/tiny", "v1")).in_oci(packing);
        let repository = format!("oci/{packing}");
        tiny.put(&first, &repository, "v1");
        let alias = second.name(&format!("{repository}:v1"));
        install::consenting(&daemon, &first.name(&format!("{repository}:v1")), &alias, &Value::Null).ok();
        install::push(&daemon, &alias, &Value::Null).ok();
        let stored = second.stored(&repository, "v1");
        assert_eq!(stored, first.stored(&repository, "v1"));

        let layout = daemon.place().join(packing);
        let target = format!("oci:{}:v1", layout.display());
        skopeo(&["copy", "--src-tls-verify=false", &format!("docker://{alias}"), &target]);
        let index: Value = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
        assert_eq!(index["manifests"][0]["digest"], stored.digests[0].as_str());
        assert_blobs(&layout.join("blobs/sha256"), &stored.digests);

        let back = format!("docker://{}", second.name("back:v1"));
        skopeo(&["copy", "--dest-tls-verify=false", &target, &back]);
        install::consenting(&daemon, &second.name("back:v1"), packing, &Value::Null).ok();
        assert_eq!(daemon.enable(packing).status, 200);
    }
    assert_eq!(daemon.http().look("/plugins").as_array().map(Vec::len), Some(4));
}
