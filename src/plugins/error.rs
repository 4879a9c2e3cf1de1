//! Why something could not be done with a plugin. Where a client can see it, the text is dockerd's.
//!
//! The kinds are too, but for one rule: what the client has sent and cannot work is the client's mistake here
//! ([`Kind::Invalid`]), where dockerd answers 500 to most of it. What a plugin does wrong is 500, as in dockerd.

use std::io;
use std::path::PathBuf;

use super::upgrade::Instead;
use super::{go_json, privilege, resources, secret, settable, spec, validate};
use crate::error::{Classified, Kind};
use crate::oci::Digest;
use crate::{confine, content, drivers, layer, oci, registry, runtime, state};

/// Why something could not be done with a plugin.
#[derive(Debug, thiserror::Error)]
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
    /// The name is taken.
    #[error("plugin {name} already exists")]
    AlreadyExists {
        /// The name.
        name: String,
    },
    /// The same for what is pulled, where dockerd calls it the client's mistake.
    #[error("plugin {name} already exists")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// The name was another plugin's until just now.
    #[error(
        "the name {name} is not free yet: volumes have still to follow the plugin that had it, which is {now} now; try \
         again when they are no longer in the midst of a call"
    )]
    NotYetFree {
        /// The name.
        name: String,
        /// The name that its plugin has now.
        now: String,
    },
    /// A plugin cannot be named by a digest.
    #[error("canonical references are not permitted")]
    Canonical,
    /// `enable` of an enabled plugin.
    #[error("plugin already enabled: plugin {name} is enabled")]
    AlreadyEnabled {
        /// The plugin.
        name: String,
    },
    /// `disable` of a disabled plugin.
    #[error("plugin is already disabled: plugin {name} found but disabled")]
    AlreadyDisabled {
        /// The plugin.
        name: String,
    },
    /// `remove` of an enabled plugin.
    #[error("plugin {name} is enabled")]
    Enabled {
        /// The plugin.
        name: String,
    },
    /// Volumes lean on it.
    #[error("plugin {name} is in use")]
    InUse {
        /// The plugin.
        name: String,
    },
    /// `set` of an enabled plugin.
    #[error("cannot set on an active plugin, disable plugin before setting")]
    SetWhileEnabled,
    /// `set` with a restart, after which the plugin did not listen.
    #[error(
        "plugin {name} does not start with these settings and has those from before again{}",
        if *runs { ", with which it runs" } else { "; with them it does not start either now, and is tried again" }
    )]
    NotWithThese {
        /// Its name.
        name: String,
        /// Whether it runs again.
        runs: bool,
        /// Why it did not start.
        #[source]
        source: Box<Error>,
    },
    /// A setting was refused.
    #[error(transparent)]
    Set(#[from] settable::Error),
    /// A setting of ours was refused.
    #[error(transparent)]
    Resources(#[from] resources::Error),
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
    /// The context of a new plugin could not be unpacked.
    #[error(transparent)]
    Layer(layer::Error),
    /// The plugin's process ended before it listened.
    #[error("plugin {name} {how} before it listened on its socket {socket:?}{last_words}")]
    Died {
        /// The plugin.
        name: String,
        /// How it ended: `exited with code 3`.
        how: String,
        /// The socket's name.
        socket: String,
        /// What it wrote, with words before it, or nothing.
        last_words: String,
    },
    /// The plugin runs and does not listen. It was stopped.
    #[error("plugin {name} did not listen on its socket {socket:?} within {deadline_s} s{last_words}")]
    Late {
        /// The plugin.
        name: String,
        /// The socket's name.
        socket: String,
        /// How long was waited, in seconds.
        deadline_s: u64,
        /// What it wrote, with words before it, or nothing.
        last_words: String,
    },
    /// It was removed, or the daemon stopped it, while it was being started.
    #[error("plugin {name} was stopped before it listened")]
    Interrupted {
        /// The plugin.
        name: String,
    },
    /// The daemon ends.
    #[error("dockplugd is shutting down and starts no plugin")]
    Closing,
    /// There is nothing that could be run.
    #[error(transparent)]
    Spec(spec::Error),
    /// The runtime, or our monitor, failed.
    #[error(transparent)]
    Runtime(runtime::Error),
    /// The plugin's socket will never answer.
    #[error(transparent)]
    Driver(drivers::Error),
    /// Something below one of the plugin's directories.
    #[error("in {}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What `confine` says.
        #[source]
        source: confine::Error,
    },
    /// A setting that is a reference to a file.
    #[error(transparent)]
    Secret(secret::Error),
    /// The log of a plugin.
    #[error("cannot read the log of plugin {name}")]
    Log {
        /// Its name.
        name: String,
        /// What the operating system says.
        #[source]
        source: io::Error,
    },
    /// A directory of ours.
    #[error("{doing} {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// With which directory.
        path: PathBuf,
        /// What the operating system says.
        #[source]
        source: io::Error,
    },
    /// What is mounted cannot be found out.
    #[error("looking for mounts below {}", path.display())]
    Mounts {
        /// The directory.
        path: PathBuf,
        /// What the operating system says.
        #[source]
        source: io::Error,
    },
    /// The state file.
    #[error(transparent)]
    State(state::Error),
    /// The content store.
    #[error(transparent)]
    Content(content::Error),
    /// The manifest of a new plugin.
    #[error(transparent)]
    Oci(oci::Error),
    /// The operating system gives no random bytes.
    #[error("choosing an id for a plugin")]
    Random(#[source] getrandom::Error),
    /// The configuration could not be written as JSON.
    #[error("encoding json config")]
    Encode(#[source] serde_json::Error),
    /// What names a plugin at a registry, or what it is to be called, is no reference.
    #[error(transparent)]
    Reference(oci::Error),
    /// What a plugin is to be called has a digest.
    #[error("cannot use digest in plugin tag")]
    NameWithDigest,
    /// The registry, or the way to it.
    #[error(transparent)]
    Registry(Box<registry::Error>),
    /// What the registry has is no manifest.
    #[error("{reference}")]
    RemoteManifest {
        /// What was asked for.
        reference: String,
        /// What is wrong.
        #[source]
        source: oci::Error,
    },
    /// What the registry has is something else.
    #[error(
        "did not find plugin config for specified reference {reference}: this is {what}, not a plugin (its config is \
         {got})"
    )]
    NotAPlugin {
        /// What was asked for.
        reference: String,
        /// What it is: `an image`.
        what: &'static str,
        /// The media type of its configuration.
        got: String,
    },
    /// A layer that is not unpacked here, or lies elsewhere.
    #[error(
        "layer {digest}: the media type {media_type} is not supported, expected a tar, plain, gzip or zstd"
    )]
    ForeignLayer {
        /// Its blob.
        digest: Digest,
        /// What it is said to be.
        media_type: String,
    },
    /// A layer that is not here, and nowhere to be had.
    #[error("layer {digest} is missing")]
    MissingLayer {
        /// Its blob.
        digest: Digest,
    },
    /// A layer that cannot be unpacked.
    #[error("layer {digest}")]
    Unpack {
        /// Its blob.
        digest: Digest,
        /// Why.
        #[source]
        source: layer::Error,
    },
    /// A layer that is not the one that the configuration lists.
    #[error("layer {digest}: unpacked it has the digest {got}, the configuration expects {expected}")]
    DiffId {
        /// Its blob.
        digest: Digest,
        /// What was unpacked.
        got: Digest,
        /// What is listed.
        expected: String,
    },
    /// A configuration that lists other layers than the manifest.
    #[error("the manifest has {layers} layers, the configuration lists {diff_ids} diff_ids")]
    Layers {
        /// How many the manifest has.
        layers: usize,
        /// How many are listed.
        diff_ids: usize,
    },
    /// What is loaded is no saved plugin.
    #[error("the archive is no OCI image layout of a plugin: {problem}")]
    Archive {
        /// What is wrong with it.
        problem: String,
    },
    /// What has arrived could not be written.
    #[error("storing what arrives")]
    Store {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The user has consented to something else.
    #[error(transparent)]
    Privileges(privilege::Error),
    /// `upgrade` of an enabled plugin.
    #[error("plugin must be disabled before upgrading: plugin {name} is enabled")]
    UpgradeWhileEnabled {
        /// The plugin.
        name: String,
    },
    /// `upgrade` of a plugin that runs, with a version that does not.
    #[error("plugin {name} was not upgraded; its version from before {instead}")]
    NotUpgraded {
        /// The plugin.
        name: String,
        /// What became of the old version.
        instead: Instead,
        /// What is wrong with the new one.
        #[source]
        source: Box<Error>,
    },
    /// The client has gone.
    #[error("the client has gone")]
    Abandoned,
    /// A task of ours has failed, which happens only after it has panicked.
    #[error("a task of the plugins has failed")]
    Task(#[source] tokio::task::JoinError),
}

impl Classified for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::NotFound { .. } => Kind::NotFound,
            Self::Ambiguous { .. }
            | Self::Canonical
            | Self::Config { .. }
            | Self::Violation(_)
            | Self::Reference(_)
            | Self::NameWithDigest
            | Self::NameTaken { .. }
            | Self::RemoteManifest { .. }
            | Self::NotAPlugin { .. }
            | Self::ForeignLayer { .. }
            | Self::MissingLayer { .. }
            | Self::Archive { .. }
            | Self::Layers { .. }
            | Self::DiffId { .. }
            // The source is the client's request.
            | Self::Layer(layer::Error::Source(_)) => Kind::Invalid,
            Self::AlreadyExists { .. }
            | Self::NotYetFree { .. }
            | Self::AlreadyEnabled { .. }
            | Self::AlreadyDisabled { .. }
            | Self::Enabled { .. }
            | Self::InUse { .. }
            | Self::SetWhileEnabled
            | Self::UpgradeWhileEnabled { .. }
            | Self::Interrupted { .. } => Kind::Conflict,
            Self::Closing | Self::Abandoned => Kind::Unavailable,
            Self::Set(error) => error.kind(),
            Self::NotWithThese { source, .. } | Self::NotUpgraded { source, .. } => source.kind(),
            Self::Resources(error) => error.kind(),
            Self::Layer(error) => error.kind(),
            Self::Unpack { source, .. } => source.kind(),
            Self::Registry(error) => error.kind(),
            Self::Privileges(error) => error.kind(),
            Self::Spec(error) => error.kind(),
            Self::State(error) => error.kind(),
            Self::Io { source, .. }
            | Self::Store { source }
            | Self::Content(content::Error::Io { source, .. }) => Kind::of_io(source),
            Self::Died { .. }
            | Self::Late { .. }
            | Self::Runtime(_)
            | Self::Driver(_)
            | Self::Directory { .. }
            | Self::Log { .. }
            | Self::Secret(_)
            | Self::Mounts { .. }
            | Self::Content(_)
            | Self::Oci(_)
            | Self::Random(_)
            | Self::Encode(_)
            | Self::Task(_) => Kind::Internal,
        }
    }
}
