//! What an archive tries, and what comes of it.

use std::io::{Cursor, Read};
use std::os::unix::fs::MetadataExt;

use super::{Place, Tar, invalid};
use crate::layer::{Limits, unpack};

#[test]
fn absolute_and_climbing_names_land_inside() {
    let place = Place::new();
    let archive = Tar::default()
        .file("/absolute", b"1")
        .file("../../climbing", b"2")
        .file("a/../../../b", b"3")
        .file("/../victim", b"4")
        .end();
    place.unpack(archive).unwrap();
    assert_eq!(["absolute", "climbing", "b", "victim"].map(|name| place.read(name)), ["1", "2", "3", "4"]);
    assert!(!place.has("a"));
    place.assert_contained();
}

#[test]
fn an_entry_through_a_link_of_the_same_archive_lands_inside() {
    let place = Place::new();
    let outside = place.outside().to_str().unwrap().to_owned();
    let archive = Tar::default()
        .symlink("abs", "/etc")
        .symlink("up", "../../../../../..")
        .symlink("exact", &outside)
        .symlink("proc", "/proc/self/root")
        .directory("etc")
        .file("abs/passwd", b"ours")
        .file("up/victim", b"ours")
        .end();
    place.unpack(archive).unwrap();
    assert_eq!(place.read("etc/passwd"), "ours");
    assert_eq!(place.read("victim"), "ours");
    for link in ["exact", "proc"] {
        let archive = Tar::default().file(&format!("{link}/victim"), b"ours").end();
        invalid(place.unpack(archive));
    }
    place.assert_contained();
}

#[test]
fn a_link_is_replaced_and_not_written_through() {
    let place = Place::new();
    let victim = place.outside().join("victim");
    let archive = Tar::default()
        .symlink("file", victim.to_str().unwrap())
        .file("file", b"ours")
        .symlink("directory", place.outside().to_str().unwrap())
        .directory("directory")
        .file("directory/victim", b"ours")
        .end();
    place.unpack(archive).unwrap();
    assert_eq!(place.read("file"), "ours");
    assert!(place.path("directory").symlink_metadata().unwrap().is_dir());
    place.assert_contained();
}

#[test]
fn a_parent_that_becomes_a_link_is_looked_up_anew() {
    let place = Place::new();
    let archive = Tar::default()
        .directory("a")
        .file("a/first", b"1")
        .symlink("a", "b")
        .directory("b")
        .file("a/second", b"2")
        .end();
    place.unpack(archive).unwrap();
    assert_eq!(place.read("b/second"), "2");
    assert!(!place.has("b/first"));
}

#[test]
fn hard_links_reach_only_what_is_inside() {
    let place = Place::new();
    let victim = place.outside().join("victim");
    let refused = [victim.to_str().unwrap(), "/etc/passwd", "../victim", "missing", "up/victim", "x/y"];
    for target in refused {
        let archive = Tar::default().symlink("up", "..").file("x", b"").hard_link("link", target).end();
        let text = invalid(place.unpack(archive));
        assert!(text.contains("link") && text.contains("not in the archive"), "{text}");
    }
    let archive = Tar::default().symlink("out", victim.to_str().unwrap()).hard_link("second", "out").end();
    place.unpack(archive).unwrap();
    assert!(place.path("second").symlink_metadata().unwrap().is_symlink(), "the link is not followed");
    invalid(place.unpack(Tar::default().hard_link("link", "/").end()));
    invalid(place.unpack(Tar::default().directory("d").hard_link("link", "d").end()));
    place.assert_contained();
}

#[test]
fn the_root_is_not_replaced() {
    let place = Place::new();
    for name in [".", "/", "a/..", "../.."] {
        for flag in [b'0', b'1', b'2', b'6'] {
            let archive = Tar::default().raw(flag, name.as_bytes(), b"x", b"", |_| {}).end();
            let text = invalid(place.unpack(archive));
            assert!(text.contains("cannot take the place of the root directory"), "{text}");
        }
    }
    place.assert_contained();
}

#[test]
fn a_hostile_whiteout_removes_nothing_outside() {
    let place = Place::new();
    for name in [".wh...", "a/.wh...", ".wh..", ".wh."] {
        let archive = Tar::default().directory("a").file(name, b"").end();
        invalid(place.unpack(archive));
    }
    place.unpack(Tar::default().symlink("up", "..").file("up/.wh.victim", b"").end()).unwrap();
    place.assert_contained();
}

#[test]
fn a_file_is_no_directory() {
    let place = Place::new();
    let text = invalid(place.unpack(Tar::default().file("a", b"").file("a/b", b"").end()));
    assert!(text.contains("\"a/b\"") && text.contains("ENOTDIR"), "{text}");
    let circle = Tar::default().symlink("x", "y").symlink("y", "x").file("x/z", b"").end();
    assert!(invalid(place.unpack(circle)).contains("ELOOP"));
    invalid(place.unpack(Tar::default().symlink("dangling", "nowhere").file("dangling/z", b"").end()));
}

