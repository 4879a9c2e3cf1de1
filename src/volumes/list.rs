//! `GET /volumes`.
//!
//! Local volumes come from memory. Every plugin that may have something is asked at once, and has
//! the drivers' list deadline; one that does not answer is a warning, and what we know of its volumes is listed instead.
//! A name is listed once: under the driver its record names, or else the local one, or else the first by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::join_all;
use tokio::time::{Instant, timeout_at};

use super::inspect::told;
use super::{Filter, Volume, Volumes};
use crate::drivers::{Driver, Error, Found, Moves, Reach};
use crate::error::chain;

/// A list, and what is missing from it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Listing {
    /// The volumes, by name.
    pub volumes: Vec<Arc<Volume>>,
    /// Which drivers did not answer, and why.
    pub warnings: Vec<String>,
}

/// Volumes, each with whether something uses it.
type Told = Vec<(Arc<Volume>, bool)>;

impl Volumes {
    /// The volumes that pass the filter. Never fails, and takes the drivers' list deadline at the most.
    pub async fn list(&self, filter: &Filter) -> Listing {
        let deadline = Instant::now() + self.0.list_deadline;
        let drivers = self.0.drivers.all(|name| filter.wants_driver(name), deadline).await;
        let matcher = filter.matcher();
        let mut volumes = Vec::new();
        if filter.wants_driver(super::LOCAL_DRIVER) {
            self.0.known.each(|entry| {
                if entry.volume.is_local() && matcher.matches(&entry.volume, entry.is_held()) {
                    volumes.push(Arc::clone(&entry.volume));
                }
            });
        }
        let asked = drivers.into_iter().map(|(name, driver)| async move {
            let answer = match driver {
                Ok(driver) => ask(driver, deadline).await,
                Err(error) => Err(Unlisted { why: chain(&error), reach: Reach::default() }),
            };
            (name, answer)
        });
        let (mut warnings, mut of_plugins) = (Vec::new(), BTreeMap::new());
        let moves = self.0.drivers.moves();
        for (name, answer) in join_all(asked).await {
            let told = match answer {
                Ok((driver, found)) => {
                    self.follow_listed(&driver, &found, deadline).await;
                    self.joined(&driver, found, &moves)
                }
                Err(Unlisted { why, reach }) => {
                    let remembered = self.remembered(&name, reach, &moves);
                    // A legacy plugin that nobody has used may be a socket that somebody left behind.
                    if remembered.is_empty() && self.0.drivers.lookup(&name).is_err() {
                        tracing::debug!(driver = name, why, "a legacy plugin is left out");
                    } else {
                        warnings.push(format!("list {name}: {why}"));
                    }
                    remembered
                }
            };
            for (volume, held) in told {
                if matcher.matches(&volume, held) {
                    of_plugins.entry(volume.name.clone()).or_insert(volume);
                }
            }
        }
        of_plugins.retain(|name, _| volumes.binary_search_by(|volume| volume.name.cmp(name)).is_err());
        if !of_plugins.is_empty() {
            volumes.extend(of_plugins.into_values());
            // Two lists in order, one behind the other.
            volumes.sort_by(|one, other| one.name.cmp(&other.name));
        }
        Listing { volumes, warnings }
    }

    /// What a driver listed, joined with our records, without names that are another driver's.
    fn joined(&self, driver: &Driver, found: Vec<Found>, moves: &Moves) -> Told {
        let mut volumes = Vec::with_capacity(found.len());
        for found in found {
            match self.0.known.look(&found.name) {
                Some((volume, _)) if moves.now(&volume.driver) != driver.name() => {
                    let (name, owner) = (&volume.name, &volume.driver);
                    tracing::warn!(
                        volume = name,
                        driver = driver.name(),
                        owner,
                        "left out: the name is taken"
                    );
                }
                Some((volume, held)) => {
                    volumes.push((Arc::new(without_status(told(driver, found, Some(&volume)))), held));
                }
                None => volumes.push((Arc::new(without_status(told(driver, found, None))), false)),
            }
        }
        volumes
    }

    /// What we remember of a driver's volumes.
    fn remembered(&self, driver: &str, reach: Reach, moves: &Moves) -> Told {
        let mut volumes = Vec::new();
        self.0.known.each(|entry| {
            if moves.now(&entry.volume.driver) == driver {
                let volume = Volume { reach, ..Volume::clone(&entry.volume) };
                volumes.push((Arc::new(volume), entry.is_held()));
            }
        });
        volumes
    }
}

/// A driver that did not list its volumes.
struct Unlisted {
    why: String,
    /// As far as it is known.
    reach: Reach,
}

/// Asks one driver for its volumes, and how far they reach.
async fn ask(driver: Arc<Driver>, deadline: Instant) -> Result<(Arc<Driver>, Vec<Found>), Unlisted> {
    let answer =
        driver.list(deadline.saturating_duration_since(Instant::now())).await.map_err(|error| match error {
            Error::Deadline { deadline, .. } => {
                let seconds = deadline.as_secs_f64();
                format!("the driver did not answer within {seconds:.0} s, its volumes may be missing")
            }
            error => chain(&error),
        });
    if answer.as_ref().is_ok_and(|found| !found.is_empty()) {
        // Late, it is told as local this once.
        let _ = timeout_at(deadline, driver.capabilities()).await;
    }
    match answer {
        Ok(found) => Ok((driver, found)),
        Err(why) => Err(Unlisted { why, reach: driver.known_reach() }),
    }
}

/// Lists do not tell a driver's status, as dockerd's do not.
fn without_status(volume: Volume) -> Volume {
    Volume { status: None, ..volume }
}
