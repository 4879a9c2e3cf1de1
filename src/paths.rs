//! Where everything lies on disk: two roots, and the names below them.
//!
//! Pure: no file is touched here. What the directories hold, and who may write there, stands with each method;
//! rooms get their own directory from `app` and never build a path that belongs to another room.

use std::path::{Path, PathBuf};

/// The root of what must survive a reboot (`--data-root`, default `/var/lib/dockplug`), mode 0700.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataRoot(PathBuf);

impl DataRoot {
    /// Names the root; it need not exist yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self(root.into())
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The file of state: plugins, settings, volumes, references, the mount ledger. Its journal lies beside it.
    pub fn state(&self) -> PathBuf {
        self.0.join("state.redb")
    }

    /// Blobs by digest (`blobs/sha256/<hex>`) and half-written ones (`ingest/<random>`).
    pub fn content(&self) -> PathBuf {
        self.0.join("content")
    }

    /// The parent of all plugin directories.
    pub fn plugins(&self) -> PathBuf {
        self.0.join("plugins")
    }

    /// One plugin's directory.
    pub fn plugin(&self, id: &str) -> PluginData {
        PluginData(self.plugins().join(id))
    }

    /// The local driver's volumes: `<name>/_data`.
    pub fn volumes(&self) -> PathBuf {
        self.0.join("volumes")
    }
}

/// One plugin's directory below the data root: `plugins/<id>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginData(PathBuf);

impl PluginData {
    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The unpacked root file system; the plugin writes here, so nothing in it is followed by name.
    pub fn rootfs(&self) -> PathBuf {
        self.0.join("rootfs")
    }

    /// What is bound, shared, at the plugin's `propagatedMount`; the plugin mounts volumes below it.
    pub fn propagated_mount(&self) -> PathBuf {
        self.0.join("propagated-mount")
    }

    /// The directory of the plugin's bounded log; the plugin cannot reach it.
    pub fn log(&self) -> PathBuf {
        self.0.join("log")
    }
}

/// The root of what a reboot may forget (`--exec-root`, default `/run/dockplug`), mode 0700.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecRoot(PathBuf);

impl ExecRoot {
    /// Names the root; it need not exist yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self(root.into())
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The runtime's own state (`runc --root`).
    pub fn runtime(&self) -> PathBuf {
        self.0.join("runtime")
    }

    /// The parent of the containers that try runtimes.
    pub fn trials(&self) -> PathBuf {
        self.0.join("trials")
    }

    /// One of them.
    pub fn trial(&self, id: &str) -> PluginExec {
        PluginExec(self.trials().join(id))
    }

    /// Where the mounts of plugins' volumes are staged: `<id of the mount>`. No plugin can reach it.
    pub fn mounts(&self) -> PathBuf {
        self.0.join("mounts")
    }

    /// The directories that an engine is told for the volumes of its containers.
    pub fn containers(&self) -> PathBuf {
        self.0.join("containers")
    }

    /// The socket of an engine that we start ourselves.
    pub fn engine_socket(&self) -> PathBuf {
        self.0.join("engine.sock")
    }

    /// The parent of the running plugins' directories.
    pub fn plugins(&self) -> PathBuf {
        self.0.join("plugins")
    }

    /// One running plugin's directory.
    pub fn plugin(&self, id: &str) -> PluginExec {
        PluginExec(self.plugins().join(id))
    }
}

/// One running plugin's directory below the exec root: `plugins/<id>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginExec(PathBuf);

impl PluginExec {
    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Bound at `/run/docker/plugins` inside the plugin, which makes its socket here: hostile ground.
    pub fn sockets(&self) -> PathBuf {
        self.0.join("sockets")
    }

    /// The OCI bundle (`config.json`), written anew at each start; the plugin cannot reach it.
    pub fn bundle(&self) -> PathBuf {
        self.0.join("bundle")
    }

    /// What the monitor process leaves for the daemon: lock, pid, exit; the plugin cannot reach it.
    pub fn monitor(&self) -> PathBuf {
        self.0.join("monitor")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_reaches_none_of_the_directories_that_describe_it() {
        let (data, exec) = (DataRoot::new("/d").plugin("ab"), ExecRoot::new("/e").plugin("ab"));
        for hostile in [data.rootfs(), data.propagated_mount(), exec.sockets()] {
            for ours in [data.log(), exec.bundle(), exec.monitor()] {
                assert!(!ours.starts_with(&hostile), "{} is below {}", ours.display(), hostile.display());
            }
        }
    }
}
