//! Mounts with a plugin in this process, whose file system is a directory of the test: one call for each reference,
//! whatever happens in between.

use serde_json::json;

use super::*;
use crate::drivers::Scope;
use crate::volumes::ledger::{MOUNTS, Phase};

impl Rig {
    /// A plugin whose root file system is a directory of the test, with `v` in it, and that answers `Mount` so.
    pub(super) fn plug_at(&mut self, mount: Reply) {
        let rootfs = self.directory.path().join("rootfs");
        std::fs::create_dir_all(rootfs.join("v")).unwrap();
        self.plug("p:latest", move |call| match call.method.as_str() {
            "Mount" => mount.clone(),
            "Get" => Reply::ok(json!({"Volume": {"Name": call.name()}})),
            _ => Reply::ok(json!({})),
        });
        self.register_last(rootfs);
    }

    fn register_last(&self, rootfs: PathBuf) {
        let mut registration = self.plugins.last().unwrap().registration("p:latest");
        registration.scope = Scope::Own { rootfs, propagated: None };
        self.drivers.register(registration);
    }

    /// The `Mount` and `Unmount` calls of the last plugin, with their ids.
    pub(super) fn asked(&self) -> Vec<String> {
        let calls = self.plugins.last().unwrap().calls();
        let mounts = calls.into_iter().filter(|call| call.method.ends_with("ount"));
        let id = |body: &str| serde_json::from_str::<Value>(body).unwrap()["ID"].clone();
        mounts.map(|call| format!("{} {}", call.method, id(&call.body).as_str().unwrap())).collect()
    }

    fn staged(&self) -> usize {
        self.volumes.0.stage.mounted().unwrap().len()
    }

    fn on_disk(&self) -> Vec<Phase> {
        self.volumes.0.store.load(MOUNTS).unwrap().into_iter().map(|(_, row)| row.phase).collect()
    }
}

pub(super) fn at(mountpoint: &str) -> Reply {
    Reply::ok(json!({ "Mountpoint": mountpoint }))
}

#[tokio::test]
async fn the_plugin_is_asked_once_for_each_reference() {
    let mut rig = Rig::new();
    rig.plug_at(at("/v"));
    rig.create("v", "p").await.unwrap();
    let first = rig.volumes.mount("v", "c1").await.unwrap();
    assert_eq!(rig.volumes.mount("v", "c1").await.unwrap(), first);
    let second = rig.volumes.mount("v", "c2").await.unwrap();
    assert_ne!(first, second);
    std::fs::write(first.join("file"), "text").unwrap();
    assert_eq!(std::fs::read_to_string(second.join("file")).unwrap(), "text");
    assert_eq!(rig.asked(), ["Mount c1", "Mount c2"]);
    let error = rig.volumes.remove("v", true).await.unwrap_err();
    assert_eq!(chain(&error), "remove v: volume is in use - [c1, c2]");
    for reference in ["c1", "c1", "c2", "never"] {
        rig.volumes.unmount("v", reference).await.unwrap();
    }
    assert_eq!(rig.asked()[2..], ["Unmount c1", "Unmount c2"]);
    assert_eq!((rig.staged(), rig.on_disk().len(), first.exists()), (0, 0, false));
    rig.volumes.remove("v", false).await.unwrap();
    let told = [event("mount", "v", "c1"), event("mount", "v", "c2"), event("unmount", "v", "c1")];
    assert_eq!(rig.told()[1..4], told);
}

#[tokio::test]
async fn a_hostile_mountpoint_is_refused_by_name_and_unmounted() {
    let directory = tempfile::tempdir().unwrap();
    let outside = directory.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    for answer in ["relative", "/", "/v/../..", "/proc/1/root", "/nowhere", "/out", "/up/outside", "/file"] {
        let mut rig = Rig::new();
        rig.plug_at(at(answer));
        let rootfs = rig.directory.path().join("rootfs");
        std::os::unix::fs::symlink(&outside, rootfs.join("out")).unwrap();
        std::os::unix::fs::symlink("..", rootfs.join("up")).unwrap();
        std::fs::write(rootfs.join("file"), "").unwrap();
        rig.create("v", "p").await.unwrap();
        let error = rig.volumes.mount("v", "c1").await.unwrap_err();
        let text =
            format!("mount v: plugin p:latest gave volume v the mountpoint {answer:?}, which is refused: ");
        assert!(chain(&error).starts_with(&text) && error.kind() == Kind::Internal, "{}", chain(&error));
        assert_eq!(rig.asked(), ["Mount c1", "Unmount c1"], "{answer}");
        assert_eq!((rig.staged(), rig.on_disk().len()), (0, 0), "{answer}");
        rig.volumes.remove("v", false).await.unwrap();
    }
}

