//! Local volumes that may hold so much only (`size`): their limit is seen to at the start and before each use, and while
//! it cannot be kept, inspect says why.
//!
//! How the file system is told is the local driver's business.

use std::sync::Arc;

use super::local::Limit;
use super::reasons::Reasons;
use super::{Known, Problem, Volume, Volumes, local};
use crate::error::chain;

/// At the start: sets the limit of each volume that has one again, and notes why where that cannot be. Blocking; only
/// volumes with a limit are looked at.
pub(super) fn renew(local: &local::Local, known: &Known) -> Reasons {
    let mut limited = Vec::new();
    known.each(|entry| {
        limited.extend(of(&entry.volume).map(|limit| (Arc::clone(&entry.volume), limit)));
    });
    let reasons = Reasons::default();
    for (volume, limit) in limited {
        if let Err(error) = local.renew_limit(&volume.name, limit) {
            let error = chain(&error);
            tracing::warn!(volume = volume.name, error, "the size of a volume is not kept");
            reasons.note(&volume.name, error);
        }
    }
    reasons
}

impl Volumes {
    /// Sees to the limit of a local volume, whose turn it is, before it is used: without it, it is not.
    pub(super) async fn keep_limit(&self, volume: &Volume) -> Result<(), Problem> {
        let Some(limit) = of(volume) else { return Ok(()) };
        let kept = self.on_disk(&volume.name, move |local, name| local.keep_limit(name, limit)).await;
        match &kept {
            Ok(()) => self.0.unlimited.forget(&volume.name),
            Err(problem) => self.0.unlimited.note(&volume.name, chain(problem)),
        }
        kept
    }
}

/// The limit of a volume, if it is a local one that has one.
pub(super) fn of(volume: &Volume) -> Option<Limit> {
    if volume.is_local() { Limit::of(volume.options.as_ref()) } else { None }
}
