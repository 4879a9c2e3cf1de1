//! Programs and processes of this machine: where a program is, who descends from whom, what a tree of them weighs.
//!
//! Facts come from `/proc`.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

/// The directories programs are looked for in: the machine's own first, then what `compat-tests/setup` unpacked.
pub(crate) fn search_path() -> String {
    let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers/usr");
    let own = env::var("PATH").unwrap_or_default();
    format!("{own}:/usr/sbin:/sbin:{0}/bin:{0}/sbin", peers.display())
}

/// Where a program is.
///
/// # Panics
/// When it is nowhere: `compat-tests/setup/install` brings it.
pub(crate) fn program(name: &str) -> PathBuf {
    let found = env::split_paths(&search_path()).map(|d| d.join(name)).find(|p| p.is_file());
    found.unwrap_or_else(|| panic!("{name} is not installed; `make test` brings what the tests need"))
}

/// Every process that descends from `root`, itself included.
pub(crate) fn family(root: i32) -> BTreeSet<i32> {
    let parents: Vec<(i32, i32)> = all().into_iter().filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let mut family = BTreeSet::from([root]);
    loop {
        let before = family.len();
        family.extend(
            parents
                .iter()
                .filter(|(_, parent)| family.contains(parent))
                .map(|(pid, _)| *pid)
                .collect::<Vec<_>>(),
        );
        if family.len() == before {
            return family;
        }
    }
}

/// Processes whose command line mentions `text`; with a unique directory in it, those that were started for it.
pub(crate) fn mentioning(text: &str) -> Vec<i32> {
    let mentions = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).replace('\0', " ").contains(text)
    };
    let own = i32::try_from(std::process::id()).ok();
    all().into_iter().filter(|pid| Some(*pid) != own && mentions(pid)).collect()
}

/// Processes whose root file system lies below `directory`: those of plugins, which live in mounts of their own.
pub(crate) fn in_root_below(directory: &Path) -> Vec<i32> {
    let directory = directory.display().to_string();
    let is_inside = |pid: &i32| {
        let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
        // id, parent, device, root of the mount, mount point: the fourth tells where `/` really is.
        let mut fields = mounts.lines().map(|line| line.split(' ').skip(3));
        let is_root = |mut f: std::iter::Skip<std::str::Split<'_, char>>| {
            f.next().is_some_and(|root| root.starts_with(&directory)) && f.next() == Some("/")
        };
        fields.any(is_root) && lives(*pid)
    };
    all().into_iter().filter(is_inside).collect()
}

/// Sends a signal; a process that is gone is no failure.
pub(crate) fn send(pid: i32, signal: Signal) {
    let _ = signal::kill(Pid::from_raw(pid), signal);
}

/// Whether a process is there and not a zombie.
pub(crate) fn lives(pid: i32) -> bool {
    stat(pid).is_some_and(|(state, _)| state != 'Z' && state != 'X')
}

/// How many files a process has open.
pub(crate) fn open_files(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// The most memory a process ever had resident, in KiB.
pub(crate) fn peak_kib(pid: i32) -> u64 {
    field_kib(&format!("/proc/{pid}/status"), "VmHWM:")
}

/// A line `Name:   123 kB` of a file below /proc; 0 when there is none.
pub(crate) fn field_kib(file: &str, field: &str) -> u64 {
    let text = fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix(field)).unwrap_or_default();
    line.trim().trim_end_matches("kB").trim().parse().unwrap_or(0)
}

fn all() -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|e| e.file_name().to_str()?.parse().ok()).collect()
}

fn parent(pid: i32) -> Option<i32> {
    stat(pid).map(|(_, parent)| parent)
}

/// State and parent. The name before them may hold anything, so the last parenthesis is what counts.
fn stat(pid: i32) -> Option<(char, i32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}
