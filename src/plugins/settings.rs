//! What a user may change of a plugin, as it is now.
//!
//! Made from the plugin's configuration once, and changed by `set` only; the configuration itself never changes.
//! The shape is the one dockerd answers with (`types.PluginSettings`, `InitEmptySettings` in moby's
//! `plugin/v2/plugin.go`): lists that are never `null`.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::config::{Device, Mount, PluginConfig};

/// The values a plugin is started with.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Settings {
    /// The arguments after the entry point.
    pub args: Vec<String>,
    /// The devices, one for each of the configuration, in its order.
    pub devices: Vec<Device>,
    /// `NAME=value`, in the order of the configuration. Values may be secrets.
    pub env: Vec<String>,
    /// The mounts, one for each of the configuration, in its order.
    pub mounts: Vec<Mount>,
}

impl Settings {
    /// The defaults that the configuration gives.
    pub fn initial(config: &PluginConfig) -> Self {
        let with_value = |env: &super::config::Env| Some(format!("{}={}", env.name, env.value.as_ref()?));
        Self {
            args: config.args.value.to_vec(),
            devices: config.linux.devices.to_vec(),
            env: config.env.iter().filter_map(with_value).collect(),
            mounts: config.mounts.to_vec(),
        }
    }
}

/// Tells no value: they may be secrets.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.env.iter().map(|env| env.split('=').next().unwrap_or_default());
        f.debug_struct("Settings").field("env", &names.collect::<Vec<_>>()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_configuration() {
        let config = PluginConfig::decode(
            br#"{"args":{"value":["a","b"]},"env":[{"name":"A","value":"1"},{"name":"B"},{"name":"C","value":""}],
                "mounts":[{"source":"/x","destination":"/y"}],"linux":{"devices":[{"path":"/dev/fuse"}]}}"#,
        )
        .unwrap();
        let settings = Settings::initial(&config);
        assert_eq!(settings.args, ["a", "b"]);
        assert_eq!(settings.env, ["A=1", "C="]);
        assert_eq!(settings.mounts, *config.mounts);
        assert_eq!(settings.devices, *config.linux.devices);
        let json = serde_json::to_string(&settings).unwrap();
        assert_eq!(serde_json::from_str::<Settings>(&json).unwrap(), settings);
        assert_eq!(format!("{settings:?}"), r#"Settings { env: ["A", "C"], .. }"#);
    }

    #[test]
    fn empty_lists_are_written_as_lists() {
        let settings = Settings::initial(&PluginConfig::default());
        let json = serde_json::to_string(&settings).unwrap();
        assert_eq!(json, r#"{"Args":[],"Devices":[],"Env":[],"Mounts":[]}"#);
    }
}
