//! What can go wrong with the volumes of containers, in dockerd's words where it has some.

use std::path::PathBuf;

use crate::error::{Classified, Kind};
use crate::{engine, layer, state, volumes};

/// Why something about a container was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The body is no JSON object.
    #[error("the request is not what it must be: expected a JSON object")]
    NoJson(#[source] serde_json::Error),
    /// A field has a value of another kind.
    #[error("{field:?} is not what it must be: expected {expected}")]
    Field {
        /// The field.
        field: &'static str,
        /// Of which kind it must be.
        expected: &'static str,
    },
    /// Two keys mean one field.
    #[error("two keys mean {field:?}: one is enough")]
    Twice {
        /// The field.
        field: &'static str,
    },
    /// A bind is none.
    #[error("invalid volume specification: '{0}'")]
    Bind(String),
    /// Two things want one place in the container.
    #[error("Duplicate mount point: {0}")]
    PlaceTwice(String),
    /// A place in the container is none.
    #[error("invalid mount path: '{0}' must be absolute and not the root")]
    Destination(String),
    /// What is mounted is of no kind that we know, and might be a volume.
    #[error("mount type {0:?} is unknown: expected bind, tmpfs, image or volume")]
    MountType(String),
    /// A part of a volume leads out of it.
    #[error("path concatenation escapes the base directory, base: {}, subpath: {subpath}", base.display())]
    SubpathEscapes {
        /// Where the volume is.
        base: PathBuf,
        /// What was asked for in it.
        subpath: String,
    },
    /// A part of a volume is not there.
    #[error("cannot access path {}: {reason}", path.display())]
    SubpathAbsent {
        /// The part.
        path: PathBuf,
        /// What the kernel says.
        reason: String,
    },
    /// A volume would be mounted where the image has a file.
    #[error("cannot mount volume over existing file, file exists {0}")]
    OverFile(String),
    /// The image is not there.
    #[error("No such image: {0}")]
    NoSuchImage(String),
    /// The engine makes no container of an image, out of which a volume is to be filled.
    #[error("what image {image} has cannot be copied to a volume: the engine says: {said}")]
    NotShown {
        /// The image's id.
        image: String,
        /// What the engine says.
        said: String,
    },
    /// What an image has cannot be copied to a volume.
    #[error("copying what the image has at {place} to a volume")]
    Copy {
        /// Where it is in the image.
        place: String,
        /// Why not.
        #[source]
        source: Box<layer::Error>,
    },
    /// Another container's volumes are asked for by what is no container.
    #[error("invalid volumes-from {0:?}: expected CONTAINER, CONTAINER:ro or CONTAINER:rw")]
    VolumesFrom(String),
    /// The container whose volumes are wanted is not there.
    #[error("No such container: {0}")]
    NoSuchContainer(String),
    /// The engine's answer cannot be understood.
    #[error("the engine's answer to {asked} makes no sense: expected {expected}")]
    Nonsense {
        /// What was asked.
        asked: String,
        /// What is missing from it.
        expected: &'static str,
    },
    /// A task has panicked or was stopped with the daemon.
    #[error("the operation was interrupted: {0}")]
    Interrupted(String),
    /// No random name could be made.
    #[error("cannot get random bytes")]
    Random,
    /// A volume.
    #[error(transparent)]
    Volume(#[from] volumes::Error),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// The records.
    #[error("writing down which volumes a container uses")]
    State(#[from] state::Error),
    /// A mount for a container.
    #[error("{step} {}", path.display())]
    Mount {
        /// What was done.
        step: &'static str,
        /// With what.
        path: PathBuf,
        /// What the kernel says.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    pub(super) fn copying(place: &str, source: layer::Error) -> Self {
        Self::Copy { place: place.to_owned(), source: Box::new(source) }
    }
}

impl Classified for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::NoJson(_)
            | Self::Field { .. }
            | Self::Twice { .. }
            | Self::Bind(_)
            | Self::PlaceTwice(_)
            | Self::Destination(_)
            | Self::MountType(_)
            | Self::SubpathEscapes { .. }
            | Self::VolumesFrom(_) => Kind::Invalid,
            Self::NoSuchContainer(_) | Self::NoSuchImage(_) | Self::SubpathAbsent { .. } => Kind::NotFound,
            Self::Copy { source, .. } => source.kind(),
            Self::Nonsense { .. }
            | Self::Interrupted(_)
            | Self::Random
            | Self::OverFile(_)
            | Self::NotShown { .. }
            | Self::Mount { .. } => Kind::Internal,
            Self::Volume(error) => error.kind(),
            Self::Engine(error) => error.kind(),
            Self::State(error) => error.kind(),
        }
    }
}
