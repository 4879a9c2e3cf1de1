//! Contexts of `docker plugin create`.

use std::io::Cursor;

use super::{Place, Tar, invalid};
use crate::layer::{Context, Limits, split_context};

fn split(place: &Place, archive: Vec<u8>) -> crate::layer::Result<Context<Vec<u8>>> {
    split_context(Cursor::new(archive), &place.root(), Vec::new(), &Limits::default())
}

fn plain(blob: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    std::io::Read::read_to_end(&mut flate2::bufread::GzDecoder::new(blob), &mut out).unwrap();
    out
}

fn benign() -> Tar {
    Tar::default()
        .file("config.json", b"{}")
        .directory("rootfs/")
        .directory("./rootfs/bin/")
        .file("/rootfs/bin/tool", b"tool")
        .hard_link("rootfs/bin/second", "rootfs/bin/tool")
        .hard_link("rootfs/bin/third", "./rootfs/bin/tool")
        .hard_link("rootfs/bin/fourth", "bin/tool")
        .symlink("rootfs/link", "/rootfs/bin/tool")
        .file("README", b"passed over")
        .file("rootfsx/no", b"passed over")
        .file("rootfs/../escaped", b"passed over")
        .directory("other/rootfs")
}

#[test]
fn a_context_becomes_files_and_a_layer_that_gives_the_same_files() {
    let (place, again) = (Place::new(), Place::new());
    let context = split(&place, benign().end()).unwrap();
    assert_eq!(context.config_json, b"{}");
    assert_eq!(context.diff_id.0, crate::oci::Digest::of(&plain(&context.blob)));
    assert_eq!(again.unpack(context.blob.clone()).unwrap(), context.diff_id);
    for place in [&place, &again] {
        for name in ["tool", "second", "third", "fourth"] {
            assert_eq!(place.read(&format!("bin/{name}")), "tool");
        }
        assert_eq!(std::fs::read_link(place.path("link")).unwrap().to_str(), Some("/rootfs/bin/tool"));
        let mut top: Vec<_> = std::fs::read_dir(place.path(""))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        top.sort();
        assert_eq!(top, ["bin", "link"]);
    }
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut gzip, &benign().end()).unwrap();
    let same = split(&Place::new(), gzip.finish().unwrap()).unwrap();
    assert_eq!(same.blob, context.blob, "the same context gives the same bytes, however it came");
}

#[test]
fn the_layer_is_faithful() {
    let long = "n".repeat(120);
    let value = [b'v'; 3000];
    let rootfs = |prefix: &str| {
        let path = format!("{prefix}{long}");
        Tar::default()
            .pax(&[("path", path.as_bytes()), ("SCHILY.xattr.user.note", &value), ("uid", b"4000000000")])
            .raw(b'0', b"x", b"", b"content", |header| header.set_mode(0o4755))
            .pax(&[("linkpath", path.as_bytes()), ("mtime", b"-7.5")])
            .hard_link(&format!("{prefix}hard"), "x")
            .pax(&[("linkpath", &[b't'; 300])])
            .symlink(&format!("{prefix}soft"), "x")
            .raw(b'3', format!("{prefix}dev").as_bytes(), b"", b"", |header| {
                header.set_device_major(5).unwrap();
                header.set_device_minor(70_000).unwrap();
            })
            .file(&format!("{prefix}.wh.gone"), b"odd, but kept")
            .raw(b'0', format!("{prefix}\u{e9}\u{fc}").as_bytes(), b"", b"", |_| {})
    };
    let place = Place::new();
    let context = split(&place, rootfs("rootfs/").file("config.json", b"x").end()).unwrap();
    let layer = plain(&context.blob);
    assert!(layer.ends_with(&[0; 1024]) && layer.len().is_multiple_of(512));
    let listed = |archive: Vec<u8>| {
        let input = crate::layer::Input::start(Cursor::new(archive), 1 << 30, false).unwrap();
        let mut entries = crate::layer::Entries::new(input, Limits::default());
        std::iter::from_fn(|| entries.next().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(listed(layer), listed(rootfs("").end()));
    assert!(!place.has(".wh.gone"));
}

#[test]
fn config_json_is_exactly_one_small_file() {
    let rootfs = || Tar::default().directory("rootfs");
    let cases = [
        ("config not found", rootfs()),
        ("no rootfs found: EOF", Tar::default().file("config.json", b"{}")),
        ("no rootfs found: EOF", Tar::default()),
        ("config.json is in the archive twice", rootfs().file("config.json", b"").file("./config.json", b"")),
        ("config.json is a symbolic link, expected a regular file", rootfs().symlink("config.json", "x")),
        ("config.json is a directory, expected a regular file", rootfs().directory("config.json")),
        ("config.json is a hard link, expected a regular file", rootfs().hard_link("config.json", "rootfs")),
        (
            "config.json has 4194305 bytes, 4194304 are allowed",
            rootfs().raw(b'0', b"config.json", b"", b"", |header| header.set_size(4_194_305)),
        ),
        ("config not found", rootfs().file("x/config.json", b"").file("Config.json", b"")),
        (
            "entry \"rootfs\": it is a symbolic link, expected a directory",
            Tar::default().symlink("rootfs", "/").file("config.json", b""),
        ),
    ];
    for (expected, archive) in cases {
        let place = Place::new();
        assert_eq!(invalid(split(&place, archive.end())), expected);
        place.assert_contained();
    }
}

#[test]
fn a_hard_link_out_of_rootfs_is_refused() {
    let place = Place::new();
    let archive = Tar::default().file("binary", b"").hard_link("rootfs/binary", "binary").end();
    assert!(invalid(split(&place, archive)).contains("it is a hard link to \"binary\", which is not in"));
    let archive = Tar::default().hard_link("rootfs/x", "../../victim").end();
    invalid(split(&place, archive));
    place.assert_contained();
}

#[test]
fn a_blob_that_cannot_be_written_is_the_error() {
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let place = Place::new();
    let archive = Tar::default().file("rootfs/big", &vec![0; 8 << 20]).end();
    let error = split_context(Cursor::new(archive), &place.root(), Full, &Limits::default()).map(drop);
    assert!(matches!(error, Err(crate::layer::Error::Blob(_))), "{error:?}");
}