#[test]
fn sizes_that_lie_are_found() {
    let place = Place::new();
    let cut = Tar::default().raw(b'0', b"long", b"", b"short", |header| header.set_size(5000)).unended();
    let text = invalid(place.unpack(cut));
    assert!(text.contains("\"long\"") && text.contains("4488 bytes before its content"), "{text}");
    let negative = |header: &mut tar::Header| {
        header.as_old_mut().size = [0xff; 12];
    };
    assert!(
        invalid(place.unpack(Tar::default().raw(b'0', b"a", b"", b"", negative).end()))
            .contains("size is negative")
    );
    let huge = |header: &mut tar::Header| {
        header.as_old_mut().size = [0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 2, 0];
    };
    assert!(invalid(place.unpack(Tar::default().raw(b'0', b"a", b"", b"", huge).end())).contains("64 bits"));
    invalid(place.unpack(Tar::default().pax(&[("size", b"-1")]).file("a", b"").end()));
    // A directory that claims content has none: the next header follows at once.
    let archive = Tar::default()
        .raw(b'5', b"d", b"", b"", |header| header.set_size(512))
        .file("inner", b"1")
        .raw(0, b"old/", b"", b"", |header| header.set_size(512))
        .file("inner2", b"2")
        .end();
    place.unpack(archive).unwrap();
    assert_eq!((place.read("inner"), place.read("inner2")), ("1".to_owned(), "2".to_owned()));
}

#[test]
fn cut_off_archives_are_told_from_short_ones() {
    let place = Place::new();
    let whole = Tar::default().file("a", b"content").unended();
    // Go takes the end of the stream at a header for the end of the archive, and does without the last padding.
    place.unpack(whole.clone()).unwrap();
    place.unpack(whole[..519].to_vec()).unwrap();
    place.unpack(Vec::new()).unwrap();
    for length in [1, 511, 512, 518] {
        invalid(place.unpack(whole[..length].to_vec()));
    }
    let mut lone = whole.clone();
    lone.resize(lone.len() + 512, 0);
    place.unpack(lone.clone()).unwrap();
    lone.extend_from_slice(&whole);
    assert!(invalid(place.unpack(lone)).contains("single block of zeros"));
    assert!(invalid(place.unpack(b"not a tar".repeat(100))).contains("at the start"));
}

#[test]
fn an_extended_header_of_512_mb_is_refused_at_once() {
    let place = Place::new();
    for flag in [b'x', b'g', b'L', b'K'] {
        let header = Tar::default().raw(flag, b"x", b"", b"", |header| header.set_size(512 << 20)).unended();
        // The reader would deliver it all: that it ends early shows that nothing was read.
        let rest = std::io::repeat(b'x').take(512 << 20);
        let result = unpack(Cursor::new(header).chain(rest), &place.root(), &Limits::default());
        let text = invalid(result);
        assert!(text.contains("536870912 bytes, 1048576 are allowed"), "{text}");
    }
}

#[test]
fn limits_hold() {
    let place = Place::new();
    let entry = Tar::default().directory("d").unended();
    let endless = Endless { block: entry, position: 0 };
    let limits = Limits { entries_max: 20_000, ..Limits::default() };
    assert_eq!(invalid(unpack(endless, &place.root(), &limits)), "the archive has more than 20000 entries");
    let limits = Limits { unpacked_max_bytes: 1 << 20, ..Limits::default() };
    let header = Tar::default().raw(b'0', b"a", b"", b"", |header| header.set_size(1 << 30)).unended();
    let result = unpack(Cursor::new(header).chain(std::io::repeat(0)), &place.root(), &limits);
    let text = invalid(result);
    assert!(text.starts_with("entry \"a\": 1073741824 bytes, but 104"), "{text}");
    assert!(text.ends_with(" are left of the 1048576 that an archive may unpack to"), "{text}");
    // Nothing claims too much, and all of it together is.
    let entry = Tar::default().file("x", &[0; 4096]).unended();
    let endless = Endless { block: entry, position: 0 };
    let text = invalid(unpack(endless, &place.root(), &limits));
    assert!(text.contains("1048576"), "{text}");
    let trailer = Cursor::new(Tar::default().end()).chain(std::io::repeat(0));
    invalid(unpack(trailer, &place.root(), &limits));
    let limits = Limits { entries_max: 5000, ..Limits::default() };
    let mut deep = Tar::default();
    for number in 0..4 {
        deep = deep.pax(&[("path", format!("{number}{}", "/d".repeat(1500)).as_bytes())]).file("x", b"");
    }
    let text = invalid(unpack(Cursor::new(deep.end()), &place.root(), &limits));
    assert_eq!(text, "the archive has more than 5000 directories that no entry is for");
    let mut many = Tar::default();
    for _ in 0..20 {
        many = many.pax(&[("path", b"a")]);
    }
    assert!(invalid(place.unpack(many.end())).contains("more than 16 extended headers"));
}

