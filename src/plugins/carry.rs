//! Which settings a new version of a plugin begins with. Pure.

use super::config::PluginConfig;
use super::settings::Settings;

/// The settings of the new version: what the user has changed stays changed, the rest is as the new version has it. Also
/// what the user has changed and the new version cannot take.
pub(super) fn carry(old: &PluginConfig, settings: &Settings, new: &PluginConfig) -> (Settings, Vec<String>) {
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
