//! What libcontainer says while it works. Its processes hand each other only the outermost words of an error; what
//! exactly failed goes to `tracing`. This keeps the errors in a file that all its processes share, to be told with the
//! outermost words. It knows nothing of what they mean.

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, Read, Seek, Write};

use nix::sys::memfd::{MFdFlags, memfd_create};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// How much is kept, in bytes.
const KEPT_BYTES: u64 = 4096;

/// The errors, one a line, in the order they were told.
#[derive(Debug)]
pub(super) struct Notes(File);

impl Notes {
    /// Begins to listen, in this process and in those forked from it.
    ///
    /// # Errors
    /// There is no memory, or somebody listens already.
    pub(super) fn begin() -> io::Result<Self> {
        let file = File::from(memfd_create(c"notes", MFdFlags::MFD_CLOEXEC)?);
        let listener = Listener(file.try_clone()?);
        tracing::subscriber::set_global_default(listener).map_err(io::Error::other)?;
        Ok(Self(file))
    }

    /// What was told.
    pub(super) fn read(mut self) -> Vec<String> {
        let mut text = String::new();
        let read = self.0.rewind().and_then(|()| self.0.take(KEPT_BYTES).read_to_string(&mut text));
        if read.is_err() {
            return Vec::new();
        }
        text.lines().map(str::to_owned).collect()
    }
}

struct Listener(File);

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::ERROR
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        // All processes write through one open file, so behind each other. Nobody can be told that it failed.
        let _ = writeln!(&self.0, "{}{}", line.message, line.fields);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// An event as `message, field=value`.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, ", {name}={value:?}"),
        };
    }
}
