//! The runtime that needs no other program: libcontainer, in a process of its own.
//!
//! Our own binary, started by a monitor as `dockplugd runtime run …` or `dockplugd runtime delete …`, so that the code
//! which forks and changes namespaces never shares a process with an async run time. It knows no plugin and decides
//! nothing: the bundle says what to run. Before a container's process is made, the program begins anew from where nobody
//! can write to it (`seal`).
//!
//! Facts: youki's libcontainer 0.7; runc's `run --detach` and `delete --force`, whose outcome these two have.

mod execute;
mod notes;
mod seal;

use super::Result;
use super::program::{Container, Runtime, text};
use super::record::{Commands, Desk};
use crate::error::chain;
use execute::Exec;
use libcontainer::container::Container as Known;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::error::LibcontainerError;
use libcontainer::signal::Signal;
use libcontainer::syscall::syscall::SyscallType;
use notes::Notes;
use oci_spec::runtime::Spec;
use std::fs::{OpenOptions, remove_dir_all};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The word on the command line that makes this program a runtime.
const VERB: &str = "runtime";
/// What it is asked then.
const RUN: &str = "run";
/// What it asks of itself, once nobody can write to the program that it is.
const RUN_SEALED: &str = "run-sealed";
const DELETE: &str = "delete";
/// Where cgroups are mounted.
const CGROUPS: &str = "/sys/fs/cgroup";

/// The runtime inside our own program.
#[derive(Debug, Clone)]
pub struct EmbeddedRuntime {
    own_exe: PathBuf,
}

impl EmbeddedRuntime {
    /// `own_exe` is the path of this program.
    pub fn new(own_exe: PathBuf) -> Self {
        Self { own_exe }
    }
}

impl Runtime for EmbeddedRuntime {
    fn objection(&self) -> Option<String> {
        let kind = nix::sys::statfs::statfs(CGROUPS).ok()?.filesystem_type();
        (kind == nix::sys::statfs::CGROUP2_SUPER_MAGIC)
            .then(|| "on a machine with cgroup v2 alone it cannot keep a container from devices".to_owned())
    }

    fn spell(&self, spec: &mut Spec) {
        // runc knows `rshared` and more; the specification only the plain words, which mean the same to libcontainer.
        if let Some(linux) = spec.linux_mut()
            && let Some(plain) = linux.rootfs_propagation().as_deref().and_then(|word| word.strip_prefix('r'))
        {
            let plain = plain.to_owned();
            linux.set_rootfs_propagation(Some(plain));
        }
    }

    fn commands(&self, container: &Container<'_>) -> Result<Commands> {
        let desk = Desk::new(container.desk.to_owned());
        let (pid_file, messages) = (desk.pid_file(), desk.messages());
        let (own, root, id) = (text(&self.own_exe)?, text(container.root)?, container.id);
        let run = [own, VERB, RUN, text(&messages)?, root, id, text(container.bundle)?, text(&pid_file)?];
        let delete = [own, VERB, DELETE, text(&messages)?, root, id];
        Ok(Commands {
            run: run.map(str::to_owned).to_vec(),
            delete: delete.map(str::to_owned).to_vec(),
            state: container.root.join(id),
            pid_file,
            messages,
        })
    }
}

/// Becomes the runtime when the command line says so; `None` for every other command line. To be called first in
/// `main`, before a thread or an async run time exists.
pub fn dispatch() -> Option<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    if arguments.next()? != VERB {
        return None;
    }
    let words: Vec<String> = arguments.collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let outcome = match *words.as_slice() {
        [verb @ (RUN | RUN_SEALED), messages, root, id, bundle, pid_file] => told(messages, || {
            if verb == RUN {
                seal(&[VERB, RUN_SEALED, messages, root, id, bundle, pid_file], root.as_ref())?;
            }
            run(root.as_ref(), id, bundle.as_ref(), pid_file.as_ref())
        }),
        [DELETE, messages, root, id] => told(messages, || delete(&Path::new(root).join(id))),
        _ => Err("usage: dockplugd runtime run|delete … (dockplugd itself does that)".to_owned()),
    };
    Some(match outcome {
        Ok(done) => done,
        Err(words) => {
            // Nobody else is left to be told.
            let _ = writeln!(io::stderr(), "{words}");
            ExitCode::FAILURE
        }
    })
}

/// Lets the program begin anew from where nobody can write to it; returns when it did.
fn seal(arguments: &[&str], root: &Path) -> Result<(), Failure> {
    if !pentacle::is_sealed() {
        // Whatever the reason, a copy will do; it takes longer, and memory while the container is made.
        let Err(_) = seal::again(arguments, root);
    }
    // With the same arguments, so it comes here again.
    pentacle::ensure_sealed().map_err(Failure::Seal)
}

/// Creates and starts a container with the standard streams of this process; returns while it runs.
fn run(root: &Path, id: &str, bundle: &Path, pid_file: &Path) -> Result<(), Failure> {
    let builder = ContainerBuilder::new(id.to_owned(), SyscallType::default())
        .with_root_path(root)?
        .with_pid_file(Some(pid_file))?
        .with_executor(Exec)
        .validate_id()?;
    builder.as_init(bundle).with_systemd(false).with_detach(true).build()?.start()?;
    Ok(())
}

/// Ends everything in a container and forgets it; fine when there is nothing.
fn delete(state: &Path) -> Result<(), Failure> {
    if !state.exists() {
        return Ok(());
    }
    match Known::load(state.to_owned()) {
        Ok(mut container) => {
            // Also of a container whose first process has ended: with the machine's pid namespace, others live on. A
            // half-made one has no cgroup yet, and then there is nobody.
            // When that fails, deleting does too, and says why.
            let _ = Signal::try_from("SIGKILL").map(|signal| container.kill(signal, true));
            Ok(container.delete(true)?)
        }
        // Killed before it had written what it was about to do.
        Err(_) => remove_dir_all(state).map_err(Failure::Remove),
    }
}

/// Why it did not work.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("cannot copy this program to sealed memory")]
    Seal(#[source] io::Error),
    #[error("cannot remove what is known of the container")]
    Remove(#[source] io::Error),
    #[error(transparent)]
    Container(#[from] LibcontainerError),
}

/// Does it, and writes a failure where the monitor looks for it, in the shape of runc's log. When that cannot be
/// written the words come back.
fn told(messages: &str, work: impl FnOnce() -> Result<(), Failure>) -> Result<ExitCode, String> {
    let told = |words: String| {
        let line = serde_json::json!({ "level": "error", "msg": words });
        let write = || {
            let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(messages)?;
            writeln!(file, "{line}")
        };
        write().map(|()| ExitCode::FAILURE).map_err(|_| words)
    };
    let notes = Notes::begin();
    let Err(failure) = work() else { return Ok(ExitCode::SUCCESS) };
    // The first is what the others followed from.
    let cause = notes.ok().and_then(|notes| notes.read().into_iter().next());
    told([Some(chain(&failure)), cause].into_iter().flatten().collect::<Vec<_>>().join("; "))
}
