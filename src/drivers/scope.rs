//! A path as the plugin says it, made a path of the host.
//!
//! Pure: no file is looked at, so a symbolic link on the way is not seen here; whoever opens the result resolves it
//! beneath the directory it must stay in. dockerd's rule is `ScopedPath` in `plugin/v2/plugin.go`, which compares
//! text (`/mnt2` counts as below `/mnt`) and lets `..` climb out; here whole components are compared.

use std::path::{Component, Path, PathBuf};

/// What the paths that a plugin says are paths of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Of a file system of its own: a managed plugin's.
    Own {
        /// The plugin's root file system, as a path of the host.
        rootfs: PathBuf,
        /// The plugin's `propagatedMount` and the directory of the host that is bound there.
        propagated: Option<(PathBuf, PathBuf)>,
    },
    /// Of the host: a legacy plugin's, which runs there.
    Host,
}

/// Where a mountpoint lies that a plugin has answered. Links on the way are not seen yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In a plugin's file system: a directory of the host, and the plugin's path in it, to be resolved beneath it.
    Beneath {
        /// The plugin's root file system, or its propagated directory. A path of ours.
        base: PathBuf,
        /// Relative, without `..`; empty for the directory itself. Chosen by the plugin.
        below: PathBuf,
    },
    /// On the host: an absolute path. Where it leads is to be asked of [`host_place`] once more.
    OnHost(PathBuf),
}

/// Directories of the host in which no volume lies: what the kernel shows of itself.
const KERNELS: [&str; 3] = ["dev", "proc", "sys"];

impl Scope {
    /// Where a mountpoint that a plugin has answered lies.
    ///
    /// # Errors
    /// In words, why it can be no mountpoint: empty, relative, the root, with a `..` in it, or in `/proc`.
    pub fn place(&self, said: &Path) -> Result<Place, &'static str> {
        match self {
            Self::Own { rootfs, propagated } => {
                let path = absolute(said)?;
                if path.as_os_str().is_empty() {
                    return Err("it is the plugin's root");
                }
                if path.starts_with("proc") {
                    return Err("it is in /proc");
                }
                if let Some((on_host, rest)) = in_propagated(propagated.as_ref(), &path) {
                    return Ok(Place::Beneath { base: on_host.to_owned(), below: rest.to_owned() });
                }
                Ok(Place::Beneath { base: rootfs.clone(), below: path })
            }
            Self::Host => host_place(said).map(Place::OnHost),
        }
    }

    /// The host's name for a path that a plugin says. Of a plugin with a file system of its own: below the propagated
    /// directory, otherwise below `rootfs`, and never outside of either; a path without a leading slash counts from the
    /// plugin's root.
    ///
    /// `None` for the empty path, with which plugins say that a volume is not mounted.
    pub fn host_path(&self, said: &Path) -> Option<PathBuf> {
        if said.as_os_str().is_empty() {
            return None;
        }
        let path = below_root(said);
        match self {
            Self::Own { rootfs, propagated } => match in_propagated(propagated.as_ref(), &path) {
                Some((on_host, rest)) => Some(join(on_host, rest)),
                None => Some(join(rootfs, &path)),
            },
            Self::Host => Some(Path::new("/").join(path)),
        }
    }
}

/// A path of the host as a mountpoint of a legacy plugin, without `.` and doubled slashes.
///
/// # Errors
/// In words, why it can be none: empty, relative, the root, with a `..` in it, or in what the kernel shows of itself.
pub fn host_place(said: &Path) -> Result<PathBuf, &'static str> {
    let path = absolute(said)?;
    if path.as_os_str().is_empty() {
        return Err("it is the host's root");
    }
    if KERNELS.iter().any(|kernels| path.starts_with(kernels)) {
        return Err("it is in /dev, /proc or /sys");
    }
    Ok(Path::new("/").join(path))
}

/// The path without its leading slash.
fn absolute(said: &Path) -> Result<PathBuf, &'static str> {
    if said.as_os_str().is_empty() {
        return Err("it is empty");
    }
    if !said.has_root() {
        return Err("it is relative, expected an absolute path");
    }
    if said.components().any(|part| part == Component::ParentDir) {
        return Err("it climbs by \"..\"");
    }
    Ok(below_root(said))
}

/// The directory of the host that is bound where a path lies, and the rest of the path.
fn in_propagated<'a>(
    propagated: Option<&'a (PathBuf, PathBuf)>,
    path: &'a Path,
) -> Option<(&'a Path, &'a Path)> {
    let (inside, on_host) = propagated.filter(|(inside, _)| !inside.as_os_str().is_empty())?;
    Some((on_host, path.strip_prefix(below_root(inside)).ok()?))
}

/// Joins without leaving a slash at the end when there is nothing to add.
fn join(base: &Path, rest: &Path) -> PathBuf {
    if rest.as_os_str().is_empty() { base.to_owned() } else { base.join(rest) }
}

