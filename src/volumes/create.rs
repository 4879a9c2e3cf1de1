//! `POST /volumes/create`.
//!
//! What is on disk first, and why a kill in between hurts nobody:
//! - Local: the directory and the record, side by side. Without its record the empty directory is swept at the next
//!   start; without its directory the volume, of which nobody has heard yet, gets one. Only the record is synced: a
//!   directory that a power cut takes is made again, empty as it was. With a limit (`size`) the directory and its limit
//!   are synced first: nobody hears of a volume that holds more than it may.
//! - Plugin: the plugin's `Create`, then the record. Without its record the volume was never acknowledged, is not
//!   lost either (lists and inspects ask the plugin), and the next create of the name adopts it, because the plugin
//!   is asked with `Get` first, as dockerd does. So no intent needs to be written down beforehand.
//!
//! A create of a name that is there already is answered with what is there, whatever labels and options were asked for.

use std::fmt;
use std::sync::Arc;

use super::known::Entry;
use super::record::{Record, VOLUMES};
use super::{
    ANONYMOUS_LABEL, Error, LOCAL_DRIVER, Problem, Result, Texts, Volume, Volumes, blocking, local, name,
};
use crate::drivers::{Driver, Reach};
use crate::error::chain;
use crate::finish::finish;
use crate::state::Change;

/// What is to be created.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Create {
    /// The name; none, or an empty one, makes an anonymous volume.
    pub name: Option<String>,
    /// The driver. Empty: whichever has the name already, otherwise the local one.
    pub driver: String,
    /// For the driver. `None` is kept apart from empty. They may be secrets.
    pub options: Option<Texts>,
    /// For the user. `None` is kept apart from empty.
    pub labels: Option<Texts>,
}

impl Volumes {
    /// Makes a volume, or finds the one that has the name.
    ///
    /// # Errors
    /// `create x: …` with dockerd's words: a bad name or option, the name is another driver's (conflict), the driver
    /// is not there or says no.
    pub async fn create(&self, request: Create) -> Result<Arc<Volume>> {
        let volumes = self.clone();
        finish(async move { volumes.create_to_the_end(request).await }).await
    }

    async fn create_to_the_end(&self, mut request: Create) -> Result<Arc<Volume>> {
        let given = request.name.take().filter(|name| !name.is_empty());
        let name = if let Some(name) = given {
            name
        } else {
            request.labels.get_or_insert_default().insert(ANONYMOUS_LABEL.to_owned(), String::new());
            name::made_up().map_err(|problem| Error::of("create", "", problem))?
        };
        let _turn = self.0.turns.take(&name).await;
        let created = match self.existing(&name, &request.driver).await {
            Ok(Some(volume)) => return Ok(volume),
            Ok(None) if matches!(request.driver.as_str(), "" | LOCAL_DRIVER) => {
                self.create_local(&name, request).await
            }
            Ok(None) => self.create_in_plugin(&name, request).await,
            Err(problem) => Err(problem),
        };
        created.map_err(|problem| Error::of("create", &name, problem))
    }

    /// The volume that has the name already; `None` when there is none, or its driver does not have it any more.
    async fn existing(&self, name: &str, driver: &str) -> Result<Option<Arc<Volume>>, Problem> {
        let Some(volume) = self.known_in_turn(name).await else { return Ok(None) };
        let wanted = match driver {
            "" => None,
            LOCAL_DRIVER => Some(LOCAL_DRIVER.to_owned()),
            plugin => Some(self.0.drivers.find(plugin).await?.name().to_owned()),
        };
        let taken = wanted.is_some_and(|wanted| wanted != volume.driver);
        let conflict = || Problem::NameTaken { driver: volume.driver.clone(), name: name.to_owned() };
        if volume.is_local() {
            return if taken { Err(conflict()) } else { Ok(Some(volume)) };
        }
        match self.in_plugin(&volume).await {
            Ok(Some(_)) if taken => Err(conflict()),
            Ok(Some(found)) => Ok(Some(Arc::new(found))),
            Ok(None) if self.0.known.is_held(name) => {
                Err(Problem::Lost { driver: volume.driver.clone(), name: name.to_owned() })
            }
            Ok(None) => Ok(None),
            Err(problem) => Err(Problem::Unchecked {
                driver: volume.driver.clone(),
                name: name.to_owned(),
                cause: chain(&problem),
            }),
        }
    }

