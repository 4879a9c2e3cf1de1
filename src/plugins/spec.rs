//! What an OCI runtime is told to run, for a plugin with its settings.
//!
//! Pure: what has to be known of the host (device nodes, which paths exist) comes through [`Host`]. The result is what
//! dockerd gives its runtime, so that a plugin finds what it finds there: `InitSpec` in moby's
//! `plugin/v2/plugin_linux.go`, `DefaultLinuxSpec` in `oci/defaults.go`, `DevicesFromPath` in `oci/devices_linux.go`.
//! What differs, and why: the settings are used throughout (dockerd takes mounts from the configuration), the
//! directory of the sockets does not propagate mounts, a mount whose source was never set is left out (dockerd binds
//! a directory of its own), a plugin is held back by a [`Confinement`], and [`check`] tells by name what cannot work
//! before anything starts.

mod confinement;
mod defaults;
mod host;
mod kernel;
mod mounts;
mod program;
mod rootfs;
pub mod seccomp;

use std::io;
use std::path::{Path, PathBuf};

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Capability, LinuxBuilder, LinuxDevice, LinuxDeviceCgroup, LinuxNamespaceType, Process, ProcessBuilder,
    RootBuilder, Spec, SpecBuilder, UserBuilder,
};

use super::config::PluginConfig;
use super::id::PluginId;
use super::settings::Settings;
use crate::confine::Root;
use crate::error::{Classified, Kind, chain};

pub use confinement::Confinement;
pub use host::{DeviceNode, Host, Machine};
pub use kernel::Kernel;
pub use program::Fault;
use program::{Program, Tree};

/// Where in the plugin its socket directory is bound.
pub const SOCKETS_IN_PLUGIN: &str = "/run/docker/plugins";
/// The parent of all our cgroups.
const CGROUPS: &str = "/dockplug";
/// What dockerd gives as the first variable.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The directories of one plugin, as paths of the host.
#[derive(Debug, Clone)]
pub struct Places {
    /// Its root file system.
    pub rootfs: PathBuf,
    /// What is bound at its `propagatedMount`; a shared mount point.
    pub propagated_mount: PathBuf,
    /// What is bound at [`SOCKETS_IN_PLUGIN`].
    pub sockets: PathBuf,
}

/// Why there is nothing to run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A directory or file of the host that is to be bound is not there.
    #[error(
        "mount {name:?}: its source {} does not exist on this host: create it{advice}",
        source_path.display()
    )]
    Source {
        /// The mount's name, or its destination when it has none.
        name: String,
        /// What is missing.
        source_path: PathBuf,
        /// What else can be done, beginning with a comma, or nothing.
        advice: String,
    },
    /// A source that is no absolute path.
    #[error("mount {name:?}: got the source {got:?}, expected an absolute path")]
    Relative {
        /// The mount's name, or its destination when it has none.
        name: String,
        /// Its source.
        got: String,
    },
    /// A device of the host that is not there, or is no device.
    #[error("error gathering device information while adding custom device {path:?}")]
    Device {
        /// Its path.
        path: String,
        /// What the operating system says.
        #[source]
        source: io::Error,
    },
    /// A capability that Linux does not have.
    #[error("got the capability {name:?}, expected the name of a Linux capability, like CAP_SYS_ADMIN")]
    Capability {
        /// What is asked for.
        name: String,
    },
    /// Neither an entrypoint nor an argument.
    #[error("there is nothing to run: \"entrypoint\" in config.json is empty, expected a program")]
    Nothing,
    /// A program that cannot run.
    #[error("{what}: {fault}")]
    Program {
        /// The entrypoint, or an interpreter that it needs.
        what: String,
        /// What is wrong with it.
        fault: Fault,
    },
    /// More than one of these.
    #[error("the plugin cannot run, for {} reasons: {}", .0.len(), list(.0))]
    Several(Vec<Self>),
    /// The specification could not be put together.
    #[error("putting the runtime specification together")]
    Build(#[from] OciSpecError),
}

impl Classified for Error {
    fn kind(&self) -> Kind {
        match self {
            // dockerd answers 500 to all of them.
            Self::Source { .. }
            | Self::Relative { .. }
            | Self::Device { .. }
            | Self::Capability { .. }
            | Self::Nothing
            | Self::Program { .. }
            | Self::Several(_)
            | Self::Build(_) => Kind::Internal,
        }
    }
}

/// Errors as one text.
fn list(errors: &[Error]) -> String {
    errors.iter().map(|error| chain(error)).collect::<Vec<_>>().join("; ")
}

/// Whether a plugin can be started: what is bound and given to it exists on the host, and its program can run here.
/// To be asked before anything is changed or started; blocking.
///
/// # Errors
/// What is wrong; [`Error::Several`] tells all of it at once.
pub fn check(
    config: &PluginConfig,
    settings: &Settings,
    rootfs: &Root,
    host: &impl Host,
) -> Result<(), Error> {
    let mut faults = faults(config, settings, rootfs, host);
    match faults.len() {
        0 | 1 => faults.pop().map_or(Ok(()), Err),
        _ => Err(Error::Several(faults)),
    }
}

