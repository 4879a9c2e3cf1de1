//! `POST /containers/create`: the volumes are made, the engine is sent a request without any, and the container is known.
//!
//! The record is on disk before the engine is asked, with a token that the container bears as a label: a kill in between
//! is repaired by `follow`, which finds the container by it, or finds that there is none.

use hyper::{Method, StatusCode};
use serde_json::Value;

use super::body::{Asked, Body, Want, clean};
use super::copy::Image;
use super::{Containers, Error, Record, Result, Use};
use crate::engine::Answer;
use crate::error::chain;
use crate::escape;
use crate::finish::finish;
use crate::volumes::{Create, Volume};

impl Containers {
    /// Creates a container. `target` is what the client asked for; the answer is the engine's.
    ///
    /// # Errors
    /// What the request says of volumes makes no sense, a volume cannot be made, the engine is not there, or the record
    /// cannot be written. Nothing is created then.
    pub async fn create(&self, target: &str, body: &[u8]) -> Result<Answer> {
        let containers = self.clone();
        let (target, body) = (target.to_owned(), body.to_vec());
        // To its end, also when whoever asked goes away.
        finish(async move { containers.create_to_the_end(&target, &body).await }).await
    }

    async fn create_to_the_end(&self, target: &str, body: &[u8]) -> Result<Answer> {
        let mut body = Body::parse(body)?;
        let written = body.written();
        let mut asked = body.take()?;
        let auto_remove = asked.auto_remove;
        self.inherit(&mut asked, &mut body).await?;
        let image = self.of_image(&mut asked).await?;
        let wants = every_want(asked);
        let token = token()?;
        let mut uses: Vec<Use> = Vec::with_capacity(wants.len());
        let mut filled = Vec::new();
        for want in wants {
            // As dockerd: a part of a volume gets nothing.
            let copies = want.copies && want.subpath.is_none();
            match self.provide(&token, uses.len(), want).await {
                Ok(provided) => {
                    filled.extend(copies.then(|| provided.clone()));
                    uses.push(provided);
                }
                Err(error) => {
                    self.drop_own(&uses).await;
                    return Err(error);
                }
            }
        }
        if uses.is_empty() {
            return Ok(self.engine().ask(Method::POST, target, Some(body.bytes().into())).await?);
        }
        for used in &uses {
            body.bind(&used.source, &used.destination, used.read_only);
        }
        body.label(&token);
        let mut record = Record { id: None, uses, written, auto_remove, is_stopped: false };
        // Nobody who looks at the engine's list takes it for one that was not made.
        let _making = self.making(&token);
        self.note(&token, record.clone()).await?;
        if let Err(error) = self.fill(&token, &image, &filled).await {
            self.abandon(&token, &record).await;
            return Err(error);
        }
        let answer = self.engine().ask(Method::POST, target, Some(body.bytes().into())).await;
        match answer.as_ref().map(created) {
            Ok(Some(id)) => {
                record.id = Some(id);
                self.note(&token, record).await?;
                // Until it starts there is nothing there: an engine that starts it by itself fails, and writes nowhere.
                if let Err(error) = self.0.places.remove(&token) {
                    tracing::warn!(error = chain(&error), "the directories of a new container are left");
                }
                self.follow();
            }
            // Refused: there is no such container.
            Ok(None) => self.abandon(&token, &record).await,
            // It may have been made; whoever looks at the engine's list next knows.
            Err(_) => {}
        }
        Ok(answer?)
    }

    /// Makes a volume, or finds it, and says where the engine shall look for it.
    async fn provide(&self, token: &str, number: usize, want: Want) -> Result<Use> {
        let anonymous = want.name.is_none();
        let create = Create {
            name: want.name,
            driver: want.driver.unwrap_or_default(),
            options: want.options,
            labels: want.labels,
        };
        let volume = self.0.volumes.create(create).await?;
        let (source, is_bound) = self.source(token, number, &volume, want.subpath.is_some())?;
        Ok(Use {
            volume: volume.name.clone(),
            driver: volume.driver.clone(),
            destination: want.destination,
            read_only: want.read_only,
            anonymous,
            source,
            subpath: want.subpath,
            is_bound,
        })
    }

    /// A local volume that is a directory is where it is. What has to be mounted is bound to a place of ours while it is
    /// used, and so is a part.
    fn source(&self, token: &str, number: usize, volume: &Volume, is_part: bool) -> Result<(String, bool)> {
        if let (false, true, Some(mountpoint)) = (is_part, volume.is_directory(), &volume.mountpoint) {
            return Ok((mountpoint.display().to_string(), false));
        }
        let place = self.0.places.path(token, number);
        super::Places::make(&place)?;
        Ok((place.display().to_string(), true))
    }

