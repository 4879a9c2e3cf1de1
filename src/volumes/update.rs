//! `PUT /volumes/{name}` with labels, which dockerd does not have.
//!
//! Labels are ours alone: no driver is asked, so that those of a volume can be changed while its plugin is down. A volume
//! that only its plugin knows gets a record with its first labels.

use std::sync::Arc;

use super::record::{Record, VOLUMES};
use super::{Create, Error, Problem, Result, Texts, Volume, Volumes};
use crate::finish::finish;
use crate::state::Change;

impl Volumes {
    /// Gives a volume these labels in place of those it has.
    ///
    /// # Errors
    /// `get x: no such volume`; `update x: …` when the record could not be written: it has the labels it had.
    pub async fn relabel(&self, name: &str, labels: Texts) -> Result<()> {
        let (volumes, name) = (self.clone(), name.to_owned());
        finish(async move { volumes.relabel_to_the_end(&name, labels).await }).await
    }

    async fn relabel_to_the_end(&self, name: &str, labels: Texts) -> Result<()> {
        let _turn = self.0.turns.take(name).await;
        let labels = Some(labels);
        let failed = |problem| Error::of("update", name, problem);
        let Some(volume) = self.0.known.find(name) else {
            let Some((driver, _)) = self.anywhere(name).await else {
                return Err(Error::of("get", name, Problem::NoSuchVolume));
            };
            let request = Create { labels, ..Create::default() };
            self.record(name, driver.name(), request).await.map_err(failed)?;
            return Ok(());
        };
        if volume.labels == labels {
            return Ok(());
        }
        self.rewrite(name, labels.clone()).await.map_err(failed)?;
        self.0.known.replace(Arc::new(Volume { labels, ..Volume::clone(&volume) }));
        self.tell("update", name, &volume.driver);
        Ok(())
    }

    /// Writes the record of a volume that has one anew.
    async fn rewrite(&self, name: &str, labels: Option<Texts>) -> Result<(), Problem> {
        let record = self.0.known.record(name).ok_or(Problem::NoSuchVolume)?;
        let record = Record { labels, ..record };
        self.0.store.commit(Change::new().put(VOLUMES, name, &record)?).await?;
        Ok(())
    }
}
