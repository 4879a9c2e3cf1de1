//! What tests start containers with: the runtime that `COMPAT_RUNTIME` names, `embedded` unless it does.

use super::program::Container;
use super::{EmbeddedRuntime, Launcher, Runtime, RuntimeProgram};
use crate::paths::PluginExec;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

/// The runtime itself.
pub(crate) fn runtime(own_exe: &Path) -> Arc<dyn Runtime> {
    match std::env::var("COMPAT_RUNTIME").as_deref() {
        Err(_) | Ok("" | "embedded") => Arc::new(EmbeddedRuntime::new(own_exe.to_owned())),
        Ok(name) => {
            Arc::new(RuntimeProgram::find(name, &std::env::var_os("PATH").unwrap_or_default()).unwrap())
        }
    }
}

/// A launcher with it; `own_exe` is the built program.
pub(crate) fn launcher(own_exe: &Path, root: &Path) -> Launcher {
    Launcher::new(own_exe.to_owned(), runtime(own_exe), root.to_owned())
}

/// Ends and removes what a failed test has left.
pub(crate) fn delete(own_exe: &Path, root: &Path, id: &str, exec: &PluginExec) {
    let container = Container { id, root, bundle: &exec.bundle(), desk: &exec.monitor() };
    let words = runtime(own_exe).commands(&container).unwrap().delete;
    if let Some((program, arguments)) = words.split_first() {
        let _ = Command::new(program).args(arguments).status();
    }
}
