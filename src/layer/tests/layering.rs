//! What layers do to each other, and what an entry keeps.

use std::os::unix::fs::{FileTypeExt, MetadataExt};

use super::{Place, Tar};
use crate::error::Classified;

#[test]
fn the_later_entry_wins() {
    let place = Place::new();
    let archive = Tar::default()
        .directory("d")
        .file("d/inner", b"")
        .file("d", b"now a file")
        .file("f", b"file")
        .directory("f")
        .file("f/inner", b"x")
        .directory("f")
        .symlink("l", "f")
        .symlink("l", "g")
        .raw(b'6', b"l2", b"", b"", |_| {})
        .raw(b'6', b"l2", b"", b"", |_| {})
        .end();
    place.unpack(archive).unwrap();
    assert_eq!(place.read("d"), "now a file");
    assert_eq!(place.read("f/inner"), "x", "two directories are merged");
    assert_eq!(std::fs::read_link(place.path("l")).unwrap().to_str(), Some("g"));
}

#[test]
fn whiteouts_take_away_what_lower_layers_brought() {
    let place = Place::new();
    let lower = Tar::default()
        .directory("a")
        .file("a/gone", b"")
        .file("a/stays", b"")
        .directory("o")
        .file("o/old", b"")
        .directory("o/sub")
        .file("o/sub/old", b"")
        .directory("o/empty")
        .end();
    place.unpack(lower).unwrap();
    let upper = Tar::default()
        .file("a/.wh.gone", b"")
        .file("a/.wh.never-was", b"")
        .file("not/there/.wh.x", b"content of a whiteout is passed over")
        .file("o/new", b"")
        .file("o/sub/new", b"")
        .file("o/.wh..wh..opq", b"")
        .file("o/later", b"")
        .directory(".wh..wh.plnk")
        .file(".wh..wh.plnk/1.2", b"")
        .end();
    place.unpack(upper).unwrap();
    let (there, gone) = (
        ["a/stays", "o/new", "o/sub/new", "o/later"],
        ["a/gone", "o/old", "o/sub/old", "o/empty", "a/.wh.gone", "o/.wh..wh..opq", ".wh..wh.plnk", "not"],
    );
    assert!(there.iter().all(|name| place.has(name)), "{there:?}");
    for name in gone {
        assert!(!place.has(name), "{name}");
    }
}

#[test]
fn an_opaque_root_keeps_its_own_layer() {
    let place = Place::new();
    place.unpack(Tar::default().file("old", b"").end()).unwrap();
    place.unpack(Tar::default().file("new", b"").file(".wh..wh..opq", b"").end()).unwrap();
    assert!(place.has("new") && !place.has("old"));
}

#[test]
fn attributes_are_kept() {
    let place = Place::new();
    let capability = b"\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";
    let archive = Tar::default()
        .raw(b'5', b".", b"", b"", |header| header.set_mode(0o711))
        .raw(b'5', b"sticky", b"", b"", |header| {
            header.set_mode(0o1777);
            header.set_mtime(5);
        })
        .pax(&[("SCHILY.xattr.security.capability", capability), ("mtime", b"-1.25"), ("uid", b"3000000")])
        .raw(b'0', b"sticky/setuid", b"", b"x", |header| {
            header.set_mode(0o106_755);
            header.set_gid(77);
        })
        .file("sticky/implied/deep/file", b"")
        .raw(b'3', b"null", b"", b"", |header| {
            header.set_mode(0o666);
            header.set_device_major(1).unwrap();
            header.set_device_minor(3).unwrap();
        })
        .raw(b'4', b"block", b"", b"", |header| header.set_device_major(7).unwrap())
        .raw(b'6', b"fifo", b"", b"", |header| header.set_mode(0o600))
        .raw(b'2', b"link", b"null", b"", |header| header.set_uid(9))
        .end();
    place.unpack(archive).unwrap();
    let metadata = |name: &str| place.path(name).symlink_metadata().unwrap();
    assert_eq!(metadata("").mode() & 0o7777, 0o711);
    assert_eq!((metadata("sticky").mode() & 0o7777, metadata("sticky").mtime()), (0o1777, 5));
    let file = metadata("sticky/setuid");
    assert_eq!((file.mode() & 0o7777, file.uid(), file.gid()), (0o6755, 3_000_000, 77));
    assert_eq!((file.mtime(), file.mtime_nsec()), (-2, 750_000_000));
    assert_eq!(metadata("sticky/implied").mode() & 0o7777, 0o755);
    assert!(metadata("null").file_type().is_char_device() && metadata("null").rdev() == 0x103);
    assert_eq!(metadata("null").mode() & 0o7777, 0o666);
    assert!(metadata("block").file_type().is_block_device());
    assert!(metadata("fifo").file_type().is_fifo());
    assert_eq!((metadata("link").uid(), metadata("link").mtime()), (9, 1_000_000_000));
    let tool = std::process::Command::new("getcap").arg(place.path("sticky/setuid")).output().unwrap();
    assert!(String::from_utf8_lossy(&tool.stdout).contains("cap_net_bind_service"), "{tool:?}");
}

