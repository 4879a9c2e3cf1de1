//! The local driver on real directories: what is made, what a crash leaves, what is never followed.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::*;

fn open_for(root: &Path, volumes: &[&str]) -> Local {
    Local::open(root, &volumes.iter().copied().collect()).unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_volume_is_two_directories_with_dockerds_modes() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("below/volumes");
    let local = open_for(&path, &[]);
    assert_eq!(local.create("ab").unwrap(), Made { volume: true, data: true });
    assert_eq!(local.mountpoint("ab"), path.join("ab/_data"));
    assert_eq!((mode(&path), mode(&path.join("ab")), mode(&path.join("ab/_data"))), (0o701, 0o701, 0o755));
    assert_eq!(mode(&path.join(".trash")), 0o700);
}

#[test]
fn a_directory_that_is_there_is_taken_with_its_files_and_mode() {
    let root = tempfile::tempdir().unwrap();
    let local = open_for(root.path(), &[]);
    let made = local.create("ab").unwrap();
    fs::write(local.mountpoint("ab").join("file"), "x").unwrap();
    fs::set_permissions(local.mountpoint("ab"), fs::Permissions::from_mode(0o777)).unwrap();
    let again = local.create("ab").unwrap();
    assert_eq!(again, Made { volume: false, data: false });
    local.take_back("ab", again).unwrap();
    assert_eq!(mode(&local.mountpoint("ab")), 0o777);
    local.take_back("ab", made).unwrap_err();
    assert!(local.mountpoint("ab").join("file").exists());
}

#[test]
fn a_directory_made_ahead_becomes_a_volume_like_any_other() {
    let root = tempfile::tempdir().unwrap();
    let spares = || fs::read_dir(root.path().join(".spare")).unwrap().count();
    let local = open_for(root.path(), &[]);
    assert!(local.needs_stock());
    local.create("first").unwrap();
    local.stock().unwrap();
    let stocked = spares();
    assert!(stocked > 1 && !local.needs_stock());
    let made = local.create("ab").unwrap();
    assert_eq!((made, spares()), (Made { volume: true, data: true }, stocked - 1));
    for name in ["first", "ab"] {
        assert_eq!((mode(&root.path().join(name)), mode(&local.mountpoint(name))), (0o701, 0o755), "{name}");
    }
    assert_eq!(local.create("ab").unwrap(), Made { volume: false, data: false });
    assert_eq!(spares(), stocked - 1, "what is there needs no spare");
    local.take_back("ab", made).unwrap();
    assert!(!root.path().join("ab").exists());
    for number in 0..2 * stocked {
        local.create(&format!("more-{number}")).unwrap();
    }
    assert!(spares() == 0 && local.needs_stock());
    local.stock().unwrap();
    assert!(spares() > 2 * stocked, "as many as the last burst wanted");

    let used = fs::read_dir(root.path().join(".spare")).unwrap().next().unwrap().unwrap().path();
    fs::write(used.join("_data/file"), "x").unwrap();
    drop(local);
    let local = open_for(root.path(), &["first"]);
    assert_eq!((spares(), used.join("_data/file").exists()), (1, true), "data is never thrown away unasked");
    local.stock().unwrap();
    assert_eq!(spares(), stocked + 1);
}

#[test]
fn a_create_that_is_taken_back_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let local = open_for(root.path(), &[]);
    let made = local.create("ab").unwrap();
    local.take_back("ab", made).unwrap();
    assert!(!root.path().join("ab").exists());
}

