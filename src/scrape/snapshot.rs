//! Everything a scrape tells, at one moment.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Build, Sources};
use crate::drivers::Calls;
use crate::metrics::Answered;
use crate::plugins::{Filter, State};

/// What the rooms say, copied or shared, so that no lock is held while it is written down.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) build: Build,
    pub(super) plugins: Vec<Plugin>,
    /// By the driver's name.
    pub(super) calls: Vec<(String, Arc<Calls>)>,
    /// By the name of a live driver: by kind of call, whether it is left alone with it.
    pub(super) breakers: Vec<(String, [(&'static str, bool); 2])>,
    /// How many, by the driver's name.
    pub(super) volumes: BTreeMap<String, usize>,
    pub(super) requests: Vec<Answered>,
}

/// A plugin as it is seen.
#[derive(Debug)]
pub(super) struct Plugin {
    /// As Docker shows it.
    pub(super) name: String,
    /// What the user wants.
    pub(super) enabled: bool,
    /// What is seen of its process.
    pub(super) observed: State,
}

impl Snapshot {
    /// Looks into the memory of the rooms.
    pub(super) fn of(sources: &Sources) -> Self {
        let plugins = sources.plugins.list(&Filter::default()).into_iter();
        Self {
            build: sources.build,
            plugins: plugins
                .map(|view| Plugin { name: view.name, enabled: view.enabled, observed: view.observed })
                .collect(),
            calls: sources.drivers.calls(),
            breakers: sources
                .drivers
                .live()
                .iter()
                .map(|driver| (driver.name().to_owned(), driver.breakers()))
                .collect(),
            volumes: sources.volumes.count_by_driver(),
            requests: sources.requests.counts(),
        }
    }
}
