//! Trees that GNU tar packs: we unpack them to what GNU tar unpacks them to, and GNU tar and Python read our layers.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;

use super::Place;
use crate::layer::{Limits, split_context};

/// One thing in a random tree.
#[derive(Debug, Clone)]
enum Thing {
    File { size: usize, mode: u32 },
    Directory { mode: u32 },
    Symlink { target: String },
    HardLink,
    Fifo,
}

fn thing() -> impl Strategy<Value = Thing> {
    prop_oneof![
        4 => (0_usize..2000, 0_u32..0o10000).prop_map(|(size, mode)| Thing::File { size, mode }),
        3 => (0_u32..0o10000).prop_map(|mode| Thing::Directory { mode }),
        2 => "[a-z/.]{1,150}".prop_map(|target| Thing::Symlink { target }),
        1 => Just(Thing::HardLink),
        1 => Just(Thing::Fifo),
    ]
}

/// A name, which of the directories so far it goes to, owner, time, and what it is.
type Plan = Vec<(String, prop::sample::Index, u32, i64, Thing)>;

fn plan() -> impl Strategy<Value = Plan> {
    let name = prop_oneof![3 => "[a-z]{1,8}", 1 => "[a-zé ]{90,110}"];
    let item = (name, any::<prop::sample::Index>(), 0_u32..3_000_000, 0_i64..4_000_000_000, thing());
    prop::collection::vec(item, 0..25)
}

/// Builds the tree; times and modes of directories last, since making things in them needs and changes both.
fn build(top: &Path, plan: &Plan) {
    let mut directories = vec![(top.to_path_buf(), 0o755, 0, 1)];
    let mut files = Vec::new();
    for (name, at, owner, seconds, thing) in plan {
        let path = at.get(&directories).0.join(name);
        if path.symlink_metadata().is_ok() {
            continue;
        }
        match thing {
            Thing::File { size, mode } => {
                std::fs::write(&path, vec![b'x'; *size]).unwrap();
                files.push((path.clone(), *mode));
            }
            Thing::Directory { mode } => {
                std::fs::create_dir(&path).unwrap();
                directories.push((path.clone(), *mode, *owner, *seconds));
                continue;
            }
            Thing::Symlink { target } => symlink(target, &path).unwrap(),
            Thing::HardLink => match files.last() {
                Some((old, _)) => std::fs::hard_link(old, &path).unwrap(),
                None => continue,
            },
            Thing::Fifo => nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR).unwrap(),
        }
        std::os::unix::fs::lchown(&path, Some(*owner), Some(*owner / 2)).unwrap();
        touch(&path, *seconds);
    }
    for (path, mode) in files {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    }
    for (path, mode, owner, seconds) in directories.iter().rev() {
        std::os::unix::fs::lchown(path, Some(*owner), Some(*owner)).unwrap();
        std::fs::set_permissions(path, PermissionsExt::from_mode(*mode)).unwrap();
        touch(path, *seconds);
    }
}

fn touch(path: &Path, seconds: i64) {
    use nix::sys::stat::{UtimensatFlags, utimensat};
    let time = nix::sys::time::TimeSpec::new(seconds, 123);
    utimensat(nix::fcntl::AT_FDCWD, path, &time, &time, UtimensatFlags::NoFollowSymlink).unwrap();
}

