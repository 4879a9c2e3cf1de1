//! The file with the daemon's process id. It informs; what keeps a second daemon away is the lock on the state.

use std::io;
use std::path::{Path, PathBuf};

use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::Error;

/// The file, with our id in it; removed when this is dropped.
#[derive(Debug)]
pub(super) struct Pidfile {
    path: PathBuf,
    content: String,
}

impl Pidfile {
    /// Writes our id, over one whose process is gone.
    pub(super) fn write(path: &Path) -> Result<Self, Error> {
        let failed = |error| Error::Pidfile(path.to_owned(), error);
        match std::fs::read_to_string(path) {
            Ok(content) => {
                if let Some(pid) = running(&content) {
                    return Err(Error::Running { path: path.to_owned(), pid });
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        let content = std::process::id().to_string();
        std::fs::write(path, &content).map_err(failed)?;
        Ok(Self { path: path.to_owned(), content })
    }
}

/// The process a pidfile names, if it lives, is not ourselves and runs the program we run: numbers are used again.
fn running(content: &str) -> Option<i32> {
    let pid: i32 = content.trim().parse().ok().filter(|pid| *pid > 0)?;
    let another = u32::try_from(pid).is_ok_and(|pid| pid != std::process::id());
    let program = |of: &str| std::fs::read_to_string(format!("/proc/{of}/comm")).ok();
    let same_program = || program(&pid.to_string()) == program("self");
    (another && kill(Pid::from_raw(pid), None).is_ok() && same_program()).then_some(pid)
}

impl Drop for Pidfile {
    fn drop(&mut self) {
        if std::fs::read_to_string(&self.path).is_ok_and(|content| content == self.content)
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the pidfile");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_pidfile_is_written_over_a_dead_one_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("made/d.pid");
        for stale in [None, Some("x"), Some("-1"), Some("4194305"), Some("1")] {
            if let Some(stale) = stale {
                std::fs::write(&path, stale).unwrap();
            }
            let pidfile = Pidfile::write(&path).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), std::process::id().to_string());
            drop(pidfile);
            assert!(!path.exists());
        }
    }

    #[test]
    fn a_living_process_of_the_same_program_is_respected() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("d.pid");
        // A program of our own name: the shell's argument zero does not matter, its file name does.
        let name = std::fs::read_to_string("/proc/self/comm").unwrap();
        let program = dir.path().join(name.trim_end());
        std::fs::copy("/bin/cat", &program).unwrap();
        let mut cat = Command::new(&program);
        let mut child = cat.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        // It has its name for certain once it has echoed a byte.
        child.stdin.as_mut().unwrap().write_all(b"x").unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        std::fs::write(&path, child.id().to_string()).unwrap();
        let error = Pidfile::write(&path).unwrap_err().to_string();
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(error.contains(&format!("process {} is still running", child.id())), "{error}");
        Pidfile::write(&path).unwrap();
    }
}
