//! Whether the program of a plugin can run at all: it is there, may be executed, and is for this machine.
//!
//! Pure: what the root file system holds comes through [`Tree`]. Links are followed by the rules of a root: nothing
//! leads out of it. What lies below a mount is seen only by the runtime, and is not judged; nor is what cannot be
//! looked at. Facts: `execve(2)`, `elf(5)`, `LookPath` in Go's `os/exec`, with which runc finds a name without a slash.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use super::{Error, Host};

/// How much of a program is looked at, in bytes: what the kernel looks at.
pub(super) const HEAD_BYTES: usize = 256;
/// How many links one path may lead over, as in the kernel.
const LINKS_MAX: usize = 40;
/// How many interpreters are followed: the script's, and that one's.
const INTERPRETERS_MAX: usize = 2;
const ANY_EXECUTE: u32 = 0o111;

/// What a path in a root file system is, links not followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    /// A regular file with these permissions.
    File(u32),
    /// A symbolic link with this text.
    Link(PathBuf),
    /// A directory.
    Directory,
    /// A device, a pipe, a socket; its kind in words.
    Other(&'static str),
    /// Something that cannot be looked at.
    Unknown,
}

/// A root file system before anything is mounted in it. The paths begin with a slash.
pub(super) trait Tree {
    /// What is there; `None` when nothing is.
    fn look(&self, path: &Path) -> Option<Entry>;

    /// The first bytes of a regular file, `HEAD_BYTES` at most; `None` when they cannot be read.
    fn head(&self, path: &Path) -> Option<Vec<u8>>;
}

/// What is wrong with a program, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is not there.
    #[error(
        "no such file in the plugin's rootfs{searched}: put it there, or correct \"entrypoint\" in config.json"
    )]
    Missing {
        /// Where it was searched, with words before it, or nothing.
        searched: String,
    },
    /// Something else is there.
    #[error("is a {got}, expected an executable file: correct \"entrypoint\" in config.json")]
    Kind {
        /// What is there.
        got: &'static str,
    },
    /// Nobody may execute it.
    #[error("has the mode {mode:04o}, expected an executable file: chmod +x it in the plugin's rootfs")]
    Mode {
        /// Its permissions.
        mode: u32,
    },
    /// It is made for another machine.
    #[error("is a program for {got}, this host is {expected}: install the plugin's version for {expected}")]
    Machine {
        /// The machine it is for: `aarch64`.
        got: String,
        /// The one we run on.
        expected: String,
    },
    /// The kernel will not know what to do with it.
    #[error("is neither an ELF program nor a script that begins with #!: put one of them in its place")]
    Format,
}

/// What is to be run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Program<'a> {
    /// The first argument: a path, or a name that is searched.
    pub(super) name: &'a str,
    /// Where a relative path begins.
    pub(super) cwd: &'a str,
    /// The variables, of which `PATH` counts.
    pub(super) env: &'a [String],
    /// Where things will be mounted.
    pub(super) mounts: &'a [PathBuf],
}

/// Judges a program, and the interpreters it needs.
///
/// # Errors
/// [`Error::Program`] names it, and says what is wrong.
pub(super) fn check(program: &Program<'_>, host: &impl Host, tree: &impl Tree) -> Result<(), Error> {
    let covered: Vec<PathBuf> = program
        .mounts
        .iter()
        .flat_map(|mount| [mount.clone(), walk(tree, &[], mount).0])
        .filter(|path| path != Path::new("/"))
        .collect();
    let mut what = format!("entrypoint {:?}", program.name);
    let mut found = find(program, &covered, tree);
    for depth in 0..=INTERPRETERS_MAX {
        let refuse = |fault| Error::Program { what: what.clone(), fault };
        let Some((path, mode)) = found.map_err(refuse)? else { return Ok(()) };
        if mode & ANY_EXECUTE == 0 {
            return Err(refuse(Fault::Mode { mode }));
        }
        let Some(head) = tree.head(&path) else { return Ok(()) };
        let Some(interpreter) = interpreter(&head) else { return format(&head, host).map_err(refuse) };
        if depth == INTERPRETERS_MAX {
            break;
        }
        what = format!("{what}: its interpreter {:?}", interpreter.to_string_lossy());
        found = file(&Path::new("/").join(program.cwd).join(&interpreter), &covered, tree);
    }
    Ok(())
}

type Found = Result<Option<(PathBuf, u32)>, Fault>;

/// The file that a name leads to; none when it is not to be judged.
fn find(program: &Program<'_>, covered: &[PathBuf], tree: &impl Tree) -> Found {
    let cwd = Path::new("/").join(program.cwd);
    if program.name.contains('/') {
        return file(&cwd.join(program.name), covered, tree);
    }
    // Runtimes differ in which PATH counts when there are two: what any of them finds is there.
    let lists = program.env.iter().filter_map(|variable| variable.strip_prefix("PATH="));
    let directories: Vec<&str> = lists.flat_map(|list| list.split(':')).collect();
    for directory in &directories {
        match file(&cwd.join(directory).join(program.name), covered, tree) {
            Ok(Some((_, mode))) if mode & ANY_EXECUTE == 0 => {}
            Ok(found) => return Ok(found),
            Err(_) => {}
        }
    }
    // The variable's value may be a secret.
    Err(Fault::Missing { searched: " in the directories of PATH".to_owned() })
}