fn faults(config: &PluginConfig, settings: &Settings, rootfs: &impl Tree, host: &impl Host) -> Vec<Error> {
    let mounts = settings.mounts.iter().filter_map(|mount| mounts::check(mount, host).err());
    let devices = settings.devices.iter().filter_map(|device| nodes(device.path.as_deref()?, host).err());
    let unknown =
        |name: &&String| name.strip_prefix("CAP_").is_none_or(|name| name.parse::<Capability>().is_err());
    let capabilities = config.linux.capabilities.iter().filter(unknown);
    let capabilities = capabilities.map(|name| Error::Capability { name: name.clone() });
    let mut faults: Vec<Error> = mounts.chain(devices).chain(capabilities).collect();
    let env = environment(settings);
    let program = match config.entrypoint.iter().chain(&settings.args).next() {
        None => Err(Error::Nothing),
        Some(name) => {
            let mounts = mounts::destinations(config, settings);
            let program = Program { name, cwd: &config.work_dir, env: &env, mounts: &mounts };
            program::check(&program, host, rootfs)
        }
    };
    faults.extend(program.err());
    faults
}

/// What to run.
///
/// # Errors
/// [`Error::Source`], [`Error::Relative`] and [`Error::Device`] say what of the host is missing.
pub fn build(
    id: &PluginId,
    config: &PluginConfig,
    settings: &Settings,
    confinement: &Confinement,
    places: &Places,
    host: &impl Host,
) -> Result<Spec, Error> {
    let mut namespaces = vec![LinuxNamespaceType::Mount, LinuxNamespaceType::Uts];
    let own = [
        (config.network.kind != "host", LinuxNamespaceType::Network),
        (!config.pid_host, LinuxNamespaceType::Pid),
        (!config.ipc_host, LinuxNamespaceType::Ipc),
    ];
    namespaces.extend(own.into_iter().filter_map(|(own, kind)| own.then_some(kind)));
    let (devices, rules) = devices(config, settings, host)?;
    let mut linux = LinuxBuilder::default()
        .namespaces(defaults::namespaces(&namespaces)?)
        .masked_paths(defaults::masked_paths())
        .readonly_paths(defaults::readonly_paths())
        .cgroups_path(Path::new(CGROUPS).join(id.as_str()))
        .devices(devices)
        .resources(confinement.linux_resources(rules)?)
        .build()?;
    linux.set_seccomp(confinement.linux_seccomp(host.architecture())?);
    if !config.propagated_mount.is_empty() {
        linux.set_rootfs_propagation(Some("rshared".to_owned()));
    }
    Ok(SpecBuilder::default()
        .version("1.0.2")
        .root(RootBuilder::default().path(&places.rootfs).readonly(false).build()?)
        .mounts(mounts::mounts(config, settings, places, host)?)
        .process(process(config, settings, confinement)?)
        .linux(linux)
        .build()?)
}

fn process(config: &PluginConfig, settings: &Settings, confinement: &Confinement) -> Result<Process, Error> {
    let args = config.entrypoint.iter().chain(&settings.args).cloned();
    let cwd = if config.work_dir.is_empty() { "/" } else { config.work_dir.as_str() };
    let mut process = ProcessBuilder::default()
        .terminal(false)
        .user(UserBuilder::default().uid(0_u32).gid(0_u32).build()?)
        .args(args.collect::<Vec<_>>())
        .env(environment(settings))
        .cwd(cwd)
        .capabilities(confinement.linux_capabilities()?)
        .no_new_privileges(confinement.no_new_privileges)
        .build()?;
    process.set_oom_score_adj(confinement.oom_score_adj);
    Ok(process)
}

fn environment(settings: &Settings) -> Vec<String> {
    std::iter::once(PATH.to_owned()).chain(settings.env.iter().cloned()).collect()
}

fn nodes(path: &str, host: &impl Host) -> Result<Vec<DeviceNode>, Error> {
    host.devices(Path::new(path)).map_err(|source| Error::Device { path: path.to_owned(), source })
}

fn devices(
    config: &PluginConfig,
    settings: &Settings,
    host: &impl Host,
) -> Result<(Vec<LinuxDevice>, Vec<LinuxDeviceCgroup>), Error> {
    let mut rules =
        if config.linux.allow_all_devices { vec![defaults::any_device(true)?] } else { defaults::devices()? };
    let mut devices = Vec::new();
    for path in settings.devices.iter().filter_map(|device| device.path.as_deref()) {
        for node in nodes(path, host)? {
            devices.push(node.device()?);
            rules.push(node.rule()?);
        }
    }
    Ok((devices, rules))
}

#[cfg(test)]
mod tests;
