//! What the end-to-end tests and the benchmark share: daemons, requests, archives, plugins.
//!
//! Everything here works against dockplugd and against a real dockerd alike, cleans up when it is dropped, and
//! ends only the processes that it started.

pub(crate) mod archive;
pub(crate) mod artifact;
pub(crate) mod certificates;
pub(crate) mod cli;
pub(crate) mod daemon;
pub(crate) mod engine_world;
pub(crate) mod http;
pub(crate) mod impostor;
pub(crate) mod install;
pub(crate) mod kernel;
pub(crate) mod legacy;
pub(crate) mod local;
pub(crate) mod network;
pub(crate) mod openmetrics;
pub(crate) mod plugin;
pub(crate) mod podman;
pub(crate) mod process;
pub(crate) mod registry;
pub(crate) mod terminal;
pub(crate) mod tokens;
pub(crate) mod wire;

use std::time::{Duration, Instant};

/// How long anything may take before a test gives up on it. Nobody asserts a time; this only ends a test that hangs.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// Waits for what has no event to wait for: asks `probe` until it has an answer.
///
/// # Panics
/// When there is none within [`PATIENCE`]; `what` is in the message.
pub(crate) fn until<T>(what: &str, probe: impl FnMut() -> Option<T>) -> T {
    patiently(probe).unwrap_or_else(|| panic!("waited {PATIENCE:?} in vain until {what}"))
}

/// The same, where going without an answer is better than a panic.
pub(crate) fn patiently<T>(mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = probe();
        if answer.is_some() || Instant::now() > deadline {
            return answer;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
