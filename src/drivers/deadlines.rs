//! How long plugins may take, call by call. Nothing here waits.

use std::time::Duration;

use super::presence::STARTING_WAIT;

/// How long a list, or the search for an unknown name, waits for a plugin.
pub const LIST_DEADLINE: Duration = Duration::from_secs(2);

/// How long a plugin may take to answer. The defaults are dockerd's, but for `list`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// For `Create`: 2 min.
    pub create: Duration,
    /// For `Get`: 1 min.
    pub get: Duration,
    /// For `List`, and for `Get` of a name that any driver may have: [`LIST_DEADLINE`].
    pub list: Duration,
    /// For `Remove`: 1 min.
    pub remove: Duration,
    /// For `Path`: 1 min.
    pub path: Duration,
    /// For `Mount`: 2 min.
    pub mount: Duration,
    /// For `Unmount`: 1 min.
    pub unmount: Duration,
    /// For `Capabilities`, and to greet a legacy plugin: 1 min.
    pub capabilities: Duration,
    /// For a plugin that is being started to listen, before that: [`STARTING_WAIT`].
    pub starting: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        let (long, short) = (Duration::from_mins(2), Duration::from_mins(1));
        Self {
            create: long,
            get: short,
            list: LIST_DEADLINE,
            remove: short,
            path: short,
            mount: long,
            unmount: short,
            capabilities: short,
            starting: STARTING_WAIT,
        }
    }
}