#[test]
fn a_link_in_a_volumes_place_is_not_followed() {
    let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let local = open_for(root.path(), &[]);
    symlink(outside.path(), root.path().join("ab")).unwrap();
    local.create("ab").unwrap_err();
    fs::create_dir(root.path().join("cd")).unwrap();
    symlink(outside.path(), root.path().join("cd/_data")).unwrap();
    local.create("cd").unwrap_err();
    local.measure("cd").unwrap_err();
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn what_is_removed_is_away_first_and_deleted_then() {
    let root = tempfile::tempdir().unwrap();
    let local = open_for(root.path(), &[]);
    local.create("ab").unwrap();
    fs::write(local.mountpoint("ab").join("file"), vec![1; 4096]).unwrap();
    assert_eq!(local.measure("ab").unwrap(), 4096);
    let discarded = local.discard("ab", None).unwrap();
    assert!(!root.path().join("ab").exists());
    // The name is free at once.
    local.create("ab").unwrap();
    assert_eq!(local.sweep(&discarded).unwrap(), 4096);
    assert_eq!(fs::read_dir(root.path().join(".trash")).unwrap().count(), 0);
    assert!(root.path().join("ab/_data").exists());
}

#[test]
fn a_removal_can_be_undone() {
    let root = tempfile::tempdir().unwrap();
    let local = open_for(root.path(), &[]);
    local.create("ab").unwrap();
    let inode = fs::metadata(local.mountpoint("ab")).unwrap().ino();
    let discarded = local.discard("ab", None).unwrap();
    local.put_back("ab", &discarded).unwrap();
    assert_eq!(fs::metadata(local.mountpoint("ab")).unwrap().ino(), inode);
    assert_eq!(fs::read_dir(root.path().join(".trash")).unwrap().count(), 0);
}

#[test]
fn a_directory_that_is_gone_is_removed_without_a_word() {
    let root = tempfile::tempdir().unwrap();
    let local = open_for(root.path(), &[]);
    let discarded = local.discard("ab", None).unwrap();
    assert_eq!(local.sweep(&discarded).unwrap(), 0);
}

#[test]
fn a_start_finishes_what_a_kill_interrupted() {
    let root = tempfile::tempdir().unwrap();
    {
        let local = open_for(root.path(), &[]);
        for name in ["kept", "removed", "lost", "unfinished", "stranger"] {
            local.create(name).unwrap();
            if name != "unfinished" {
                fs::write(local.mountpoint(name).join("file"), name).unwrap();
            }
        }
        local.discard("kept", None).unwrap();
        local.discard("removed", None).unwrap();
        fs::remove_dir_all(root.path().join("lost")).unwrap();
        fs::create_dir(root.path().join("half")).unwrap();
        // Removed, and made again under the same name, before the files of the first were deleted.
        local.create("twice").unwrap();
        fs::write(local.mountpoint("twice").join("old"), "").unwrap();
        local.discard("twice", None).unwrap();
        local.create("twice").unwrap();
    }
    let local = open_for(root.path(), &["kept", "lost", "twice"]);
    assert_eq!(fs::read_to_string(local.mountpoint("kept").join("file")).unwrap(), "kept");
    assert_eq!(fs::read_dir(local.mountpoint("lost")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(local.mountpoint("twice")).unwrap().count(), 0);
    assert!(root.path().join("stranger/_data/file").exists(), "data is never thrown away unasked");
    let mut left: Vec<_> = fs::read_dir(root.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, [".spare", ".trash", "kept", "lost", "stranger", "twice"]);
    assert_eq!(fs::read_dir(root.path().join(".trash")).unwrap().count(), 0);
}

#[test]
fn a_volume_with_a_mount_in_it_stays() {
    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // Reached through a link, as a data root may be.
    symlink(root.path(), outside.path().join("link")).unwrap();
    let local = open_for(&outside.path().join("link"), &[]);
    local.create("ab").unwrap();
    let point = local.mountpoint("ab");
    mount(Some("tmpfs"), &point, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    let refused = local.discard("ab", None);
    umount2(&point, MntFlags::MNT_DETACH).unwrap();
    assert_eq!(refused.unwrap_err().to_string(), "volume has active mounts");
    local.discard("ab", None).unwrap();
}

fn wanted(kind: &str, device: &str, o: &str) -> Wanted {
    let options = [("type", kind), ("device", device), ("o", o)];
    let options = options.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    Wanted::of(Some(&options)).unwrap()
}

#[test]
fn what_is_wanted_is_mounted_once_and_detached() {
    let root = tempfile::tempdir().unwrap();
    let local = open_for(root.path(), &[]);
    local.create("ab").unwrap();
    let (tmpfs, point) = (wanted("tmpfs", "tmpfs", "size=1m,mode=750,noexec"), local.mountpoint("ab"));
    assert!(!local.is_mounted("ab").unwrap());
    local.attach("ab", &tmpfs).unwrap();
    let seen = (mode(&point), local.is_mounted("ab").unwrap(), local.mounted().unwrap());
    // A start finds it as it is.
    let again = Local::open(root.path(), &["ab"].into()).map(|local| local.is_mounted("ab").unwrap());
    local.detach("ab", &tmpfs).unwrap();
    assert_eq!(seen, (0o750, true, vec!["ab".to_owned()]));
    assert!(again.unwrap());
    assert_eq!(
        (mode(&point), local.is_mounted("ab").unwrap(), local.mounted().unwrap()),
        (0o755, false, vec![])
    );
    local.detach("ab", &tmpfs).unwrap();
}

#[test]
fn a_mount_that_fails_is_told_and_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let local = open_for(root.path(), &[]);
    let point = local.mountpoint("ab").display().to_string();
    for (kind, device, o, expected) in [
        ("nope", "x", "", format!("mount x:{point}: no such device")),
        (
            "none",
            "/nowhere",
            "bind,ro",
            format!("mount /nowhere:{point}, flags: 0x1001: no such file or directory"),
        ),
        ("tmpfs", "tmpfs", "size=x", format!("mount tmpfs:{point}, data: size=x: invalid argument")),
        ("ext4", "/proc/version", "", format!("mount /proc/version:{point}: block device required")),
    ] {
        let error = local.attach("ab", &wanted(kind, device, o)).unwrap_err();
        let text = format!("failed to mount local volume: {expected}");
        assert_eq!(crate::error::chain(&error), text);
        assert!(!local.is_mounted("ab").unwrap());
    }
}

#[test]
fn a_bind_is_read_only_when_that_is_asked_for() {
    let (root, source) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let local = open_for(root.path(), &[]);
    local.create("ab").unwrap();
    let source = source.path().to_string_lossy();
    let (bind, half) = (wanted("none", &source, "bind,ro,private"), wanted("none", &source, "bind"));
    // As a kill between the two calls leaves it.
    local.attach("ab", &half).unwrap();
    let before = (local.is_attached("ab", &half), local.is_attached("ab", &bind));
    local.attach("ab", &bind).unwrap();
    let after = local.is_attached("ab", &bind);
    let written = fs::write(local.mountpoint("ab").join("file"), "x");
    local.detach("ab", &bind).unwrap();
    assert!(before.0.unwrap() && !before.1.unwrap() && after.unwrap());
    assert_eq!(written.unwrap_err().kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    assert!(!local.is_mounted("ab").unwrap());
}

#[test]
fn what_is_mounted_below_a_shared_directory_of_the_host_stays() {
    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    let (root, host) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let local = open_for(root.path(), &[]);
    local.create("ab").unwrap();
    let tmpfs = |place: &Path| mount(Some("tmpfs"), place, Some("tmpfs"), MsFlags::empty(), None::<&str>);
    tmpfs(host.path()).unwrap();
    mount(None::<&str>, host.path(), None::<&str>, MsFlags::MS_SHARED, None::<&str>).unwrap();
    let below = host.path().join("below");
    fs::create_dir(&below).unwrap();
    tmpfs(&below).unwrap();
    fs::write(below.join("file"), "").unwrap();
    let bind = wanted("none", &host.path().to_string_lossy(), "rbind");
    let attached = local.attach("ab", &bind);
    let seen = local.mountpoint("ab").join("below/file").exists();
    let detached = local.detach("ab", &bind);
    let stays = below.join("file").exists();
    umount2(host.path(), MntFlags::MNT_DETACH).unwrap();
    attached.unwrap();
    detached.unwrap();
    assert!(seen && stays && !local.is_mounted("ab").unwrap());
}

#[test]
fn without_quotas_a_limit_is_refused_and_leaves_nothing() {
    // Memory, which has no projects on any kernel.
    let root = tempfile::tempdir_in("/dev/shm").unwrap();
    let local = open_for(root.path(), &[]);
    let limit = Limit::parse("1m").unwrap().unwrap();
    let refused = local.create_limited("ab", limit).unwrap_err();
    assert_eq!(refused.to_string(), "quota size requested but no quota support");
    assert!(!root.path().join("ab").exists());
    local.create("ab").unwrap();
    for kept in [local.renew_limit("ab", limit), local.keep_limit("ab", limit)] {
        let text = "size quota requested for volume but no quota support";
        assert_eq!(kept.unwrap_err().to_string(), text);
    }
    let discarded = local.discard("ab", Some(limit)).unwrap();
    assert_eq!(discarded.project(), None);
    local.sweep(&discarded).unwrap();
}

#[test]
fn the_place_of_a_removed_volume_tells_its_project() {
    for (place, project) in [("ab12", None), ("ab12.7", Some("7")), ("ab12.0", None), ("ab12.x", None)] {
        let told = Discarded(place.to_owned()).project();
        assert_eq!(told.map(|project| project.to_string()).as_deref(), project, "{place}");
    }
}
