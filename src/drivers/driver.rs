//! One live driver: the calls of the protocol, typed, and what it answers, believed only as far as it must be.
//!
//! Mountpoints come out as paths of the host, by the driver's [`Scope`]. This file does not know when a call may be
//! made (who holds a volume, which calls exclude each other): whoever calls knows.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::sync::watch;

use super::answer::{Answer, Problem};
use super::calls::Calls;
use super::client::{Client, Method};
use super::deadlines::Deadlines;
use super::error::Error;
use super::presence::Presence;
use super::scope::{Place, Scope};
use super::way::Way;

/// How far a driver's volumes reach: what dockerd calls the volume's scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reach {
    /// Each machine has its own volumes. Also of a driver that says nothing, or nonsense.
    #[default]
    Local,
    /// Every machine sees the same volumes.
    Global,
}

impl Reach {
    /// Docker's word: `local`, `global`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Global => "global",
        }
    }

    /// What a plugin's word means; as dockerd, in any case, and anything unknown is `Local`.
    fn from_word(word: &str, driver: &str) -> Self {
        match word.to_lowercase().as_str() {
            "" | "local" => Self::Local,
            "global" => Self::Global,
            _ => {
                tracing::warn!(driver, "the volume driver has an invalid scope, taken as local");
                Self::Local
            }
        }
    }
}

/// A volume as its driver tells it.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The name, not empty.
    pub name: String,
    /// Where it is mounted, as a path of the host; `None` when it is not mounted or the driver does not say.
    pub mountpoint: Option<PathBuf>,
    /// When it was made, if the driver says.
    pub created_at: Option<Timestamp>,
    /// Whatever the driver tells about it; empty when it tells nothing.
    pub status: Map<String, Value>,
}

/// A live driver. It stays usable while it is held, also after it was unregistered; calls fail then.
pub struct Driver {
    client: Client,
    scope: Scope,
    reach: OnceLock<Reach>,
    calls: Arc<Calls>,
    /// A connection could not be made, or broke: whoever answers next may be another process.
    lost: AtomicBool,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Named<'a> {
    name: &'a str,
}

#[derive(Serialize)]
struct Create<'a> {
    #[serde(rename = "Name")]
    name: &'a str,
    /// Null when there are none, as Go writes a nil map.
    #[serde(rename = "Opts")]
    options: Option<&'a BTreeMap<String, String>>,
}

#[derive(Serialize)]
struct ForMount<'a> {
    #[serde(rename = "Name")]
    name: &'a str,
    #[serde(rename = "ID")]
    id: &'a str,
}

/// `{}`
#[derive(Serialize)]
struct Nothing {}

impl Driver {
    /// A driver whose calls are counted among those of its name.
    pub(super) fn new(
        name: &str,
        way: Way,
        scope: Scope,
        presence: watch::Receiver<Presence>,
        deadlines: Deadlines,
        calls: Arc<Calls>,
    ) -> Self {
        let client = Client::new(name, way, deadlines, presence);
        Self { client, scope, reach: OnceLock::new(), calls, lost: AtomicBool::new(false) }
    }

    /// Greets a legacy plugin, and tells whether it is a volume driver.
    ///
    /// # Errors
    /// As [`Driver::create`].
    pub(super) async fn activate(&self) -> Result<bool, Error> {
        self.client.activate().await
    }

    /// Whether it was out of reach since it was made: who answers after that may be another process.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// The numbers of this driver's name.
    pub(super) fn calls(&self) -> &Arc<Calls> {
        &self.calls
    }

    /// A managed plugin's familiar name with its tag: `rclone:latest`; a legacy plugin's name, which has none: `nfs`.
    pub fn name(&self) -> &str {
        self.client.driver()
    }

    /// Whether its plugin is there, so that a call would not wait for it, nor fail at once.
    pub fn is_here(&self) -> bool {
        self.client.is_here()
    }

