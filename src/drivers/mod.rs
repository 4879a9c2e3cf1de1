//! The live sockets of volume plugins (`docker.volumedriver/1.0`), and who uses them.
//!
//! ```text
//! registry  which drivers are live, under which name, and had before; leases
//! ready     until a socket can be connected to
//! legacy    plugins that are not managed: found by files in directories, greeted, kept while the file is the same
//! driver    one driver's calls, typed -> client (deadlines, limits) -> connection (HTTP) -> way (socket or network)
//!           -> connect (a managed plugin's socket, never followed)
//! presence  whether its plugin runs, as told, and how long a call waits for it
//! scope     a path inside the plugin -> a path of the host             answer what a plugin says, read as Go reads it
//! gate      which calls go to a driver now: bounds                 breaker  when one that does not answer is left alone
//! calls     how often, how long, with what outcome a driver was called
//! ```
//!
//! This room does not know how a plugin is started, nor what a volume is beyond the protocol's words. Everything a
//! plugin answers, and everything in its sockets directory, is hostile. The protocol's facts are from moby 20.10 and
//! later: `volume/drivers/{proxy,adapter,extpoint}.go`, `pkg/plugins`.

mod answer;
mod breaker;
mod calls;
mod client;
mod connect;
mod connection;
mod deadlines;
mod driver;
mod error;
mod gate;
mod legacy;
mod presence;
mod ready;
mod registry;
mod scope;
#[cfg(test)]
pub(crate) mod testing;
mod way;

pub use breaker::{FIRST_PAUSE, LONGEST_PAUSE, TIMEOUTS_TO_OPEN};
pub use calls::{Calls, DURATION_BOUNDS, Outcome, Tally};
pub use client::{ANSWER_MAX_BYTES, LIST_ANSWER_MAX_BYTES};
pub use deadlines::{Deadlines, LIST_DEADLINE};
pub use driver::{Driver, Found, Reach};
pub use error::{Error, LegacyError, SocketError};
pub use gate::{CHANGES_IN_FLIGHT_MAX, LISTS_IN_FLIGHT_MAX, READS_IN_FLIGHT_MAX};
pub use presence::{Presence, STARTING_WAIT};
pub use ready::ready;
pub use registry::{Drivers, Heir, Lease, Moves, Registration};
pub use scope::{Place, Scope, host_place};

/// The result of everything in this room that can fail.
pub type Result<T> = std::result::Result<T, Error>;
