//! Why something could not be done with a plugin. Where a client can see it, the text is dockerd's.

use super::{go_json, settable, validate};
use crate::error::{Classified, Kind};

/// Why something could not be done with a plugin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No plugin has this name or id.
    #[error("plugin {selector:?} not found")]
    NotFound {
        /// What was asked for.
        selector: String,
    },
    /// The ids of several plugins begin like this.
    #[error("multiple plugins found for {selector:?}")]
    Ambiguous {
        /// What was asked for.
        selector: String,
    },
    /// The operating system gives no random bytes.
    #[error("choosing an id for a plugin")]
    Random(#[source] getrandom::Error),
    /// The `config.json` cannot be read.
    #[error("failed to parse config")]
    Config {
        /// What Go would say.
        #[source]
        source: go_json::Error,
    },
    /// The `config.json` says something that cannot work.
    #[error(transparent)]
    Violation(validate::Violation),
    /// The configuration could not be written as JSON.
    #[error("encoding json config")]
    Encode(#[source] serde_json::Error),
    /// A setting was refused.
    #[error(transparent)]
    Set(#[from] settable::Error),
}

impl Classified for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::NotFound { .. } => Kind::NotFound,
            Self::Ambiguous { .. } | Self::Config { .. } | Self::Violation(_) => Kind::Invalid,
            Self::Set(error) => error.kind(),
            Self::Random(_) | Self::Encode(_) => Kind::Internal,
        }
    }
}