#[test]
fn times_of_directories_survive_what_comes_later() {
    let place = Place::new();
    let at = |seconds: u64| move |header: &mut tar::Header| header.set_mtime(seconds);
    let archive = Tar::default()
        .raw(b'5', b"a", b"", b"", at(100))
        .raw(b'5', b"a/b", b"", b"", at(200))
        .file("a/b/x", b"")
        .file("a/y", b"")
        .file("a/b/z", b"")
        .file("a/b/c/d/e", b"")
        .hard_link("a/b/h", "a/y")
        .file("a/b/.wh.x", b"")
        .raw(b'5', b"late", b"", b"", at(1))
        .file("late/x", b"")
        .raw(b'5', b"late", b"", b"", at(300))
        .raw(b'5', b".", b"", b"", at(400))
        .file("last", b"")
        .end();
    place.unpack(archive).unwrap();
    let time = |name: &str| place.path(name).metadata().unwrap().mtime();
    assert_eq!(["a", "a/b", "late", ""].map(time), [100, 200, 300, 400]);
    assert!(!place.has("a/b/x"));
}

#[test]
fn long_names_of_both_kinds_are_read() {
    let place = Place::new();
    let long = format!("{}/{}", "d".repeat(150), "f".repeat(200));
    let gnu = Tar::default()
        .raw(b'L', b"././@LongLink", b"", format!("{long}\0").as_bytes(), |_| {})
        .file("cut", b"gnu")
        .raw(b'K', b"././@LongLink", b"", format!("{long}\0").as_bytes(), |_| {})
        .symlink("link", "cut")
        .end();
    place.unpack(gnu).unwrap();
    assert_eq!(place.read(&long), "gnu");
    assert_eq!(place.read("link"), "gnu");
    let pax = Tar::default().pax(&[("path", long.as_bytes())]).file("cut", b"pax").end();
    place.unpack(pax).unwrap();
    assert_eq!(place.read(&long), "pax");
    let both = Tar::default()
        .pax(&[("path", b"pax")])
        .raw(b'L', b"././@LongLink", b"", b"gnu\0", |_| {})
        .file("cut", b"Go takes GNU's name")
        .end();
    place.unpack(both).unwrap();
    assert!(place.has("gnu") && !place.has("pax") && !place.has("cut"));
    let prefix = Tar::default()
        .raw(b'0', b"name", b"", b"", |header| {
            header.as_ustar_mut().unwrap().prefix[..3].copy_from_slice(b"pre");
        })
        .end();
    place.unpack(prefix).unwrap();
    assert!(place.has("pre/name"));
}

#[test]
fn names_need_not_be_text() {
    use std::os::unix::ffi::OsStrExt;
    let place = Place::new();
    let name = b"\xff\xfe\x01 \n";
    place.unpack(Tar::default().raw(b'0', name, b"", b"x", |_| {}).end()).unwrap();
    assert!(place.path("").join(std::ffi::OsStr::from_bytes(name)).exists());
}

#[test]
fn global_headers_are_passed_over() {
    let place = Place::new();
    let archive = Tar::default()
        .raw(b'g', b"pax_global_header", b"", b"15 path=global\n", |_| {})
        .file("local", b"")
        .end();
    place.unpack(archive).unwrap();
    assert!(place.has("local") && !place.has("global") && !place.has("pax_global_header"));
}

#[test]
fn a_full_disk_is_no_fault_of_the_archive() {
    use nix::mount::{MsFlags, mount};
    let place = Place::new();
    mount(Some("tmpfs"), &place.path(""), Some("tmpfs"), MsFlags::empty(), Some("size=64k")).unwrap();
    let result = place.unpack(Tar::default().file("big", &vec![1; 1 << 20]).end());
    let emptied = place.root().clear();
    nix::mount::umount(&place.path("")).unwrap();
    let error = result.unwrap_err();
    assert_eq!(error.kind(), crate::error::Kind::Full);
    assert!(crate::error::chain(&error).contains("No space left"), "{}", crate::error::chain(&error));
    emptied.unwrap();
}
