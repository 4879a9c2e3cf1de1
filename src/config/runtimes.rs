//! Which runtimes may run plugins, and in which order they are tried. It looks at no disk: whether one works is found
//! out by who runs it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Error;

/// The runtime inside our own program.
const EMBEDDED: &str = "embedded";
/// The program that is looked for in `PATH` without being added.
const RUNC: &str = "runc";

/// What a runtime is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// The one inside our own program.
    Embedded,
    /// A program with runc's command line: a path, or a name to be found in `PATH`.
    Path(PathBuf),
}

/// The runtimes there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runtimes {
    added: BTreeMap<String, PathBuf>,
    default: Option<String>,
}

impl Runtimes {
    /// From `--add-runtime NAME=PATH`, the file's `runtimes` and `--default-runtime`.
    ///
    /// # Errors
    /// A flag that is not `NAME=PATH`, a name that is given twice or is reserved, a default that does not exist.
    pub(super) fn new(
        flags: &[String],
        file: BTreeMap<String, PathBuf>,
        default: Option<String>,
    ) -> Result<Self, Error> {
        let mut added = file;
        for flag in flags {
            let (name, path) = flag
                .split_once('=')
                .filter(|(name, path)| !name.is_empty() && !path.is_empty())
                .ok_or_else(|| Error::NotARuntime(flag.clone()))?;
            if added.insert(name.to_owned(), path.into()).is_some() {
                return Err(Error::RuntimeTwice(name.to_owned()));
            }
        }
        if let Some(reserved) = [EMBEDDED, RUNC].into_iter().find(|name| added.contains_key(*name)) {
            return Err(Error::ReservedRuntime(reserved));
        }
        match default {
            Some(name) if ![EMBEDDED, RUNC].contains(&name.as_str()) && !added.contains_key(&name) => {
                Err(Error::NoSuchRuntime(name))
            }
            default => Ok(Self { added, default }),
        }
    }

    /// The one that was asked for by `--default-runtime`.
    pub fn asked_for(&self) -> Option<&str> {
        self.default.as_deref()
    }

    /// All, in the order they are tried: what was asked for, the two that are always there, the rest by name.
    pub fn in_order(&self) -> Vec<(&str, Program)> {
        let added = self.added.iter().map(|(name, path)| (name.as_str(), Program::Path(path.clone())));
        let usual = [(EMBEDDED, Program::Embedded), (RUNC, Program::Path(RUNC.into()))];
        let mut all: Vec<_> = usual.into_iter().chain(added).collect();
        // Stable: what was not asked for keeps its place.
        all.sort_by_key(|(name, _)| self.asked_for() != Some(name));
        all
    }

    /// The programs by name, as `docker info` lists them; `own` is ours.
    pub fn programs(&self, own: &Path) -> BTreeMap<String, PathBuf> {
        let path = |program| match program {
            Program::Embedded => own.to_owned(),
            Program::Path(path) => path,
        };
        self.in_order().into_iter().map(|(name, program)| (name.to_owned(), path(program))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(flags: &[&str], default: Option<&str>) -> Result<String, String> {
        let flags: Vec<String> = flags.iter().map(ToString::to_string).collect();
        let runtimes = Runtimes::new(&flags, BTreeMap::new(), default.map(str::to_owned));
        let runtimes = runtimes.map_err(|error| error.to_string())?;
        Ok(runtimes.in_order().iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn what_was_asked_for_is_tried_first() {
        assert_eq!(names(&[], None).unwrap(), "embedded runc");
        assert_eq!(names(&[], Some("runc")).unwrap(), "runc embedded");
        assert_eq!(names(&["z=/z", "crun=/c"], None).unwrap(), "embedded runc crun z");
        assert_eq!(names(&["z=/z", "crun=/c"], Some("z")).unwrap(), "z embedded runc crun");
        assert!(names(&[], Some("crun")).unwrap_err().contains("'crun' does not exist"));
        assert!(names(&["embedded=/x"], None).unwrap_err().contains("'embedded' is reserved"));
        assert!(names(&["a=/x", "a=/y"], None).unwrap_err().contains("\"a\" is given twice"));
    }
}
