//! The directories of a plugin: made before its process, cleaned after it, removed with it.
//!
//! The names down to the plugin's own directory are ours and trusted. What lies below `rootfs`, `propagated-mount` and
//! `sockets` is the plugin's, and is reached through `confine` only. Everything here blocks.
//!
//! Facts: `proc_pid_mountinfo(5)`; `pluginPostStart` and `HandleExitEvent` in moby's `plugin/` for what is mounted and
//! when it is taken away.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::statfs::statfs;

use super::spec::Places;
use super::{Error, Parts, PluginId, Result};
use crate::confine::{self, Name, Root};

/// Directories of ours: nobody else looks in.
const PRIVATE: u32 = 0o700;
/// What a plugin sees as its root, and as its propagated mount.
const ROOTFS_MODE: u32 = 0o755;
/// Behind the name of a directory that is being removed.
const REMOVING: &str = "-removing";

/// The names in a plugin's directory, which `paths` gives whole.
const ROOTFS: &[u8] = b"rootfs";
/// The old root file system, while a new one takes its place.
const ROOTFS_OLD: &[u8] = b"rootfs-old";
/// A new root file system that was taken back, until it is removed.
const ROOTFS_UNDONE: &[u8] = b"rootfs-undone";
const PROPAGATED_MOUNT: &[u8] = b"propagated-mount";
const SOCKETS: &[u8] = b"sockets";

/// Makes the directory of a new plugin, and opens its empty root file system.
///
/// # Errors
/// [`Error::Directory`].
pub(super) fn create(parts: &Parts, id: &PluginId) -> Result<Root> {
    let plugin = open(&parts.data.plugins(), id.as_str(), true)?;
    in_directory(&parts.data.plugin(id.as_str()).rootfs(), || {
        plugin.make_directory(ROOTFS, ROOTFS_MODE)?;
        plugin.narrow(ROOTFS)
    })
}

/// Makes everything that a process needs beside its root file system: an empty directory for its sockets, and the
/// shared mount point that its mounts come out of.
///
/// # Errors
/// [`Error::Directory`].
pub(super) fn prepare(parts: &Parts, id: &PluginId, propagated: bool) -> Result<Places> {
    let (data, exec) = (parts.data.plugin(id.as_str()), parts.exec.plugin(id.as_str()));
    let running = open(&parts.exec.plugins(), id.as_str(), true)?;
    in_directory(&exec.sockets(), || {
        // A socket of the process before would be in the way of the new one.
        running.remove_tree(SOCKETS)?;
        running.make_directory(SOCKETS, PRIVATE)
    })?;
    // Whoever served a file system of this plugin's has gone: dead mounts would be in the way of new ones.
    unmount(&parts.data.plugins(), id.as_str(), is_dead)?;
    if propagated {
        let plugin = open(&parts.data.plugins(), id.as_str(), false)?;
        in_directory(&data.propagated_mount(), || share(&plugin))?;
    }
    let (rootfs, propagated_mount, sockets) = (data.rootfs(), data.propagated_mount(), exec.sockets());
    Ok(Places { rootfs, propagated_mount, sockets })
}

/// Takes away what a process that has ended for good has left: its sockets, and what it has mounted.
///
/// # Errors
/// [`Error::Directory`], [`Error::Mounts`].
pub(super) fn settle(parts: &Parts, id: &PluginId) -> Result<()> {
    let exec = parts.exec.plugins();
    if exec.is_dir() {
        let all = open(&exec, "", false)?;
        in_directory(&exec.join(id.as_str()), || all.remove_tree(id.as_str().as_bytes()))?;
    }
    let data = parts.data.plugins();
    unmount(&data, id.as_str(), |_| true)
}

