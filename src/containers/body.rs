//! The body of `POST /containers/create`, read whole: what it says of volumes is taken out, and binds are put in. Pure.
//!
//! Facts: moby `api/types/container`, `volume/mounts/linux_parser.go` (what a bind's text means, and its errors).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::keys::{Object, object, spell, take_flag, take_list, take_map, take_text, take_texts};
use super::{Error, Result};
use crate::volumes::Texts;

/// The label by which a container is found again whose id nobody has written down.
pub const LABEL: &str = "io.dockplug.container";

/// The label of a container that only shows what is in an image, for us.
pub const COPY_LABEL: &str = "io.dockplug.copy";

/// A create request, as far as it is looked at in its own spelling.
#[derive(Debug, Clone)]
pub(super) struct Body(Object);

/// What a container wants of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Want {
    /// The volume's name; none for one of its own.
    pub(super) name: Option<String>,
    /// The driver, if one is named.
    pub(super) driver: Option<String>,
    /// For the driver.
    pub(super) options: Option<Texts>,
    /// For the user.
    pub(super) labels: Option<Texts>,
    /// Where it is in the container.
    pub(super) destination: String,
    /// Whether the container may not write to it.
    pub(super) read_only: bool,
    /// Whether it gets what the image has at its place, if it is empty.
    pub(super) copies: bool,
    /// The directory in it that is mounted; none for all of it.
    pub(super) subpath: Option<String>,
}

/// Everything a request says of volumes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// By name, or each its own.
    pub(super) wants: Vec<Want>,
    /// `Volumes`, which give way to whatever else is at their place.
    pub(super) anonymous: Vec<String>,
    /// The driver of those that name none.
    pub(super) driver: Option<String>,
    /// The containers whose volumes it wants, and whether for reading only.
    pub(super) from: Vec<(String, bool)>,
    /// The places in the container that something else takes.
    pub(super) taken: BTreeSet<String>,
    /// The image.
    pub(super) image: Option<String>,
    /// Whether the container is removed when it ends.
    pub(super) auto_remove: bool,
}

/// What the user wrote of volumes, to be shown again.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Written {
    pub(super) volumes: Option<Value>,
    pub(super) binds: Option<Value>,
    pub(super) mounts: Option<Value>,
    pub(super) volumes_from: Option<Value>,
    pub(super) volume_driver: Option<Value>,
}

impl Body {
    /// Reads a request.
    ///
    /// # Errors
    /// It is no JSON object, or two keys mean one field.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        let mut body: Object = serde_json::from_slice(bytes).map_err(Error::NoJson)?;
        spell(&mut body, &["HostConfig", "Volumes", "Image", "Labels"])?;
        if body.get("HostConfig").is_none_or(Value::is_null) {
            body.insert("HostConfig".to_owned(), json!({}));
        }
        if let Some(host) = object(&mut body, "HostConfig")? {
            spell(host, &["Binds", "Mounts", "VolumesFrom", "VolumeDriver", "Tmpfs", "AutoRemove"])?;
        }
        Ok(Self(body))
    }

    /// What the user wrote of volumes.
    pub(super) fn written(&self) -> Written {
        let host = |field: &str| self.0.get("HostConfig").and_then(|host| host.get(field)).cloned();
        Written {
            volumes: self.0.get("Volumes").cloned(),
            binds: host("Binds"),
            mounts: host("Mounts"),
            volumes_from: host("VolumesFrom"),
            volume_driver: host("VolumeDriver"),
        }
    }

    /// Takes out everything that is about volumes. Binds of the host's directories stay.
    ///
    /// # Errors
    /// A field is of another kind, a bind or a mount is none, or two want one place.
    pub(super) fn take(&mut self) -> Result<Asked> {
        let mut asked = Asked::default();
        if let Some(volumes) = object(&mut self.0, "Volumes")? {
            asked.anonymous = volumes.keys().map(|place| clean(place)).collect::<Result<_>>()?;
        }
        self.0.remove("Volumes");
        asked.image = self.0.get("Image").and_then(Value::as_str).map(str::to_owned);
        let Some(host) = object(&mut self.0, "HostConfig")? else { return Ok(asked) };
        asked.auto_remove = host.get("AutoRemove") == Some(&Value::Bool(true));
        asked.driver = take_text(host, "VolumeDriver")?;
        asked.from = take_texts(host, "VolumesFrom")?.iter().map(|text| from(text)).collect::<Result<_>>()?;
        let mut kept = Vec::new();
        for bind in take_texts(host, "Binds")? {
            match read_bind(&bind)? {
                Bind::Host { destination } => {
                    asked.take(destination)?;
                    kept.push(Value::String(bind));
                }
                Bind::Volume(mut want) => {
                    want.driver.clone_from(&asked.driver);
                    asked.take(want.destination.clone())?;
                    asked.wants.push(want);
                }
            }
        }
        host.insert("Binds".to_owned(), Value::Array(kept));
        let mut kept = Vec::new();
        for mount in take_list(host, "Mounts")? {
            let Value::Object(mut mount) = mount else {
                return Err(Error::Field { field: "Mounts", expected: "a list of objects" });
            };
            spell(&mut mount, &["Type", "Source", "Target", "ReadOnly", "VolumeOptions"])?;
            let destination = clean(mount.get("Target").and_then(Value::as_str).unwrap_or_default())?;
            asked.take(destination.clone())?;
            match mount.get("Type").and_then(Value::as_str).unwrap_or_default() {
                "bind" | "tmpfs" | "image" => kept.push(Value::Object(mount)),
                "volume" => asked.wants.push(read_mount(mount, destination)?),
                other => return Err(Error::MountType(other.to_owned())),
            }
        }
        host.insert("Mounts".to_owned(), Value::Array(kept));
        if let Some(Value::Object(places)) = host.get("Tmpfs") {
            for place in places.keys() {
                asked.taken.insert(clean(place)?);
            }
        }
        Ok(asked)
    }

    /// Binds a directory of the host into the container.
    pub(super) fn bind(&mut self, source: &str, destination: &str, read_only: bool) {
        let mount = json!({"Type": "bind", "Source": source, "Target": destination, "ReadOnly": read_only});
        if let Some(Value::Array(mounts)) =
            self.0.get_mut("HostConfig").and_then(|host| host.get_mut("Mounts"))
        {
            mounts.push(mount);
        }
    }

    /// Marks the container.
    pub(super) fn label(&mut self, token: &str) {
        let labels = self.0.entry("Labels").or_insert_with(|| json!({}));
        if labels.is_null() {
            *labels = json!({});
        }
        if let Value::Object(labels) = labels {
            labels.insert(LABEL.to_owned(), token.into());
        }
    }

    /// The request as the engine gets it.
    pub(super) fn bytes(&self) -> Vec<u8> {
        Value::Object(self.0.clone()).to_string().into_bytes()
    }
}

