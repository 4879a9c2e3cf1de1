//! The two pipes that a container writes to, and the log they are read into.
//!
//! Reading goes on whatever happens to the log, so that a container never blocks on its own output.

use crate::runtime::log::{LINE_BYTES, Lines, Log, Stream};
use jiff::Timestamp;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{pipe2, read};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// What is read after the container's end at most: what a pipe can hold. More comes only from a stranger who was
/// handed the pipe and lives on.
const DRAIN_BYTES: usize = 1 << 20;

/// The reading ends and the log.
#[derive(Debug)]
pub(super) struct Output {
    pipes: [Option<Pipe>; 2],
    log: Log,
    buffer: Box<[u8]>,
}

#[derive(Debug)]
struct Pipe {
    fd: OwnedFd,
    stream: Stream,
    lines: Lines,
}

impl Output {
    /// Makes the pipes; the writing ends, of standard output and standard error, are for the container.
    pub(super) fn new(log: PathBuf) -> io::Result<(Self, [OwnedFd; 2])> {
        let (stdout, for_stdout) = make(Stream::Stdout)?;
        let (stderr, for_stderr) = make(Stream::Stderr)?;
        let buffer = vec![0; LINE_BYTES].into_boxed_slice();
        let output = Self { pipes: [Some(stdout), Some(stderr)], log: Log::new(log), buffer };
        Ok((output, [for_stdout, for_stderr]))
    }

    /// The open reading ends, to poll.
    pub(super) fn open(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.pipes.iter().flatten().map(|pipe| pipe.fd.as_fd())
    }

    /// Reads once from each pipe what is there, and logs it. How many bytes that was.
    pub(super) fn read(&mut self) -> usize {
        let mut total = 0;
        for place in &mut self.pipes {
            let Some(Pipe { fd, stream, lines }) = place else { continue };
            match read(fd.as_fd(), &mut self.buffer) {
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Ok(length @ 1..) => {
                    total += length;
                    // All lines of one read came in the same instant, as far as anybody can tell.
                    let time = Timestamp::now();
                    let bytes = self.buffer.get(..length).unwrap_or_default();
                    lines.take(bytes, |line| self.log.add(*stream, time, line));
                }
                Ok(0) | Err(_) => {
                    let (stream, time) = (*stream, Timestamp::now());
                    lines.finish(|line| self.log.add(stream, time, line));
                    *place = None;
                }
            }
        }
        self.log.flush();
        total
    }

    /// Reads what is left when nobody of the container lives any more.
    pub(super) fn drain(&mut self) {
        let mut left = DRAIN_BYTES;
        loop {
            match self.read() {
                0 => break,
                length if length >= left => break,
                length => left -= length,
            }
        }
        for mut pipe in self.pipes.iter_mut().filter_map(Option::take) {
            pipe.lines.finish(|line| self.log.add(pipe.stream, Timestamp::now(), line));
        }
        self.log.flush();
    }
}

/// A pipe whose reading end does not block; the container's end does, as programs expect.
fn make(stream: Stream) -> io::Result<(Pipe, OwnedFd)> {
    let (fd, writer) = pipe2(OFlag::O_CLOEXEC)?;
    fcntl(&fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((Pipe { fd, stream, lines: Lines::default() }, writer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::tail;
    use nix::unistd::write;

    #[test]
    fn both_streams_are_read_to_their_ends_and_a_lasting_writer_does_not_hold_us() {
        let dir = tempfile::tempdir().unwrap();
        let (mut output, [stdout, stderr]) = Output::new(dir.path().to_owned()).unwrap();
        write(&stdout, b"one\ntw").unwrap();
        assert_eq!(output.read(), 6);
        write(&stdout, b"o").unwrap();
        write(&stderr, b"bad\n").unwrap();
        drop(stdout);
        output.drain();
        assert_eq!(output.open().count(), 0);
        let lines = tail(dir.path(), 9);
        let found: Vec<_> = lines.iter().map(|line| (line.stream, line.log.as_ref())).collect();
        assert_eq!(found, [(Stream::Stdout, "one\n"), (Stream::Stderr, "bad\n"), (Stream::Stdout, "two")]);
        drop(stderr);
    }
}
