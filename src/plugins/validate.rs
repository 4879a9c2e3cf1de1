//! What may stand in a plugin's configuration.
//!
//! Pure. dockerd checks nothing when a plugin is created, and fails when it is enabled, or never; here the one who
//! makes the plugin is told which field is wrong, what was got and what was expected. What real configurations
//! contain is allowed: an empty mount source (set later), the mount type `none`, versions other than 1.0, no network.
//!
//! Facts: <https://docs.docker.com/engine/extend/config/>; `capability.h` of Linux for the names.

use std::path::{Component, Path};

use super::Error;
use super::config::{InterfaceType, Mount, PluginConfig};

/// The longest socket name: with `/run/docker/plugins/` before it, and a NUL after it, it fills `sun_path`.
pub const SOCKET_MAX_BYTES: usize = 107 - "/run/docker/plugins/".len();
/// The longest path (Linux's `PATH_MAX`, with its NUL).
pub const PATH_MAX_BYTES: usize = 4095;
/// The longest string of any other kind: what Linux passes to a program.
pub const STRING_MAX_BYTES: usize = 128 * 1024 - 1;
/// How many elements a list may have.
pub const LIST_MAX: usize = 1024;
/// No more of a wrong value is repeated in an error, in characters.
const SHOWN_MAX: usize = 128;

/// All capabilities of Linux, without `CAP_`, in the order of their numbers.
const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("config.json: {field}: got {got}, expected {expected}")]
pub struct Violation {
    /// Which field, as it is written in the file: `mounts[2].destination`.
    pub field: String,
    /// What is there.
    pub got: String,
    /// What should be there.
    pub expected: String,
}

type Check = Result<(), Violation>;

impl PluginConfig {
    /// Whether everything in it can work.
    ///
    /// # Errors
    /// [`Error::Violation`] with the first field that cannot.
    pub fn validate(&self) -> Result<(), Error> {
        self.process()
            .and_then(|()| self.interface())
            .and_then(|()| self.linux())
            .and_then(|()| self.file_systems())
            .map_err(Error::Violation)
    }

    fn process(&self) -> Check {
        list("entrypoint", self.entrypoint.len())?;
        if self.entrypoint.first().is_none_or(String::is_empty) {
            let got = if self.entrypoint.is_empty() { "nothing" } else { "an empty string" };
            return violation("entrypoint", got, "the program and its arguments");
        }
        each("entrypoint", &self.entrypoint, |field, text| string(field, text))?;
        list("args.value", self.args.value.len())?;
        each("args.value", &self.args.value, |field, text| string(field, text))?;
        settable("args", &self.args.settable, "value")?;
        list("env", self.env.len())?;
        each("env", &self.env, |field, env| {
            let name = format!("{field}.name");
            string(&name, &env.name)?;
            if env.name.is_empty() || env.name.contains('=') {
                return violation(name, quoted(&env.name), "the name of a variable, without an equals sign");
            }
            string(&format!("{field}.value"), env.value.as_deref().unwrap_or_default())?;
            settable(field, &env.settable, "value")
        })?;
        if !self.work_dir.is_empty() {
            absolute("workdir", &self.work_dir)?;
        }
        Ok(())
    }

    fn interface(&self) -> Check {
        let socket = &self.interface.socket;
        if !is_socket_name(socket) {
            let expected = format!(
                "the name of a socket in /run/docker/plugins: one path component of at most {SOCKET_MAX_BYTES} bytes"
            );
            return violation("interface.socket", quoted(socket), expected);
        }
        string("interface.protocolScheme", &self.interface.protocol_scheme)?;
        list("interface.types", self.interface.types.len())?;
        each("interface.types", &self.interface.types, |field, kind| {
            if is_interface_type(kind) {
                return Ok(());
            }
            violation(
                field,
                quoted(&kind.to_string()),
                "prefix.capability/version, like docker.volumedriver/1.0",
            )
        })
    }

    fn linux(&self) -> Check {
        list("linux.capabilities", self.linux.capabilities.len())?;
        each("linux.capabilities", &self.linux.capabilities, |field, name| {
            if name.strip_prefix("CAP_").is_some_and(|short| CAPABILITIES.contains(&short)) {
                return Ok(());
            }
            violation(field, quoted(name), "the name of a Linux capability, like CAP_SYS_ADMIN")
        })?;
        list("linux.devices", self.linux.devices.len())?;
        each("linux.devices", &self.linux.devices, |field, device| {
            settable(field, &device.settable, "path")?;
            match device.path.as_deref() {
                Some("") if device.settable.iter().any(|field| field == "path") => Ok(()),
                Some(path) => absolute(&format!("{field}.path"), path),
                None => violation(format!("{field}.path"), "nothing", "an absolute path"),
            }
        })?;
        string("network.type", &self.network.kind)
    }

