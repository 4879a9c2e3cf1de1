//! Real files, as root: nothing may lead outside, and removal touches nothing it should not.

use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;

use nix::errno::Errno;
use tempfile::TempDir;

use super::{Error, FileType, Inside, Node, Root, Time, unmount_stack};
use crate::error::{Classified, Kind};

/// A root with things beside it that must not be reached.
struct Fixture(TempDir);

impl Fixture {
    fn new() -> Self {
        let outer = tempfile::tempdir().unwrap();
        std::fs::create_dir(outer.path().join("root")).unwrap();
        std::fs::create_dir(outer.path().join("secret")).unwrap();
        std::fs::write(outer.path().join("secret/file"), "secret").unwrap();
        Self(outer)
    }

    fn root(&self) -> Root {
        Root::open(&self.inside("")).unwrap()
    }

    fn inside(&self, path: &str) -> PathBuf {
        self.0.path().join("root").join(path)
    }

    fn secret(&self) -> PathBuf {
        self.0.path().join("secret")
    }
}

#[test]
fn no_link_leads_outside() {
    let fixture = Fixture::new();
    let root = fixture.root();
    symlink(fixture.secret(), fixture.inside("absolute")).unwrap();
    symlink("../secret", fixture.inside("relative")).unwrap();
    symlink("/proc/self/root", fixture.inside("magic")).unwrap();
    symlink("../../../../../../../../../..", fixture.inside("up")).unwrap();
    for path in ["absolute/file", "relative/file", "magic/etc/passwd", "up/etc/passwd", "../secret/file"] {
        assert!(root.open_file(path.as_bytes()).unwrap_err().is(Errno::ENOENT), "{path}");
        assert!(root.create_file(path.as_bytes()).unwrap_err().is(Errno::ENOENT), "{path}");
        assert!(root.metadata(path.as_bytes()).unwrap_err().is(Errno::ENOENT), "{path}");
        assert!(root.remove_tree(path.as_bytes()).is_ok(), "{path}: nothing there is fine");
    }
    let top = root.metadata(b"up/.").unwrap();
    assert_eq!(top.file_type, FileType::Symlink, "the last component is not followed");
    let followed = root.follow(b"up").unwrap().metadata().unwrap();
    assert_eq!(
        followed.inode,
        std::fs::metadata(fixture.inside("")).unwrap().ino(),
        "`..` stops at the root"
    );
    root.remove_tree(b"absolute").unwrap();
    assert!(fixture.secret().join("file").exists());
}

#[test]
fn the_magic_links_of_proc_are_not_followed() {
    let root = Root::open("/".as_ref()).unwrap();
    let error = root.directory(&Inside::parse(b"proc/self/cwd").unwrap()).unwrap_err();
    assert!(error.is(Errno::ELOOP), "{error}");
}

#[test]
fn files_are_created_and_only_regular_ones_are_read() {
    let fixture = Fixture::new();
    let root = fixture.root();
    root.create_file(b"/a").unwrap().write_all(b"text").unwrap();
    assert_eq!(root.create_file(b"a").unwrap_err().kind(), Kind::Conflict);
    let mut text = String::new();
    root.open_file(b"a").unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "text");
    root.symlink(b"link", b"a").unwrap();
    root.make_node(b"fifo", Node::Fifo).unwrap();
    root.make_directory(b"directory", 0o1777).unwrap();
    for (path, got) in [("link", "symbolic link"), ("fifo", "named pipe"), ("directory", "directory")] {
        let error = root.open_file(path.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), format!("\"{path}\" is a {got}, expected a regular file"));
    }
    assert_eq!(root.metadata(b"directory").unwrap().mode, 0o1777, "the umask has no say");
    assert_eq!(root.read_link(b"link").unwrap().to_str(), Some("a"));
    root.hard_link(b"second", b"link").unwrap();
    assert_eq!(root.metadata(b"second").unwrap().file_type, FileType::Symlink);
    assert_eq!(root.remove(b"missing").unwrap_err().kind(), Kind::NotFound);
    assert_eq!(root.metadata(b"a/b").unwrap_err().kind(), Kind::Invalid);
    assert!(matches!(root.remove(b"/.."), Err(Error::Name { .. })));
}

#[test]
fn attributes_are_set_without_opening() {
    let fixture = Fixture::new();
    let root = fixture.root();
    root.make_node(b"null", Node::Char(1, 3)).unwrap();
    let modified = Time { seconds: -5, nanoseconds: 7 };
    let node = root.pin(b"null").unwrap();
    node.set_owner(12, 34).unwrap();
    node.set_mode(0o4666).unwrap();
    node.set_time(modified).unwrap();
    let metadata = root.metadata(b"null").unwrap();
    assert_eq!((metadata.uid, metadata.gid, metadata.mode), (12, 34, 0o4666));
    assert_eq!((metadata.modified, metadata.node), (modified, (1, 3)));
    root.symlink(b"link", b"nowhere").unwrap();
    let link = root.pin(b"link").unwrap();
    link.set_owner(1, 2).unwrap();
    link.set_time(modified).unwrap();
    link.set_xattr(b"trusted.note", b"on the link itself").unwrap();
    assert_eq!(root.metadata(b"link").unwrap().modified, modified);
    assert!(link.set_mode(0o777).is_err(), "a link has no mode");
    assert!(matches!(link.set_xattr(b"user.\0", b""), Err(Error::Name { .. })));
}

