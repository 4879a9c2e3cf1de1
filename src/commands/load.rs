//! `dockplugd load`: a plugin out of a file or a pipe, once the user has seen what it asks for.
//!
//! The archive goes to the daemon twice: to learn what the plugin asks for, and to install it. What comes down a pipe
//! is kept for that in a file without a name.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _, Seek as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::Method;
use hyper::body::Frame;
use nix::fcntl::OFlag;
use tokio_util::io::ReaderStream;

use super::connection::{Body, Daemon, escaped};
use super::{Error, Result, consent, progress};
use crate::config::command::Load;

/// How much is sent at a time, in bytes.
const PIECE_BYTES: usize = 256 * 1024;
/// How messages call what has no path.
const STANDARD_INPUT: &str = "standard input";

pub(super) async fn load(daemon: &Daemon, load: Load) -> Result<()> {
    let archive = archive(load.input.as_deref())?;
    let answer = daemon.ask(Method::POST, "/plugins/privileges", body(&archive)?).await?;
    let name = answer.headers().get("docker-plugin-name").and_then(|name| name.to_str().ok());
    let name = load.alias.clone().or(name.map(str::to_owned)).unwrap_or_default();
    let asks = consent::Asker { title: format!("Plugin {name:?} is"), stdin_is_taken: load.input.is_none() };
    let granted = consent::granted(answer.into_body(), load.grant_all_permissions, &asks).await?;
    let alias = escaped(&load.alias.unwrap_or_default());
    let path = format!("/plugins/load?name={alias}&privileges={}", escaped(&granted.to_string()));
    let answer = daemon.ask(Method::POST, &path, body(&archive)?).await?;
    progress::show(daemon, answer.into_body()).await?;
    consent::print(&format!("Loaded plugin {name}\n"))
}

/// The archive as a file that can be read twice.
fn archive(input: Option<&Path>) -> Result<File> {
    if let Some(path) = input {
        let file = File::open(path).map_err(Error::file("read", path))?;
        return seekable(file, path);
    }
    if io::stdin().is_terminal() {
        return Err(Error::Terminal { flag: "-i", sign: '<' });
    }
    let own = io::stdin().as_fd().try_clone_to_owned();
    seekable(own.map_err(Error::file("read", STANDARD_INPUT))?.into(), Path::new(STANDARD_INPUT))
}

fn seekable(mut file: File, name: &Path) -> Result<File> {
    if file.metadata().map_err(Error::file("read", name))?.is_file() {
        return Ok(file);
    }
    let directory = std::env::temp_dir();
    let flags = OFlag::O_TMPFILE.bits();
    let kept = OpenOptions::new().read(true).write(true).mode(0o600).custom_flags(flags).open(&directory);
    let mut kept = kept.map_err(Error::file("create a file in", &directory))?;
    io::copy(&mut file, &mut kept).map_err(Error::file("keep what comes from", name))?;
    kept.rewind().map_err(Error::file("read", &directory))?;
    Ok(kept)
}

/// The whole archive, as something to send.
fn body(archive: &File) -> Result<Body> {
    let mut file = archive.try_clone().map_err(Error::file("read", "the archive"))?;
    file.rewind().map_err(Error::file("read", "the archive"))?;
    let pieces = ReaderStream::with_capacity(tokio::fs::File::from_std(file), PIECE_BYTES);
    Ok(StreamBody::new(pieces.map_ok(Frame::<Bytes>::data)).boxed_unsync())
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    #[test]
    fn a_pipe_is_kept_so_that_it_can_be_read_twice() {
        let (read, write) = nix::unistd::pipe().unwrap();
        let writer = std::thread::spawn(move || File::from(write).write_all(b"archive"));
        let mut kept = seekable(read.into(), Path::new("a pipe")).unwrap();
        writer.join().unwrap().unwrap();
        for _ in 0..2 {
            let mut text = String::new();
            kept.rewind().unwrap();
            kept.read_to_string(&mut text).unwrap();
            assert_eq!(text, "archive");
        }
    }
}
