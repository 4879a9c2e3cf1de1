//! Names that plugins had and have no more, while volumes may be written down under them.
//!
//! ```text
//!                 rename: the name of it now
//! (a plugin has it) ------------------------> Renamed --+
//!        |   \                                   ^      | another plugin gets the name, or a start finds
//!        |    \  remove, with volumes,           |      | that nobody counts on it: (no row)
//!        |     +-------------------------> Removed -----+
//!        |        of a plugin from a registry    | another one is installed from the same repository
//! ```
//!
//! Each row is written in the same change as the record of the plugin it comes from, so that a kill loses none. What leads
//! where is told to `drivers`; that volumes follow is their room's business. A plugin that was made here has no repository,
//! and so no heir: whoever makes it again gives it its name again. That its configuration is the same would say little, for
//! whoever can read one can make another of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::plugin::Plugin;
use super::record::{PLUGINS, Record};
use super::{Error, Inner, Parts, Result, launch};
use crate::state::{self, Change, Table};

/// The names; the key is one, as Docker shows it.
const FORMER: Table<Former> = Table::new("former_names");

/// What became of a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Former {
    /// This is the name now.
    Renamed(String),
    /// Its plugin is gone, which was from this repository.
    Removed(String),
}

type Rows = BTreeMap<String, Former>;

/// All such names, as they are on disk.
#[derive(Debug, Default)]
pub(super) struct FormerNames(Mutex<Rows>);

impl FormerNames {
    /// Reads them, tells the drivers, and forgets those that nobody counts on. Volumes must have their leases by now, and no
    /// plugin its driver. Blocking.
    ///
    /// # Errors
    /// [`Error::State`].
    pub(super) fn open(parts: &Parts) -> Result<Self> {
        let mut rows: Rows = parts.store.load(FORMER).map_err(Error::State)?.into_iter().collect();
        let mut change = Change::new();
        for (name, former) in &rows {
            if let Former::Renamed(now) = former {
                parts.drivers.moved(name, now);
            }
        }
        // Who counts on a name that leads to another counts on both.
        rows.retain(|name, _| {
            let is_needed = parts.drivers.leases(name) > 0;
            if !is_needed {
                change = std::mem::take(&mut change).delete(FORMER, name);
            }
            is_needed
        });
        parts.store.commit_now(change).map_err(Error::State)?;
        Ok(Self(Mutex::new(rows)))
    }

    /// Refuses a name under which volumes are still written down that another plugin has. Whoever asks has reserved it.
    ///
    /// # Errors
    /// [`Error::NotYetFree`].
    pub(super) async fn check_free(&self, inner: &Inner, name: &str) -> Result<()> {
        match self.0.lock().await.get(name) {
            Some(Former::Renamed(now)) if inner.parts.drivers.leases(name) > 0 => {
                Err(Error::NotYetFree { name: name.to_owned(), now: now.clone() })
            }
            _ => Ok(()),
        }
    }

    /// Makes the record of a new plugin durable; it is disabled, and known as a driver when this returns. If it is from
    /// where a plugin was from that was removed with volumes, it gets these.
    ///
    /// # Errors
    /// [`Error::State`].
    pub(super) async fn commit_new(&self, inner: &Inner, plugin: &Plugin, record: Record) -> Result<()> {
        let mut rows = self.0.lock().await;
        let name = record.name.familiar();
        let is_driver = plugin.is_volume_driver();
        let mut change = Change::new().put(PLUGINS, plugin.id.as_str(), &record).map_err(Error::State)?;
        let heritage = record.origin.as_deref().filter(|_| is_driver).and_then(|origin| {
            let is_first = !inner.shelf.all().iter().any(|other| other.is_from(origin));
            let is_needed = |name: &str| inner.parts.drivers.leases(name) > 0;
            heritage(&rows, &name, origin, is_first, is_needed).map(str::to_owned)
        });
        change = change.delete(FORMER, &name);
        if let Some(former) = &heritage {
            let renamed = Former::Renamed(name.clone());
            change = change.put(FORMER, former, &renamed).map_err(Error::State)?;
        }
        plugin.commit_change(&inner.parts.store, Ok(change), record, plugin.config()).await?;
        rows.remove(&name);
        if is_driver {
            inner.parts.drivers.disable(&name);
        }
        if let Some(former) = heritage {
            tracing::info!(plugin = name, former, "has the volumes of a plugin that was removed");
            inner.parts.drivers.moved(&former, &name);
            rows.insert(former, Former::Renamed(name));
        }
        Ok(())
    }