#[test]
fn directories_are_made_through_links_inside() {
    let fixture = Fixture::new();
    let root = fixture.root();
    root.make_directory(b"real", 0o700).unwrap().set_time(Time { seconds: 9, nanoseconds: 0 }).unwrap();
    root.symlink(b"alias", b"/real").unwrap();
    root.make_directories(&Inside::parse(b"alias/x/y").unwrap()).unwrap();
    assert!(fixture.inside("real/x/y").is_dir());
    assert_eq!(root.metadata(b"real").unwrap().modified.seconds, 9);
    root.symlink(b"dangling", b"nowhere").unwrap();
    let error = root.make_directories(&Inside::parse(b"dangling/x").unwrap()).unwrap_err();
    assert!(error.is(Errno::ENOENT), "{error}");
    root.create_file(b"file").unwrap();
    assert!(root.make_directories(&Inside::parse(b"file/x").unwrap()).unwrap_err().is(Errno::ENOTDIR));
}

#[test]
fn trees_are_removed_and_links_are_not_followed() {
    let fixture = Fixture::new();
    let root = fixture.root();
    root.make_directories(&Inside::parse(b"tree/a/b").unwrap()).unwrap();
    symlink(fixture.secret(), fixture.inside("tree/a/link")).unwrap();
    for number in 0..3000 {
        std::fs::write(fixture.inside("tree/a").join(number.to_string()), "").unwrap();
    }
    std::fs::set_permissions(fixture.inside("tree/a"), PermissionsExt::from_mode(0o0)).unwrap();
    root.remove_tree(b"tree").unwrap();
    assert!(!fixture.inside("tree").exists());
    assert!(fixture.secret().join("file").exists());
    root.remove_tree(b"tree").unwrap();
    root.create_file(b"f").unwrap();
    root.clear().unwrap();
    assert_eq!(std::fs::read_dir(fixture.inside("")).unwrap().count(), 0);
}

#[test]
fn a_tree_deeper_than_any_path_is_removed() {
    let fixture = Fixture::new();
    let root = fixture.root();
    let name = super::Name::parse(&[b'd'; 250]).unwrap();
    let mut here = root.make_directory(b"deep", 0o700).unwrap();
    for _ in 0..1500 {
        here = here.make_directory(&name, 0o700).unwrap();
    }
    drop(here);
    root.remove_tree(b"deep").unwrap();
    assert_eq!(std::fs::read_dir(fixture.inside("")).unwrap().count(), 0);
}

#[test]
fn removal_stops_at_mount_points() {
    let fixture = Fixture::new();
    let root = fixture.root();
    root.make_directories(&Inside::parse(b"tree/mounted").unwrap()).unwrap();
    root.create_file(b"tree/file").unwrap();
    let secret = Root::open(&fixture.secret()).unwrap();
    secret.follow(b"").unwrap().bind_onto(&root.follow(b"tree/mounted").unwrap(), false).unwrap();
    let file = secret.pin(b"file").unwrap();
    file.bind_onto(&root.pin(b"tree/file").unwrap(), false).unwrap();
    let results =
        [root.remove_tree(b"tree"), root.clear(), root.remove(b"tree/file"), root.remove(b"tree/mounted")];
    let intact = std::fs::read_to_string(fixture.secret().join("file")).unwrap();
    unmount_stack(&root, b"tree/mounted").unwrap();
    unmount_stack(&root, b"tree/file").unwrap();
    for result in results {
        let error = result.unwrap_err();
        assert!(matches!(error, Error::Mounted { .. }), "{error:?}");
        assert_eq!(error.kind(), Kind::Conflict);
    }
    assert_eq!(intact, "secret");
    root.clear().unwrap();
    assert!(fixture.secret().join("file").exists());
}

#[test]
fn a_mount_goes_where_the_descriptor_points() {
    let fixture = Fixture::new();
    let root = fixture.root();
    root.make_directory(b"real", 0o755).unwrap();
    symlink("/real", fixture.inside("alias")).unwrap();
    let target = root.follow(b"alias").unwrap();
    // Swapped after it was looked at, as a plugin might do.
    std::fs::remove_file(fixture.inside("alias")).unwrap();
    symlink(fixture.secret(), fixture.inside("alias")).unwrap();
    let source = Root::open(&fixture.secret()).unwrap().follow(b"").unwrap();
    source.bind_onto(&target, true).unwrap();
    let seen = std::fs::read_to_string(fixture.inside("real/file"));
    let mounted = root.follow(b"real").unwrap();
    mounted.set_shared(true).unwrap();
    mounted.set_shared(false).unwrap();
    drop(mounted);
    unmount_stack(&root, b"real").unwrap();
    assert_eq!(seen.unwrap(), "secret");
    assert_eq!(target.host_path().unwrap(), fixture.inside("real").canonicalize().unwrap());
    assert!(!fixture.inside("real/file").exists());
}

#[test]
fn a_root_is_no_link() {
    let fixture = Fixture::new();
    symlink(fixture.secret(), fixture.0.path().join("link")).unwrap();
    assert!(Root::open(&fixture.0.path().join("link")).is_err());
    assert!(Root::open(&fixture.secret().join("file")).is_err());
    fixture.root().sync().unwrap();
}
