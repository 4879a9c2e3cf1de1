//! Waiting until something happens in a directory (inotify).
//!
//! What happened is not told, only that it did: whoever waits looks again. Set the watch before the first look, and
//! nothing happens unseen in between. Facts: inotify(7).

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// How many bytes of events are taken at a time.
const EVENTS_BYTES: usize = 4096;

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A name appears, or the directory itself goes away.
    Name,
    /// That, or a file in it is written to.
    Content,
}

/// A watch on one directory.
#[derive(Debug)]
pub struct Watch(AsyncFd<OwnedFd>);

impl Watch {
    /// Begins to watch. Within a tokio run time.
    ///
    /// # Errors
    /// What the kernel says; it allows a user only so many watches (`fs.inotify.max_user_instances`).
    pub fn new(directory: impl AsFd, change: Change) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let mut flags = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF;
        if change == Change::Content {
            flags |= AddWatchFlags::IN_MODIFY;
        }
        // By its descriptor: a name could mean another directory by now.
        let path = format!("/proc/self/fd/{}", directory.as_fd().as_raw_fd());
        inotify.add_watch(path.as_str(), flags)?;
        #[allow(
            deprecated,
            reason = "unsound only for a type that changes its descriptor; OwnedFd never does"
        )]
        AsyncFd::with_interest(OwnedFd::from(inotify), Interest::READABLE).map(Self)
    }

    /// Waits until something has happened since the last call.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn changed(&self) -> io::Result<()> {
        let read = |inotify: &OwnedFd| {
            nix::unistd::read(inotify, &mut [0_u8; EVENTS_BYTES]).map_err(io::Error::from)
        };
        self.0.async_io(Interest::READABLE, read).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write as _;

    use super::*;

    #[tokio::test]
    async fn what_is_written_is_noticed_by_those_who_asked_for_it() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = File::create(directory.path().join("a")).unwrap();
        let opened = File::open(directory.path()).unwrap();
        let (names, content) =
            (Watch::new(&opened, Change::Name).unwrap(), Watch::new(&opened, Change::Content).unwrap());
        file.write_all(b"x").unwrap();
        content.changed().await.unwrap();
        // Of the file's growth the other one has heard nothing: the next it hears of is this name.
        File::create(directory.path().join("b")).unwrap();
        names.changed().await.unwrap();
        content.changed().await.unwrap();
    }
}
