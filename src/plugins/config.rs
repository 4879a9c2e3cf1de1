//! A plugin's own description of itself: `config.json`.
//!
//! Read as Go reads it, never changed after the plugin was created (its bytes are a blob, addressed by digest), and
//! written in exactly the shape dockerd answers with: the order of the fields, `null` for a list that was never
//! given and `[]` for an empty one. What a user may change of it is in `Settings`; what is allowed in it is judged
//! in `validate`.
//!
//! Facts: moby's `api/types/plugin.go`, `plugin_responses.go` (20.10; main has the same fields but
//! `DockerVersion`), <https://docs.docker.com/reference/api/engine/>, and what dockerd 20.10 answers.

use std::fmt;
use std::ops::Deref;

use serde::{Deserialize, Serialize};

use super::Error;
use super::go_json::{self, At, Go, Node, structure};

/// What `config.json` says.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct PluginConfig {
    /// Arguments after the entry point, and whether the user may change them.
    pub args: Args,
    /// For people.
    pub description: String,
    /// The daemon that made the plugin.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub docker_version: String,
    /// Where to read about the plugin.
    pub documentation: String,
    /// The program and its first arguments.
    pub entrypoint: List<String>,
    /// Environment variables.
    pub env: List<Env>,
    /// How the daemon talks to the plugin.
    pub interface: Interface,
    /// Whether the plugin shares the host's IPC namespace.
    pub ipc_host: bool,
    /// Capabilities and devices.
    pub linux: Linux,
    /// Mounts besides the propagated one.
    pub mounts: List<Mount>,
    /// Which network the plugin sees.
    pub network: Network,
    /// Whether the plugin shares the host's process namespace.
    pub pid_host: bool,
    /// The directory in the plugin whose mounts the host shall see; empty for none.
    pub propagated_mount: String,
    /// Declared, and ignored by every daemon so far: plugins run as root.
    pub user: User,
    /// The working directory; empty means `/`.
    pub work_dir: String,
    /// The layers the root file system was made of.
    #[serde(rename = "rootfs", skip_serializing_if = "Option::is_none")]
    pub rootfs: Option<Rootfs>,
}

/// Arguments that can be set as a whole.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Args {
    /// For people.
    pub description: String,
    /// What `set` calls them.
    pub name: String,
    /// `value`, or nothing.
    pub settable: List<String>,
    /// The default.
    pub value: List<String>,
}

/// One environment variable.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Env {
    /// For people.
    pub description: String,
    /// The variable.
    pub name: String,
    /// `value`, or nothing.
    pub settable: List<String>,
    /// The default; without one the variable does not exist until it is set.
    pub value: Option<String>,
}

/// How the daemon talks to the plugin.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Interface {
    /// Empty means `moby.plugins.http/v1`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub protocol_scheme: String,
    /// The name of the socket in `/run/docker/plugins`.
    pub socket: String,
    /// What the plugin can do.
    pub types: List<InterfaceType>,
}

/// Something a plugin can do: `docker.volumedriver/1.0`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct InterfaceType(String);

/// What the plugin needs of Linux.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Linux {
    /// Whether every device of the host may be used.
    pub allow_all_devices: bool,
    /// Capabilities besides the default ones: `CAP_SYS_ADMIN`.
    pub capabilities: List<String>,
    /// Devices of the host.
    pub devices: List<Device>,
}

/// A device of the host, in the plugin under the same path.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Device {
    /// For people.
    pub description: String,
    /// What `set` calls it.
    pub name: String,
    /// Where it is.
    pub path: Option<String>,
    /// `path`, or nothing.
    pub settable: List<String>,
}

/// A mount in the plugin.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Mount {
    /// For people.
    pub description: String,
    /// Where in the plugin.
    pub destination: String,
    /// What `set` calls it.
    pub name: String,
    /// Options of mount(8) that the runtime knows: `rbind`, `ro`, `rshared`.
    pub options: List<String>,
    /// `source`, or nothing.
    pub settable: List<String>,
    /// What is mounted; may be empty until it is set.
    pub source: Option<String>,
    /// `bind`, `none`, or a file system.
    #[serde(rename = "Type")]
    pub kind: String,
}

/// Which network the plugin sees.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Network {
    /// `host`, or anything else for a network of its own without a way out.
    #[serde(rename = "Type")]
    pub kind: String,
}

/// Who the plugin would like to run as.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct User {
    /// The group.
    #[serde(rename = "GID", skip_serializing_if = "is_zero")]
    pub gid: u32,
    /// The user.
    #[serde(rename = "UID", skip_serializing_if = "is_zero")]
    pub uid: u32,
}

/// The layers of the root file system.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Rootfs {
    /// The digests of the uncompressed layers, the lowest first.
    pub diff_ids: List<String>,
    /// `layers`.
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
}

/// A list of Go's: one that was never given (`null`) and an empty one are two things when written, and one when read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct List<T>(Option<Vec<T>>);

