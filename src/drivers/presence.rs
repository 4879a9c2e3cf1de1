//! Whether a driver's plugin is there to be asked, as whoever runs it says, and how long a call waits for it.
//!
//! This file does not know how a plugin is started, and nothing here looks at a socket.

use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

/// How long a call waits for a plugin that is being started.
pub const STARTING_WAIT: Duration = Duration::from_secs(10);

/// Whether a plugin is there to be asked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Presence {
    /// Ask it: it listens, or nobody knows better.
    #[default]
    Here,
    /// It is being started: a call waits.
    Starting,
    /// It has died, or did not come up, and is started again later: a call fails.
    BackingOff {
        /// Why it does not run.
        error: String,
        /// When it is started again.
        next_try: Timestamp,
    },
}

/// Waits while a plugin is being started, `patience` at most, and tells how it is then.
pub(super) async fn after_start(presence: &watch::Receiver<Presence>, patience: Duration) -> Presence {
    // Not even a timer for the plugin that is there.
    if *presence.borrow() != Presence::Starting || patience.is_zero() {
        return presence.borrow().clone();
    }
    let mut presence = presence.clone();
    let started = presence.wait_for(|presence| *presence != Presence::Starting);
    match tokio::time::timeout(patience, started).await {
        Ok(Ok(presence)) => presence.clone(),
        // Whoever ran it is gone; the socket will tell.
        Ok(Err(_)) => Presence::Here,
        Err(_) => Presence::Starting,
    }
}
