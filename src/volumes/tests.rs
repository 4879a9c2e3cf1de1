//! The whole room, on a real state file and real directories; drivers as bad as they get.

mod attach;
mod follow;
mod local;
mod mount;
mod plugin;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::mount::{MntFlags, umount2};
use tempfile::TempDir;

use super::*;
use crate::drivers::testing::{Call, FakePlugin, Reply};
use crate::error::{Classified, Kind, chain};

/// What a daemon has of volumes, and the directory it is in.
struct Rig {
    /// Before the directory: mounts in it would keep it from being removed.
    unmounting: Unmounting,
    directory: TempDir,
    drivers: Drivers,
    events: Bus,
    volumes: Volumes,
    plugins: Vec<FakePlugin>,
    deadlines: Deadlines,
}

/// Detaches what a test leaves mounted below its directory.
struct Unmounting(PathBuf);

impl Drop for Unmounting {
    fn drop(&mut self) {
        for point in mounts_below(&self.0).iter().rev() {
            let _gone_with_another = umount2(point, MntFlags::MNT_DETACH);
        }
    }
}

/// The mount points below a directory whose path has neither links nor blanks.
fn mounts_below(directory: &Path) -> Vec<PathBuf> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    points.filter(|point| point.starts_with(directory)).collect()
}

impl Rig {
    fn new() -> Self {
        Self::with_list_deadline(Duration::from_millis(200))
    }

    fn with_list_deadline(list: Duration) -> Self {
        Self::with_deadlines(Deadlines { list, mount: MOUNT_DEADLINE })
    }

    fn with_deadlines(deadlines: Deadlines) -> Self {
        Self::open(tempfile::tempdir().unwrap(), Drivers::new(), deadlines)
    }

    fn open(directory: TempDir, drivers: Drivers, deadlines: Deadlines) -> Self {
        let events = Bus::new();
        let store = Store::open(&directory.path().join("state.redb")).unwrap();
        let path = directory.path();
        let roots = Roots { local: path.join("volumes"), mounts: path.join("mounts") };
        let (given, told) = (drivers.clone(), events.clone());
        let volumes = Volumes::open_with(store, given, told, &roots, deadlines).unwrap();
        let unmounting = Unmounting(path.canonicalize().unwrap());
        Self { unmounting, directory, drivers, events, volumes, plugins: Vec::new(), deadlines }
    }

    /// Ends the daemon and starts it again. Plugins live on.
    fn reopened(self) -> Self {
        let Self { unmounting, directory, drivers, volumes, plugins, deadlines, .. } = self;
        std::mem::forget(unmounting);
        drop(volumes);
        Self { plugins, ..Self::open(directory, drivers, deadlines) }
    }

    /// Starts a plugin and registers it.
    fn plug(&mut self, name: &str, reply: impl Fn(&Call) -> Reply + Send + Sync + 'static) {
        let sockets = self.directory.path().join(format!("sockets-{}", self.plugins.len()));
        std::fs::create_dir(&sockets).unwrap();
        let plugin = FakePlugin::start(&sockets, reply);
        self.drivers.register(plugin.registration(name));
        self.plugins.push(plugin);
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("volumes")
    }

    async fn create(&self, name: &str, driver: &str) -> Result<Arc<Volume>> {
        let (name, driver) = (Some(name.to_owned()), driver.to_owned());
        self.volumes.create(Create { name, driver, ..Create::default() }).await
    }

    async fn list(&self) -> Listing {
        self.volumes.list(&Filter::default()).await
    }

    /// The events so far: action, name, and the one attribute.
    fn told(&self) -> Vec<(String, String, String)> {
        let attribute = |event: &Event| event.attributes.values().next().cloned().unwrap_or_default();
        let recent = self.events.recent();
        recent.iter().map(|event| (event.action.clone(), event.actor.clone(), attribute(event))).collect()
    }
}

fn names(listing: &Listing) -> Vec<&str> {
    listing.volumes.iter().map(|volume| volume.name.as_str()).collect()
}

#[allow(clippy::unnecessary_wraps, reason = "labels and options are optional wherever these go")]
fn texts(pairs: &[(&str, &str)]) -> Option<Texts> {
    Some(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
}

fn event(action: &str, name: &str, attribute: &str) -> (String, String, String) {
    (action.to_owned(), name.to_owned(), attribute.to_owned())
}
