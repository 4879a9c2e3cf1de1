//! The volumes of one driver alone, for whoever speaks for that driver to somebody else.
//!
//! Every name is checked to be this driver's, in its turn: a volume of another driver is none. Mountpoints are only told
//! of what is mounted for somebody, and are the staged ones, which the plugin cannot swap.

use std::path::PathBuf;
use std::sync::Arc;

use super::inspect::told;
use super::ledger::{Phase, check_reference};
use super::{Create, Error, Filter, Problem, Result, Texts, Volume, Volumes};
use crate::drivers::{Driver, Reach};
use crate::finish::finish;

/// The volumes of one driver.
#[derive(Debug, Clone)]
pub struct OfDriver {
    volumes: Volumes,
    /// Its own name: `rclone:latest`.
    driver: String,
}

impl Volumes {
    /// The volumes of the driver of this own name, live or not.
    pub fn of_driver(&self, name: &str) -> OfDriver {
        OfDriver { volumes: self.clone(), driver: name.to_owned() }
    }
}

impl OfDriver {
    /// The driver's own name.
    pub fn driver(&self) -> &str {
        &self.driver
    }

    /// Makes a volume; fine when the driver has it already.
    ///
    /// # Errors
    /// As [`Volumes::create`]; there is no name.
    pub async fn create(&self, name: &str, options: Option<Texts>) -> Result<()> {
        if name.is_empty() {
            return Err(Error::of("create", name, Problem::Name("the volume's name is empty".to_owned())));
        }
        let (name, driver) = (Some(name.to_owned()), self.driver.clone());
        self.volumes.create(Create { name, driver, options, labels: None }).await.map(drop)
    }

    /// Removes a volume and its data.
    ///
    /// # Errors
    /// As [`Volumes::remove`].
    pub async fn remove(&self, name: &str) -> Result<()> {
        let (this, name) = (self.clone(), name.to_owned());
        let removing = async move {
            let _turn = this.volumes.0.turns.take(&name).await;
            if let Some(volume) = this.known(&name)? {
                return this.volumes.remove_in_plugin(&volume, false).await;
            }
            let failed = |error| Error::of("remove", &name, Problem::from(error));
            let driver = this.live().await.map_err(failed)?;
            driver.remove(&name).await.map_err(failed)?;
            this.volumes.tell("destroy", &name, &this.driver);
            Ok(())
        };
        finish(removing).await
    }

    /// Mounts a volume for a reference, see [`Volumes::mount`].
    ///
    /// # Errors
    /// As [`Volumes::mount`].
    pub async fn mount(&self, name: &str, reference: &str) -> Result<PathBuf> {
        let (this, name, reference) = (self.clone(), name.to_owned(), reference.to_owned());
        let mounting = async move {
            let failed = |problem| Error::of("mount", &name, problem);
            check_reference(&reference).map_err(failed)?;
            let _turn = this.volumes.0.turns.take(&name).await;
            let volume = match this.known(&name)? {
                Some(volume) => volume,
                None => this.adopt(&name).await?,
            };
            this.volumes.mount_in_turn(&volume, &reference).await.map_err(failed)
        };
        finish(mounting).await
    }

    /// Takes one [`OfDriver::mount`] back, see [`Volumes::unmount`].
    ///
    /// # Errors
    /// As [`Volumes::unmount`].
    pub async fn unmount(&self, name: &str, reference: &str) -> Result<()> {
        let (this, name, reference) = (self.clone(), name.to_owned(), reference.to_owned());
        let unmounting = async move {
            let _turn = this.volumes.0.turns.take(&name).await;
            let row = this.volumes.0.ledger.find(&name, &reference);
            match row.filter(|row| this.is_own(&row.driver)) {
                Some(row) => this
                    .volumes
                    .unmount_in_turn(&row)
                    .await
                    .map_err(|problem| Error::of("unmount", &name, problem)),
                None if this.known(&name)?.is_some() => Ok(()),
                None => Err(Error::of("get", &name, Problem::NoSuchVolume)),
            }
        };
        finish(unmounting).await
    }

    /// One volume, as its driver tells it.
    ///
    /// # Errors
    /// As [`Volumes::inspect`].
    pub async fn get(&self, name: &str) -> Result<Volume> {
        let found = match self.known(name)? {
            Some(volume) => self.volumes.in_plugin(&volume).await,
            None => self.unrecorded(name).await,
        };
        match found {
            Ok(Some(volume)) => Ok(self.with_staged(volume)),
            Ok(None) => Err(Error::of("get", name, Problem::NoSuchVolume)),
            Err(problem) => Err(Error::of("get", name, problem)),
        }
    }

    /// All volumes, by name, see [`Volumes::list`].
    pub async fn list(&self) -> Vec<Volume> {
        let filter = Filter { drivers: vec![self.driver.clone()], ..Filter::default() };
        let listing = self.volumes.list(&filter).await;
        let own = listing.volumes.iter().filter(|volume| volume.driver == self.driver);
        own.map(|volume| self.with_staged(Volume::clone(volume))).collect()
    }

    /// Where a volume is mounted; `None` when it is mounted for nobody.
    ///
    /// # Errors
    /// `get x: no such volume` when the name is another driver's.
    pub fn mountpoint(&self, name: &str) -> Result<Option<PathBuf>> {
        self.known(name)?;
        Ok(self.staged(name))
    }

    /// How far the driver's volumes reach.
    ///
    /// # Errors
    /// The driver is not there.
    pub async fn reach(&self) -> Result<Reach> {
        let driver = self.live().await.map_err(|error| Error::of("ask", &self.driver, error))?;
        Ok(driver.capabilities().await)
    }

    /// The record of a name, if it has one.
    fn known(&self, name: &str) -> Result<Option<Arc<Volume>>> {
        match self.volumes.0.known.find(name) {
            Some(volume) if !self.is_own(&volume.driver) => {
                Err(Error::of("get", name, Problem::NoSuchVolume))
            }
            known => Ok(known),
        }
    }

    /// Whether a name that was written down is this driver's, perhaps from before it was renamed.
    fn is_own(&self, driver: &str) -> bool {
        self.volumes.0.drivers.now(driver) == self.driver
    }

    async fn live(&self) -> Result<Arc<Driver>, crate::drivers::Error> {
        self.volumes.0.drivers.recorded(&self.driver).await
    }

    /// A volume that only the driver knows.
    async fn unrecorded(&self, name: &str) -> Result<Option<Volume>, Problem> {
        let driver = self.live().await?;
        match driver.get(name).await {
            Ok(found) => Ok(found.map(|found| told(&driver, found, None))),
            Err(error) if error.is_answer() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes a volume known that only the driver knows, so that it can be in use.
    async fn adopt(&self, name: &str) -> Result<Arc<Volume>> {
        match self.unrecorded(name).await {
            Ok(Some(_)) => {}
            Ok(None) => return Err(Error::of("get", name, Problem::NoSuchVolume)),
            Err(problem) => return Err(Error::of("get", name, problem)),
        }
        let adopted = self.volumes.record(name, &self.driver, Create::default()).await;
        adopted.map_err(|problem| Error::of("mount", name, problem))
    }

    fn with_staged(&self, volume: Volume) -> Volume {
        Volume { mountpoint: self.staged(&volume.name), ..volume }
    }

    /// The first place where a volume is staged.
    fn staged(&self, name: &str) -> Option<PathBuf> {
        let rows = self.volumes.0.ledger.of_volume(name);
        let held = rows.iter().find(|row| row.phase == Phase::Held && self.is_own(&row.driver))?;
        Some(self.volumes.0.stage.path(&held.id()))
    }
}
