//! What is kept on disk of a container: its volumes, and what the user wrote of them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::body::Written;
use crate::state::Table;

/// The containers that use volumes, by a random token each, which the engine has as a label.
pub(super) const CONTAINERS: Table<Record> = Table::new("containers");

/// The tokens of containers that nobody wants, with when they were given up: what the engine may be making still, or has not
/// removed yet.
pub(super) const UNWANTED: Table<Timestamp> = Table::new("unwanted-containers");

/// One container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The engine's id; none until its create has been answered.
    pub(super) id: Option<String>,
    /// Its volumes.
    pub(super) uses: Vec<Use>,
    /// What the user wrote.
    pub(super) written: Written,
    /// Whether its own volumes go with it.
    pub(super) auto_remove: bool,
    /// Whether the user has stopped it since its last start: the engine does not start it again by itself then.
    #[serde(default)]
    pub(super) is_stopped: bool,
}

/// A volume in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Use {
    /// The volume's name.
    pub(super) volume: String,
    /// Its driver.
    pub(super) driver: String,
    /// Where it is in the container.
    pub(super) destination: String,
    /// Whether the container may not write to it.
    pub(super) read_only: bool,
    /// Whether it was made for this container, without a name.
    pub(super) anonymous: bool,
    /// The directory of the host that the engine was told.
    pub(super) source: String,
    /// The directory in the volume that is mounted; none for all of it.
    #[serde(default)]
    pub(super) subpath: Option<String>,
    /// Whether that directory is ours, and the volume is bound to it while the container runs; else it is the volume's
    /// own.
    pub(super) is_bound: bool,
}