#[test]
fn a_million_entries_are_too_many() {
    let place = Place::new();
    let endless = Endless { block: Tar::default().file(".wh..wh.x", b"").unended(), position: 0 };
    let text = invalid(unpack(endless, &place.root(), &Limits::default()));
    assert_eq!(text, "the archive has more than 1000000 entries");
}

#[test]
fn odd_values_are_refused_with_the_entry_named() {
    let place = Place::new();
    let cases: [(&str, Tar); 8] = [
        ("uid -1", Tar::default().pax(&[("uid", b"-1")]).file("odd", b"")),
        ("uid 4294967295", Tar::default().pax(&[("uid", b"4294967295")]).file("odd", b"")),
        ("gid 4294967296", Tar::default().pax(&[("gid", b"4294967296")]).file("odd", b"")),
        ("sparse", Tar::default().raw(b'S', b"odd", b"", b"", |_| {})),
        ("unhandled tar header type 55", Tar::default().raw(b'7', b"odd", b"", b"", |_| {})),
        (
            "no device 4096:0",
            Tar::default().raw(b'3', b"odd", b"", b"", |header| header.set_device_major(4096).unwrap()),
        ),
        ("longer than 4095", Tar::default().pax(&[("path", &b"odd/".repeat(1200))]).file("x", b"")),
        ("255 bytes", Tar::default().pax(&[("path", &[b'o'; 256])]).file("x", b"")),
    ];
    for (expected, archive) in cases {
        let text = invalid(place.unpack(archive.end()));
        assert!(text.contains(expected) && text.contains("\"o"), "{text}");
    }
    invalid(place.unpack(Tar::default().pax(&[("path", b"a\0b")]).file("x", b"").end()));
    invalid(place.unpack(Tar::default().pax(&[("GNU.sparse.major", b"1")]).file("x", b"").end()));
    invalid(place.unpack(Tar::default().symlink("empty", "").end()));
}

#[test]
fn damaged_compression_is_told() {
    let place = Place::new();
    let archive = Tar::default().file("a", &b"some content".repeat(1000)).end();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &archive).unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = zstd::encode_all(archive.as_slice(), 1).unwrap();
    for (name, whole) in [("gzip", gzip), ("zstd", zstd)] {
        let digest = place.unpack(whole.clone()).unwrap();
        assert_eq!(digest.0, crate::oci::Digest::of(&archive), "{name}");
        for length in [20, whole.len() / 2, whole.len() - 1] {
            let text = invalid(place.unpack(whole[..length].to_vec()));
            assert!(text.contains(name), "{text}");
        }
        let mut trailing = whole.clone();
        trailing.extend_from_slice(b"garbage behind the stream");
        invalid(place.unpack(trailing));
        let twice = [whole.as_slice(), whole.as_slice()].concat();
        place.unpack(twice).unwrap();
    }
    for (name, magic) in [("xz", b"\xfd7zXZ\0".as_slice()), ("bzip2", b"BZh91AY")] {
        assert!(invalid(place.unpack(magic.to_vec())).contains(name));
    }
}

#[test]
fn a_source_that_fails_is_no_fault_of_the_archive() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::ConnectionReset.into())
        }
    }
    let place = Place::new();
    let plain = Tar::default().file("a", &[0; 2000]).end();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    std::io::Write::write_all(&mut gzip, &plain).unwrap();
    for start in [Vec::new(), plain[..900].to_vec(), gzip.finish().unwrap()[..900].to_vec()] {
        let error = unpack(Cursor::new(start).chain(Broken), &place.root(), &Limits::default()).unwrap_err();
        assert!(matches!(error, crate::layer::Error::Source(_)), "{error:?}");
    }
}

#[test]
fn a_bad_archive_is_told_while_the_sender_is_silent() {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let sender = std::thread::spawn(move || {
        // What the other end does with it shows below; the pipe stays open.
        let _ = std::io::Write::write_all(&mut writer, &vec![b'x'; 1 << 18]);
        writer
    });
    let place = Place::new();
    invalid(unpack(reader, &place.root(), &Limits::default()));
    let writer = sender.join().unwrap();
    drop(writer);
}

#[test]
fn files_are_not_opened_through_a_name_twice() {
    let place = Place::new();
    let archive = Tar::default().file("a", b"first").hard_link("b", "a").file("a", b"second").end();
    place.unpack(archive).unwrap();
    assert_eq!((place.read("a"), place.read("b")), ("second".to_owned(), "first".to_owned()));
    assert_eq!(place.path("b").metadata().unwrap().nlink(), 1);
}

/// The same block for ever.
struct Endless {
    block: Vec<u8>,
    position: usize,
}

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let rest = &self.block[self.position..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.position = (self.position + count) % self.block.len();
        Ok(count)
    }
}

#[test]
fn a_zstd_window_that_takes_too_much_memory_is_refused() {
    let place = Place::new();
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(27).unwrap();
    std::io::Write::write_all(&mut encoder, &Tar::default().file("a", &vec![0; 1 << 20]).end()).unwrap();
    let text = invalid(place.unpack(encoder.finish().unwrap()));
    assert!(text.contains("zstd") && text.contains("memory"), "{text}");
}
