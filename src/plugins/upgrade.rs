//! `upgrade`: another version under the same name and id.
//!
//! Fetched beside the old one, without its turn; put in its place in its turn, in four steps of which each can be the last
//! before a crash: the intention is written down; the old root file system is moved aside and the new one in; the record
//! is changed and the intention withdrawn, in one commit; the old root file system is removed. The next start undoes what
//! has an intention and finishes what has none (`recover`). So the old version is whole, or the new one is.

use std::collections::HashSet;
use std::sync::Arc;

use super::config::PluginConfig;
use super::fetch::Fetched;
use super::plugin::Plugin;
use super::pull::{self, Order};
use super::record::PLUGINS;
use super::report::{News, Report};
use super::settings::Settings;
use super::{Error, Inner, PluginId, Result, blocking, collect, directories};
use crate::error::chain;
use crate::state::{Change, Table};

/// The plugins whose root file systems are being exchanged; the key is the id. What is left here by a crash does no
/// harm once it was undone.
pub(super) const UPGRADES: Table<bool> = Table::new("upgrades");

pub(super) async fn upgrade(inner: &Arc<Inner>, selector: &str, order: Order, report: &Report) -> Result<()> {
    let plugin = inner.shelf.find(selector)?;
    refuse_enabled(&plugin)?;
    let reference = order.remote.reference().clone();
    let staging = PluginId::random()?;
    let result = async {
        let fetched = pull::fetch_into(inner, &staging, order, report).await?;
        let dropped = replace(inner, &plugin, selector, &staging, reference.to_string(), fetched).await?;
        for setting in dropped {
            report.tell(News::Dropped { setting });
        }
        Ok(())
    }
    .await;
    // Also after success: its directory is empty then, and the old version's blobs may be nobody's.
    collect::remains(inner, &staging).await;
    if result.is_ok() {
        pull::tell(inner, &reference, &plugin.name);
        tracing::info!(plugin = plugin.name, id = %plugin.id, %reference, "upgraded");
    }
    result
}

/// Undoes the exchanges that a crash has interrupted, and removes the old root file systems of those that were done.
/// Blocking.
///
/// # Errors
/// [`Error::State`]. What cannot be put right is told in the log.
pub(super) fn recover(inner: &Inner) -> Result<()> {
    let parts = &inner.parts;
    let begun = parts.store.load(UPGRADES).map_err(Error::State)?;
    let begun: HashSet<String> = begun.into_iter().map(|(id, _)| id).collect();
    for plugin in inner.shelf.all() {
        let id = &plugin.id;
        let is_begun = begun.contains(id.as_str());
        let put_right = if is_begun {
            directories::undo_exchange(parts, id)
        } else {
            directories::end_exchange(parts, id)
        };
        if let Err(error) = put_right {
            tracing::error!(%id, error = chain(&error), "cannot put an interrupted upgrade right");
        }
    }
    Ok(())
}

fn refuse_enabled(plugin: &Plugin) -> Result<()> {
    if plugin.is_enabled() {
        return Err(Error::UpgradeWhileEnabled { name: plugin.name.clone() });
    }
    Ok(())
}

/// Puts what was fetched in the place of the old version, and tells which settings were dropped.
async fn replace(
    inner: &Arc<Inner>,
    plugin: &Plugin,
    selector: &str,
    staging: &PluginId,
    reference: String,
    fetched: Fetched,
) -> Result<Vec<String>> {
    let _turn = plugin.turn(selector).await?;
    refuse_enabled(plugin)?;
    let id = plugin.id.as_str();
    let mut record = plugin.record();
    let (settings, dropped) = carry(&plugin.config(), &record.settings, &fetched.config);
    record.reference = reference;
    record.config = fetched.config_blob.digest;
    record.manifest = fetched.manifest_blob.digest;
    record.layers.clone_from(&fetched.layers);
    record.settings = settings;
    let intention = Change::new().put(UPGRADES, id, &true).map_err(Error::State)?;
    inner.parts.store.commit(intention).await.map_err(Error::State)?;
    let exchanged = {
        let (inner, id, staging) = (Arc::clone(inner), plugin.id.clone(), staging.clone());
        blocking(move || directories::exchange(&inner.parts, &id, &staging)).await
    };
    let was_driver = plugin.is_volume_driver();
    let committed = match exchanged {
        Ok(()) => {
            let change = Change::new().put(PLUGINS, id, &record).map(|change| change.delete(UPGRADES, id));
            plugin.commit_change(&inner.parts.store, change, record, Arc::new(fetched.config.clone())).await
        }
        Err(error) => Err(error),
    };
    let (parts, own, is_done) = (Arc::clone(inner), plugin.id.clone(), committed.is_ok());
    let settled = blocking(move || {
        let end = if is_done { directories::end_exchange } else { directories::undo_exchange };
        end(&parts.parts, &own)
    });
    if let Err(error) = settled.await {
        tracing::error!(plugin = plugin.name, error = chain(&error), "the next start ends this upgrade");
    }
    committed?;
    match (was_driver, plugin.is_volume_driver()) {
        (_, true) => inner.parts.drivers.disable(&plugin.name),
        (true, false) => inner.parts.drivers.unregister(&plugin.name),
        (false, false) => {}
    }
    Ok(dropped)
}

