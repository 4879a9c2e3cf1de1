//! Which runtime is used: the first of some that has run a tiny container here.
//!
//! A program that is installed need not work: crun refuses machines with both versions of cgroups, others lack a
//! library or a permission. The trial asks of a runtime what plugins will (`trial`), once, before the first
//! container. This file knows names and outcomes, not what the trial runs.

use super::program::Runtime;
use super::trial::Trial;
use super::{Error, Launcher, Result};
use crate::error::chain;
use std::sync::Arc;
use tokio::sync::OnceCell;

/// A runtime that may be used, with the name it has for users.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// As in `--default-runtime`.
    pub name: String,
    /// How it is called.
    pub runtime: Arc<dyn Runtime>,
}

/// Some candidates, best first, and the one that was found to work.
#[derive(Debug)]
pub(super) struct Choice {
    candidates: Vec<Candidate>,
    chosen: OnceCell<Candidate>,
    trial: Option<Trial>,
}

impl Choice {
    /// One that needs no trial.
    pub(super) fn only(candidate: Candidate) -> Self {
        Self { candidates: Vec::new(), chosen: OnceCell::new_with(Some(candidate)), trial: None }
    }

    /// The first of these that works.
    pub(super) fn of(candidates: Vec<Candidate>, trial: Trial) -> Self {
        Self { candidates, chosen: OnceCell::new(), trial: Some(trial) }
    }

    /// The name of the one that is used, or of the first that will be tried.
    pub(super) fn name(&self) -> &str {
        let first = self.chosen.get().or_else(|| self.candidates.first());
        first.map_or("", |candidate| candidate.name.as_str())
    }

    /// The one that is used; the first call tries, others wait for it. When none works, the next call tries again:
    /// somebody may have installed one.
    ///
    /// # Errors
    /// [`Error::NoRuntime`] with each candidate's reason.
    pub(super) async fn make(&self, launcher: &Launcher) -> Result<&dyn Runtime> {
        let chosen = self.chosen.get_or_try_init(|| self.first_that_works(launcher)).await?;
        Ok(&*chosen.runtime)
    }

    async fn first_that_works(&self, launcher: &Launcher) -> Result<Candidate> {
        let mut reasons = Vec::new();
        for candidate in &self.candidates {
            let Candidate { name, runtime } = candidate;
            let failed = match (runtime.objection(), &self.trial) {
                (Some(objection), _) => Some(objection),
                (None, Some(trial)) => trial.run(launcher, &**runtime).await.err().map(|error| chain(&error)),
                (None, None) => None,
            };
            let Some(reason) = failed else {
                tracing::info!(runtime = name, "plugins are run by this runtime");
                return Ok(candidate.clone());
            };
            tracing::warn!(runtime = name, reason, "this runtime cannot be used here; trying the next");
            reasons.push(format!("{name}: {reason}"));
        }
        Err(Error::NoRuntime { reasons: reasons.join("; ") })
    }
}
