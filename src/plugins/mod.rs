//! Managed plugins.

mod config;
mod error;
mod go_json;
mod id;
pub mod privilege;
pub mod settable;
mod settings;
pub mod spec;
pub mod validate;

pub use config::PluginConfig;
pub use error::Error;
pub use id::PluginId;
pub use settings::Settings;
