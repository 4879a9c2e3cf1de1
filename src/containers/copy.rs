//! The first use of an empty volume: what the image has at its place is copied into it, as dockerd does at create.
//!
//! The image's content is told by a container of it that is never started and has no volumes of ours: `export` is the one
//! answer of engines that keeps owners (podman's `archive` does not) and shows what lies below the image's own volumes.
//! None is made when no volume is empty, nor when the image is known to have nothing there. It is written down as unwanted
//! before it is made, so that `follow` removes what a kill leaves.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use futures_util::TryStreamExt as _;
use http_body_util::BodyExt as _;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::body::{COPY_LABEL, LABEL};
use super::create::{created, escaped, json, token};
use super::unwanted::InMaking;
use super::{Containers, Error, Result, Use};
use crate::confine::Root;
use crate::error::chain;
use crate::escape;
use crate::layer::{Limits, Part, unpack_part};

/// How many places are remembered at which images have nothing.
const ABSENT_MAX: usize = 1024;
/// How many links of an image are followed on the way to a place, as the kernel does.
const LINKS_MAX: usize = 40;
/// A whole image goes by for a part of it.
const LIMITS: Limits = Limits {
    entries_max: 10_000_000,
    unpacked_max_bytes: 256 << 30,
    extended_header_max_bytes: 1 << 20,
    config_max_bytes: 0,
};
/// Go's bit for a directory, and the one for a symbolic link, in the mode that engines tell.
const MODE_DIRECTORY: u64 = 1 << 31;
const MODE_LINK: u64 = 1 << 27;

/// The places at which images, by their ids, have nothing. An id never means anything else.
#[derive(Debug, Default)]
pub(super) struct Absent(Mutex<BTreeSet<(String, String)>>);

impl Absent {
    fn contains(&self, image: &str, place: &str) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.contains(&(image.to_owned(), place.to_owned()))
    }

    fn note(&self, image: &str, place: &str) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= ABSENT_MAX {
            known.clear();
        }
        known.insert((image.to_owned(), place.to_owned()));
    }
}

/// An image.
#[derive(Debug)]
pub(super) struct Image {
    /// Its id.
    pub(super) id: String,
    /// Where it says it has volumes.
    pub(super) volumes: Vec<String>,
}

/// A container that shows what is in an image.
struct Shown {
    token: String,
    id: String,
    _making: InMaking,
}

/// What an engine says of a path.
enum Found {
    Nothing,
    File,
    Directory,
    Link(String),
}

impl Containers {
    /// Fills those of these volumes of a container to be that are empty, out of the image.
    ///
    /// # Errors
    /// The image has a file at a volume's place; a volume cannot be mounted or written to; the engine's answers.
    pub(super) async fn fill(&self, reference: &str, image: &Image, uses: &[Use]) -> Result<()> {
        let mut shown = None;
        let mut done = Ok(());
        for used in uses {
            if self.0.absent.contains(&image.id, &used.destination) {
                continue;
            }
            let place = &used.destination;
            let work = async |path: PathBuf| self.copy(&mut shown, image, place, path).await;
            done = self.0.volumes.fill(&used.volume, reference, work).await;
            if done.is_err() {
                break;
            }
        }
        if let Some(shown) = shown {
            self.remove_unwanted(&shown.token, &shown.id).await;
        }
        done
    }

    /// Copies what the image has at `place` to a directory of the host.
    async fn copy(&self, shown: &mut Option<Shown>, image: &Image, place: &str, to: PathBuf) -> Result<()> {
        if shown.is_none() {
            *shown = Some(self.show(&image.id).await?);
        }
        let Some(Shown { id, .. }) = shown.as_ref() else { return Ok(()) };
        // What lies below a volume of the image, some engines show in the archive of all alone.
        let is_hidden = image.volumes.iter().any(|volume| Path::new(place).starts_with(volume));
        let real = if is_hidden { Some(place.to_owned()) } else { self.resolve(id, place).await? };
        let Some(real) = real else {
            self.0.absent.note(&image.id, place);
            return Ok(());
        };
        let mut part = Part::new(real.as_bytes()).map_err(|error| Error::copying(place, error))?;
        loop {
            let target = format!("/containers/{id}/export");
            let body = self.engine().stream(&target).await?;
            let reader = StreamReader::new(body.into_data_stream().map_err(std::io::Error::other));
            let reader = SyncIoBridge::new(reader);
            let to = to.clone();
            let unpacked = tokio::task::spawn_blocking(move || {
                let root = Root::open(&to).map_err(|source| crate::layer::Error::Place {
                    entry: "the volume".to_owned(),
                    source,
                })?;
                unpack_part(reader, &root, &mut part, &LIMITS)?;
                Ok(part)
            });
            let unpacked = unpacked.await.map_err(|error| Error::Interrupted(error.to_string()))?;
            part = unpacked.map_err(|error| Error::copying(place, error))?;
            if !part.is_missing_content() {
                if !part.is_there() {
                    self.0.absent.note(&image.id, place);
                }
                return Ok(());
            }
        }
    }

