//! Local volumes with something mounted in them: real mounts of the kernel, and one that hangs.

use std::fs::File;

use nix::mount::{MsFlags, mount};

use super::*;
use crate::drivers::LIST_DEADLINE;
use crate::volumes::ledger::{MOUNTS, Phase};
use crate::volumes::local::Wanted;

const TMPFS: [(&str, &str); 3] = [("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m,mode=711")];

impl Rig {
    async fn make(&self, name: &str, options: &[(&str, &str)]) {
        let options = texts(options);
        let request = Create { name: Some(name.to_owned()), options, ..Create::default() };
        self.volumes.create(request).await.unwrap();
    }

    fn data(&self, name: &str) -> PathBuf {
        self.root().canonicalize().unwrap().join(name).join("_data")
    }

    /// How often the kernel has something mounted in a volume.
    fn layers(&self, name: &str) -> usize {
        let data = self.data(name);
        mounts_below(&data).iter().filter(|point| **point == data).count()
    }

    fn phases(&self) -> Vec<Phase> {
        self.volumes.0.store.load(MOUNTS).unwrap().into_iter().map(|(_, row)| row.phase).collect()
    }

    /// Mounts past the ledger, as a daemon that was killed has left it.
    fn mount_behind(&self, name: &str) {
        let wanted = Wanted::of(texts(&TMPFS).as_ref()).unwrap();
        self.volumes.0.local.attach(name, &wanted).unwrap();
    }
}

/// A file system whose server does not answer: every path in it hangs until it does, or this is dropped.
struct Hanging {
    server: File,
    directory: TempDir,
}

impl Hanging {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { server: Self::at(directory.path()), directory }
    }

    /// Mounts one; it lives as long as what is returned.
    fn at(place: &Path) -> File {
        use std::os::fd::AsRawFd;
        let server = File::options().read(true).write(true).open("/dev/fuse").unwrap();
        let data = format!("fd={},rootmode=40000,user_id=0,group_id=0", server.as_raw_fd());
        mount(Some("hanging"), place, Some("fuse"), MsFlags::empty(), Some(data.as_str())).unwrap();
        server
    }

    fn inside(&self) -> String {
        self.directory.path().join("x").display().to_string()
    }

    /// Answers at last that the one path is a directory (fuse(4), `linux/fuse.h`).
    fn answer(&mut self) {
        use std::io::{Read as _, Write as _};
        const LOOKUP: u32 = 1;
        const INIT: u32 = 26;
        let mut request = vec![0; 64 * 1024];
        loop {
            let _bytes = self.server.read(&mut request).unwrap();
            let opcode = u32::from_ne_bytes(request[4..8].try_into().unwrap());
            let (bytes, words): (u32, &[(usize, u32)]) = match opcode {
                // The protocol's version, and the most bytes of a write.
                INIT => (16 + 64, &[(0, 7), (4, 31), (20, 4096)]),
                // The node, how long that is true, its inode, mode and links.
                LOOKUP => (16 + 128, &[(0, 2), (16, 3600), (24, 3600), (40, 2), (100, 0o40_755), (104, 2)]),
                _ => continue,
            };
            let mut answer = vec![0; bytes.try_into().unwrap()];
            answer[..4].copy_from_slice(&bytes.to_ne_bytes());
            answer[8..16].copy_from_slice(&request[8..16]);
            for (at, word) in words {
                answer[16 + at..20 + at].copy_from_slice(&word.to_ne_bytes());
            }
            self.server.write_all(&answer).unwrap();
            if opcode == LOOKUP {
                return;
            }
        }
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        umount2(self.directory.path(), MntFlags::MNT_DETACH).unwrap();
    }
}

/// Waits for what other tasks and the kernel do.
async fn eventually(is_so: impl Fn() -> bool) {
    let waited = tokio::time::timeout(Duration::from_mins(1), async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    });
    waited.await.unwrap();
}

#[tokio::test]
async fn two_references_are_one_mount_and_the_last_one_detaches() {
    let rig = Rig::new();
    rig.make("vol", &TMPFS).await;
    assert_eq!(rig.layers("vol"), 0, "nothing is mounted before the first use");
    for reference in ["c1", "c1", "c2"] {
        assert_eq!(rig.volumes.mount("vol", reference).await.unwrap(), rig.data("vol"));
        assert_eq!(rig.layers("vol"), 1);
    }
    std::fs::write(rig.data("vol").join("file"), "x").unwrap();
    for force in [false, true] {
        let error = rig.volumes.remove("vol", force).await.unwrap_err();
        let text = "remove vol: volume is in use - [c1, c2]";
        assert_eq!((chain(&error).as_str(), error.kind()), (text, Kind::Conflict));
    }
    rig.volumes.unmount("vol", "c1").await.unwrap();
    assert!(rig.data("vol").join("file").exists());
    rig.volumes.unmount("vol", "c2").await.unwrap();
    rig.volumes.unmount("vol", "c2").await.unwrap();
    assert_eq!((rig.layers("vol"), rig.phases().len(), rig.data("vol").join("file").exists()), (0, 0, false));
    let told = [("mount", "c1"), ("mount", "c2"), ("unmount", "c1"), ("unmount", "c2")];
    assert_eq!(rig.told()[1..], told.map(|(action, reference)| event(action, "vol", reference)));
    rig.volumes.remove("vol", false).await.unwrap();
}