/// Removes the directory of a plugin, whose record is gone, with everything in it. Fine when there is none.
///
/// # Errors
/// [`Error::Directory`], [`Error::Mounts`]: the next start tries again.
pub(super) fn remove(parts: &Parts, id: &PluginId) -> Result<()> {
    let data = parts.data.plugins();
    unmount(&data, id.as_str(), |_| true)?;
    let removing = format!("{id}{REMOVING}");
    match std::fs::rename(data.join(id.as_str()), data.join(&removing)) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(Error::Io { doing: "renaming", path: data.join(id.as_str()), source }),
    }
    remove_named(&data, &removing)
}

/// Moves the root file system of a plugin aside, and that of another, which has no record, in its place.
///
/// # Errors
/// [`Error::Io`], [`Error::Directory`], [`Error::Mounts`]: then [`undo_exchange`] puts it right.
pub(super) fn exchange(parts: &Parts, id: &PluginId, staging: &PluginId) -> Result<()> {
    end_exchange(parts, id)?;
    unmount(&parts.data.plugins(), id.as_str(), |_| true)?;
    let (own, new) = (parts.data.plugin(id.as_str()), parts.data.plugin(staging.as_str()));
    rename(&own.rootfs(), &below(own.path(), ROOTFS_OLD))?;
    rename(&new.rootfs(), &own.rootfs())?;
    sync(own.path())?;
    sync(new.path())
}

/// Removes the root file systems that an exchange, done or undone, has left, if there are any.
///
/// # Errors
/// [`Error::Directory`].
pub(super) fn end_exchange(parts: &Parts, id: &PluginId) -> Result<()> {
    let own = parts.data.plugin(id.as_str());
    if !below(own.path(), ROOTFS_OLD).is_dir() && !below(own.path(), ROOTFS_UNDONE).is_dir() {
        return Ok(());
    }
    let plugin = open(&parts.data.plugins(), id.as_str(), false)?;
    in_directory(own.path(), || {
        plugin.remove_tree(ROOTFS_OLD)?;
        plugin.remove_tree(ROOTFS_UNDONE)
    })
}

/// Puts the root file system back that was moved aside, if there is one. The one that had its place is moved aside
/// itself, since a process may live in it: [`end_exchange`] removes it.
///
/// # Errors
/// [`Error::Io`], [`Error::Directory`].
pub(super) fn undo_exchange(parts: &Parts, id: &PluginId) -> Result<()> {
    let own = parts.data.plugin(id.as_str());
    let old = below(own.path(), ROOTFS_OLD);
    if !old.is_dir() {
        return Ok(());
    }
    if own.rootfs().is_dir() {
        let plugin = open(&parts.data.plugins(), id.as_str(), false)?;
        in_directory(own.path(), || plugin.remove_tree(ROOTFS_UNDONE))?;
        rename(&own.rootfs(), &below(own.path(), ROOTFS_UNDONE))?;
    }
    rename(&old, &own.rootfs())?;
    sync(own.path())
}

/// Removes what a crash has left: every directory of a plugin that has no record. What is not named like one is left
/// alone.
///
/// # Errors
/// [`Error::Io`] when the directory cannot be read. What cannot be removed is told in the log.
pub(super) fn sweep(parts: &Parts, known: impl Fn(&PluginId) -> bool) -> Result<()> {
    let data = parts.data.plugins();
    open(&data, "", true)?;
    for name in names(&data)? {
        let (id, removing) = match name.strip_suffix(REMOVING) {
            Some(id) => (id, true),
            None => (name.as_str(), false),
        };
        match id.parse::<PluginId>() {
            Ok(id) if !removing && known(&id) => {}
            Ok(_) => match unmount(&data, &name, |_| true).and_then(|()| remove_named(&data, &name)) {
                Ok(()) => tracing::info!(name, "removed the remains of a plugin"),
                Err(error) => {
                    let error = crate::error::chain(&error);
                    tracing::warn!(name, error, "cannot remove the remains of a plugin");
                }
            },
            Err(_) => tracing::warn!(name, "not the directory of a plugin, left alone"),
        }
    }
    Ok(())
}