    /// Makes a container that shows an image.
    async fn show(&self, image: &str) -> Result<Shown> {
        let token = token()?;
        let making = self.making(&token);
        self.give_up(&token).await?;
        let body = json!({
            "Image": image,
            // Never run; engines want one.
            "Cmd": ["/"],
            "Labels": {LABEL: token, COPY_LABEL: ""},
            "NetworkDisabled": true,
            "HostConfig": {"NetworkMode": "none"},
        });
        let target = format!("/containers/create?name=dockplug-copy-{token}");
        let answer = self.engine().ask(Method::POST, &target, Some(body.to_string().into())).await?;
        if let Some(id) = created(&answer) {
            return Ok(Shown { token, id, _making: making });
        }
        self.forget_unwanted(&token).await?;
        let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let said = said["message"].as_str().unwrap_or("it says no more").to_owned();
        Err(Error::NotShown { image: image.to_owned(), said })
    }

    /// Where a place of a container really is, all links followed; none when it is nowhere.
    async fn resolve(&self, id: &str, place: &str) -> Result<Option<String>> {
        let mut left: Vec<String> = parts(place).rev().collect();
        let (mut real, mut links) = (String::new(), 0);
        while let Some(part) = left.pop() {
            if part == ".." {
                real.truncate(real.rfind('/').unwrap_or(0));
                continue;
            }
            let next = format!("{real}/{part}");
            match self.look(id, &next).await? {
                Found::Directory => real = next,
                Found::Link(to) => {
                    links += 1;
                    if links > LINKS_MAX {
                        return Ok(None);
                    }
                    if to.starts_with('/') {
                        real.clear();
                    }
                    left.extend(parts(&to).rev());
                }
                Found::File if left.is_empty() => return Err(Error::OverFile(place.to_owned())),
                Found::Nothing | Found::File => return Ok(None),
            }
        }
        Ok(Some(real))
    }

    async fn look(&self, id: &str, path: &str) -> Result<Found> {
        let target = format!("/containers/{}/archive?path={}", escaped(id), escape::escaped(path, "/"));
        let Some(stat) = self.engine().path_stat(&target).await? else { return Ok(Found::Nothing) };
        let nonsense = || Error::Nonsense { asked: target.clone(), expected: "what a path is" };
        let stat: Value = serde_json::from_slice(&stat).map_err(|_| nonsense())?;
        let mode = stat["mode"].as_u64().ok_or_else(nonsense)?;
        let link = stat["linkTarget"].as_str().unwrap_or_default();
        Ok(match mode {
            mode if mode & MODE_LINK != 0 && link.is_empty() => Found::Nothing,
            mode if mode & MODE_LINK != 0 => Found::Link(link.to_owned()),
            mode if mode & MODE_DIRECTORY != 0 => Found::Directory,
            _ => Found::File,
        })
    }

    /// Has the engine remove a container that nobody wants; what fails is done by `follow`.
    pub(super) async fn remove_unwanted(&self, token: &str, id: &str) {
        // `v`: the engine has made volumes of its own for those of the image.
        let target = format!("/containers/{}?force=1&v=1", escaped(id));
        let removed = match self.engine().ask(Method::DELETE, &target, None).await {
            Ok(answer) if answer.status.is_success() || answer.status == StatusCode::NOT_FOUND => {
                self.forget_unwanted(token).await
            }
            Ok(answer) => json(&target, &answer).and(Err(Error::Nonsense {
                asked: target,
                expected: "that a container nobody wants is removed",
            })),
            Err(error) => Err(error.into()),
        };
        if let Err(error) = removed {
            tracing::warn!(id, error = chain(&error), "a container that nobody wants is removed later");
        }
    }
}

fn parts(path: &str) -> impl DoubleEndedIterator<Item = String> {
    path.split('/').filter(|part| !matches!(*part, "" | ".")).map(str::to_owned)
}
