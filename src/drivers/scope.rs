//! A path as the plugin says it, made a path of the host.
//!
//! Pure: no file is looked at, so a symbolic link on the way is not seen here; whoever opens the result resolves it
//! beneath the directory it must stay in. dockerd's rule is `ScopedPath` in `plugin/v2/plugin.go`, which compares
//! text (`/mnt2` counts as below `/mnt`) and lets `..` climb out; here whole components are compared.

use std::path::{Component, Path, PathBuf};

/// Where a plugin's file system is on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// The plugin's root file system.
    pub rootfs: PathBuf,
    /// The plugin's `propagatedMount` and the directory of the host that is bound there.
    pub propagated: Option<(PathBuf, PathBuf)>,
}

/// A place in a plugin's file system: a directory of the host, and the plugin's path in it, to be resolved beneath it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The plugin's root file system, or its propagated directory. A path of ours.
    pub base: PathBuf,
    /// Relative, without `..`; empty for the directory itself. Chosen by the plugin: links on the way are not seen yet.
    pub below: PathBuf,
}

impl Scope {
    /// Where a mountpoint that a plugin has answered lies.
    ///
    /// # Errors
    /// In words, why it can be no mountpoint: empty, relative, the root, with a `..` in it, or in `/proc`.
    pub fn place(&self, in_plugin: &Path) -> Result<Place, &'static str> {
        if in_plugin.as_os_str().is_empty() {
            return Err("it is empty");
        }
        if !in_plugin.has_root() {
            return Err("it is relative, expected an absolute path");
        }
        if in_plugin.components().any(|part| part == Component::ParentDir) {
            return Err("it climbs by \"..\"");
        }
        let path = below_root(in_plugin);
        if path.as_os_str().is_empty() {
            return Err("it is the plugin's root");
        }
        if path.starts_with("proc") {
            return Err("it is in /proc");
        }
        if let Some((inside, on_host)) = &self.propagated
            && let Ok(rest) = path.strip_prefix(below_root(inside))
            && !inside.as_os_str().is_empty()
        {
            return Ok(Place { base: on_host.clone(), below: rest.to_owned() });
        }
        Ok(Place { base: self.rootfs.clone(), below: path })
    }

    /// The host's name for a path inside the plugin: below the propagated directory, otherwise below `rootfs`, and
    /// never outside of either. A path without a leading slash counts from the plugin's root.
    ///
    /// `None` for the empty path, with which plugins say that a volume is not mounted.
    pub fn host_path(&self, in_plugin: &Path) -> Option<PathBuf> {
        if in_plugin.as_os_str().is_empty() {
            return None;
        }
        let path = below_root(in_plugin);
        if let Some((inside, on_host)) = &self.propagated
            && let Ok(rest) = path.strip_prefix(below_root(inside))
            && !inside.as_os_str().is_empty()
        {
            return Some(join(on_host, rest));
        }
        Some(join(&self.rootfs, &path))
    }
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
        Scope { rootfs: "/d/rootfs".into(), propagated: Some(("/mnt".into(), "/d/propagated".into())) }
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
                    assert_eq!((place.base, place.below), (base.into(), below.into()), "{in_plugin}");
                }
                (Err(got), Err(word)) => assert!(got.contains(word), "{in_plugin}: {got}"),
                (got, expected) => panic!("{in_plugin}: {got:?}, expected {expected:?}"),
            }
        }
    }

    #[test]
    fn a_trailing_slash_in_the_propagated_mount_changes_nothing() {
        let scope = Scope { propagated: Some(("/mnt/v/".into(), "/d/p".into())), ..scope() };
        assert_eq!(scope.host_path(Path::new("/mnt/v/a")), Some("/d/p/a".into()));
        assert_eq!(scope.host_path(Path::new("/mnt/va")), Some("/d/rootfs/mnt/va".into()));
    }

    #[test]
    fn no_mountpoint_has_no_path_of_the_host() {
        assert_eq!(scope().host_path(Path::new("")), None);
    }

    #[test]
    fn an_empty_propagated_mount_is_none() {
        let scope = Scope { propagated: Some(("".into(), "/d/p".into())), ..scope() };
        assert_eq!(scope.host_path(Path::new("/a")), Some("/d/rootfs/a".into()));
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
