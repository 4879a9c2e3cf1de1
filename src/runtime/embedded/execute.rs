//! The last step of a container's first process: it becomes the program. It knows the process of the spec only.

use libcontainer::oci_spec::runtime::Spec;
use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};
use nix::unistd::{AccessFlags, access};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs the program by `std`'s exec, which also gives SIGPIPE back the meaning that Rust takes from it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Exec;

impl Executor for Exec {
    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        let process = spec.process().as_ref();
        let program = process.and_then(|process| process.args().as_ref()?.first());
        let program = program.ok_or_else(|| invalid("there is nothing to run".to_owned()))?;
        let variables = process.and_then(|process| process.env().as_deref()).unwrap_or_default();
        let search = variables.iter().find_map(|variable| variable.strip_prefix("PATH=")).unwrap_or_default();
        find(program, search).map(|_| ()).map_err(invalid)
    }

    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let args = spec.process().as_ref().and_then(|process| process.args().as_deref()).unwrap_or_default();
        let (program, args) = args.split_first().ok_or(ExecutorError::InvalidArg)?;
        let error = Command::new(program).args(args).exec();
        // Whoever started the container has gone: the log is where its user looks.
        let _ = writeln!(io::stderr(), "exec {program}: {error}");
        Err(ExecutorError::Other(error.to_string()))
    }
}

fn invalid(words: String) -> ExecutorValidationError {
    ExecutorValidationError::ArgValidationError(words)
}

/// The program's file as the kernel will look for it, or why there is none, in the words of runc.
fn find(program: &str, search: &str) -> Result<PathBuf, String> {
    if program.contains('/') {
        return match access(program, AccessFlags::X_OK) {
            Ok(()) if Path::new(program).is_dir() => Err(format!("exec: {program:?}: is a directory")),
            Ok(()) => Ok(program.into()),
            Err(nix::errno::Errno::EACCES) => Err(format!("exec: {program:?}: permission denied")),
            Err(error) => {
                let reason = error.desc().to_lowercase();
                Err(format!("exec: {program:?}: stat {program}: {reason}"))
            }
        };
    }
    let places = search.split(':').filter(|place| !place.is_empty());
    places
        .map(|place| Path::new(place).join(program))
        .find(|path| path.is_file() && access(path, AccessFlags::X_OK).is_ok())
        .ok_or_else(|| format!("exec: {program:?}: executable file not found in $PATH"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_by_path_or_in_the_search_path_and_missed_in_the_words_of_runc() {
        assert_eq!(find("/bin/sh", "").unwrap(), Path::new("/bin/sh"));
        assert_eq!(find("sh", "/no/such::/bin").unwrap(), Path::new("/bin/sh"));
        assert_eq!(find("/foo", "/bin").unwrap_err(), "exec: \"/foo\": stat /foo: no such file or directory");
        assert_eq!(find("/etc/passwd", "/bin").unwrap_err(), "exec: \"/etc/passwd\": permission denied");
        assert_eq!(find("/bin", "/").unwrap_err(), "exec: \"/bin\": is a directory");
        assert_eq!(find("foo", "/bin").unwrap_err(), "exec: \"foo\": executable file not found in $PATH");
        assert_eq!(find("bin", "/").unwrap_err(), "exec: \"bin\": executable file not found in $PATH");
    }
}
