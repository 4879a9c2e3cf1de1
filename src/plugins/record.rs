//! What is kept of a plugin in the state file. Its configuration is a blob.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::resources::Resources;
use super::settings::Settings;
use crate::oci::{Digest, Reference};
use crate::state::Table;

/// The table of plugins; the key is the id.
pub(super) const PLUGINS: Table<Record> = Table::new("plugins");

/// What is kept of one plugin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The name it has here, with its tag.
    pub(super) name: Reference,
    /// What it was made or pulled as, as dockerd shows it.
    pub(super) reference: String,
    /// The repository it was pulled from; `None` for one that was made here, or loaded from a file. Absent from what
    /// earlier versions wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) origin: Option<String>,
    /// What the user wants.
    pub(super) enabled: bool,
    /// How long it may take to listen, in seconds; 0 for the default. From the last `enable`.
    pub(super) start_deadline_s: u64,
    /// The blob of its `config.json`.
    pub(super) config: Digest,
    /// The blob of its manifest.
    pub(super) manifest: Digest,
    /// The blobs of its layers, the lowest first.
    pub(super) layers: Vec<Digest>,
    /// What the user has set.
    pub(super) settings: Settings,
    /// How much of the machine it may use.
    #[serde(default)]
    pub(super) resources: Resources,
    /// When it was made.
    pub(super) created: Timestamp,
}

impl Record {
    /// All blobs it needs.
    pub(super) fn blobs(&self) -> impl Iterator<Item = Digest> {
        [self.config, self.manifest].into_iter().chain(self.layers.iter().copied())
    }
}