    /// Whether it is left alone at present, because it did not answer: with `lists`, and with all `others`.
    pub fn breakers(&self) -> [(&'static str, bool); 2] {
        self.client.gate().breakers()
    }

    /// Makes a volume. The plugin gets the options unchecked.
    ///
    /// # Errors
    /// As all calls: [`Error::Refused`] and [`Error::Status`] are the plugin's own no; anything else leaves open what
    /// the plugin did, unless [`Error::was_not_sent`] says so.
    pub async fn create(&self, name: &str, options: Option<&BTreeMap<String, String>>) -> Result<(), Error> {
        self.ask(Method::Create, &Create { name, options }, nothing).await
    }

    /// Removes a volume.
    ///
    /// # Errors
    /// As [`Driver::create`].
    pub async fn remove(&self, name: &str) -> Result<(), Error> {
        self.ask(Method::Remove, &Named { name }, nothing).await
    }

    /// One volume; `None` when the plugin answers with neither a volume nor an error.
    ///
    /// # Errors
    /// As [`Driver::create`]; [`Error::Answer`] when the plugin tells of another volume.
    pub async fn get(&self, name: &str) -> Result<Option<Found>, Error> {
        self.look_for(name, None).await
    }

    /// The same, for a name that any driver may have: given up after `patience`.
    ///
    /// # Errors
    /// As [`Driver::get`].
    pub async fn get_within(&self, name: &str, patience: Duration) -> Result<Option<Found>, Error> {
        self.look_for(name, Some(patience)).await
    }

    async fn look_for(&self, name: &str, patience: Option<Duration>) -> Result<Option<Found>, Error> {
        let read = |mut answer: Answer| -> Result<Option<Found>, Problem> {
            let Some(volume) = answer.object("Volume")? else { return Ok(None) };
            let mut found = self.found(volume)?;
            if found.name.is_empty() {
                name.clone_into(&mut found.name);
            } else if found.name != name {
                return Err(format!("asked for the volume {name:?}, got {:?}", found.name));
            }
            Ok(Some(found))
        };
        self.ask_within(Method::Get, patience, &Named { name }, read).await
    }

    /// All volumes, in the plugin's order; given up after `patience`. A plugin that is being started is not waited for. Entries that are nameless,
    /// named a second time, or nonsense are left out.
    ///
    /// # Errors
    /// As [`Driver::create`].
    pub async fn list(&self, patience: Duration) -> Result<Vec<Found>, Error> {
        let read = |mut answer: Answer| -> Result<Vec<Found>, Problem> {
            let mut seen = std::collections::HashSet::new();
            let mut volumes = Vec::new();
            for volume in answer.objects("Volumes")? {
                match self.found(volume) {
                    Ok(found) if !found.name.is_empty() && seen.insert(found.name.clone()) => {
                        volumes.push(found);
                    }
                    Ok(_) => {}
                    Err(problem) => {
                        tracing::warn!(
                            driver = self.name(),
                            problem,
                            "a volume in the driver's list is left out"
                        );
                    }
                }
            }
            Ok(volumes)
        };
        self.ask_within(Method::List, Some(patience), &Nothing {}, read).await
    }

    /// Where a volume is mounted, as a path of the host; `None` when it is not.
    ///
    /// # Errors
    /// As [`Driver::create`].
    pub async fn path(&self, name: &str) -> Result<Option<PathBuf>, Error> {
        let read = |mut answer: Answer| Ok(self.host_path(Path::new(&answer.path("Mountpoint")?)));
        self.ask(Method::Path, &Named { name }, read).await
    }

    /// Mounts a volume for `id` (the plugin counts the ids), and says where: the plugin's words, not to be opened but
    /// by way of [`Driver::place`].
    ///
    /// # Errors
    /// As [`Driver::create`]; [`Error::Answer`] when the plugin says neither where nor why not.
    pub async fn mount(&self, name: &str, id: &str) -> Result<PathBuf, Error> {
        let read = |mut answer: Answer| {
            Some(PathBuf::from(answer.path("Mountpoint")?))
                .filter(|path| !path.as_os_str().is_empty())
                .ok_or_else(|| "neither Mountpoint nor Err is set, expected one of them".to_owned())
        };
        self.ask(Method::Mount, &ForMount { name, id }, read).await
    }

    /// Takes back one [`Driver::mount`].
    ///
    /// # Errors
    /// As [`Driver::create`].
    pub async fn unmount(&self, name: &str, id: &str) -> Result<(), Error> {
        self.ask(Method::Unmount, &ForMount { name, id }, nothing).await
    }

    /// How far the driver's volumes reach. Asked once for each registration; a plugin that does not know the question
    /// is local. One that cannot be reached counts as local too, and is asked again the next time.
    pub async fn capabilities(&self) -> Reach {
        if let Some(reach) = self.reach.get() {
            return *reach;
        }
        match self.ask_capabilities().await {
            Ok(reach) => *self.reach.get_or_init(|| reach),
            Err(error) if error.is_answer() => *self.reach.get_or_init(Reach::default),
            Err(error) => {
                let error = crate::error::chain(&error);
                tracing::debug!(driver = self.name(), error, "the driver's scope is unknown, taken as local");
                Reach::default()
            }
        }
    }

    /// What is known of [`Driver::capabilities`] without asking.
    pub fn known_reach(&self) -> Reach {
        self.reach.get().copied().unwrap_or_default()
    }

    /// The host's name for a path inside the plugin, see [`Scope::host_path`].
    pub fn host_path(&self, in_plugin: &Path) -> Option<PathBuf> {
        self.scope.host_path(in_plugin)
    }

    /// Where a mountpoint that the plugin has answered lies on the host, see [`Scope::place`].
    ///
    /// # Errors
    /// In words, why it can be no mountpoint.
    pub fn place(&self, in_plugin: &Path) -> Result<Place, &'static str> {
        self.scope.place(in_plugin)
    }