fn file(path: &Path, covered: &[PathBuf], tree: &impl Tree) -> Found {
    let (path, end) = walk(tree, covered, path);
    match end {
        End::Covered | End::Entry(Entry::Unknown) => Ok(None),
        End::Missing | End::Entry(Entry::Link(_)) => Err(Fault::Missing { searched: String::new() }),
        End::Entry(Entry::Directory) => Err(Fault::Kind { got: "directory" }),
        End::Entry(Entry::Other(got)) => Err(Fault::Kind { got }),
        End::Entry(Entry::File(mode)) => Ok(Some((path, mode))),
    }
}

/// Where a path ends.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// Something will be mounted on the way.
    Covered,
    Missing,
    Entry(Entry),
}

/// Follows a path and its links. What is missing is kept in the path.
fn walk(tree: &impl Tree, covered: &[PathBuf], path: &Path) -> (PathBuf, End) {
    let mut left = parts(path);
    let (mut here, mut entry, mut links) = (PathBuf::from("/"), Entry::Directory, 0);
    while let Some(part) = left.pop_front() {
        if part == ".." {
            here.pop();
            entry = Entry::Directory;
            continue;
        }
        let next = here.join(&part);
        if covered.contains(&next) {
            return (next, End::Covered);
        }
        match tree.look(&next) {
            Some(Entry::Link(target)) if links < LINKS_MAX => {
                links += 1;
                if target.is_absolute() {
                    here = PathBuf::from("/");
                }
                let rest = std::mem::replace(&mut left, parts(&target));
                left.extend(rest);
                entry = Entry::Directory;
            }
            Some(Entry::Unknown) => return (next, End::Entry(Entry::Unknown)),
            None | Some(Entry::Link(_)) => {
                return (left.iter().fold(next, |path, part| path.join(part)), End::Missing);
            }
            Some(found) => (here, entry) = (next, found),
        }
    }
    (here, End::Entry(entry))
}

/// The components that lead somewhere.
fn parts(path: &Path) -> VecDeque<OsString> {
    let leads = |part: &Component<'_>| matches!(part, Component::Normal(_) | Component::ParentDir);
    path.components().filter(leads).map(|part| part.as_os_str().to_owned()).collect()
}

/// The interpreter in the first line of a script.
fn interpreter(head: &[u8]) -> Option<OsString> {
    let line = head.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let word = line.trim_ascii_start().split(|byte| matches!(byte, b' ' | b'\t' | 0)).next()?;
    (!word.is_empty()).then(|| OsStr::from_bytes(word).to_owned())
}

fn format(head: &[u8], host: &impl Host) -> Result<(), Fault> {
    let expected = host.architecture();
    let fault = match machine(head) {
        None => Fault::Format,
        Some(code) if runs(expected, code) => return Ok(()),
        Some(code) => Fault::Machine { got: called(code), expected: expected.to_owned() },
    };
    // An emulator may be registered with the kernel.
    if host.interprets(head) { Ok(()) } else { Err(fault) }
}

/// `e_machine` of an ELF header.
fn machine(head: &[u8]) -> Option<u16> {
    const BIG_ENDIAN: u8 = 2;
    let bytes = [*head.get(18)?, *head.get(19)?];
    let is_big = head.strip_prefix(b"\x7fELF")?.get(1) == Some(&BIG_ENDIAN);
    Some(if is_big { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
}

/// Machines by the name that Rust has for them, with their codes; the older one that each of them may run too.
const MACHINES: [(&str, u16, u16); 10] = [
    ("x86_64", 62, 3),
    ("x86", 3, 3),
    ("aarch64", 183, 40),
    ("arm", 40, 40),
    ("riscv64", 243, 243),
    ("s390x", 22, 22),
    ("powerpc64", 21, 20),
    ("powerpc", 20, 20),
    ("loongarch64", 258, 258),
    ("mips64", 8, 8),
];

/// Whether a machine may run programs with this code; one that is not in the list is not judged.
fn runs(architecture: &str, code: u16) -> bool {
    let known = MACHINES.iter().find(|machine| machine.0 == architecture);
    known.is_none_or(|machine| code == machine.1 || code == machine.2)
}

fn called(code: u16) -> String {
    let known = MACHINES.iter().find(|machine| machine.1 == code);
    known.map_or_else(|| format!("another machine (ELF machine {code})"), |machine| machine.0.to_owned())
}

#[cfg(test)]
mod tests;
