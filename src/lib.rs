//! Docker's managed plugins and volumes, for any engine, without dockerd.
//!
//! `dockplugd` answers `/plugins/*` and `/volumes/*` of the Docker Engine API on a unix socket. The folders are
//! the data flow; `use crate::x` goes to a lower rank only, which `tidy.rs` proves:
//!
//! ```text
//! 6 main . 5 app, server . 4 api, scrape, publish . 3 containers, plugins, volumes . 2 content, layer, registry, runtime, drivers,
//! engine . 1 oci, confine, state, events, watch, metrics, trust, escape, fields . 0 error, config, paths
//! ```

pub mod api;
pub mod app;
pub mod commands;
pub mod config;
pub mod confine;
pub mod containers;
pub mod content;
pub mod drivers;
pub mod engine;
pub mod error;
pub mod escape;
pub mod events;
pub mod fields;
pub mod finish;
pub mod layer;
pub mod metrics;
pub mod oci;
pub mod paths;
pub mod plugins;
pub mod publish;
pub mod registry;
pub mod runtime;
pub mod scrape;
pub mod server;
pub mod state;
#[cfg(test)]
mod tidy;
pub mod trust;
pub mod volumes;
pub mod watch;