#[tokio::test]
async fn a_plugin_that_says_no_owes_nothing_and_is_owed_nothing() {
    let mut rig = Rig::new();
    rig.plug_at(Reply::err("no disk"));
    rig.create("v", "p").await.unwrap();
    assert_eq!(chain(&rig.volumes.mount("v", "c1").await.unwrap_err()), "mount v: no disk");
    assert_eq!((rig.asked().as_slice(), rig.on_disk().len()), (["Mount c1".to_owned()].as_slice(), 0));
    for (name, reference) in [("v", ""), ("v", "a\nb")] {
        assert_eq!(rig.volumes.mount(name, reference).await.unwrap_err().kind(), Kind::Invalid);
    }
}

#[tokio::test]
async fn a_start_mounts_again_what_was_lost_and_detaches_what_nobody_uses() {
    let mut rig = Rig::new();
    rig.plug_at(at("/v"));
    rig.create("v", "p").await.unwrap();
    let kept = rig.volumes.mount("v", "kept").await.unwrap();
    let lost = rig.volumes.mount("v", "lost").await.unwrap();
    rig.volumes.0.stage.clear(&lost.file_name().unwrap().to_string_lossy()).unwrap();
    let place =
        crate::drivers::Place::Beneath { base: rig.directory.path().join("rootfs"), below: "v".into() };
    rig.volumes.0.stage.bind("orphan", &place).unwrap();
    rig = rig.reopened();
    assert_eq!(rig.staged(), 1, "what is in use stays, what is not goes");
    assert!(rig.volumes.remove("v", true).await.is_err(), "both references live on");
    rig.volumes.settle().await;
    assert_eq!(rig.asked(), ["Mount kept", "Mount lost", "Mount lost"]);
    assert!(kept.exists() && lost.exists());
    rig.volumes.settle().await;
    assert_eq!((rig.asked().len(), rig.staged()), (3, 2), "once is enough");
}

#[tokio::test]
async fn what_was_asked_for_when_the_daemon_died_is_taken_back() {
    let mut rig = Rig::new();
    rig.plug_at(at("/v"));
    rig.create("v", "p").await.unwrap();
    rig.volumes.mount("v", "c1").await.unwrap();
    let row = rig.volumes.0.ledger.find("v", "c1").unwrap();
    rig.volumes.note(&row, Phase::Asked).await.unwrap();
    rig = rig.reopened();
    assert_eq!(rig.staged(), 0);
    rig.volumes.follow_drivers();
    rig.volumes.settle().await;
    assert_eq!(rig.asked(), ["Mount c1", "Unmount c1"]);
    assert!(rig.on_disk().is_empty());
}

#[tokio::test]
async fn an_unmount_without_its_plugin_is_told_when_it_is_back() {
    let mut rig = Rig::new();
    rig.plug_at(at("/v"));
    rig.create("v", "p").await.unwrap();
    rig.volumes.mount("v", "c1").await.unwrap();
    rig.drivers.disable("p");
    let error = rig.volumes.unmount("v", "c1").await.unwrap_err();
    assert!(chain(&error).contains("found but disabled"), "{error}");
    assert_eq!((rig.staged(), rig.on_disk()), (0, vec![Phase::Owed]));
    assert!(!rig.volumes.0.known.is_held("v"));
    let rootfs = rig.directory.path().join("rootfs");
    rig.register_last(rootfs);
    rig.volumes.settle().await;
    assert_eq!(rig.asked(), ["Mount c1", "Unmount c1"]);
    assert!(rig.on_disk().is_empty());
}

#[tokio::test]
async fn a_plugin_that_breaks_off_is_told_to_unmount() {
    let mut rig = Rig::new();
    rig.plug_at(Reply::Close);
    rig.create("v", "p").await.unwrap();
    rig.volumes.mount("v", "c1").await.unwrap_err();
    assert_eq!(rig.asked().last().unwrap(), "Unmount c1");
    assert!(rig.on_disk().is_empty() && !rig.volumes.0.known.is_held("v"));
}
