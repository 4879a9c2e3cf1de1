//! Which files name legacy plugins: `NAME.sock`, `NAME.spec`, `NAME.json`, each also as `NAME/NAME.…`.
//!
//! Only file names are looked at here, and what kind of file there is; blocking. The directories are the
//! administrator's: links in them are followed. dockerd has one directory for sockets and two for the other two (moby
//! `pkg/plugins/discovery.go`); here each directory may hold all three, in dockerd's order: sockets of all directories
//! first, then for one directory after the other `.spec` before `.json`.

use std::collections::BTreeSet;
use std::fs::{DirEntry, Metadata};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Component, Path, PathBuf};

/// The longest name, in bytes: what a file name takes, with its extension.
const NAME_MAX_BYTES: usize = 250;
/// How many plugins are found by looking for all; the others are found by their names only.
const PLUGINS_MAX: usize = 1000;

/// What a file says of a plugin's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// It is the plugin's socket.
    Socket,
    /// The address is all it holds.
    Spec,
    /// The address is in it as JSON, with whom to believe.
    Json,
}

/// A file that names a plugin, and which one it is: another file of the same name is another plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) form: Form,
    /// Device, inode, and when it was changed in seconds and nanoseconds.
    stamp: (u64, u64, i64, i64),
}

impl Form {
    fn extension(self) -> &'static str {
        match self {
            Self::Socket => "sock",
            Self::Spec => "spec",
            Self::Json => "json",
        }
    }

    fn fits(self, file: &Metadata) -> bool {
        match self {
            Self::Socket => file.file_type().is_socket(),
            Self::Spec | Self::Json => file.is_file(),
        }
    }

    /// The plugin's file of this form in a directory, if there is one.
    fn find(self, directory: &Path, name: &str) -> Option<Source> {
        let file = format!("{name}.{}", self.extension());
        let look = |path: PathBuf| {
            let found = std::fs::metadata(&path).ok().filter(|found| self.fits(found))?;
            let stamp = (found.dev(), found.ino(), found.ctime(), found.ctime_nsec());
            Some(Source { path, form: self, stamp })
        };
        look(directory.join(&file)).or_else(|| look(directory.join(name).join(&file)))
    }
}

/// The file that names a plugin; the first in the order above.
pub(super) fn find(directories: &[PathBuf], name: &str) -> Option<Source> {
    if !is_name(name) {
        return None;
    }
    let sockets = directories.iter().find_map(|directory| Form::Socket.find(directory, name));
    let written =
        |directory: &PathBuf| Form::Spec.find(directory, name).or_else(|| Form::Json.find(directory, name));
    sockets.or_else(|| directories.iter().find_map(written))
}

/// The names of all plugins that files in the directories name. A directory that cannot be read has none, which the log
/// says unless it is not there.
pub(super) fn names(directories: &[PathBuf]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for directory in directories {
        let entries = match std::fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => {
                let directory = directory.display();
                tracing::warn!(%directory, %error, "cannot look for legacy plugins there");
                continue;
            }
        };
        let found = entries.flatten().filter_map(|entry| named_by(directory, &entry));
        names.extend(found.take(PLUGINS_MAX.saturating_sub(names.len())));
    }
    names
}

/// The plugin that an entry of a directory names.
fn named_by(directory: &Path, entry: &DirEntry) -> Option<String> {
    let file = entry.file_name().into_string().ok()?;
    let of = |form: Form| {
        let name = file.strip_suffix(form.extension()).and_then(|name| name.strip_suffix('.'));
        let name = name.unwrap_or(&file);
        (is_name(name) && form.find(directory, name).is_some()).then(|| name.to_owned())
    };
    [Form::Socket, Form::Spec, Form::Json].into_iter().find_map(of)
}

/// Whether a legacy plugin can be called so: a path that stays below its directory. Colons are for managed plugins,
/// whose tags come after them.
fn is_name(name: &str) -> bool {
    let stays = |part: Component<'_>| match part {
        Component::Normal(part) => !part.as_encoded_bytes().starts_with(b"."),
        _ => false,
    };
    !name.is_empty()
        && name.len() <= NAME_MAX_BYTES
        && !name.chars().any(|character| character == ':' || character.is_control())
        && !name.ends_with('/')
        && Path::new(name).components().all(stays)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    /// Directories `a` and `b` with these files; those that end in `.sock` are sockets.
    fn ground(files: &[&str]) -> (tempfile::TempDir, Vec<PathBuf>) {
        let place = tempfile::tempdir().unwrap();
        for file in files {
            let path = place.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            if path.extension().is_some_and(|extension| extension == "sock") {
                drop(UnixListener::bind(path).unwrap());
            } else {
                fs::write(path, "").unwrap();
            }
        }
        let directories = ["a", "b", "none"].map(|name| place.path().join(name)).to_vec();
        (place, directories)
    }

    #[test]
    fn sockets_come_first_then_directories_then_extensions() {
        let all = [
            "a/p.sock",
            "a/p/p.sock",
            "b/p.sock",
            "b/p/p.sock",
            "a/p.spec",
            "a/p/p.spec",
            "a/p.json",
            "a/p/p.json",
            "b/p.spec",
            "b/p/p.spec",
            "b/p.json",
            "b/p/p.json",
        ];
        for first in 0..all.len() {
            let (place, directories) = ground(&all[first..]);
            let found = find(&directories, "p").unwrap();
            assert_eq!(found.path, place.path().join(all[first]));
            assert_eq!(names(&directories), BTreeSet::from(["p".to_owned()]));
        }
        assert_eq!(find(&ground(&[]).1, "p"), None);
    }

    #[test]
    fn only_what_it_should_be_names_a_plugin() {
        let (place, directories) =
            ground(&["a/real.sock", "a/text", "a/q.spec/x", "a/.hidden.spec", "a/x:1.spec"]);
        fs::write(place.path().join("a/p.sock"), "no socket").unwrap();
        symlink(place.path().join("a/real.sock"), place.path().join("a/link.sock")).unwrap();
        symlink("/nowhere", place.path().join("a/dangling.spec")).unwrap();
        assert_eq!(names(&directories), BTreeSet::from(["link".to_owned(), "real".to_owned()]));
        for name in ["p", "text", "q", ".hidden", "x:1", "dangling"] {
            assert_eq!(find(&directories, name), None, "{name}");
        }
        assert!(find(&directories, "link").is_some());
    }

    #[test]
    fn a_name_stays_in_its_directory() {
        let (_place, directories) = ground(&["secret.spec", "a/x.spec", "b/me/fs.spec"]);
        for name in
            ["../secret", "..", ".", "", "/etc/x", "x/../../secret", "me/", "x\0", "x\n", &"x".repeat(300)]
        {
            assert_eq!(find(&directories, name), None, "{name:?}");
        }
        assert!(find(&directories, "me/fs").is_some());
    }

    #[test]
    fn another_file_is_another_plugin() {
        let (place, directories) = ground(&["a/p.spec"]);
        let before = find(&directories, "p").unwrap();
        assert_eq!(find(&directories, "p").unwrap(), before);
        fs::write(place.path().join("a/new"), "").unwrap();
        fs::rename(place.path().join("a/new"), place.path().join("a/p.spec")).unwrap();
        assert_ne!(find(&directories, "p").unwrap(), before);
    }
}
