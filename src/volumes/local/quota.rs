//! The limit of a volume's data, `size`: each such volume's `_data` is a project of its own on the file system.
//!
//! Nothing of it is written down here: a directory carries its project, and the file system has the limit. In which
//! order, and why a kill in between hurts nobody:
//! - A limit is set on a volume that nobody has heard of yet: project first, then limit, then its record.
//! - A project is chosen that has neither files nor limits, so that it is nobody's, whoever else uses projects there.
//! - A limit is lifted while the files are there still: then the project is free when the last of them has gone.
//!
//! Who uses a volume is not known here, nor what the kernel's structures look like.

use std::io::ErrorKind;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{OpenHow, ResolveFlag, openat2};
use nix::unistd::fsync;

use super::{DATA, DIRECTORY, Error, Local, Made, Texts, io, open_directory, tree};
use crate::confine::quota::{self, ProjectId};
use crate::error::chain;

/// The most that a limit can be: what is more is as good as this.
const LIMIT_MAX_BYTES: u64 = i64::MAX.unsigned_abs();

/// How many bytes a volume may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::volumes) struct Limit(NonZeroU64);

impl Limit {
    /// The limit that options which were checked ask for.
    pub(in crate::volumes) fn of(options: Option<&Texts>) -> Option<Self> {
        let size = options?.get("size")?;
        Self::parse(size).ok().flatten()
    }

    /// Reads a size as dockerd does (`RAMInBytes` of docker/go-units): `1.5g`, `10 MiB`. Less than a byte is no limit.
    pub(super) fn parse(size: &str) -> Result<Option<Self>, Error> {
        let wrong = || Error::Size(size.to_owned());
        let lower = size.to_ascii_lowercase();
        let number = lower.strip_suffix('b').unwrap_or(&lower);
        let number = number.strip_suffix('i').unwrap_or(number);
        let (number, power) = match number.char_indices().last() {
            Some((at, unit)) if "kmgtp".contains(unit) => (&number[..at], "bkmgtp".find(unit).unwrap_or(0)),
            _ => (number, 0),
        };
        let number = number.strip_suffix(' ').unwrap_or(number);
        let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !number.split('.').all(is_digits) || number.split('.').count() > 2 {
            return Err(wrong());
        }
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let power = i32::try_from(power).map_err(|_| wrong())?;
        let bytes = (number * 1024_f64.powi(power)).trunc();
        // The one conversion that the language has no checked form of: through the text. Only what is too much has none.
        let bytes = format!("{bytes:.0}").parse().unwrap_or(LIMIT_MAX_BYTES).min(LIMIT_MAX_BYTES);
        Ok(NonZeroU64::new(bytes).map(Self))
    }

    fn bytes(self) -> u64 {
        self.0.get()
    }
}

/// Where the search for a free project goes on.
#[derive(Debug)]
pub(super) struct Projects(Mutex<ProjectId>);

impl Default for Projects {
    fn default() -> Self {
        Self(Mutex::new(ProjectId::FIRST))
    }
}

impl Projects {
    /// A project that is nobody's. It is not chosen again soon.
    fn choose(&self, is_free: impl FnMut(ProjectId) -> nix::Result<bool>) -> nix::Result<ProjectId> {
        let mut next = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let chosen = first_free(*next, is_free)?;
        *next = chosen.after();
        Ok(chosen)
    }
}

/// The first project that is free, from `start` on and round.
fn first_free(
    start: ProjectId,
    mut is_free: impl FnMut(ProjectId) -> nix::Result<bool>,
) -> nix::Result<ProjectId> {
    let mut project = start;
    while !is_free(project)? {
        project = project.after();
        if project == start {
            return Err(Errno::ENOSPC);
        }
    }
    Ok(project)
}

impl Local {
    /// Makes a volume's directories, or finds them, and limits what is in them. That is on disk when this returns.
    pub(in crate::volumes) fn create_limited(&self, name: &str, limit: Limit) -> Result<Made, Error> {
        if !self.has_quotas()? {
            return Err(Error::NoQuota);
        }
        let made = self.create(name)?;
        self.limit_anew(name, limit).map(|()| made).inspect_err(|_| {
            if let Err(error) = self.take_back(name, made) {
                tracing::warn!(
                    volume = name,
                    error = chain(&error),
                    "a failed create leaves something behind"
                );
            }
        })
    }

    /// Before a volume is used: its limit is set as it should be, also when its directory has come from elsewhere, which
    /// takes a look at every file in it.
    pub(in crate::volumes) fn keep_limit(&self, name: &str, limit: Limit) -> Result<(), Error> {
        // Somebody may have taken its directory away, which holds nothing.
        self.create(name)?;
        match self.renew_limit(name, limit) {
            Err(Error::Uncounted) => self.limit_anew(name, limit),
            other => other,
        }
    }

    /// At a start: sets the limit again, if the volume's files are counted.
    pub(in crate::volumes) fn renew_limit(&self, name: &str, limit: Limit) -> Result<(), Error> {
        if !self.has_quotas()? {
            return Err(Error::NoQuotaNow);
        }
        let failed = |errno| io(&self.mountpoint(name), "limiting", errno);
        let data = self.open_data(name)?;
        let project = self.own_project(&data).map_err(failed)?.ok_or(Error::Uncounted)?;
        quota::limit(&data, project, limit.bytes()).map_err(failed)
    }