    async fn ask_capabilities(&self) -> Result<Reach, Error> {
        let read = |mut answer: Answer| {
            let scope = answer.object("Capabilities")?.map(|mut fields| fields.text("Scope")).transpose()?;
            Ok(Reach::from_word(&scope.unwrap_or_default(), self.name()))
        };
        self.ask(Method::Capabilities, &Nothing {}, read).await
    }

    fn found(&self, mut volume: Answer) -> Result<Found, Problem> {
        Ok(Found {
            name: volume.name("Name")?,
            mountpoint: self.host_path(Path::new(&volume.path("Mountpoint")?)),
            created_at: volume.time("CreatedAt")?,
            status: volume.object("Status")?.map(Answer::into_fields).unwrap_or_default(),
        })
    }

    /// Calls, and reads the answer.
    async fn ask<T>(
        &self,
        method: Method,
        request: &impl Serialize,
        read: impl FnOnce(Answer) -> Result<T, Problem>,
    ) -> Result<T, Error> {
        self.ask_within(method, None, request, read).await
    }

    /// Calls, and reads the answer: counted from the first step to the last.
    async fn ask_within<T>(
        &self,
        method: Method,
        patience: Option<Duration>,
        request: &impl Serialize,
        read: impl FnOnce(Answer) -> Result<T, Problem>,
    ) -> Result<T, Error> {
        let call = self.calls.begin(method);
        let answered = self.client.call(method, patience, request).await;
        let result =
            answered.and_then(|answer| read(answer).map_err(|problem| self.client.nonsense(method, problem)));
        if matches!(&result, Err(Error::Connect { .. } | Error::Broken { .. })) {
            self.lost.store(true, Ordering::Relaxed);
        }
        call.end(&result);
        result
    }
}

/// Reads nothing more of an answer that is no error.
#[allow(clippy::unnecessary_wraps, reason = "in the place of readers that can fail")]
fn nothing(_answer: Answer) -> Result<(), Problem> {
    Ok(())
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver")
            .field("name", &self.name())
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