impl Asked {
    /// Takes a place in the container.
    fn take(&mut self, destination: String) -> Result<()> {
        if self.taken.contains(&destination) {
            return Err(Error::PlaceTwice(destination));
        }
        self.taken.insert(destination);
        Ok(())
    }
}

enum Bind {
    Host { destination: String },
    Volume(Want),
}

/// `[SOURCE:]DESTINATION[:MODE]`.
fn read_bind(bind: &str) -> Result<Bind> {
    let invalid = || Error::Bind(bind.to_owned());
    let parts: Vec<&str> = bind.split(':').collect();
    let (source, destination, mode) = match parts.as_slice() {
        [destination] => ("", *destination, ""),
        // A mode alone is no destination.
        [source, destination] if destination.starts_with('/') => (*source, *destination, ""),
        [source, destination, mode] => (*source, *destination, *mode),
        _ => return Err(invalid()),
    };
    if parts.len() > 1 && source.is_empty() {
        return Err(invalid());
    }
    let destination = clean(destination)?;
    if source.starts_with('/') {
        return Ok(Bind::Host { destination });
    }
    let (mut read_only, mut copies) = (false, true);
    for word in mode.split(',').filter(|word| !word.is_empty()) {
        match word {
            "ro" => read_only = true,
            "nocopy" => copies = false,
            // Labels of SELinux are for binds of the engine.
            "rw" | "z" | "Z" | "consistent" | "cached" | "delegated" => {}
            _ => return Err(invalid()),
        }
    }
    let name = (!source.is_empty()).then(|| source.to_owned());
    let want = Want {
        name,
        driver: None,
        options: None,
        labels: None,
        destination,
        read_only,
        copies,
        subpath: None,
    };
    Ok(Bind::Volume(want))
}

/// A mount of the type `volume`.
fn read_mount(mut mount: Object, destination: String) -> Result<Want> {
    let name = take_text(&mut mount, "Source")?;
    let read_only = take_flag(&mut mount, "ReadOnly")?;
    let (mut driver, mut options, mut labels) = (None, None, None);
    let (mut copies, mut subpath) = (true, None);
    if let Some(of) = object(&mut mount, "VolumeOptions")? {
        spell(of, &["NoCopy", "Labels", "DriverConfig", "Subpath"])?;
        subpath = take_text(of, "Subpath")?;
        copies = !take_flag(of, "NoCopy")?;
        labels = take_map(of, "Labels")?;
        if let Some(config) = object(of, "DriverConfig")? {
            spell(config, &["Name", "Options"])?;
            driver = take_text(config, "Name")?;
            options = take_map(config, "Options")?;
        }
    }
    Ok(Want { name, driver, options, labels, destination, read_only, copies, subpath })
}

/// `CONTAINER[:ro|rw]`.
fn from(text: &str) -> Result<(String, bool)> {
    match text.split_once(':') {
        None if !text.is_empty() => Ok((text.to_owned(), false)),
        Some((name, "ro")) if !name.is_empty() => Ok((name.to_owned(), true)),
        Some((name, "rw" | "z" | "Z")) if !name.is_empty() => Ok((name.to_owned(), false)),
        _ => Err(Error::VolumesFrom(text.to_owned())),
    }
}

/// A place in the container in its one spelling: absolute, without `.`, `..` and a slash at its end.
pub(super) fn clean(place: &str) -> Result<String> {
    if !place.starts_with('/') {
        return Err(Error::Destination(place.to_owned()));
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in place.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    if parts.is_empty() {
        return Err(Error::Destination(place.to_owned()));
    }
    Ok(format!("/{}", parts.join("/")))
}

#[cfg(test)]
mod tests;