#[tokio::test]
async fn what_is_mounted_is_neither_measured_nor_pruned_nor_deleted() {
    let rig = Rig::new();
    let host = tempfile::tempdir().unwrap();
    std::fs::write(host.path().join("precious"), "x").unwrap();
    rig.make("vol", &[("type", "none"), ("device", &host.path().display().to_string()), ("o", "bind")]).await;
    rig.volumes.mount("vol", "c1").await.unwrap();
    assert!(rig.data("vol").join("precious").exists());
    assert!(rig.volumes.usage().await.unwrap().is_empty());
    rig.volumes.unmount("vol", "c1").await.unwrap();
    let pruned = rig.volumes.prune(&Prune { all: true, ..Prune::default() }).await.unwrap();
    assert_eq!(pruned, Pruned::default());
    // Left mounted by somebody.
    rig.volumes
        .0
        .local
        .attach("vol", &Wanted::of(rig.volumes.0.known.find("vol").unwrap().options.as_ref()).unwrap())
        .unwrap();
    rig.volumes.remove("vol", false).await.unwrap();
    assert!(host.path().join("precious").exists() && !rig.root().join("vol").exists());
}

#[tokio::test]
async fn a_mount_that_fails_leaves_no_use_of_the_volume() {
    let rig = Rig::new();
    rig.make("vol", &[("type", "none"), ("device", "/nowhere"), ("o", "bind,password=hunter2")]).await;
    let error = rig.volumes.mount("vol", "c1").await.unwrap_err();
    let text = format!(
        "mount vol: failed to mount local volume: mount /nowhere:{}, flags: 0x1000, data: password=********: no such \
         file or directory",
        rig.data("vol").display()
    );
    assert_eq!((chain(&error), error.kind()), (text, Kind::Internal));
    assert!(rig.phases().is_empty() && !rig.volumes.0.known.is_held("vol"));
    rig.volumes.unmount("vol", "c1").await.unwrap();
    rig.volumes.remove("vol", false).await.unwrap();
}

#[tokio::test]
async fn a_start_makes_the_kernel_agree_with_the_ledger() {
    let rig = Rig::new();
    for name in ["kept", "lost", "orphan", "asked", "owed"] {
        rig.make(name, &TMPFS).await;
    }
    for name in ["kept", "lost"] {
        rig.volumes.mount(name, "c1").await.unwrap();
    }
    std::fs::write(rig.data("kept").join("file"), "x").unwrap();
    umount2(&rig.data("lost"), MntFlags::MNT_DETACH).unwrap();
    rig.mount_behind("orphan");
    for (name, phase) in [("asked", Phase::Asked), ("owed", Phase::Owed)] {
        rig.volumes.mount(name, "c1").await.unwrap();
        let row = rig.volumes.0.ledger.find(name, "c1").unwrap();
        rig.volumes.note(&row, phase).await.unwrap();
    }
    let rig = rig.reopened();
    rig.volumes.settle_local().await;
    let layers = ["kept", "lost", "orphan", "asked", "owed"].map(|name| rig.layers(name));
    assert_eq!(layers, [1, 1, 0, 0, 0]);
    assert!(rig.data("kept").join("file").exists(), "whoever uses it does not notice");
    assert_eq!(rig.phases(), [Phase::Held, Phase::Held]);
    rig.volumes.settle_local().await;
    assert_eq!(rig.layers("kept"), 1, "once is enough");
    for name in ["kept", "lost"] {
        rig.volumes.unmount(name, "c1").await.unwrap();
        assert_eq!(rig.layers(name), 0);
    }
}

