//! The mounts of a plugin, in the order they are made: dockerd's default ones, the propagated one, those of the
//! settings, the directory of the sockets, the host's names and name servers.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Mount, MountBuilder};

use super::{Error, Host, Places, SOCKETS_IN_PLUGIN, defaults};
use crate::plugins::config::{self, PluginConfig};
use crate::plugins::settings::Settings;

/// What a plugin with a network is given of the host, when the host has it.
const NAMES: [&str; 2] = ["/etc/hosts", "/etc/resolv.conf"];

/// All mounts.
///
/// # Errors
/// [`Error::Source`], [`Error::Relative`].
pub(super) fn mounts(
    config: &PluginConfig,
    settings: &Settings,
    places: &Places,
    host: &impl Host,
) -> Result<Vec<Mount>, Error> {
    // A plugin's own mount replaces a default one in /dev; elsewhere it is made over it.
    let replaced = |mount: &Mount| {
        let destination = mount.destination();
        destination.starts_with("/dev")
            && destination != Path::new("/dev")
            && settings.mounts.iter().any(|own| Path::new(&own.destination) == destination && !is_unset(own))
    };
    let mut mounts = defaults::mounts()?;
    mounts.retain(|mount| !replaced(mount));
    if !config.propagated_mount.is_empty() {
        mounts.push(bind(&places.propagated_mount, &config.propagated_mount, &["rbind", "rw", "rshared"])?);
    }
    for own in settings.mounts.iter().filter(|own| !is_unset(own)) {
        mounts.push(of_settings(own, host)?);
    }
    mounts.push(bind(&places.sockets, SOCKETS_IN_PLUGIN, &["rbind", "rw", "rprivate"])?);
    if !config.network.kind.is_empty() {
        for name in NAMES.into_iter().filter(|name| host.exists(Path::new(name))) {
            mounts.push(bind(Path::new(name), name, &["rbind", "ro"])?);
        }
    }
    Ok(mounts)
}

/// Whether a bind mount waits for the user to say what is bound.
fn is_unset(mount: &config::Mount) -> bool {
    mount.is_bind() && mount.source.as_deref().is_none_or(str::is_empty)
}

/// Whether what is to be bound is there.
///
/// # Errors
/// [`Error::Source`], [`Error::Relative`].
pub(super) fn check(mount: &config::Mount, host: &impl Host) -> Result<(), Error> {
    if !mount.is_bind() || is_unset(mount) {
        return Ok(());
    }
    let name = || if mount.name.is_empty() { mount.destination.clone() } else { mount.name.clone() };
    let source = mount.source.as_deref().unwrap_or_default();
    if !source.starts_with('/') {
        return Err(Error::Relative { name: name(), got: source.to_owned() });
    }
    if !host.exists(Path::new(source)) {
        let settable = mount.settable.iter().any(|field| field == "source") && !mount.name.is_empty();
        let advice = if settable {
            format!(", or set another with {}.source=PATH while the plugin is disabled", mount.name)
        } else {
            String::new()
        };
        return Err(Error::Source { name: name(), source_path: source.into(), advice });
    }
    Ok(())
}

/// Where something will be mounted over what the root file system holds.
pub(super) fn destinations(config: &PluginConfig, settings: &Settings) -> Vec<PathBuf> {
    let own = settings.mounts.iter().filter(|own| !is_unset(own)).map(|own| own.destination.as_str());
    let propagated = Some(config.propagated_mount.as_str()).filter(|path| !path.is_empty());
    let ours = [SOCKETS_IN_PLUGIN].into_iter().chain(defaults::DESTINATIONS);
    let all = own.chain(propagated).chain(ours);
    all.map(|path| Path::new("/").join(path)).collect()
}

fn of_settings(mount: &config::Mount, host: &impl Host) -> Result<Mount, Error> {
    let mut options = mount.options.to_vec();
    let source = mount.source.as_deref().filter(|source| !source.is_empty());
    if !mount.is_bind() {
        let built = MountBuilder::default()
            .destination(&mount.destination)
            .typ(&mount.kind)
            .source(source.unwrap_or(&mount.kind))
            .options(options)
            .build()?;
        return Ok(built);
    }
    check(mount, host)?;
    let source = source.unwrap_or_default();
    // runc looks at the options, not at the type.
    if !options.iter().any(|option| option == "bind" || option == "rbind") {
        options.insert(0, "rbind".to_owned());
    }
    Ok(MountBuilder::default()
        .destination(&mount.destination)
        .typ("bind")
        .source(source)
        .options(options)
        .build()?)
}

fn bind(source: &Path, destination: &str, options: &[&str]) -> Result<Mount, Error> {
    Ok(MountBuilder::default()
        .destination(destination)
        .typ("bind")
        .source(source)
        .options(options.iter().map(|&option| option.to_owned()).collect::<Vec<_>>())
        .build()?)
}
