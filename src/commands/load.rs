//! `dockplugd load`: a plugin out of a file or a pipe, once the user has seen what it asks for.
//!
//! The archive goes to the daemon twice: to learn what the plugin asks for, and to install it. What comes down a pipe
//! is kept for that in a file without a name.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, IsTerminal as _, Read as _, Seek as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use http_body_util::{BodyExt as _, Limited, StreamBody};
use hyper::Method;
use hyper::body::Frame;
use nix::fcntl::OFlag;
use serde::{Deserialize, Serialize};
use tokio_util::io::ReaderStream;

use super::connection::{Body, Daemon, escaped, strange};
use super::{Error, Result, progress};
use crate::config::command::Load;

/// How much is sent at a time, in bytes.
const PIECE_BYTES: usize = 256 * 1024;
/// How long a list of privileges may be, in bytes.
const PRIVILEGES_MAX_BYTES: usize = 4 * 1024 * 1024;
/// How long an answer to the question may be, in bytes.
const ANSWER_MAX_BYTES: u64 = 1024;
/// How messages call what has no path.
const STANDARD_INPUT: &str = "standard input";

/// Docker's `PluginPrivilege`, as it came: it goes back as it is.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Privilege {
    name: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    value: Vec<String>,
}

pub(super) async fn load(daemon: &Daemon, load: Load) -> Result<()> {
    let archive = archive(load.input.as_deref())?;
    let answer = daemon.ask(Method::POST, "/plugins/privileges", body(&archive)?).await?;
    let name = answer.headers().get("docker-plugin-name").and_then(|name| name.to_str().ok());
    let name = load.alias.clone().or(name.map(str::to_owned)).unwrap_or_default();
    let json = Limited::new(answer.into_body(), PRIVILEGES_MAX_BYTES).collect().await;
    let json =
        json.map_err(|error| strange(error.to_string().as_bytes(), "a list of privileges"))?.to_bytes();
    let privileges: Option<Vec<Privilege>> =
        serde_json::from_slice(&json).map_err(|_| strange(&json, "a list of privileges"))?;
    let privileges = privileges.unwrap_or_default();
    if !privileges.is_empty() && !load.grant_all_permissions {
        consent(&question(&name, &privileges), load.input.is_none())?;
    }
    let granted = serde_json::to_string(&privileges).unwrap_or_default();
    let alias = escaped(&load.alias.unwrap_or_default());
    let path = format!("/plugins/load?name={alias}&privileges={}", escaped(&granted));
    let answer = daemon.ask(Method::POST, &path, body(&archive)?).await?;
    progress::show(daemon, answer.into_body()).await?;
    print(&format!("Loaded plugin {name}\n"))
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

/// The question, in the docker CLI's words.
fn question(name: &str, privileges: &[Privilege]) -> String {
    let mut text = format!("Plugin {name:?} is requesting the following privileges:\n");
    for privilege in privileges {
        // What a plugin says must not move the cursor.
        let value = privilege.value.join(" ");
        text.extend([" - ", &visible(&privilege.name), ": [", &visible(&value), "]\n"]);
    }
    text + "Do you grant the above permissions? [y/N] "
}

fn visible(text: &str) -> String {
    let shown = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(shown).collect()
}

/// Asks the user; where the archive comes down standard input, on the terminal.
fn consent(question: &str, stdin_is_taken: bool) -> Result<()> {
    print(question)?;
    let mut answer = String::new();
    let read = if stdin_is_taken {
        let Ok(terminal) = File::open("/dev/tty") else {
            print("\n")?;
            return Err(Error::NotGranted(
                ", and there is no terminal to ask on: say --grant-all-permissions if you do grant them",
            ));
        };
        BufReader::new(terminal.take(ANSWER_MAX_BYTES)).read_line(&mut answer)
    } else {
        BufReader::new(io::stdin().take(ANSWER_MAX_BYTES)).read_line(&mut answer)
    };
    read.map_err(Error::file("read", "your answer"))?;
    match answer.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Error::NotGranted("")),
    }
}

/// Writes to standard output, now.
fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Error::file("write", "standard output"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_is_the_docker_clis_and_keeps_to_its_line() {
        let privilege = |name: &str, value: &[&str]| Privilege {
            name: name.to_owned(),
            description: String::new(),
            value: value.iter().map(|&text| text.to_owned()).collect(),
        };
        let text =
            question("p:1", &[privilege("network", &["host"]), privilege("mount", &["/a", "\u{1b}[2J"])]);
        assert_eq!(
            text,
            "Plugin \"p:1\" is requesting the following privileges:\n - network: [host]\n - mount: [/a \
             \\u{1b}[2J]\nDo you grant the above permissions? [y/N] "
        );
    }

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
