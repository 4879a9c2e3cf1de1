//! One directory out of the archive of a whole file system.

use std::fs;
use std::io::Cursor;
use std::os::unix::fs::MetadataExt as _;

use super::Tar;
use crate::confine::Root;
use crate::layer::{Error, Limits, Part, unpack_part};

fn of(tar: &[u8], part: &mut Part, root: &Root) -> Result<(), Error> {
    unpack_part(Cursor::new(tar.to_vec()), root, part, &Limits::default())
}

#[test]
fn what_is_below_the_directory_is_made_and_nothing_else() {
    let place = tempfile::tempdir().unwrap();
    let root = Root::open(place.path()).unwrap();
    let tar = Tar::default()
        .directory("etc/")
        .file("etc/passwd", b"no")
        .raw(b'5', b"./srv/www/", b"", b"", |header| {
            header.set_mode(0o1750);
            header.set_uid(33);
            header.set_gid(44);
        })
        .file("srv/www/a", b"text")
        .symlink("srv/www/link", "/etc/passwd")
        .hard_link("srv/www/b", "srv/www/a")
        .file("srv/www2", b"no")
        .file("srv/wwwx/a", b"no")
        .end();
    let mut part = Part::new(b"/srv/www").unwrap();
    of(&tar, &mut part, &root).unwrap();
    assert!(part.is_there() && !part.is_missing_content());
    let mut names: Vec<_> =
        fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["a", "b", "link"]);
    let own = fs::metadata(place.path()).unwrap();
    assert_eq!((own.mode() & 0o7777, own.uid(), own.gid()), (0o1750, 33, 44));
    assert_eq!(fs::metadata(place.path().join("a")).unwrap().nlink(), 2);
}

#[test]
fn content_that_is_outside_comes_with_the_second_time() {
    let place = tempfile::tempdir().unwrap();
    let root = Root::open(place.path()).unwrap();
    let tar = Tar::default()
        .file("bin/tool", b"program")
        .directory("opt/")
        .hard_link("opt/one", "bin/tool")
        .hard_link("opt/two", "bin/tool")
        .end();
    let mut part = Part::new(b"opt").unwrap();
    of(&tar, &mut part, &root).unwrap();
    assert!(part.is_missing_content() && !place.path().join("one").exists());
    of(&tar, &mut part, &root).unwrap();
    assert!(!part.is_missing_content());
    assert_eq!(fs::read(place.path().join("two")).unwrap(), b"program");
    assert_eq!(fs::metadata(place.path().join("one")).unwrap().nlink(), 2);

    let lost = Tar::default().directory("opt/").hard_link("opt/one", "bin/none").end();
    let mut part = Part::new(b"opt").unwrap();
    of(&lost, &mut part, &root).unwrap();
    assert!(matches!(of(&lost, &mut part, &root), Err(Error::Entry { .. })));
}

#[test]
fn what_is_no_directory_or_not_there_is_said() {
    let place = tempfile::tempdir().unwrap();
    let root = Root::open(place.path()).unwrap();
    let tar = Tar::default().file("file", b"x").file("other/x", b"x").end();
    for path in ["file", "none"] {
        let mut part = Part::new(path.as_bytes()).unwrap();
        of(&tar, &mut part, &root).unwrap();
        assert!(!part.is_there(), "{path}");
    }
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
}

#[test]
fn an_archive_that_was_not_made_to_its_end_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let root = Root::open(place.path()).unwrap();
    let tar = Tar::default().directory("a/").file("a/x", b"x").end();
    let cut = &tar[..tar.len() - 1024];
    assert!(matches!(of(cut, &mut Part::new(b"a").unwrap(), &root), Err(Error::Unmarked)));
}
