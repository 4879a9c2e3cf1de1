//! Contexts that attack: nothing is written outside, nothing is left behind, and the daemon lives on in little memory.
//!
//! What dockerd unpacks harmlessly may be unpacked harmlessly, or be refused; both are fine, an escape is not.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::support::archive::{self, Entry, Tar};
use crate::support::daemon::Daemon;
use crate::support::http::Answer;
use crate::support::process;

/// The most a daemon may need, whatever is sent to it, in KiB.
const MEMORY_KIB: u64 = 64 * 1024;

/// A directory outside of every root that attackers aim at, and what it looked like.
struct Canary {
    place: PathBuf,
    before: BTreeMap<PathBuf, (u32, u64, Vec<u8>)>,
}

impl Canary {
    fn in_reach_of(daemon: &Daemon) -> Self {
        let place = daemon.place().join("canary");
        fs::create_dir(&place).unwrap();
        fs::write(place.join("bird"), "tweet").unwrap();
        Self { before: picture(&place), place }
    }

    /// Its path without the first slash.
    fn bare(&self) -> &str {
        self.place.to_str().unwrap().trim_start_matches('/')
    }

    fn assert_unharmed(&self, what: &str) {
        assert_eq!(picture(&self.place), self.before, "{what} reached outside");
    }
}

/// Mode, links and content of everything in a directory.
fn picture(directory: &Path) -> BTreeMap<PathBuf, (u32, u64, Vec<u8>)> {
    let entries = fs::read_dir(directory).unwrap().map(|e| e.unwrap().path()).chain([directory.to_owned()]);
    let look = |path: PathBuf| {
        let meta = fs::symlink_metadata(&path).unwrap();
        let content = if meta.is_file() { fs::read(&path).unwrap() } else { vec![] };
        (path, (meta.mode(), if meta.is_dir() { 0 } else { meta.nlink() }, content))
    };
    entries.map(look).collect()
}

/// Creates, and removes again what was created; nothing may be left, the daemon must live.
fn survive(daemon: &Daemon, what: &str, context: &[u8]) -> Answer {
    let before = daemon.tree();
    let answer = daemon.create("evil", context);
    if answer.status == 204 {
        assert_eq!(daemon.http().ask("DELETE", "/plugins/evil?force=1").status, 200, "{what}");
    } else {
        assert!(!answer.message().is_empty(), "{what}");
        assert!(answer.status < 500 || !daemon.is_ours(), "{what}: {answer:?}");
    }
    assert_eq!(daemon.http().look("/plugins"), json!([]), "{what}");
    if daemon.is_ours() {
        assert_eq!(daemon.tree(), before, "{what} leaves something behind");
    }
    answer
}

#[test]
fn no_name_in_an_archive_leads_outside() {
    let daemon = Daemon::start();
    // The content store's directories come with the first plugin.
    survive(&daemon, "a good one", &daemon.tiny().tar());
    let canary = Canary::in_reach_of(&daemon);
    let (place, bare) = (canary.place.to_str().unwrap(), canary.bare());
    let up = "../".repeat(12);
    let names = [
        format!("{place}/planted"),
        format!("rootfs/{up}{bare}/planted"),
        format!("{up}{bare}/planted"),
        format!("rootfs//{place}/planted"),
        format!("rootfs/./../../{up}{bare}/planted"),
        "rootfs/../../planted".to_owned(),
        "../planted".to_owned(),
        "rootfs/../config.json/planted".to_owned(),
        "..".to_owned(),
        "rootfs/..".to_owned(),
        String::new(),
        ".".to_owned(),
        "rootfs/\u{1}\u{7f}".to_owned(),
    ];
    for name in &names {
        for entry in [
            Entry::file(name, b"planted"),
            Entry::directory(name),
            Entry::symlink(name, "/"),
            Entry::device(name, 1, 3),
            Entry::fifo(name),
        ] {
            let what = format!("{name:?}");
            survive(&daemon, &what, &daemon.tiny().entry(entry).tar());
            canary.assert_unharmed(&what);
        }
        let pax = Tar::new()
            .with(&Entry::file("config.json", daemon.tiny().config().to_string().as_bytes()))
            .with(&Entry::directory("rootfs"))
            .with_pax(&archive::pax_record("path", name))
            .with(&Entry::file("rootfs/decent", b"planted"));
        survive(&daemon, &format!("{name:?} by pax"), &pax.end());
        canary.assert_unharmed(name);
    }
    assert!(!daemon.place().join("planted").exists() && !daemon.data_root().join("planted").exists());
}