impl PluginConfig {
    /// Reads the bytes of a `config.json`. Nothing is judged here but the types; see [`PluginConfig::validate`].
    ///
    /// # Errors
    /// [`Error::Config`] in the words of Go.
    pub fn decode(json: &[u8]) -> Result<Self, Error> {
        go_json::read(json).map_err(|source| Error::Config { source })
    }

    /// The bytes that dockerd would store: Go's compact JSON with a newline, `<`, `>` and `&` escaped.
    ///
    /// # Errors
    /// [`Error::Encode`], which does not happen: everything in it has a JSON.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        let json = serde_json::to_string(self).map_err(Error::Encode)?;
        let mut escaped = String::with_capacity(json.len() + 1);
        for character in json.chars() {
            match character {
                '<' => escaped.push_str("\\u003c"),
                '>' => escaped.push_str("\\u003e"),
                '&' => escaped.push_str("\\u0026"),
                '\u{2028}' => escaped.push_str("\\u2028"),
                '\u{2029}' => escaped.push_str("\\u2029"),
                other => escaped.push(other),
            }
        }
        escaped.push('\n');
        Ok(escaped.into_bytes())
    }

    /// Whether the plugin can do this, as `docker.<capability>` of any version.
    pub fn implements(&self, capability: &str) -> bool {
        self.interface.types.iter().any(|kind| kind.prefix() == "docker" && kind.capability() == capability)
    }
}

impl InterfaceType {
    /// `docker` of `docker.volumedriver/1.0`; empty when there is no dot.
    pub fn prefix(&self) -> &str {
        self.head().rsplit_once('.').map_or("", |(prefix, _)| prefix)
    }

    /// `volumedriver` of `docker.volumedriver/1.0`.
    pub fn capability(&self) -> &str {
        self.head().rsplit_once('.').map_or(self.head(), |(_, capability)| capability)
    }

    /// `1.0` of `docker.volumedriver/1.0`; empty when there is no slash.
    pub fn version(&self) -> &str {
        self.0.split_once('/').map_or("", |(_, version)| version)
    }

    fn head(&self) -> &str {
        self.0.split('/').next().unwrap_or_default()
    }
}

impl fmt::Display for InterfaceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Deref for List<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.0.as_deref().unwrap_or_default()
    }
}

impl<T> From<Vec<T>> for List<T> {
    fn from(elements: Vec<T>) -> Self {
        Self(Some(elements))
    }
}

impl<'a, T> IntoIterator for &'a List<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T: Go> Go for List<T> {
    fn go_type() -> String {
        format!("[]{}", T::go_type())
    }

    fn assign(&mut self, node: Node, at: &At) -> go_json::Result<()> {
        self.0 = match node {
            Node::Null => None,
            Node::Array(nodes) => {
                let read = |node| {
                    let mut element = T::default();
                    element.assign(node, at).map(|()| element)
                };
                Some(nodes.into_iter().map(read).collect::<go_json::Result<_>>()?)
            }
            other => return Err(at.mismatch(other.kind(), Self::go_type())),
        };
        Ok(())
    }
}

impl Go for InterfaceType {
    fn go_type() -> String {
        "types.PluginInterfaceType".to_owned()
    }

    fn assign(&mut self, node: Node, _: &At) -> go_json::Result<()> {
        match node {
            Node::String(text) => self.0 = text,
            other => {
                return Err(go_json::Error::Text {
                    got: other.kind().to_owned(),
                    expected: "plugin interface type",
                });
            }
        }
        Ok(())
    }
}

structure!(
    PluginConfig, "PluginConfig",
    "Args" => args, "Description" => description, "DockerVersion" => docker_version,
    "Documentation" => documentation, "Entrypoint" => entrypoint, "Env" => env, "Interface" => interface,
    "IpcHost" => ipc_host, "Linux" => linux, "Mounts" => mounts, "Network" => network, "PidHost" => pid_host,
    "PropagatedMount" => propagated_mount, "User" => user, "WorkDir" => work_dir, "rootfs" => rootfs,
);
structure!(
    Args, "PluginConfigArgs",
    "Description" => description, "Name" => name, "Settable" => settable, "Value" => value,
);
structure!(
    Env, "PluginEnv",
    "Description" => description, "Name" => name, "Settable" => settable, "Value" => value,
);
structure!(
    Interface, "PluginConfigInterface",
    "ProtocolScheme" => protocol_scheme, "Socket" => socket, "Types" => types,
);
structure!(
    Linux, "PluginConfigLinux",
    "AllowAllDevices" => allow_all_devices, "Capabilities" => capabilities, "Devices" => devices,
);
structure!(
    Device, "PluginDevice",
    "Description" => description, "Name" => name, "Path" => path, "Settable" => settable,
);
structure!(
    Mount, "PluginMount",
    "Description" => description, "Destination" => destination, "Name" => name, "Options" => options,
    "Settable" => settable, "Source" => source, "Type" => kind,
);
structure!(Network, "PluginConfigNetwork", "Type" => kind);
structure!(User, "PluginConfigUser", "GID" => gid, "UID" => uid);
structure!(Rootfs, "PluginConfigRootfs", "diff_ids" => diff_ids, "type" => kind);

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests;
