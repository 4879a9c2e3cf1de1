//! Which containers use which volumes, for an engine that knows nothing of ours.
//!
//! ```text
//! body    a create request: volumes out, binds in; pure          keys   objects of JSON as Go reads them
//! create  volumes made, the request sent, the container known    record what is kept of it on disk
//! copy    an empty volume gets the image's content at its place policy whether a container that ended comes back; pure
//! unwanted containers that are removed when they turn up        visit  volumes mounted while somebody looks into them
//! life    volumes mounted before a start, unmounted after an end places the directories that the engine is told
//! follow  what the engine says happened                          show   what a client is shown of it; pure
//! ```
//!
//! What is true here, always:
//! - The engine never sees a volume's name, nor a mount of the type `volume`, in any spelling.
//! - A container is known on disk before the engine is asked to make it, and until the engine has removed it. So long its
//!   volumes are in use.
//! - A plugin's volume is mounted before the engine starts the container, and unmounted when it has ended; what was
//!   missed while nobody listened is made good by looking at the engine's list.
//!
//! It says nothing of HTTP but status codes, and names no engine.

mod body;
mod copy;
mod create;
mod error;
mod follow;
mod keys;
mod life;
mod places;
mod policy;
mod record;
mod show;
mod unwanted;
mod visit;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use body::{COPY_LABEL, LABEL};
use copy::Absent;
pub use error::Error;
pub use life::Starting;
use places::Places;
use record::{CONTAINERS, Record, UNWANTED, Use};
use unwanted::{Making, Unwanted};
pub use visit::Visit;
use visit::Visits;

use crate::engine::Engine;
use crate::state::{Change, Store};
use crate::volumes::Volumes;

/// The result of everything in this room that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The largest create request, in bytes. A larger one is refused, never sent on unread.
pub const CREATE_MAX_BYTES: usize = 4 << 20;

/// The containers of one engine; clones are the same.
#[derive(Clone)]
pub struct Containers(Arc<Inner>);

struct Inner {
    engine: Engine,
    volumes: Volumes,
    store: Store,
    places: Places,
    /// By token.
    records: Mutex<BTreeMap<String, Record>>,
    /// Starts, ends and removals of one container do not overtake each other.
    turns: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>,
    /// Whether somebody listens to the engine's events.
    following: AtomicBool,
    /// Somebody has asked for something: if the engine has gone, it may be back.
    wake: tokio::sync::Notify,
    /// One looks at the engine's list at a time.
    looking: tokio::sync::Mutex<()>,
    absent: Absent,
    unwanted: Unwanted,
    making: Making,
    visits: Visits,
}

impl Containers {
    /// Reads the records, and holds the volumes of the containers there are. `root` is the directory of what the engine
    /// is told. Blocking.
    ///
    /// # Errors
    /// The records cannot be read.
    pub fn open(engine: Engine, volumes: Volumes, store: Store, root: PathBuf) -> Result<Self> {
        let records: BTreeMap<String, Record> = store.load(CONTAINERS)?.into_iter().collect();
        for (token, record) in &records {
            for used in &record.uses {
                volumes.hold(&used.volume, record.id.as_ref().unwrap_or(token));
            }
        }
        let unwanted = Unwanted::of(store.load(UNWANTED)?);
        let places = Places::new(root);
        let inner = Inner {
            engine,
            volumes,
            store,
            places,
            records: Mutex::new(records),
            turns: Mutex::default(),
            following: AtomicBool::new(false),
            wake: tokio::sync::Notify::default(),
            looking: tokio::sync::Mutex::default(),
            absent: Absent::default(),
            unwanted,
            making: Making::default(),
            visits: Visits::default(),
        };
        Ok(Self(Arc::new(inner)))
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.0.engine
    }

    /// Whether no container uses a volume of ours: then the engine need not be asked about any.
    fn is_empty(&self) -> bool {
        self.0.records().is_empty() && self.0.unwanted.is_empty()
    }

    /// The record of a container, by its whole id.
    fn find(&self, id: &str) -> Option<(String, Record)> {
        let records = self.0.records();
        let found = records.iter().find(|(_, record)| record.id.as_deref() == Some(id));
        found.map(|(token, record)| (token.clone(), record.clone()))
    }

    /// Writes a record: on disk, then in memory; and holds its volumes.
    async fn note(&self, token: &str, record: Record) -> Result<()> {
        self.0.store.commit(Change::new().put(CONTAINERS, token, &record)?).await?;
        for used in &record.uses {
            self.0.volumes.hold(&used.volume, record.id.as_deref().unwrap_or(token));
            if record.id.is_some() {
                self.0.volumes.let_go(&used.volume, token);
            }
        }
        self.0.records().insert(token.to_owned(), record);
        Ok(())
    }

    /// Crosses a record out: on disk, then in memory; its volumes are let go.
    async fn cross_out(&self, token: &str, record: &Record) -> Result<()> {
        self.0.store.commit(Change::new().delete(CONTAINERS, token)).await?;
        self.0.records().remove(token);
        for used in &record.uses {
            self.0.volumes.let_go(&used.volume, record.id.as_deref().unwrap_or(token));
        }
        Ok(())
    }

    /// Waits for the turn of a container.
    async fn turn(&self, token: &str) -> tokio::sync::OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.0.turns.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            Arc::clone(turns.entry(token.to_owned()).or_default())
        };
        turn.lock_owned().await
    }
}

impl Inner {
    fn records(&self) -> MutexGuard<'_, BTreeMap<String, Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Containers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Containers").field("engine", &self.0.engine).finish_non_exhaustive()
    }
}
