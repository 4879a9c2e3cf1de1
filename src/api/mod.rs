//! Docker's words: the Engine API, as far as plugins and volumes go, on top of the rooms that do the work.
//!
//! [`router`] is the table of routes. A request passes `version` (which API it speaks), an extractor (`extract`,
//! `form`, `filters`, `names`: nothing ill-formed gets further), one handler that calls one room, and `reply` or
//! [`error`]. No rule about plugins or volumes is decided here, and no room knows a word of HTTP or of Docker's JSON.
//! Facts: moby `daemon/server` and `api/types`.

mod containers;
mod distribution;
mod elsewhere;
pub mod error;
mod extract;
mod face;
mod filters;
mod form;
mod go_json;
mod logs;
mod moment;
mod names;
mod pieces;
mod plugins;
mod progress;
mod prune;
mod redact;
mod reply;
mod route;
pub mod router;
mod system;
pub mod version;
mod volumes;

use std::sync::Arc;

use axum::extract::FromRef;
use tokio_util::sync::CancellationToken;

pub use self::face::Face;
pub use self::system::{COMMIT, Facts, Listeners, Machine};
use crate::containers::Containers;
use crate::events::Bus;
use crate::plugins::Plugins;
use crate::registry::Hosts;
use crate::volumes::Volumes;

/// The version of dockplug: what `/version`, `/info` and the `Server` header tell.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The rooms that handlers call.
#[derive(Debug, Clone)]
pub struct Rooms {
    /// Managed plugins.
    pub plugins: Plugins,
    /// How registries are reached.
    pub hosts: Arc<Hosts>,
    /// Volumes.
    pub volumes: Volumes,
    /// The containers of the engine that runs them, if there is one.
    pub containers: Option<Containers>,
    /// What that engine says of itself.
    pub face: Face,
    /// What happens.
    pub events: Bus,
    /// What does not change.
    pub facts: Arc<Facts>,
    /// Who listens to `/events`.
    pub listeners: Listeners,
    /// Cancelled when the daemon ends: endless answers end.
    pub closing: CancellationToken,
}

impl Rooms {
    /// Before something is refused because a container uses it: what the engine has done and not yet told is looked up.
    async fn look_at_containers(&self) {
        if let Some(containers) = &self.containers
            && let Err(error) = containers.catch_up().await
        {
            tracing::debug!(
                error = crate::error::chain(&error),
                "the engine does not say which containers it has"
            );
        }
    }
}

impl FromRef<Rooms> for Arc<Facts> {
    fn from_ref(rooms: &Rooms) -> Self {
        rooms.facts.clone()
    }
}

#[cfg(test)]
mod tests;
