//! `GET /volumes/{name}`.
//!
//! A local volume is told from memory, with what is known to be wrong with it. A plugin's is asked for at its
//! plugin. A name without a record is asked for at every driver, at once and for as long as for a list, as dockerd asks
//! one after the other. Nothing is changed: a plugin
//! that has lost a volume, or says so, does not lose us its labels; the next create or remove settles it.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use tokio::time::{Instant, timeout_at};

use serde_json::Map;

use super::remove::is_gone;
use super::{Error, Problem, Reasons, Result, Volume, Volumes};
use crate::drivers::{self, Driver, Found};

/// Where the status of a local volume tells that it should be mounted and is not.
const MOUNT_ERROR: &str = "MountError";
/// Where it tells that its size is not kept.
const QUOTA_ERROR: &str = "QuotaError";

impl Volumes {
    /// One volume, with its driver's `status`.
    ///
    /// # Errors
    /// `get x: no such volume`; or its driver is not there, or does not answer.
    pub async fn inspect(&self, name: &str) -> Result<Arc<Volume>> {
        let told = match self.0.known.find(name) {
            Some(volume) if volume.is_local() => return Ok(self.with_reasons(volume)),
            Some(volume) => match self.in_plugin(&volume).await {
                Err(problem) if is_gone(&problem) && self.follow_one(name).await => self.again(name).await,
                told => told,
            },
            None => Ok(self.anywhere(name).await.map(|(_, volume)| volume)),
        };
        match told {
            Ok(Some(volume)) => Ok(Arc::new(volume)),
            Ok(None) => Err(Error::of("get", name, Problem::NoSuchVolume)),
            Err(problem) => Err(Error::of("get", name, problem)),
        }
    }

    /// A known volume that has just followed its driver.
    async fn again(&self, name: &str) -> Result<Option<Volume>, Problem> {
        match self.0.known.find(name) {
            Some(volume) => self.in_plugin(&volume).await,
            None => Ok(None),
        }
    }

    /// A local volume, with the reasons why it is not mounted although somebody has it, and why its size is not kept.
    fn with_reasons(&self, volume: Arc<Volume>) -> Arc<Volume> {
        let reasons = [(MOUNT_ERROR, &self.0.lost), (QUOTA_ERROR, &self.0.unlimited)];
        let told = |(key, reasons): (&str, &Reasons)| {
            reasons.find(&volume.name).map(|reason| (key.to_owned(), reason.into()))
        };
        let status: Map<_, _> = reasons.into_iter().filter_map(told).collect();
        if status.is_empty() {
            return volume;
        }
        Arc::new(Volume { status: Some(status), ..Volume::clone(&volume) })
    }

    /// A known volume as its plugin tells it; `None` when the plugin answers that it has none of this name.
    pub(super) async fn in_plugin(&self, volume: &Volume) -> Result<Option<Volume>, Problem> {
        let checking = |source: drivers::Error| Problem::Checking {
            driver: volume.driver.clone(),
            name: volume.name.clone(),
            source: Box::new(source),
        };
        let driver = self.0.drivers.recorded(&volume.driver).await.map_err(checking)?;
        match driver.get(&volume.name).await {
            Ok(Some(found)) => {
                driver.capabilities().await;
                Ok(Some(told(&driver, found, Some(volume))))
            }
            Ok(None) => Ok(None),
            Err(error) if error.is_answer() => {
                let error = error.to_string();
                tracing::debug!(
                    driver = driver.name(),
                    volume = volume.name,
                    error,
                    "the volume is not there"
                );
                Ok(None)
            }
            Err(error) => Err(checking(error)),
        }
    }

    /// A volume without a record, at whichever driver has it; the first by name if several do.
    pub(super) async fn anywhere(&self, name: &str) -> Option<(Arc<Driver>, Volume)> {
        let deadline = Instant::now() + self.0.list_deadline;
        let ask = |driver: Arc<Driver>| async move {
            let patience = deadline.saturating_duration_since(Instant::now());
            let found = driver.get_within(name, patience).await.ok().flatten()?;
            // Late, it is told as local this once.
            let _ = timeout_at(deadline, driver.capabilities()).await;
            let volume = told(&driver, found, None);
            Some((driver, volume))
        };
        let drivers = self.0.drivers.all(|_| true, deadline).await;
        let drivers = drivers.into_iter().filter_map(|(_, driver)| driver.ok());
        let mut asked: FuturesOrdered<_> = drivers.map(ask).collect();
        while let Some(answer) = asked.next().await {
            if answer.is_some() {
                return answer;
            }
        }
        None
    }
}

/// What a driver has found, joined with what only we know of it.
pub(super) fn told(driver: &Driver, found: Found, known: Option<&Volume>) -> Volume {
    Volume {
        name: found.name,
        driver: driver.name().to_owned(),
        mountpoint: found.mountpoint,
        created_at: found.created_at.or_else(|| known.and_then(|known| known.created_at)),
        reach: driver.known_reach(),
        labels: known.and_then(|known| known.labels.clone()),
        options: known.and_then(|known| known.options.clone()),
        status: Some(found.status),
    }
}
