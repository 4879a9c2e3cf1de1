//! Which runtime is called, and with which arguments.
//!
//! Pure but for the look at the search path. It knows the words of runc's command line (youki and crun understand
//! the same) and does not run anything.

use super::record::{Commands, Desk};
use super::{Error, Result};
use oci_spec::runtime::Spec;
use std::ffi::OsStr;
use std::fmt::Debug;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Directories where runtimes are installed and that an unprivileged user's PATH often lacks.
const SYSTEM_PATH: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// One container, as a runtime has to be told of it.
#[derive(Debug, Clone, Copy)]
pub struct Container<'a> {
    /// Its id, checked.
    pub id: &'a str,
    /// The directory of the runtime's own state.
    pub root: &'a Path,
    /// The directory with `config.json`.
    pub bundle: &'a Path,
    /// A directory of ours, where the pid file and the messages go.
    pub desk: &'a Path,
}

/// An OCI runtime: how to call it.
pub trait Runtime: Debug + Send + Sync {
    /// Why it shall not be used on this machine although it might run; `None` when there is nothing against it.
    fn objection(&self) -> Option<String> {
        None
    }

    /// The spec in the words that this runtime knows.
    fn spell(&self, _: &mut Spec) {}

    /// The argument lists for one container.
    ///
    /// # Errors
    /// [`Error::Path`] when a path cannot be an argument.
    fn commands(&self, container: &Container<'_>) -> Result<Commands>;
}

/// A program with runc's command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeProgram {
    path: PathBuf,
}

impl RuntimeProgram {
    /// Finds `name`: a path when it has a slash, else a name in `search_path` (the value of PATH) or in the
    /// system's `sbin` directories.
    ///
    /// # Errors
    /// [`Error::Program`] when there is no such executable file; it names what was looked for and says what to do.
    pub fn find(name: &str, search_path: &OsStr) -> Result<Self> {
        if name.contains('/') {
            let path = std::path::absolute(name).map_err(Error::io("make absolute", Path::new(name)))?;
            if executable(&path) {
                return Ok(Self { path });
            }
            return Err(Error::Program {
                name: name.to_owned(),
                place: "that is an executable file".to_owned(),
            });
        }
        let places = std::env::split_paths(search_path).chain(SYSTEM_PATH.iter().map(PathBuf::from));
        let found = places.filter(|place| place.is_absolute()).map(|place| place.join(name));
        match found.into_iter().find(|path| !name.is_empty() && executable(path)) {
            Some(path) => Ok(Self { path }),
            None => Err(Error::Program { name: name.to_owned(), place: "in PATH".to_owned() }),
        }
    }

    /// The program's absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Runtime for RuntimeProgram {
    fn commands(&self, container: &Container<'_>) -> Result<Commands> {
        let desk = Desk::new(container.desk.to_owned());
        let (pid_file, messages) = (desk.pid_file(), desk.messages());
        let global = [
            text(&self.path)?,
            "--root",
            text(container.root)?,
            "--log",
            text(&messages)?,
            "--log-format",
            "json",
        ];
        let run = [
            "run",
            "--detach",
            "--bundle",
            text(container.bundle)?,
            "--pid-file",
            text(&pid_file)?,
            container.id,
        ];
        let delete = ["delete", "--force", container.id];
        let list = |own: &[&str]| global.iter().chain(own).map(|word| (*word).to_owned()).collect();
        let (run, delete) = (list(&run), list(&delete));
        Ok(Commands { run, delete, state: container.root.join(container.id), pid_file, messages })
    }
}

/// A path as a word on a command line.
pub(super) fn text(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| Error::Path(path.to_owned()))
}

fn executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::chain;

    #[test]
    fn a_program_is_found_by_name_or_by_path_and_missed_with_advice() {
        let dir = tempfile::tempdir().unwrap();
        let (good, flat) = (dir.path().join("myrunc"), dir.path().join("flat"));
        std::fs::write(&good, "").unwrap();
        std::fs::set_permissions(&good, PermissionsExt::from_mode(0o755)).unwrap();
        std::fs::write(&flat, "").unwrap();
        std::fs::set_permissions(&flat, PermissionsExt::from_mode(0o644)).unwrap();
        let search = dir.path().as_os_str();
        assert_eq!(RuntimeProgram::find("myrunc", search).unwrap().path(), good);
        assert_eq!(RuntimeProgram::find(good.to_str().unwrap(), OsStr::new("")).unwrap().path(), good);
        for missing in ["flat", flat.to_str().unwrap(), "", "no-such-runtime", "/no/such"] {
            let error = RuntimeProgram::find(missing, search).unwrap_err();
            let line = chain(&error);
            assert!(
                line.contains(&format!("{missing:?}")) && line.contains("apt-get install runc"),
                "{line}"
            );
        }
    }

    #[test]
    fn the_id_is_the_last_word_of_each_command() {
        let program = RuntimeProgram { path: "/usr/bin/runc".into() };
        let [root, bundle, desk] = ["/r", "/b", "/m"].map(Path::new);
        let commands = program.commands(&Container { id: "ab", root, bundle, desk }).unwrap();
        assert_eq!(
            commands.run.join(" "),
            "/usr/bin/runc --root /r --log /m/runtime.log --log-format json run --detach --bundle /b \
             --pid-file /m/container.pid ab"
        );
        assert_eq!(
            commands.delete.join(" "),
            "/usr/bin/runc --root /r --log /m/runtime.log --log-format json delete --force ab"
        );
        assert_eq!(commands.state, Path::new("/r/ab"));
    }
}
