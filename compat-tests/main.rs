//! The end-to-end tests: what a client sees of a running daemon, over the stock docker CLI and over raw HTTP.
//!
//! Each test starts a daemon of its own. By default that is dockplugd, on the runtime that `COMPAT_RUNTIME` names; with
//! `COMPAT_DAEMON=dockerd` the same tests run against a real dockerd, which keeps them honest (`make oracle`). They need
//! root, runc, rclone, fuse3, docker-registry, skopeo, podman, openssl, ip, docker-compose, user-mode-linux, xfsprogs and a
//! docker CLI: `make test` brings them. What is forwarded goes to podman, with `COMPAT_ENGINE=dockerd` to a dockerd.

#[cfg(test)]
mod support;

#[cfg(test)]
mod confinement;
#[cfg(test)]
mod contexts;
#[cfg(test)]
mod crashes;
#[cfg(test)]
mod differential;
#[cfg(test)]
mod driver_calls;
#[cfg(test)]
mod engine;
#[cfg(test)]
mod engine_auto;
#[cfg(test)]
mod engine_cli;
#[cfg(test)]
mod engine_compose;
#[cfg(test)]
mod engine_copy;
#[cfg(test)]
mod engine_face;
#[cfg(test)]
mod engine_hostile;
#[cfg(test)]
mod engine_images;
#[cfg(test)]
mod engine_kills;
#[cfg(test)]
mod engine_life;
#[cfg(test)]
mod engine_streams;
#[cfg(test)]
mod engine_terminal;
#[cfg(test)]
mod engine_workflow;
#[cfg(test)]
mod events;
#[cfg(test)]
mod filters;
#[cfg(test)]
mod full_disk;
#[cfg(test)]
mod hostile_contexts;
#[cfg(test)]
mod hostile_plugins;
#[cfg(test)]
mod isolation;
#[cfg(test)]
mod legacy;
#[cfg(test)]
mod life;
#[cfg(test)]
mod local_mount_kills;
#[cfg(test)]
mod local_mounts;
#[cfg(test)]
mod local_quota;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod mounts;
#[cfg(test)]
mod offline;
#[cfg(test)]
mod plugin_life;
#[cfg(test)]
mod plugin_logs;
#[cfg(test)]
mod plugin_preflight;
#[cfg(test)]
mod plugin_world;
#[cfg(test)]
mod prune;
#[cfg(test)]
mod published;
#[cfg(test)]
mod random_kills;
#[cfg(test)]
mod rclone;
#[cfg(test)]
mod registry_auth;
#[cfg(test)]
mod registry_crashes;
#[cfg(test)]
mod registry_exchange;
#[cfg(test)]
mod registry_hostile;
#[cfg(test)]
mod registry_install;
#[cfg(test)]
mod registry_round_trip;
#[cfg(test)]
mod registry_skopeo;
#[cfg(test)]
mod registry_upgrade;
#[cfg(test)]
mod rename;
#[cfg(test)]
mod rename_kills;
#[cfg(test)]
mod secrets;
#[cfg(test)]
mod settings;
#[cfg(test)]
mod settings_restart;
#[cfg(test)]
mod sick_plugins;
#[cfg(test)]
mod system;
#[cfg(test)]
mod upgrade_restart;
#[cfg(test)]
mod volumes;