    /// The project of a volume's data; `None` if that is gone, or in none of its own.
    pub(super) fn project(&self, name: &str) -> Result<Option<ProjectId>, Error> {
        match self.open_data(name) {
            Ok(data) => {
                self.own_project(&data).map_err(|errno| io(&self.mountpoint(name), "looking at", errno))
            }
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Lifts the limit of a project whose files are about to be deleted: it is free when the last has gone.
    pub(super) fn release(&self, project: ProjectId) {
        if let Err(errno) = quota::limit(&self.root, project, 0) {
            tracing::warn!(%project, %errno, "the limit of a removed volume's project stays");
        }
    }

    /// The same before an empty directory is removed, if nothing else is in its project.
    pub(super) fn release_alone(&self, data: &OwnedFd) {
        let alone = self.own_project(data).ok().flatten();
        let is_alone = |project| quota::account(data, project).is_ok_and(|account| account.files == 1);
        if let Some(project) = alone.filter(|project| is_alone(*project)) {
            self.release(project);
        }
    }

    fn has_quotas(&self) -> Result<bool, Error> {
        quota::are_enforced(&self.root).map_err(|errno| io(&self.path, "asking for the quotas of", errno))
    }

    /// Counts all of a volume's files in a project that is nobody's, and limits that. The volume's own directory comes
    /// last: a kill in between leaves it without a project, and all of it is done again.
    fn limit_anew(&self, name: &str, limit: Limit) -> Result<(), Error> {
        let data = self.open_data(name)?;
        let limited = || -> nix::Result<()> {
            let is_free = |project| quota::account(&data, project).map(|account| account.is_free());
            let project = self.projects.choose(is_free)?;
            tree::each_file(&data, &mut |file| quota::assign(file, project))?;
            quota::assign(&data, project)?;
            quota::limit(&data, project, limit.bytes())?;
            fsync(&data)
        };
        limited().map_err(|errno| io(&self.mountpoint(name), "limiting", errno))
    }

    /// The project of a directory, unless it is that of the whole place.
    fn own_project(&self, data: &OwnedFd) -> nix::Result<Option<ProjectId>> {
        let Some(project) = quota::project(data)? else { return Ok(None) };
        Ok((quota::project(&self.root)? != Some(project)).then_some(project))
    }

    /// What is mounted there is not opened.
    fn open_data(&self, name: &str) -> Result<OwnedFd, Error> {
        let volume = open_directory(&self.root, &self.path, name)?;
        let resolve = ResolveFlag::RESOLVE_NO_XDEV | ResolveFlag::RESOLVE_NO_SYMLINKS;
        openat2(&volume, DATA, OpenHow::new().flags(DIRECTORY).resolve(resolve))
            .map_err(|errno| io(&self.mountpoint(name), "opening", errno))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_dockerd_reads_them() {
        for (size, bytes) in [
            ("0", 0),
            ("0.5b", 0),
            ("1", 1),
            ("1b", 1),
            ("1.5 KiB", 1536),
            ("5 kib", 5 << 10),
            ("1m", 1 << 20),
            ("10MB", 10 << 20),
            ("0.3k", 307),
            ("1.5g", 3 << 29),
            ("2T", 2 << 40),
            ("1p", 1 << 50),
            ("99999999p", LIMIT_MAX_BYTES),
        ] {
            let limit = Limit::parse(size).unwrap();
            assert_eq!(limit.map_or(0, Limit::bytes), bytes, "{size}");
        }
        for size in ["", "hello", "-1", "-1k", " 5k", "5k ", "5  k", "9e", "1.2.3", ".5", "5.", "k", "1e3"] {
            let error = Limit::parse(size).unwrap_err();
            assert_eq!(error.to_string(), format!("invalid size: '{size}'"));
        }
    }

    #[test]
    fn options_without_a_size_ask_for_no_limit() {
        let texts = |name: &str, value: &str| Texts::from([(name.to_owned(), value.to_owned())]);
        assert_eq!(Limit::of(None), None);
        assert_eq!(Limit::of(Some(&texts("type", "1m"))), None);
        assert_eq!(Limit::of(Some(&texts("size", "0"))), None);
        assert_eq!(Limit::of(Some(&texts("size", "1m"))).map(Limit::bytes), Some(1 << 20));
    }

    #[test]
    fn a_project_of_others_is_passed_over_and_none_is_chosen_twice() {
        let id = |number: u32| number.to_string().parse::<ProjectId>().unwrap();
        let projects = Projects(Mutex::new(id(2)));
        let choose = || projects.choose(|project| Ok(![id(3), id(4)].contains(&project))).unwrap();
        assert_eq!([choose(), choose(), choose()], [id(2), id(5), id(6)]);
        let refused = projects.choose(|_| Err(Errno::ESRCH));
        assert_eq!((refused, choose()), (Err(Errno::ESRCH), id(7)));
        let last = id(u32::MAX - 1);
        assert_eq!(first_free(last, |project| Ok(project != last)), Ok(ProjectId::FIRST));
    }
}