    /// Gives a plugin another name: the record has it. In the plugin's turn.
    ///
    /// # Errors
    /// [`Error::State`]; it has the old name then.
    pub(super) async fn commit_renamed(&self, inner: &Inner, plugin: &Plugin, record: Record) -> Result<()> {
        let mut rows = self.0.lock().await;
        let (former, name) = (plugin.name(), record.name.familiar());
        let (is_driver, is_enabled) = (plugin.is_volume_driver(), record.enabled);
        let mut change = Change::new().put(PLUGINS, plugin.id.as_str(), &record).map_err(Error::State)?;
        change = change.delete(FORMER, &name);
        if is_driver {
            // Also when nobody counts on it: somebody may be about to.
            let renamed = Former::Renamed(name.clone());
            change = change.put(FORMER, &former, &renamed).map_err(Error::State)?;
        }
        inner.parts.store.commit(change).await.map_err(Error::State)?;
        let live = is_enabled.then(|| launch::registration(inner, plugin));
        plugin.rename(record, || {
            if is_driver {
                inner.parts.drivers.rename(&former, &name, live);
            }
        });
        rows.remove(&name);
        if is_driver {
            rows.insert(former, Former::Renamed(name));
        }
        Ok(())
    }

    /// Removes a plugin's record; its volumes, if there are any, wait for another plugin from where it was from. In the
    /// plugin's turn.
    ///
    /// # Errors
    /// It could not be written; the plugin is still there.
    pub(super) async fn commit_removed(&self, inner: &Inner, plugin: &Plugin) -> state::Result<()> {
        let mut rows = self.0.lock().await;
        let (name, origin) = (plugin.name(), plugin.record().origin);
        let waiting = origin.filter(|_| inner.parts.drivers.leases(&name) > 0).map(Former::Removed);
        let mut change = Change::new().delete(PLUGINS, plugin.id.as_str());
        if let Some(waiting) = &waiting {
            change = change.put(FORMER, &name, waiting)?;
        }
        inner.parts.store.commit(change).await?;
        if let Some(waiting) = waiting {
            rows.insert(name, waiting);
        }
        Ok(())
    }
}

impl Plugin {
    /// Whether it gives volumes and is from this repository.
    fn is_from(&self, origin: &str) -> bool {
        self.record().origin.as_deref() == Some(origin) && self.is_volume_driver()
    }
}

/// The name of a removed plugin whose volumes a new one called `name` gets, which is from `origin`: the only one from
/// there on which somebody counts. None if there are several, if it is the name itself, or if the new one is not the
/// only plugin from there: what is meant is not evident then.
fn heritage<'a>(
    rows: &'a Rows,
    name: &str,
    origin: &str,
    is_first: bool,
    is_needed: impl Fn(&str) -> bool,
) -> Option<&'a str> {
    let is_heirless = |(former, row): &(&String, &Former)| {
        matches!(row, Former::Removed(from) if from == origin) && is_needed(former)
    };
    let mut heirless = rows.iter().filter(is_heirless).map(|(former, _)| former.as_str());
    let only = heirless.next().filter(|_| heirless.next().is_none())?;
    (is_first && only != name).then_some(only)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_evident_is_inherited() {
        let removed = |origin: &str| Former::Removed(origin.to_owned());
        let one = [("old:latest", removed("r/a"))];
        let two = [("old:latest", removed("r/a")), ("other:latest", removed("r/a"))];
        let mixed = [("old:latest", removed("r/a")), ("other:latest", removed("r/b"))];
        let renamed = [("old:latest", Former::Renamed("r/a".to_owned()))];
        let all: fn(&str) -> bool = |_| true;
        let none: fn(&str) -> bool = |_| false;
        let but_other: fn(&str) -> bool = |name| name != "other:latest";
        for (what, rows, name, origin, is_first, is_needed, expected) in [
            ("installed anew", &one[..], "new:latest", "r/a", true, all, Some("old:latest")),
            ("under its old name", &one, "old:latest", "r/a", true, all, None),
            ("from elsewhere", &one, "new:latest", "r/b", true, all, None),
            ("beside another from there", &one, "new:latest", "r/a", false, all, None),
            ("nobody counts on it", &one, "new:latest", "r/a", true, none, None),
            ("one of two", &two, "new:latest", "r/a", true, all, None),
            ("one of two under its old name", &two, "old:latest", "r/a", true, all, None),
            ("the other is not needed", &two, "new:latest", "r/a", true, but_other, Some("old:latest")),
            ("the other is from elsewhere", &mixed, "new:latest", "r/b", true, all, Some("other:latest")),
            ("a plugin that is there", &renamed, "new:latest", "r/a", true, all, None),
            ("nothing was removed", &[], "new:latest", "r/a", true, all, None),
        ] {
            let rows = rows.iter().map(|(name, row)| ((*name).to_owned(), row.clone())).collect();
            assert_eq!(heritage(&rows, name, origin, is_first, is_needed), expected, "{what}");
        }
    }
}