/// Everything that can be seen of a tree, hard links as the first name of the same inode.
fn list(top: &Path) -> BTreeMap<String, String> {
    let (mut found, mut first) = (BTreeMap::new(), BTreeMap::new());
    let mut waiting = vec![top.to_path_buf()];
    while let Some(path) = waiting.pop() {
        let metadata = path.symlink_metadata().unwrap();
        let name = path.strip_prefix(top).unwrap().to_str().unwrap().to_owned();
        let kind = metadata.file_type();
        let content = if kind.is_file() {
            format!("{:?}", std::fs::read(&path).unwrap())
        } else if kind.is_symlink() {
            format!("{:?}", std::fs::read_link(&path).unwrap())
        } else {
            String::new()
        };
        if kind.is_dir() {
            waiting.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            first.entry(metadata.ino()).or_insert_with(Vec::new).push(name.clone());
        }
        let facts =
            (metadata.mode(), metadata.uid(), metadata.gid(), metadata.mtime(), metadata.mtime_nsec());
        found.insert(name, format!("{facts:?} {content}"));
    }
    for mut names in first.into_values().filter(|names| names.len() > 1) {
        names.sort();
        found.insert(format!("links {}", names.join(" ")), String::new());
    }
    found
}

fn gnu_tar(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("tar").args(arguments).env("LC_ALL", "C.UTF-8").output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn what_gnu_tar_packs_we_unpack_alike(plan in plan(), format in prop_oneof![Just("gnu"), Just("pax")]) {
        let source = tempfile::tempdir().unwrap();
        let top = source.path().join("rootfs");
        std::fs::create_dir(&top).unwrap();
        build(&top, &plan);
        std::fs::write(source.path().join("config.json"), "{}").unwrap();
        let (from, format) = (source.path().to_str().unwrap(), format!("--format={format}"));
        let context = gnu_tar(&["-C", from, &format, "-c", "config.json", "rootfs"]);

        // Their unpacking of the context, ours, and both kinds of unpacking of the layer that comes out of it.
        let theirs = tempfile::tempdir().unwrap();
        std::fs::write(source.path().join("context.tar"), &context).unwrap();
        let archive = source.path().join("context.tar");
        gnu_tar(&["-C", theirs.path().to_str().unwrap(), "-xpf", archive.to_str().unwrap(), "--numeric-owner"]);
        let expected = list(&theirs.path().join("rootfs"));
        let ours = Place::new();
        let layer =
            split_context(Cursor::new(context), &ours.root(), Vec::new(), &Limits::default()).unwrap();
        prop_assert_eq!(&list(&ours.path("")), &expected);
        let again = Place::new();
        prop_assert_eq!(again.unpack(layer.blob.clone()).unwrap(), layer.diff_id);
        prop_assert_eq!(&list(&again.path("")), &expected);
        let blob = source.path().join("layer.tar.gz");
        std::fs::write(&blob, &layer.blob).unwrap();
        let read_back = tempfile::tempdir().unwrap();
        let (into, blob) = (read_back.path().to_str().unwrap(), blob.to_str().unwrap());
        gnu_tar(&["-C", into, "-xpzf", blob, "--numeric-owner"]);
        prop_assert_eq!(&list(read_back.path()), &expected);
    }
}

#[test]
fn gnu_tar_and_python_list_our_layer_alike() {
    let archive = super::Tar::default()
        .file("config.json", b"{}")
        .directory("rootfs")
        .pax(&[("path", format!("rootfs/{}", "l".repeat(240)).as_bytes()), ("SCHILY.xattr.user.a", b"b")])
        .file("x", b"content")
        .symlink("rootfs/link", "target")
        .end();
    let place = Place::new();
    let layer = split_context(Cursor::new(archive), &place.root(), Vec::new(), &Limits::default()).unwrap();
    let path = place.outside().join("layer.tar.gz");
    std::fs::write(&path, layer.blob).unwrap();
    let gnu = String::from_utf8(gnu_tar(&["-tzf", path.to_str().unwrap()])).unwrap();
    assert_eq!(gnu.lines().collect::<Vec<_>>(), ["./", &"l".repeat(240), "link"]);
    let program = "import sys,tarfile\n\
        for e in tarfile.open(sys.argv[1]): print(e.name, e.size, e.linkname, e.pax_headers.get('SCHILY.xattr.user.a'))";
    let output = Command::new("python3").args(["-c", program]).arg(&path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let expected = format!(". 0  None\n{} 7  b\nlink 0 target None\n", "l".repeat(240));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
}