#[test]
fn no_link_in_an_archive_leads_outside() {
    let daemon = Daemon::start();
    survive(&daemon, "a good one", &daemon.tiny().tar());
    let canary = Canary::in_reach_of(&daemon);
    let (place, bare) = (canary.place.to_str().unwrap(), canary.bare());
    let up = format!("{}{bare}", "../".repeat(12));
    for target in [place, &up, "/proc/self/root", "/proc/1/root", "/proc/self/cwd"] {
        let through = |inside: &Entry| {
            let tar = daemon.tiny().entry(Entry::symlink("rootfs/out", target)).entry(inside.clone()).tar();
            survive(&daemon, &format!("{inside:?} through {target}"), &tar);
            canary.assert_unharmed(target);
        };
        through(&Entry::file("rootfs/out/planted", b"planted"));
        through(&Entry::file("rootfs/out/bird", b"planted"));
        through(&Entry::directory("rootfs/out/nest"));
        through(&Entry::symlink("rootfs/out/planted", "/etc/passwd"));
        through(&Entry::device("rootfs/out/planted", 1, 3));
        through(&Entry::hardlink("rootfs/out/planted", "rootfs/tiny"));
        through(&Entry::hardlink("rootfs/stolen", "rootfs/out/bird"));
        // A file, then a directory, in the very place of the link.
        through(&Entry::file("rootfs/out", b"planted"));
        through(&Entry::directory("rootfs/out"));
        // Chained, one link naming the next.
        let chain = daemon
            .tiny()
            .entry(Entry::symlink("rootfs/b", target))
            .entry(Entry::symlink("rootfs/a", "b"))
            .entry(Entry::file("rootfs/a/planted", b"planted"))
            .tar();
        survive(&daemon, "a chain of links", &chain);
        canary.assert_unharmed("a chain of links");
        // The root itself a link; a whiteout of what is not ours.
        let config = daemon.tiny().config().to_string();
        let root = Tar::new()
            .with(&Entry::file("config.json", config.as_bytes()))
            .with(&Entry::symlink("rootfs", target))
            .with(&Entry::file("rootfs/planted", b"planted"));
        survive(&daemon, "rootfs is a link", &root.end());
        canary.assert_unharmed("rootfs is a link");
        through(&Entry::file("rootfs/out/.wh.bird", b""));
        through(&Entry::file("rootfs/out/.wh..wh..opq", b""));
    }
    for target in [
        format!("{place}/bird"),
        format!("{up}/bird"),
        "/etc/passwd".into(),
        "rootfs/nothing".into(),
        String::new(),
    ] {
        let answer = survive(
            &daemon,
            &format!("a hard link to {target:?}"),
            &daemon.tiny().entry(Entry::hardlink("rootfs/stolen", &target)).tar(),
        );
        assert!(answer.status >= 400, "a hard link to {target:?} was accepted");
        canary.assert_unharmed(&target);
    }
}

#[test]
fn a_hard_link_to_a_link_does_not_reach_through_it() {
    let daemon = Daemon::start();
    survive(&daemon, "a good one", &daemon.tiny().tar());
    let canary = Canary::in_reach_of(&daemon);
    let bird = canary.place.join("bird");
    let tar = daemon
        .tiny()
        .entry(Entry::symlink("rootfs/link", bird.to_str().unwrap()))
        .entry(Entry::hardlink("rootfs/twin", "rootfs/link"))
        .entry(Entry::file("rootfs/twin", b"planted"))
        .tar();
    survive(&daemon, "a hard link to a link", &tar);
    canary.assert_unharmed("a hard link to a link");
}