    fn file_systems(&self) -> Check {
        list("mounts", self.mounts.len())?;
        each("mounts", &self.mounts, mount)?;
        if !self.propagated_mount.is_empty() {
            inside("propagatedMount", &self.propagated_mount)?;
        }
        Ok(())
    }
}

impl Mount {
    /// Whether a directory or file of the host is bound, and no file system mounted.
    pub fn is_bind(&self) -> bool {
        self.kind == "bind" || self.options.iter().any(|option| option == "bind" || option == "rbind")
    }
}

fn mount(field: &str, mount: &Mount) -> Check {
    settable(field, &mount.settable, "source")?;
    inside(&format!("{field}.destination"), &mount.destination)?;
    let source = mount.source.as_deref().unwrap_or_default();
    match source {
        "" => {}
        source if mount.is_bind() => absolute(&format!("{field}.source"), source)?,
        source => string(&format!("{field}.source"), source)?,
    }
    string(&format!("{field}.type"), &mount.kind)?;
    list(&format!("{field}.options"), mount.options.len())?;
    each(&format!("{field}.options"), &mount.options, |field, option| string(field, option))
}

/// A single path component that fits behind `/run/docker/plugins/`.
fn is_socket_name(name: &str) -> bool {
    let named = !["", ".", ".."].contains(&name);
    named && name.len() <= SOCKET_MAX_BYTES && !name.contains(['/', '\0'])
}

fn is_interface_type(kind: &InterfaceType) -> bool {
    let word = |text: &str| {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b".-_".contains(&b);
        !text.is_empty() && text.len() <= SHOWN_MAX && text.bytes().all(allowed)
    };
    word(kind.prefix()) && word(kind.capability()) && word(kind.version())
}

/// A path in the plugin: absolute, not its root, and not leading up again.
fn inside(field: &str, text: &str) -> Check {
    absolute(field, text)?;
    let mut components = Path::new(text).components();
    if components.clone().any(|component| component == Component::ParentDir) {
        return violation(field, quoted(text), "a path without ..");
    }
    if components.all(|component| component == Component::RootDir) {
        return violation(field, quoted(text), "a directory below /");
    }
    Ok(())
}

fn absolute(field: &str, text: &str) -> Check {
    if !text.starts_with('/') || text.contains('\0') || text.len() > PATH_MAX_BYTES {
        let expected = format!("an absolute path of at most {PATH_MAX_BYTES} bytes");
        return violation(field, quoted(text), expected);
    }
    Ok(())
}

fn string(field: &str, text: &str) -> Check {
    if text.contains('\0') {
        return violation(field, quoted(text), "no NUL in it");
    }
    if text.len() > STRING_MAX_BYTES {
        return violation(field, format!("{} bytes", text.len()), format!("at most {STRING_MAX_BYTES}"));
    }
    Ok(())
}

fn list(field: &str, length: usize) -> Check {
    if length > LIST_MAX {
        return violation(field, format!("{length} elements"), format!("at most {LIST_MAX}"));
    }
    Ok(())
}

fn settable(field: &str, settable: &[String], known: &str) -> Check {
    match settable.iter().find(|given| *given != known) {
        Some(unknown) => violation(format!("{field}.settable"), quoted(unknown), quoted(known)),
        None => list(&format!("{field}.settable"), settable.len()),
    }
}

fn each<T>(field: &str, elements: &[T], check: impl Fn(&str, &T) -> Check) -> Check {
    elements.iter().enumerate().try_for_each(|(at, element)| check(&format!("{field}[{at}]"), element))
}

fn quoted(text: &str) -> String {
    if text.chars().nth(SHOWN_MAX).is_none() {
        return format!("{text:?}");
    }
    let start: String = text.chars().take(SHOWN_MAX).collect();
    format!("{start:?}… ({} bytes)", text.len())
}

fn violation(field: impl Into<String>, got: impl Into<String>, expected: impl Into<String>) -> Check {
    Err(Violation { field: field.into(), got: got.into(), expected: expected.into() })
}

#[cfg(test)]
mod tests;