    /// Adds the volumes of other containers: ours by name, the host's directories as they are.
    async fn inherit(&self, asked: &mut Asked, body: &mut Body) -> Result<()> {
        for (name, read_only) in std::mem::take(&mut asked.from) {
            let container = self.inspect(&name).await?.ok_or_else(|| Error::NoSuchContainer(name.clone()))?;
            let record = container["Id"].as_str().and_then(|id| self.find(id)).map(|(_, record)| record);
            let uses = record.map(|record| record.uses).unwrap_or_default();
            for used in &uses {
                if asked.taken.insert(used.destination.clone()) {
                    asked.wants.push(Want {
                        name: Some(used.volume.clone()),
                        driver: None,
                        options: None,
                        labels: None,
                        destination: used.destination.clone(),
                        read_only: read_only || used.read_only,
                        copies: false,
                        subpath: used.subpath.clone(),
                    });
                }
            }
            for mount in container["Mounts"].as_array().into_iter().flatten() {
                let (source, destination) = (mount["Source"].as_str(), mount["Destination"].as_str());
                let (Some(source), Some(destination)) = (source, destination) else { continue };
                let ours = uses.iter().any(|used| used.source == source);
                if !ours && mount["Type"] == "bind" && asked.taken.insert(clean(destination)?) {
                    body.bind(source, destination, read_only || mount["RW"] == false);
                }
            }
        }
        Ok(())
    }

    /// Adds the volumes that the image says it has. Without the image no volume is made.
    async fn of_image(&self, asked: &mut Asked) -> Result<Image> {
        let Some(image) = asked.image.clone().filter(|image| !image.is_empty()) else {
            return Ok(Image { id: String::new(), volumes: Vec::new() });
        };
        let target = format!("/images/{}/json", escaped(&image));
        let answer = self.engine().ask(Method::GET, &target, None).await?;
        match answer.status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Err(Error::NoSuchImage(tagged(&image))),
            _ => return Err(Error::Nonsense { asked: target, expected: "an image" }),
        }
        let image = json(&target, &answer)?;
        let places = image["Config"]["Volumes"].as_object().into_iter().flat_map(|places| places.keys());
        let volumes: Vec<String> = places.map(|place| clean(place)).collect::<Result<_>>()?;
        asked.anonymous.extend(volumes.iter().cloned());
        let id = image["Id"].as_str().unwrap_or_default().to_owned();
        Ok(Image { id, volumes })
    }

    /// The container as the engine has it; none when it has none of that name.
    pub(super) async fn inspect(&self, name: &str) -> Result<Option<Value>> {
        let target = format!("/containers/{}/json", escaped(name));
        let answer = self.engine().ask(Method::GET, &target, None).await?;
        if answer.status == StatusCode::OK { json(&target, &answer).map(Some) } else { Ok(None) }
    }

    /// Forgets a container that was not made.
    pub(super) async fn abandon(&self, token: &str, record: &Record) {
        if let Err(error) = self.cross_out(token, record).await {
            tracing::warn!(error = chain(&error), "a container that was not made stays written down");
            return;
        }
        if let Err(error) = self.0.places.remove(token) {
            tracing::warn!(
                error = chain(&error),
                "the directories of a container that was not made are left"
            );
        }
        self.drop_own(&record.uses).await;
    }

    /// Removes the volumes that were made for one container.
    pub(super) async fn drop_own(&self, uses: &[Use]) {
        for used in uses.iter().filter(|used| used.anonymous) {
            if let Err(error) = self.0.volumes.remove(&used.volume, false).await {
                let error = chain(&error);
                tracing::warn!(volume = used.volume, error, "a container's own volume is left");
            }
        }
    }
}

/// All that is wanted, with `Volumes` where nothing else is.
fn every_want(mut asked: Asked) -> Vec<Want> {
    for destination in std::mem::take(&mut asked.anonymous) {
        if asked.taken.insert(destination.clone()) {
            asked.wants.push(Want {
                name: None,
                driver: asked.driver.clone(),
                options: None,
                labels: None,
                destination,
                read_only: false,
                copies: true,
                subpath: None,
            });
        }
    }
    asked.wants
}

/// A name with its tag, as dockerd says which image is missing.
fn tagged(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or_default();
    if last.contains([':', '@']) { image.to_owned() } else { format!("{image}:latest") }
}

/// The id in the answer to a create that worked.
pub(super) fn created(answer: &Answer) -> Option<String> {
    if answer.status != StatusCode::CREATED {
        return None;
    }
    let answer: Value = serde_json::from_slice(&answer.body).ok()?;
    answer["Id"].as_str().map(str::to_owned)
}

/// An answer as JSON.
pub(super) fn json(asked: &str, answer: &Answer) -> Result<Value> {
    serde_json::from_slice(&answer.body)
        .map_err(|_| Error::Nonsense { asked: asked.to_owned(), expected: "JSON" })
}

/// A name as one part of a path. Slashes stay: engines read an image's name to the last part.
pub(super) fn escaped(name: &str) -> String {
    // No name goes up.
    let goes_up = name.split('/').any(|part| matches!(part, "." | ".."));
    if goes_up { String::new() } else { escape::escaped(name, ":@/") }
}

pub(super) fn token() -> Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| Error::Random)?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}
