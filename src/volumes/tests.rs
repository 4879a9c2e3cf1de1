//! The whole room, on a real state file and real directories; drivers as bad as they get.

mod local;
mod mount;
mod plugin;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

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
    list_deadline: Duration,
}

/// Detaches what a test leaves staged.
struct Unmounting(Arc<Stage>);

impl Drop for Unmounting {
    fn drop(&mut self) {
        for id in self.0.mounted().unwrap() {
            self.0.clear(&id).unwrap();
        }
    }
}

impl Rig {
    fn new() -> Self {
        Self::with_list_deadline(Duration::from_millis(200))
    }

    fn with_list_deadline(list_deadline: Duration) -> Self {
        Self::open(tempfile::tempdir().unwrap(), Drivers::new(), list_deadline)
    }

    fn open(directory: TempDir, drivers: Drivers, list_deadline: Duration) -> Self {
        let events = Bus::new();
        let store = Store::open(&directory.path().join("state.redb")).unwrap();
        let path = directory.path();
        let roots = Roots { local: path.join("volumes"), mounts: path.join("mounts") };
        let (given, told) = (drivers.clone(), events.clone());
        let volumes = Volumes::open_with(store, given, told, &roots, list_deadline).unwrap();
        let unmounting = Unmounting(Arc::clone(&volumes.0.stage));
        Self { unmounting, directory, drivers, events, volumes, plugins: Vec::new(), list_deadline }
    }

    /// Ends the daemon and starts it again. Plugins live on.
    fn reopened(self) -> Self {
        let Self { unmounting, directory, drivers, volumes, plugins, list_deadline, .. } = self;
        std::mem::forget(unmounting);
        drop(volumes);
        Self { plugins, ..Self::open(directory, drivers, list_deadline) }
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
