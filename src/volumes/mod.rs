//! Volumes: names that are kept, each with a driver that knows where the data is.
//!
//! ```text
//! create . inspect . list . update . remove . prune . usage . count . mount    one verb, one file
//! record  what is kept on disk of a volume         known  all of them in memory, and who holds them
//! ledger  who has which volume mounted, on disk    stage  what plugins mounted, bound where they cannot reach it
//! attach  mounts what local volumes ask for        aside   what may hang, on threads of its own
//! fill    an empty volume gets its first content
//! settle  makes ledger, kernel and plugins agree   of_driver  the volumes of one driver alone
//! follow  to the name that a driver has now
//! limit   keeps local volumes at their size        reasons what is wrong with which of them
//! name, filter                                     pure: what is allowed, what matches
//! sizes   what local volumes take, as last measured
//! turn    one change of a name at a time           local  the built-in driver
//! ```
//!
//! What is true here, always:
//! - A volume is known, in memory and in answers, only when its record is durable.
//! - Changes of one name take turns (`turn`); changes of other names never wait for them, and no lock of the whole
//!   room is held while a plugin or the disk is waited for.
//! - A change that has begun is finished, also when whoever asked for it has gone.
//! - A plugin that hangs delays nothing but the calls that need it; lists give it the drivers' list deadline.
//!
//! The room knows no plugin, only live drivers, and no HTTP. Facts and texts are from moby: `volume/service`,
//! `volume/local`, `volume/drivers`.

mod aside;
mod attach;
mod count;
mod create;
mod error;
mod fill;
mod filter;
mod follow;
mod inspect;
mod known;
mod ledger;
mod limit;
mod list;
mod local;
mod mount;
mod name;
mod of_driver;
mod prune;
mod reasons;
mod record;
mod remove;
mod settle;
mod sizes;
mod stage;
mod turn;
mod update;
mod usage;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::drivers::{Drivers, Reach};
use crate::events::{Bus, Event, Type};
use crate::state::Store;

use aside::Aside;
pub use create::Create;
pub use error::{Error, Problem};
use fill::{FILLS, Halves};
pub use filter::{Filter, Prune, Terms};
pub use follow::FOLLOW_WAIT;
use known::{Entry, Known};
pub use ledger::REFERENCE_MAX_BYTES;
use ledger::{Ledger, MOUNTS, Phase};
pub use list::Listing;
pub use local::{Error as LocalError, LOCAL_DRIVER, Refusal};
pub use name::NAME_MAX_BYTES;
pub use of_driver::OfDriver;
pub use prune::Pruned;
use reasons::Reasons;
use record::VOLUMES;
use sizes::Sizes;
pub use stage::Error as StageError;
use stage::Stage;
use turn::Turns;
pub use usage::{USAGE_DEADLINE, Usage};

/// The result of everything in this room that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// How long the kernel may take to mount or unmount a local volume's file system. As plugins have for `Mount`.
pub const MOUNT_DEADLINE: Duration = Duration::from_mins(2);
/// The label that marks a volume made without a name. Its value is empty.
pub const ANONYMOUS_LABEL: &str = "com.docker.volume.anonymous";

/// Text to text: labels, options.
pub type Texts = BTreeMap<String, String>;

/// All volumes of this daemon; clones are the same.
#[derive(Clone)]
pub struct Volumes(Arc<Inner>);

struct Inner {
    store: Store,
    drivers: Drivers,
    events: Bus,
    local: Arc<local::Local>,
    known: Known,
    sizes: Sizes,
    ledger: Ledger,
    stage: Arc<Stage>,
    turns: Turns,
    aside: Aside,
    /// Why what somebody has is not mounted.
    lost: Reasons,
    /// Why a size is not kept.
    unlimited: Reasons,
    halves: Halves,
    pruning: tokio::sync::Mutex<()>,
    list_deadline: Duration,
}

/// The directories of this room; they are made if they are missing.
#[derive(Debug, Clone)]
pub struct Roots {
    /// The local driver's volumes.
    pub local: PathBuf,
    /// The staged mounts of plugins' volumes; a reboot may forget them.
    pub mounts: PathBuf,
}

/// How long others may take.
#[derive(Debug, Clone, Copy)]
struct Deadlines {
    list: Duration,
    mount: Duration,
}