#[test]
fn entries_that_contradict_each_other_are_refused_or_harmless() {
    let daemon = Daemon::start();
    survive(&daemon, "a good one", &daemon.tiny().tar());
    let pairs = [
        ("a file twice", Entry::file("rootfs/x", b"1"), Entry::file("rootfs/x", b"2")),
        ("a file over a directory", Entry::file("rootfs/etc", b"1"), Entry::file("rootfs/y", b"")),
        ("a directory over a file", Entry::directory("rootfs/tiny"), Entry::file("rootfs/tiny/x", b"")),
        ("below a file", Entry::file("rootfs/x", b"1"), Entry::file("rootfs/x/y", b"2")),
        ("a link to itself", Entry::symlink("rootfs/x", "x"), Entry::file("rootfs/x/y", b"2")),
        ("a hard link to itself", Entry::file("rootfs/x", b"1"), Entry::hardlink("rootfs/x", "rootfs/x")),
        ("a device", Entry::device("rootfs/dev/mem", 1, 1), Entry::file("rootfs/dev/mem", b"planted")),
        ("a fifo", Entry::fifo("rootfs/x"), Entry::file("rootfs/x", b"does this wait for a reader?")),
        ("rootfs a file", Entry::file("rootfs", b"1"), Entry::file("rootfs/x", b"2")),
    ];
    for (what, first, second) in pairs {
        survive(&daemon, what, &daemon.tiny().entry(first).entry(second).tar());
    }
}

#[test]
fn headers_that_lie_are_refused() {
    let daemon = Daemon::start();
    survive(&daemon, "a good one", &daemon.tiny().tar());
    let open = |entry: Entry| {
        let config = daemon.tiny().config().to_string();
        let tar = daemon.tiny().rootfs(Tar::new().with(&Entry::file("config.json", config.as_bytes())));
        tar.with(&entry).open_end()
    };
    let table = [
        ("a terabyte that does not come", open(Entry::file("rootfs/x", b"little").claiming(1 << 40))),
        ("a size beyond 63 bits", open(Entry::file("rootfs/x", b"little").claiming(u64::MAX))),
        ("a directory with a size", open(Entry::directory("rootfs/d").claiming(1 << 33))),
        ("a long name without an entry", open(Entry::of_kind(b'L', "././@LongLink", b"rootfs/x\0"))),
        (
            "pax without an entry",
            open(Entry::of_kind(b'x', "PaxHeaders/0", &archive::pax_record("path", "rootfs/x"))),
        ),
        (
            "pax that is none",
            Tar::new().with_pax(b"99999 path=x\n").with(&Entry::file("rootfs/x", b"")).end(),
        ),
        (
            "pax with a negative size",
            Tar::new().with_pax(&archive::pax_record("size", "-1")).with(&Entry::file("rootfs/x", b"")).end(),
        ),
    ];
    for (what, context) in table {
        let answer = survive(&daemon, what, &context);
        // What is no entry in the end may be passed over; what promises bytes may not.
        assert!(
            answer.status >= 400 || what.contains("without an entry") || what.contains("a directory"),
            "{what} was accepted"
        );
    }
    survive(&daemon, "an unknown type", &daemon.tiny().entry(Entry::of_kind(b'Z', "rootfs/z", b"")).tar());
    survive(
        &daemon,
        "a name of 300 bytes",
        &daemon.tiny().entry(Entry::file(&format!("rootfs/{}", "x".repeat(300)), b"")).tar(),
    );
    let path = format!("rootfs/{}", "d".repeat(200) + &"/d".repeat(3_000));
    survive(&daemon, "a path of 6,000 bytes", &daemon.tiny().entry(Entry::file(&path, b"")).tar());
}