/// The settings of the new version: what the user has changed stays changed, the rest is as the new version has it. Also
/// what the user has changed and the new version cannot take.
fn carry(old: &PluginConfig, settings: &Settings, new: &PluginConfig) -> (Settings, Vec<String>) {
    let (before, mut after, mut dropped) = (Settings::initial(old), Settings::initial(new), Vec::new());
    let can = |settable: &[String], field: &str| settable.iter().any(|may| may == field);
    let name_of = |variable: &str| variable.split('=').next().unwrap_or_default().to_owned();
    for variable in settings.env.iter().filter(|variable| !before.env.contains(variable)) {
        let name = name_of(variable);
        if !new.env.iter().any(|env| env.name == name && can(&env.settable, "value")) {
            dropped.push(format!("env {name}"));
            continue;
        }
        match after.env.iter_mut().find(|other| name_of(other) == name) {
            Some(other) => other.clone_from(variable),
            None => after.env.push(variable.clone()),
        }
    }
    let changed = settings.mounts.iter().zip(&before.mounts).filter(|(set, was)| set.source != was.source);
    for (set, _) in changed {
        let place = after.mounts.iter_mut().find(|mount| mount.name == set.name);
        match place.filter(|mount| mount.source.is_some() && can(&mount.settable, "source")) {
            Some(mount) => mount.source.clone_from(&set.source),
            None => dropped.push(format!("mount {}", set.name)),
        }
    }
    let changed = settings.devices.iter().zip(&before.devices).filter(|(set, was)| set.path != was.path);
    for (set, _) in changed {
        let place = after.devices.iter_mut().find(|device| device.name == set.name);
        match place.filter(|device| device.path.is_some() && can(&device.settable, "path")) {
            Some(device) => device.path.clone_from(&set.path),
            None => dropped.push(format!("device {}", set.name)),
        }
    }
    if settings.args != before.args {
        if can(&new.args.settable, "value") {
            after.args.clone_from(&settings.args);
        } else {
            dropped.push("args".to_owned());
        }
    }
    (after, dropped)
}

#[cfg(test)]
mod tests {
    use super::super::settable;
    use super::*;

    const OLD: &str = r#"{"args":{"name":"args","value":["a"],"settable":["value"]},
        "env":[{"name":"KEPT","value":"1","settable":["value"]},{"name":"SAME","value":"1","settable":["value"]},
               {"name":"GONE","value":"1","settable":["value"]},{"name":"FROZEN","value":"1","settable":["value"]}],
        "mounts":[{"name":"m","source":"/m","settable":["source"]},{"name":"x","source":"/x","settable":["source"]}],
        "linux":{"devices":[{"name":"d","path":"/dev/d","settable":["path"]}]}}"#;
    const NEW: &str = r#"{"args":{"name":"args","value":["b"],"settable":["value"]},
        "env":[{"name":"NEW","value":"2"},{"name":"KEPT","settable":["value"]},
               {"name":"SAME","value":"2","settable":["value"]},{"name":"FROZEN","value":"2"}],
        "mounts":[{"name":"n","source":"/n"},{"name":"m","source":"/m2","settable":["source"]}],
        "linux":{"devices":[{"name":"d","path":"/dev/d2","settable":["path"]}]}}"#;

    fn config(json: &str) -> PluginConfig {
        PluginConfig::decode(json.as_bytes()).unwrap()
    }

    #[test]
    fn what_the_user_has_changed_stays_and_the_rest_is_new() {
        let (old, new) = (config(OLD), config(NEW));
        let texts =
            ["KEPT=mine", "GONE=mine", "FROZEN=mine", "m=/mine", "x=/mine", "d=/dev/mine", "args=x y"];
        let texts = texts.map(str::to_owned);
        let set = settable::set(&old, &Settings::initial(&old), &texts).unwrap();
        let (settings, dropped) = carry(&old, &set, &new);
        assert_eq!(settings.env, ["NEW=2", "SAME=2", "FROZEN=2", "KEPT=mine"]);
        let sources: Vec<_> = settings.mounts.iter().map(|mount| mount.source.as_deref()).collect();
        assert_eq!(sources, [Some("/n"), Some("/mine")]);
        assert_eq!(settings.devices[0].path.as_deref(), Some("/dev/mine"));
        assert_eq!(settings.args, ["x", "y"]);
        assert_eq!(dropped, ["env GONE", "env FROZEN", "mount x"]);
    }

    #[test]
    fn without_changes_the_new_version_is_as_it_comes() {
        let (old, new) = (config(OLD), config(NEW));
        assert_eq!(carry(&old, &Settings::initial(&old), &new), (Settings::initial(&new), Vec::new()));
    }
}
