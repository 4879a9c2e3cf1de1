//! `dockplugd save`: a plugin into a file, or down a pipe.
//!
//! A file gets its name only when it is whole.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _, Write};
use std::path::{Path, PathBuf};

use http_body_util::BodyExt as _;
use hyper::Method;
use hyper::body::Incoming;

use super::connection::{Daemon, empty, escaped};
use super::{Error, Result};
use crate::config::command::Save;

pub(super) async fn save(daemon: &Daemon, save: &Save) -> Result<()> {
    if save.output.is_none() && io::stdout().is_terminal() {
        return Err(Error::Terminal { flag: "-o", sign: '>' });
    }
    let path = format!("/plugins/{}/get", escaped(&save.plugin));
    let mut body = daemon.ask(Method::GET, &path, empty()).await?.into_body();
    let Some(output) = &save.output else {
        return copy(daemon, &mut body, &mut io::stdout().lock(), Path::new("standard output")).await;
    };
    let partial = Partial::create(output)?;
    copy(daemon, &mut body, &mut &partial.file, output).await?;
    partial.commit(output)
}

async fn copy(daemon: &Daemon, body: &mut Incoming, to: &mut impl Write, name: &Path) -> Result<()> {
    while let Some(frame) = body.frame().await {
        if let Ok(bytes) = frame.map_err(daemon.broken())?.into_data() {
            to.write_all(&bytes).map_err(Error::file("write", name))?;
        }
    }
    to.flush().map_err(Error::file("write", name))
}

/// A file that is not whole yet, beside where it will be; removed unless it is committed.
struct Partial {
    file: File,
    path: PathBuf,
    is_whole: bool,
}

impl Partial {
    fn create(output: &Path) -> Result<Self> {
        let mut name = output.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.partial", std::process::id()));
        let path = output.with_file_name(name);
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        let file = file.map_err(Error::file("create", &path))?;
        Ok(Self { file, path, is_whole: false })
    }

    fn commit(mut self, output: &Path) -> Result<()> {
        self.file.sync_all().map_err(Error::file("write", &self.path))?;
        std::fs::rename(&self.path, output).map_err(Error::file("create", output))?;
        self.is_whole = true;
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.is_whole {
            // It is of no use, and whatever keeps it there was told already.
            let _left = std::fs::remove_file(&self.path);
        }
    }
}