/// A body made as it is read: `head`, then `unit` so many times, then `tail`.
struct Endless {
    head: Vec<u8>,
    unit: Vec<u8>,
    times: usize,
    tail: Vec<u8>,
    at: usize,
}

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.head.len() {
            if self.times > 0 {
                self.times -= 1;
                self.head.clone_from(&self.unit);
            } else {
                self.head = std::mem::take(&mut self.tail);
            }
            self.at = 0;
        }
        let count = buffer.len().min(self.head.len() - self.at);
        buffer[..count].copy_from_slice(&self.head[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

/// Sends a body too large to hold, and weighs the daemon afterwards.
fn survive_in_little_memory(daemon: &Daemon, what: &str, mut body: Endless) -> Answer {
    let answer =
        daemon.http().send_from("POST", "/plugins/create?name=evil", "application/x-tar", &mut body, None);
    let peak = process::peak_kib(daemon.pid());
    assert!(peak > 0 && peak < MEMORY_KIB, "{what}: the daemon needed {peak} KiB");
    answer
}

fn config_entry(daemon: &Daemon) -> Vec<u8> {
    Tar::new().with(&Entry::file("config.json", daemon.tiny().config().to_string().as_bytes())).open_end()
}

#[test]
fn headers_of_half_a_gigabyte_are_refused_without_being_held() {
    let Some(daemon) = Daemon::ours() else { return };
    let size = 512 << 20;
    for (what, kind) in
        [("pax", b'x'), ("a global pax header", b'g'), ("a long name", b'L'), ("a long link", b'K')]
    {
        let header = archive::header(&Entry::of_kind(kind, "rootfs/h", b"").claiming(size));
        let head = [config_entry(&daemon), header.to_vec(), b"536870000 path=".to_vec()].concat();
        let body = Endless { head, unit: vec![b'a'; 1 << 20], times: 512, tail: vec![], at: 0 };
        let answer = survive_in_little_memory(&daemon, what, body);
        assert!((400..500).contains(&answer.status), "{what}: {answer:?}");
    }
    assert_eq!(daemon.http().look("/plugins"), json!([]));
}

#[test]
fn a_million_entries_are_too_many_and_leave_nothing() {
    let Some(daemon) = Daemon::ours() else { return };
    survive(&daemon, "a good one", &daemon.tiny().tar());
    let before = daemon.tree();
    let head = [config_entry(&daemon), archive::header(&Entry::directory("rootfs/")).to_vec()].concat();
    let unit = archive::header(&Entry::directory("rootfs/d/")).repeat(1_000);
    let body = Endless { head, unit, times: 1_001, tail: vec![0; 1_024], at: 0 };
    let answer = survive_in_little_memory(&daemon, "a million entries", body);
    assert!((400..500).contains(&answer.status), "{answer:?}");
    assert!(
        answer.message().contains("1000000") || answer.message().contains("1,000,000"),
        "{}",
        answer.message()
    );
    assert_eq!(daemon.tree(), before);
}

#[test]
fn a_gigabyte_goes_through_in_little_memory() {
    let Some(daemon) = Daemon::ours() else { return };
    let size: u64 = 1 << 30;
    let head = [
        config_entry(&daemon),
        archive::header(&Entry::directory("rootfs/")).to_vec(),
        archive::header(&Entry::file("rootfs/large", b"").claiming(size)).to_vec(),
    ]
    .concat();
    // Neither all alike nor random: as programs are.
    let unit: Vec<u8> =
        (0..1_u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 27).to_le_bytes()[0]).collect();
    let body = Endless { head, unit, times: 1 << 10, tail: vec![0; 1_024], at: 0 };
    let answer = survive_in_little_memory(&daemon, "a gigabyte", body);
    assert_eq!(answer.status, 204, "{}", answer.text());
    assert_eq!(daemon.http().ask("DELETE", "/plugins/evil").status, 200);
}