#[tokio::test]
async fn a_lost_mount_is_mounted_again_when_somebody_comes() {
    let rig = Rig::new();
    rig.make("vol", &TMPFS).await;
    rig.volumes.mount("vol", "c1").await.unwrap();
    umount2(&rig.data("vol"), MntFlags::MNT_DETACH).unwrap();
    rig.volumes.mount("vol", "c1").await.unwrap();
    assert_eq!(rig.layers("vol"), 1);
    rig.volumes.unmount("vol", "c1").await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_mounted_again_is_shown_and_tried_again() {
    let rig = Rig::new();
    let host = tempfile::tempdir().unwrap();
    let (here, away) = (host.path().join("here"), host.path().join("away"));
    std::fs::create_dir(&here).unwrap();
    rig.make("vol", &[("type", "none"), ("device", &here.display().to_string()), ("o", "bind")]).await;
    rig.volumes.mount("vol", "c1").await.unwrap();
    umount2(&rig.data("vol"), MntFlags::MNT_DETACH).unwrap();
    std::fs::rename(&here, &away).unwrap();
    let rig = rig.reopened();
    let status = async || rig.volumes.inspect("vol").await.unwrap().status.clone();
    for _ in 0..2 {
        assert_eq!(rig.volumes.settle_local().await, ["vol".to_owned()].into());
        let told = status().await.unwrap()["MountError"].to_string();
        assert!(told.contains("failed to mount local volume") && told.contains("no such file"), "{told}");
        assert!(rig.volumes.0.known.is_held("vol"), "whoever has it still counts on it");
    }
    std::fs::rename(&away, &here).unwrap();
    assert!(rig.volumes.settle_local().await.is_empty());
    assert_eq!((rig.layers("vol"), status().await), (1, None));
    rig.volumes.unmount("vol", "c1").await.unwrap();
}

#[tokio::test]
async fn a_mount_of_a_plain_volume_is_left_alone() {
    let rig = Rig::new();
    rig.create("vol", "").await.unwrap();
    rig.mount_behind("vol");
    rig.volumes.mount("vol", "c1").await.unwrap();
    rig.volumes.unmount("vol", "c1").await.unwrap();
    let rig = rig.reopened();
    rig.volumes.settle_local().await;
    assert_eq!(rig.layers("vol"), 1);
    assert_eq!(
        chain(&rig.volumes.remove("vol", false).await.unwrap_err()),
        "remove vol: volume has active mounts"
    );
}

#[tokio::test]
async fn a_mount_that_hangs_keeps_nobody_else_waiting() {
    let deadlines = Deadlines { list: LIST_DEADLINE, mount: Duration::from_millis(20) };
    let rig = Rig::with_deadlines(deadlines);
    let hanging = Hanging::new();
    rig.make("vol", &[("type", "none"), ("device", &hanging.inside()), ("o", "bind")]).await;
    rig.make("other", &TMPFS).await;
    let error = rig.volumes.mount("vol", "c1").await.unwrap_err();
    assert!(
        chain(&error).starts_with("mount vol: the kernel has not finished within 0 s"),
        "{}",
        chain(&error)
    );
    assert_eq!((error.kind(), rig.phases()), (Kind::Unavailable, vec![Phase::Owed]));
    assert!(!rig.volumes.0.known.is_held("vol"));
    for error in [
        rig.volumes.mount("vol", "c2").await.unwrap_err(),
        rig.volumes.unmount("vol", "c1").await.unwrap_err(),
        rig.volumes.remove("vol", true).await.unwrap_err(),
    ] {
        assert!(chain(&error).contains("the kernel is still at an earlier mount"), "{}", chain(&error));
        assert_eq!(error.kind(), Kind::Unavailable);
    }
    assert_eq!(names(&rig.list().await), ["other", "vol"]);
    // It ends, in an error: the volume is as it was before.
    drop(hanging);
    eventually(|| !rig.volumes.0.aside.is_busy("vol") && rig.phases().is_empty()).await;
    rig.volumes.remove("vol", false).await.unwrap();
}

#[tokio::test]
async fn a_mount_that_comes_too_late_is_undone() {
    let rig = Rig::with_deadlines(Deadlines { list: LIST_DEADLINE, mount: Duration::from_millis(20) });
    let mut hanging = Hanging::new();
    rig.make("vol", &[("type", "none"), ("device", &hanging.inside()), ("o", "bind")]).await;
    assert_eq!(rig.volumes.mount("vol", "c1").await.unwrap_err().kind(), Kind::Unavailable);
    // Nobody may undo it before it has been seen.
    let turn = rig.volumes.0.turns.take("vol").await;
    hanging.answer();
    eventually(|| rig.layers("vol") == 1).await;
    drop(turn);
    eventually(|| rig.layers("vol") == 0 && rig.phases().is_empty()).await;
    rig.volumes.remove("vol", false).await.unwrap();
}

#[tokio::test]
async fn what_hangs_after_it_was_mounted_delays_neither_a_start_nor_its_end() {
    let rig = Rig::new();
    rig.make("vol", &TMPFS).await;
    rig.volumes.mount("vol", "c1").await.unwrap();
    umount2(&rig.data("vol"), MntFlags::MNT_DETACH).unwrap();
    let _server = Hanging::at(&rig.data("vol"));
    let rig = rig.reopened();
    rig.volumes.settle_local().await;
    assert_eq!(rig.layers("vol"), 1);
    rig.volumes.mount("vol", "c2").await.unwrap();
    for reference in ["c1", "c2"] {
        rig.volumes.unmount("vol", reference).await.unwrap();
    }
    assert_eq!(rig.layers("vol"), 0);
    rig.volumes.remove("vol", false).await.unwrap();
}