/// The path without its leading slash, with `.` and `..` worked out as a kernel would at the root: `..` stays there.
fn below_root(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scope() -> Scope {
        with_propagated("/mnt")
    }

    fn with_propagated(inside: &str) -> Scope {
        Scope::Own { rootfs: "/d/rootfs".into(), propagated: Some((inside.into(), "/d/propagated".into())) }
    }

    #[test]
    fn paths_are_mapped_by_whole_components() {
        for (in_plugin, on_host) in [
            ("/mnt/a", "/d/propagated/a"),
            ("/mnt", "/d/propagated"),
            ("//mnt//a/", "/d/propagated/a"),
            ("mnt/a", "/d/propagated/a"),
            ("/mnt2/a", "/d/rootfs/mnt2/a"),
            ("/data", "/d/rootfs/data"),
            ("/", "/d/rootfs"),
            ("/mnt/../etc/shadow", "/d/rootfs/etc/shadow"),
            ("/mnt/../../../../etc", "/d/rootfs/etc"),
            ("/x/../mnt/./a", "/d/propagated/a"),
            ("..", "/d/rootfs"),
        ] {
            assert_eq!(scope().host_path(Path::new(in_plugin)), Some(on_host.into()), "{in_plugin}");
        }
    }

    #[test]
    fn a_mountpoint_is_a_place_below_or_refused() {
        for (in_plugin, expected) in [
            ("/mnt/a", Ok(("/d/propagated", "a"))),
            ("/mnt", Ok(("/d/propagated", ""))),
            ("//mnt/./a/", Ok(("/d/propagated", "a"))),
            ("/mnt2/a", Ok(("/d/rootfs", "mnt2/a"))),
            ("/procedures", Ok(("/d/rootfs", "procedures"))),
            ("", Err("empty")),
            ("mnt/a", Err("relative")),
            ("/", Err("root")),
            ("/.", Err("root")),
            ("/mnt/../../etc", Err("climbs")),
            ("/mnt/a/..", Err("climbs")),
            ("/proc/1/root", Err("/proc")),
        ] {
            match (scope().place(Path::new(in_plugin)), expected) {
                (Ok(place), Ok((base, below))) => {
                    let expected = Place::Beneath { base: base.into(), below: below.into() };
                    assert_eq!(place, expected, "{in_plugin}");
                }
                (Err(got), Err(word)) => assert!(got.contains(word), "{in_plugin}: {got}"),
                (got, expected) => panic!("{in_plugin}: {got:?}, expected {expected:?}"),
            }
        }
    }

    #[test]
    fn a_trailing_slash_in_the_propagated_mount_changes_nothing() {
        let scope = with_propagated("/mnt/v/");
        assert_eq!(scope.host_path(Path::new("/mnt/v/a")), Some("/d/propagated/a".into()));
        assert_eq!(scope.host_path(Path::new("/mnt/va")), Some("/d/rootfs/mnt/va".into()));
    }

    #[test]
    fn no_mountpoint_has_no_path_of_the_host() {
        assert_eq!(scope().host_path(Path::new("")), None);
    }

    #[test]
    fn an_empty_propagated_mount_is_none() {
        assert_eq!(with_propagated("").host_path(Path::new("/a")), Some("/d/rootfs/a".into()));
    }

    #[test]
    fn a_legacy_plugin_says_paths_of_the_host() {
        for (said, expected) in [
            ("/var/lib/nfs/v", Ok("/var/lib/nfs/v")),
            ("//srv/./v/", Ok("/srv/v")),
            ("/procedures", Ok("/procedures")),
            ("/srv/proc", Ok("/srv/proc")),
            ("", Err("empty")),
            ("srv/v", Err("relative")),
            ("/", Err("root")),
            ("//.", Err("root")),
            ("/srv/../etc", Err("climbs")),
            ("/proc/1/root", Err("/proc")),
            ("/proc", Err("/proc")),
            ("/sys/kernel", Err("/sys")),
            ("/dev", Err("/dev")),
        ] {
            match (Scope::Host.place(Path::new(said)), expected) {
                (Ok(place), Ok(path)) => assert_eq!(place, Place::OnHost(path.into()), "{said}"),
                (Err(got), Err(word)) => assert!(got.contains(word), "{said}: {got}"),
                (got, expected) => panic!("{said}: {got:?}, expected {expected:?}"),
            }
        }
        assert_eq!(Scope::Host.host_path(Path::new("/srv/v")), Some("/srv/v".into()));
        assert_eq!(Scope::Host.host_path(Path::new("")), None);
    }

    proptest! {
        #[test]
        fn nothing_climbs_out(path in "(/|\\.|\\.\\.|mnt|a|/\\.\\./){0,12}") {
            if let Some(host) = scope().host_path(Path::new(&path)) {
                prop_assert!(host.starts_with("/d/rootfs") || host.starts_with("/d/propagated"), "{host:?}");
                prop_assert!(host.components().all(|part| part != Component::ParentDir), "{host:?}");
            }
        }
    }
}
