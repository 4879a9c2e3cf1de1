//! What is asked of the daemon as a whole: `/_ping`, `/version`, `/info`, `/events`, `/system/df`, `/auth`.

mod auth;
mod events;
mod facts;
mod info;
mod ping;
mod together;
mod usage;
mod version;

pub(super) use self::auth::authenticate;
pub use self::events::Listeners;
pub(super) use self::events::events;
pub use self::facts::{Facts, Machine};
pub(super) use self::info::info;
pub(super) use self::ping::ping;
pub(super) use self::usage::usage;
pub use self::version::COMMIT;
pub(super) use self::version::version;