/// The ids of plugins that have, or had, a process.
///
/// # Errors
/// [`Error::Io`] when the directory cannot be read.
pub(super) fn with_process(parts: &Parts) -> Result<Vec<PluginId>> {
    let exec = parts.exec.plugins();
    if !exec.is_dir() {
        return Ok(Vec::new());
    }
    Ok(names(&exec)?.iter().filter_map(|name| name.parse().ok()).collect())
}

/// Makes `propagated-mount` a mount point whose mounts are seen on both sides.
fn share(plugin: &Root) -> confine::Result<()> {
    let here = || plugin.follow(PROPAGATED_MOUNT);
    match plugin.make_directory(PROPAGATED_MOUNT, ROOTFS_MODE) {
        Ok(_) => {}
        Err(error) if error.is(Errno::EEXIST) => {}
        Err(error) => return Err(error),
    }
    match here()?.set_shared(true) {
        // It is no mount point yet.
        Err(error) if error.is(Errno::EINVAL) => {}
        other => return other,
    }
    let directory = here()?;
    directory.bind_onto(&directory, true)?;
    // Opened again: the old descriptor is of the directory under the mount.
    here()?.set_shared(true)
}

/// Unmounts everything below a plugin's directory, and nothing else: the last that was mounted goes first.
fn unmount(parent: &Path, name: &str, is_wanted: impl Fn(&Path) -> bool) -> Result<()> {
    let path = parent.join(name);
    if !path.is_dir() {
        return Ok(());
    }
    let plugin = open(parent, name, false)?;
    let own = in_directory(&path, || plugin.follow(b"").and_then(|own| own.host_path()))?;
    let io = |source| Error::Mounts { path: path.clone(), source };
    let points = confine::mount_points().map_err(io)?;
    let below: Vec<&Path> = points
        .iter()
        .filter_map(|point| Some((point, point.path.strip_prefix(&own).ok()?)))
        .filter(|(point, _)| is_wanted(&point.path))
        .map(|(_, inside)| inside)
        .collect();
    for inside in below.iter().rev() {
        in_directory(&path, || match confine::unmount_stack(&plugin, inside.as_os_str().as_bytes()) {
            // It went with the one it was mounted in.
            Err(error) if error.is(Errno::ENOENT) => Ok(()),
            other => other,
        })?;
    }
    Ok(())
}

/// Whether a file system has lost who served it.
fn is_dead(point: &Path) -> bool {
    matches!(statfs(point), Err(Errno::ENOTCONN | Errno::ESTALE))
}

/// Opens a directory of ours, and makes it if wanted. An empty name is the parent itself.
fn open(parent: &Path, name: &str, make: bool) -> Result<Root> {
    let path = if name.is_empty() { parent.to_owned() } else { parent.join(name) };
    if make {
        let result = DirBuilder::new().recursive(true).mode(PRIVATE).create(&path);
        result.map_err(|source| Error::Io { doing: "making", path: path.clone(), source })?;
    }
    in_directory(&path, || Root::open(&path))
}

fn below(own: &Path, name: &[u8]) -> PathBuf {
    own.join(std::ffi::OsStr::from_bytes(name))
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    std::fs::rename(from, to).map_err(|source| Error::Io { doing: "renaming", path: from.to_owned(), source })
}

/// Makes the names in a directory durable.
fn sync(directory: &Path) -> Result<()> {
    let synced = std::fs::File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(|source| Error::Io { doing: "syncing", path: directory.to_owned(), source })
}

fn remove_named(parent: &Path, name: &str) -> Result<()> {
    let all = open(parent, "", false)?;
    in_directory(&parent.join(name), || all.top().remove_tree(&Name::parse(name.as_bytes())?))
}

fn names(directory: &Path) -> Result<Vec<String>> {
    let io = |source| Error::Io { doing: "listing", path: directory.to_owned(), source };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(io)? {
        names.push(entry.map_err(io)?.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}

fn in_directory<T>(path: &Path, work: impl FnOnce() -> confine::Result<T>) -> Result<T> {
    work().map_err(|source| Error::Directory { path: path.to_owned(), source })
}
