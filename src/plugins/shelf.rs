//! All plugins in memory, and the names that are being given away.
//!
//! Pure bookkeeping behind one lock, which is held for a look or a change in memory only.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::plugin::Plugin;
use super::record::Record;
use super::{Error, PluginId, Result, id};
use crate::oci::Digest;

/// All plugins.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    content: Arc<Mutex<Content>>,
    /// Records whose plugins cannot be had at present: what is theirs is kept.
    unreadable: Vec<(String, Record)>,
}

#[derive(Debug, Default)]
struct Content {
    plugins: BTreeMap<PluginId, Arc<Plugin>>,
    /// Names of plugins that are being made.
    reserved: HashSet<String>,
}

/// A name that nobody else gets while this lives.
#[derive(Debug)]
pub(super) struct Reserved {
    content: Arc<Mutex<Content>>,
    name: String,
}

impl Shelf {
    /// With these plugins, and these records, by their keys, of plugins that cannot be read.
    pub(super) fn new(plugins: Vec<Plugin>, unreadable: Vec<(String, Record)>) -> Self {
        let plugins = plugins.into_iter().map(|plugin| (plugin.id.clone(), Arc::new(plugin))).collect();
        let content = Content { plugins, reserved: HashSet::new() };
        Self { content: Arc::new(Mutex::new(content)), unreadable }
    }

    /// The plugin that is meant.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Ambiguous`].
    pub(super) fn find(&self, selector: &str) -> Result<Arc<Plugin>> {
        let content = locked(&self.content);
        let names: Vec<_> = content.plugins.values().map(|plugin| (&plugin.id, plugin.name())).collect();
        let id = id::resolve(selector, names.iter().map(|(id, name)| (*id, name.as_str())))?;
        let found = content.plugins.get(id).map(Arc::clone);
        found.ok_or_else(|| Error::NotFound { selector: selector.to_owned() })
    }

    /// Whether there is a record of this plugin.
    pub(super) fn knows(&self, id: &PluginId) -> bool {
        locked(&self.content).plugins.contains_key(id)
            || self.unreadable.iter().any(|(key, _)| key == id.as_str())
    }

    /// All plugins, by id.
    pub(super) fn all(&self) -> Vec<Arc<Plugin>> {
        locked(&self.content).plugins.values().map(Arc::clone).collect()
    }

    /// Takes a name, as Docker shows it, for a plugin that is being made.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`].
    pub(super) fn reserve(&self, name: &str) -> Result<Reserved> {
        let mut content = locked(&self.content);
        let taken = content.plugins.values().any(|plugin| plugin.name() == name)
            || self.unreadable.iter().any(|(_, record)| record.name.familiar() == name);
        if taken || !content.reserved.insert(name.to_owned()) {
            return Err(Error::AlreadyExists { name: name.to_owned() });
        }
        Ok(Reserved { content: Arc::clone(&self.content), name: name.to_owned() })
    }

    /// Adds a plugin under the name that was reserved for it.
    pub(super) fn add(&self, plugin: Arc<Plugin>, reserved: Reserved) {
        locked(&self.content).plugins.insert(plugin.id.clone(), plugin);
        // Only now, so that the name is never free in between.
        drop(reserved);
    }

    /// Takes a plugin away.
    pub(super) fn take(&self, id: &PluginId) {
        locked(&self.content).plugins.remove(id);
    }

    /// The blobs that some record needs.
    pub(super) fn blobs(&self) -> HashSet<Digest> {
        let mut blobs: HashSet<_> = self.unreadable.iter().flat_map(|(_, record)| record.blobs()).collect();
        blobs.extend(self.all().iter().flat_map(|plugin| plugin.record().blobs().collect::<Vec<_>>()));
        blobs
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        locked(&self.content).reserved.remove(&self.name);
    }
}

fn locked(content: &Mutex<Content>) -> MutexGuard<'_, Content> {
    // No code that can panic runs under this lock.
    content.lock().unwrap_or_else(PoisonError::into_inner)
}
