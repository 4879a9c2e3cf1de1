//! The mount ledger: who has which volume mounted, on disk before the plugin, or the kernel for a local volume, is asked.
//!
//! ```text
//! (none) -> Asked -> Held -> Owed -> (none)
//!             \________________^
//! ```
//! - `Asked`: the plugin or the kernel may have been asked to mount. Nobody has had an answer, so a start makes it `Owed`.
//! - `Held`: whoever gave the reference has the mountpoint. The volume is in use.
//! - `Owed`: nobody uses it any more; the plugin is owed one `Unmount` with this reference; a local volume that nobody
//!   else has is to be detached.
//!
//! The pages in memory are those on disk: `mount` writes the disk first. This file asks no plugin and mounts nothing.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::{LOCAL_DRIVER, Problem};
use crate::oci::Digest;
use crate::state::Table;

/// The rows of the ledger, by [`Mount::id`].
pub(super) const MOUNTS: Table<Mount> = Table::new("mounts");
/// The longest reference, in bytes. A container's id has 64.
pub const REFERENCE_MAX_BYTES: usize = 256;

/// How far a mount is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Phase {
    /// The plugin may have been asked.
    Asked,
    /// It is in use.
    Held,
    /// The plugin has still to be told that it is over.
    Owed,
}

/// One row: a volume in use by one reference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mount {
    /// The volume's name.
    pub(super) volume: String,
    /// Given by who mounts; the plugin gets it as `ID`.
    pub(super) reference: String,
    /// `local`, or the familiar name of the volume's plugin.
    pub(super) driver: String,
    /// How far it is.
    pub(super) phase: Phase,
}

impl Mount {
    /// The row's key, and the name of the directory it is staged in: 64 hexadecimal digits, the same for the same
    /// volume and reference.
    pub(super) fn id(&self) -> String {
        id(&self.volume, &self.reference)
    }

    /// Whether the built-in driver has the volume.
    pub(super) fn is_local(&self) -> bool {
        self.driver == LOCAL_DRIVER
    }

    /// The same row, further.
    pub(super) fn in_phase(&self, phase: Phase) -> Self {
        Self { phase, ..self.clone() }
    }
}

/// The length of the name comes first, so that no two pairs are one text.
fn id(volume: &str, reference: &str) -> String {
    Digest::of(format!("{}:{volume}{reference}", volume.len()).as_bytes()).hex()
}

/// Refuses what is no reference.
pub(super) fn check_reference(reference: &str) -> Result<(), Problem> {
    let problem = match reference {
        "" => "it is empty".to_owned(),
        long if long.len() > REFERENCE_MAX_BYTES => {
            format!("it has {} bytes, expected at most {REFERENCE_MAX_BYTES}", long.len())
        }
        text if text.chars().any(char::is_control) => "it holds a control character".to_owned(),
        _ => return Ok(()),
    };
    Err(Problem::Reference(problem))
}

/// All rows, in memory.
#[derive(Debug, Default)]
pub(super) struct Ledger(Mutex<BTreeMap<String, Mount>>);

impl Ledger {
    /// The ledger as the last daemon left it: what it had only asked for is owed now.
    pub(super) fn of(rows: impl IntoIterator<Item = Mount>) -> Self {
        let settled = rows.into_iter().map(|row| match row.phase {
            Phase::Asked => row.in_phase(Phase::Owed),
            Phase::Held | Phase::Owed => row,
        });
        Self(Mutex::new(settled.map(|row| (row.id(), row)).collect()))
    }

    /// The row of a volume and a reference.
    pub(super) fn find(&self, volume: &str, reference: &str) -> Option<Mount> {
        self.rows().get(&id(volume, reference)).cloned()
    }

    /// All rows.
    pub(super) fn all(&self) -> Vec<Mount> {
        self.rows().values().cloned().collect()
    }

    /// The rows of one volume.
    pub(super) fn of_volume(&self, volume: &str) -> Vec<Mount> {
        self.rows().values().filter(|row| row.volume == volume).cloned().collect()
    }

    /// Writes a row, over the one that is there.
    pub(super) fn put(&self, row: Mount) {
        self.rows().insert(row.id(), row);
    }

    /// Crosses a row out.
    pub(super) fn cross_out(&self, row: &Mount) {
        self.rows().remove(&row.id());
    }

    fn rows(&self) -> MutexGuard<'_, BTreeMap<String, Mount>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(volume: &str, reference: &str, phase: Phase) -> Mount {
        Mount { volume: volume.into(), reference: reference.into(), driver: "p:latest".into(), phase }
    }

    #[test]
    fn no_two_pairs_have_one_id() {
        assert_ne!(id("a", "b1"), id("ab", "1"));
        assert_ne!(id("1:a", ""), id("a", ""));
        assert_eq!(id("a", "b").len(), 64);
    }

    #[test]
    fn what_was_only_asked_for_is_owed_after_a_start() {
        let ledger = Ledger::of([row("v", "1", Phase::Asked), row("v", "2", Phase::Held)]);
        assert_eq!(ledger.find("v", "1").unwrap().phase, Phase::Owed);
        assert_eq!(ledger.find("v", "2").unwrap().phase, Phase::Held);
        assert_eq!((ledger.of_volume("v").len(), ledger.of_volume("w").len()), (2, 0));
    }

    #[test]
    fn references_are_short_and_printable() {
        for (reference, good) in [
            ("c1", true),
            ("a unit/with:anything", true),
            (&"x".repeat(REFERENCE_MAX_BYTES), true),
            (&"x".repeat(REFERENCE_MAX_BYTES + 1), false),
            ("", false),
            ("a\nb", false),
            ("a\0", false),
        ] {
            assert_eq!(check_reference(reference).is_ok(), good, "{reference:?}");
        }
    }
}