/// A volume, as it is told to whoever asks. Not sure to exist still.
#[derive(Clone, PartialEq)]
pub struct Volume {
    /// The name.
    pub name: String,
    /// `local`, or the familiar name of a plugin: `rclone:latest`.
    pub driver: String,
    /// Where the data is, as a path of the host; `None` when the driver does not say, or not now.
    pub mountpoint: Option<PathBuf>,
    /// When it was made, if that is known.
    pub created_at: Option<Timestamp>,
    /// How far it reaches.
    pub reach: Reach,
    /// The labels as they were given; `None` when none were, which is not the same as an empty set.
    pub labels: Option<Texts>,
    /// The driver's options as they were given. They may be secrets.
    pub options: Option<Texts>,
    /// What the driver tells about it; only from [`Volumes::inspect`], and empty if it tells nothing.
    pub status: Option<Map<String, Value>>,
}

impl Volumes {
    /// Reads the records, repairs what an interrupted daemon left behind, and takes a lease on the driver of every
    /// volume. Mounts that need their plugin are repaired after [`Volumes::follow_drivers`]. Blocking.
    ///
    /// # Errors
    /// The records or the directories cannot be read, or a volume's directory cannot be made again.
    pub fn open(store: Store, drivers: Drivers, events: Bus, roots: &Roots) -> Result<Self> {
        let deadlines = Deadlines { list: drivers.list_deadline(), mount: MOUNT_DEADLINE };
        Self::open_with(store, drivers, events, roots, deadlines)
    }

    fn open_with(
        store: Store,
        drivers: Drivers,
        events: Bus,
        roots: &Roots,
        deadlines: Deadlines,
    ) -> Result<Self> {
        let records = store.load(VOLUMES).map_err(Error::State)?;
        let locals = records.iter().filter(|(_, record)| record.is_local()).map(|(name, _)| name.as_str());
        let local = Arc::new(local::Local::open(&roots.local, &locals.collect())?);
        let known = Known::default();
        for (name, record) in records {
            known.insert(&name, Entry::new(&name, record, &local, &drivers));
        }
        let unlimited = limit::renew(&local, &known);
        let rows = store.load(MOUNTS).map_err(Error::State)?;
        let ledger = Ledger::of(rows.into_iter().map(|(_, row)| row));
        let stage = Arc::new(Stage::open(&roots.mounts)?);
        settle::sweep(&stage, &ledger)?;
        for row in ledger.all().iter().filter(|row| row.phase == Phase::Held) {
            known.hold(&row.volume, &row.reference);
        }
        let halves = Halves::of(store.load(FILLS).map_err(Error::State)?);
        Ok(Self(Arc::new(Inner {
            store,
            drivers,
            events,
            local,
            known,
            sizes: Sizes::default(),
            ledger,
            stage,
            turns: Turns::default(),
            aside: Aside::new(deadlines.mount),
            lost: Reasons::default(),
            unlimited,
            halves,
            pruning: tokio::sync::Mutex::default(),
            list_deadline: deadlines.list,
        })))
    }

    /// The names of the legacy drivers that were there when they were last looked for, sorted.
    pub fn legacy_drivers(&self) -> Vec<String> {
        self.0.drivers.legacy_names()
    }

    /// From now on a volume is in use by somebody who may mount it later: a container that exists. Known in memory only;
    /// who says so says it again after a restart. Fine when there is no such volume.
    pub fn hold(&self, name: &str, owner: &str) {
        self.0.known.own(name, owner);
    }

    /// Takes one [`Volumes::hold`] back.
    pub fn let_go(&self, name: &str, owner: &str) {
        self.0.known.disown(name, owner);
    }

    fn tell(&self, action: &str, name: &str, driver: &str) {
        self.0.events.publish(Event::new(Type::Volume, action, name).with("driver", driver));
    }
}

/// Runs what touches the disk on a thread that may wait for it.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::Stopped(error.to_string()))
}

impl Volume {
    /// Whether the built-in driver has it.
    pub fn is_local(&self) -> bool {
        self.driver == LOCAL_DRIVER
    }

    /// Whether it is a directory of the built-in driver that is there always, and never mounted.
    pub fn is_directory(&self) -> bool {
        self.is_local() && !self.has_options()
    }

    /// Whether it was made without a name.
    pub fn is_anonymous(&self) -> bool {
        self.labels.as_ref().is_some_and(|labels| labels.contains_key(ANONYMOUS_LABEL))
    }

    /// Whether the driver got options.
    fn has_options(&self) -> bool {
        self.options.as_ref().is_some_and(|options| !options.is_empty())
    }
}

/// Tells the names of options, not their values.
impl fmt::Debug for Volume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Volume")
            .field("name", &self.name)
            .field("driver", &self.driver)
            .field("mountpoint", &self.mountpoint)
            .field("labels", &self.labels)
            .field("options", &self.options.as_ref().map(|options| options.keys().collect::<Vec<_>>()))
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Volumes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Volumes").field("drivers", &self.0.drivers.names()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