    async fn create_local(&self, name: &str, request: Create) -> Result<Arc<Volume>, Problem> {
        name::check_local(name)?;
        let limit = local::options::check(request.options.as_ref())?;
        let record = Record::new(LOCAL_DRIVER, request);
        let (made, written) = if let Some(limit) = limit {
            let create = move |local: &local::Local, name: &str| local.create_limited(name, limit);
            let made = self.on_disk(name, create).await?;
            (Ok(made), self.write(name, &record).await)
        } else {
            // The directory is made on another thread, while the record may be written on this one.
            let making = self.on_disk(name, local::Local::create);
            let written = self.write(name, &record).await;
            (making.await, written)
        };
        match (made, written) {
            (Ok(_), Ok(())) => {
                self.stock();
                Ok(self.enter(name, record))
            }
            (Ok(made), Err(problem)) => {
                left(name, self.on_disk(name, move |local, name| local.take_back(name, made)).await);
                Err(problem)
            }
            (Err(problem), Ok(())) => {
                let deleted = self.0.store.commit(Change::new().delete(VOLUMES, name)).await;
                left(name, deleted.map_err(Problem::from));
                Err(problem)
            }
            (Err(problem), Err(_)) => Err(problem),
        }
    }

    /// Has directories made for the next creates, which nobody waits for.
    fn stock(&self) {
        if !self.0.local.needs_stock() {
            return;
        }
        let local = Arc::clone(&self.0.local);
        tokio::spawn(async move {
            local.lull().await;
            if let Ok(Err(error)) = blocking(move || local.stock()).await {
                tracing::debug!(error = chain(&error), "no directories are made ahead");
            }
        });
    }

    async fn create_in_plugin(&self, name: &str, request: Create) -> Result<Arc<Volume>, Problem> {
        name::check_any(name)?;
        let driver = self.0.drivers.find(&request.driver).await?;
        // From here on, so that the plugin is not disabled between its answer and our record.
        let _lease = self.0.drivers.lease(driver.name());
        if !has(&driver, name).await? {
            driver.create(name, request.options.as_ref()).await?;
        }
        let reach = driver.capabilities().await;
        let volume = self.record(name, driver.name(), request).await?;
        Ok(if reach == Reach::Local { volume } else { Arc::new(Volume { reach, ..Volume::clone(&volume) }) })
    }

    /// Makes the volume known: on disk first.
    pub(super) async fn record(
        &self,
        name: &str,
        driver: &str,
        request: Create,
    ) -> Result<Arc<Volume>, Problem> {
        let record = Record::new(driver, request);
        self.write(name, &record).await?;
        let volume = self.enter(name, record);
        // Its driver may have got another name while it was made.
        Ok(self.known_in_turn(name).await.unwrap_or(volume))
    }

    async fn write(&self, name: &str, record: &Record) -> Result<(), Problem> {
        Ok(self.0.store.commit(Change::new().put(VOLUMES, name, record)?).await?)
    }

    /// Lets everybody see a volume that is on disk.
    fn enter(&self, name: &str, record: Record) -> Arc<Volume> {
        let driver = record.driver.clone();
        let entry = Entry::new(name, record, &self.0.local, &self.0.drivers);
        let volume = Arc::clone(&entry.volume);
        self.0.known.insert(name, entry);
        self.tell("create", name, &driver);
        volume
    }

    /// Calls the local driver for a name, on a thread that may wait for the disk.
    /// It begins at once.
    pub(super) fn on_disk<T, F>(
        &self,
        name: &str,
        work: F,
    ) -> impl Future<Output = Result<T, Problem>> + Send + use<T, F>
    where
        T: Send + 'static,
        F: FnOnce(&local::Local, &str) -> Result<T, local::Error> + Send + 'static,
    {
        let (local, name) = (Arc::clone(&self.0.local), name.to_owned());
        let working = tokio::task::spawn_blocking(move || work(&local, &name));
        async move {
            let done = working.await;
            Ok(done.map_err(|error| local::Error::Interrupted(error.to_string()))??)
        }
    }
}

/// Tells the log what of a failed create could not be undone. The next start sees to it.
fn left(name: &str, undone: Result<(), Problem>) {
    if let Err(error) = undone {
        tracing::warn!(volume = name, error = chain(&error), "a failed create leaves something behind");
    }
}

/// Whether the plugin has the volume already. What it says in words, or in nonsense, counts as no, as with dockerd;
/// a plugin that does not answer is an error, for its `Create` would be sent into the dark.
async fn has(driver: &Driver, name: &str) -> Result<bool, Problem> {
    use crate::drivers::Error;
    match driver.get(name).await {
        Ok(found) => Ok(found.is_some()),
        Err(Error::Refused { .. } | Error::Status { .. } | Error::Answer { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Tells the names of options, not their values.
impl fmt::Debug for Create {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Create")
            .field("name", &self.name)
            .field("driver", &self.driver)
            .field("options", &self.options.as_ref().map(|options| options.keys().collect::<Vec<_>>()))
            .field("labels", &self.labels)
            .finish()
    }
}
