//! One process of a plugin: from its directories to a socket that answers, and to its end.
//!
//! Ready is when a connect to the socket succeeds; dying first, or being late, is an error with the last words of the
//! process. dockerd sleeps 0.5 s, connects at most four times in 12 s, and does not look whether the process lives.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::config::PluginConfig;
use super::observed::Status;
use super::plugin::{Order, Plugin};
use super::settings::Settings;
use super::{Error, Inner, Result, STOP_GRACE, blocking, directories, init_layer, secret, spec};
use crate::confine::Root;
use crate::drivers::{self, Registration, Scope};
use crate::error::chain;
use crate::runtime::{Exit, Process, Start};

/// How many lines a process that has failed is quoted with, and how many characters.
const LAST_LINES: usize = 10;
const LAST_WORDS_MAX: usize = 2048;

/// What is done with a process of the plugin that is found running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leftover {
    /// It is the one: an earlier daemon started it.
    Adopt,
    /// It should not be there.
    End,
}

/// Starts the plugin, or finds it, and waits until it listens. In the turn of a verb, or in the plugin's own task.
///
/// # Errors
/// Why it does not run; then it does not run. [`Error::Interrupted`] when it was ordered to stop; [`Error::Closing`]
/// when the daemon leaves it alone, which it does only with one that is enabled.
pub(super) async fn launch(
    inner: &Arc<Inner>,
    plugin: &Arc<Plugin>,
    deadline: Duration,
    leftover: Leftover,
) -> Result<Process> {
    let begun = Timestamp::now();
    let process = begin(inner, plugin, leftover).await?;
    plugin.observe(|state| state.born(&process));
    // A process may write before the runtime says that it has started.
    let since = begun.min(process.started_at());
    match until_ready(inner, plugin, &process, deadline, since).await {
        Ok(()) => {
            plugin.observe(|state| {
                state.status = Status::Running;
                state.error = None;
            });
            Ok(process)
        }
        Err(Error::Closing) if leftover == Leftover::Adopt => Err(Error::Closing),
        Err(error) => {
            stop(inner, plugin, &process).await;
            Err(error)
        }
    }
}

/// Ends a process: asks, and after [`STOP_GRACE`] kills. Returns when nothing of it is left.
pub(super) async fn stop(inner: &Inner, plugin: &Plugin, process: &Process) {
    plugin.observe(|state| state.status = Status::Stopping);
    let told = |result: crate::runtime::Result<()>| {
        if let Err(error) = result {
            tracing::warn!(plugin = plugin.name(), error = chain(&error), "cannot signal a plugin");
        }
    };
    told(process.terminate());
    let mut exit = tokio::time::timeout(STOP_GRACE, process.wait()).await;
    if exit.is_err() {
        tracing::info!(plugin = plugin.name(), "does not end when asked, killed");
        told(process.kill());
        exit = tokio::time::timeout(STOP_GRACE, process.wait()).await;
    }
    if let Ok(exit) = exit {
        ended(inner, plugin, &exit);
    } else {
        tracing::error!(plugin = plugin.name(), pid = process.pid(), "does not end when killed");
    }
}

/// Takes away what the last process has left, when no other will follow. What fails is told in the log.
pub(super) async fn settle(inner: &Arc<Inner>, plugin: &Plugin) {
    let exec = inner.parts.exec.plugin(plugin.id.as_str());
    if let Err(error) = inner.parts.launcher.forget(plugin.id.as_str(), &exec).await {
        tracing::warn!(
            plugin = plugin.name(),
            error = chain(&error),
            "cannot clean up after a plugin's process"
        );
        return;
    }
    let (inner, id) = (Arc::clone(inner), plugin.id.clone());
    if let Err(error) = blocking(move || directories::settle(&inner.parts, &id)).await {
        tracing::warn!(plugin = plugin.name(), error = chain(&error), "cannot clean up after a plugin");
    }
}

/// Makes an enabled volume plugin known as a driver, whether or not it listens at present: then calls say so.
pub(super) fn make_known(inner: &Inner, plugin: &Plugin) {
    if plugin.is_volume_driver() {
        let driver = registration(inner, plugin);
        // A rename comes before or after this, not in the midst.
        plugin.with_name(|name| inner.parts.drivers.register(Registration { name, ..driver }));
    }
}

/// What makes a plugin a driver under the name it has.
pub(super) fn registration(inner: &Inner, plugin: &Plugin) -> Registration {
    let data = inner.parts.data.plugin(plugin.id.as_str());
    let config = plugin.config();
    let inside = &config.propagated_mount;
    Registration {
        name: plugin.name(),
        sockets: inner.parts.exec.plugin(plugin.id.as_str()).sockets(),
        socket: config.interface.socket.clone(),
        scope: Scope::Own {
            rootfs: data.rootfs(),
            propagated: (!inside.is_empty()).then(|| (inside.into(), data.propagated_mount())),
        },
        presence: plugin.presence(),
    }
}

/// Hands the plugin to the runtime, a few at a time.
async fn begin(inner: &Arc<Inner>, plugin: &Arc<Plugin>, leftover: Leftover) -> Result<Process> {
    plugin.observe(|state| state.status = Status::Starting);
    let _permit = inner.starts.acquire().await.map_err(|_| Error::Closing)?;
    let (id, exec) = (plugin.id.as_str(), inner.parts.exec.plugin(plugin.id.as_str()));
    if let Some(found) = inner.parts.launcher.attach(id, &exec).await.map_err(Error::Runtime)? {
        match (found.exit(), leftover) {
            (None, Leftover::Adopt) => return Ok(found),
            (None, Leftover::End) => stop(inner, plugin, &found).await,
            (Some(exit), _) => ended(inner, plugin, &exit),
        }
    }
    let spec = {
        let (inner, plugin) = (Arc::clone(inner), Arc::clone(plugin));
        blocking(move || prepare(&inner, &plugin)).await?
    };
    let log = inner.parts.data.plugin(id).log();
    let start = Start { id: id.to_owned(), exec, log, spec: &spec };
    let process = inner.parts.launcher.start(start).await.map_err(Error::Runtime)?;
    inner.tell_with("start", &plugin.id, &plugin.name(), &[("pid", process.pid().to_string())]);
    Ok(process)
}

/// Notes that a process has ended, and tells, once for each process.
pub(super) fn ended(inner: &Inner, plugin: &Plugin, exit: &Exit) {
    let mut is_news = false;
    plugin.observe(|state| {
        // Whoever stops a process that dies by itself hears of its end a second time.
        is_news = state.finished_at != Some(exit.at);
        state.ended(exit);
    });
    if is_news {
        inner.tell_with("die", &plugin.id, &plugin.name(), &[("exitCode", exit.code.to_string())]);
    }
}

/// Everything on disk that a process needs, and what the runtime is told.
fn prepare(inner: &Inner, plugin: &Plugin) -> Result<oci_spec::runtime::Spec> {
    let config = plugin.config();
    let places = directories::prepare(&inner.parts, &plugin.id, !config.propagated_mount.is_empty())?;
    let (settings, rootfs) = check(&config, &plugin.record().settings, &places.rootfs)?;
    // Asked anew: the daemon's own score may be another one by now.
    let confinement = inner.confinement(&config, plugin.record().resources, &spec::Kernel::ask());
    let spec = spec::build(&plugin.id, &config, &settings, &confinement, &places, &spec::Machine);
    let spec = spec.map_err(Error::Spec)?;
    let directory = |source| Error::Directory { path: places.rootfs.clone(), source };
    init_layer::set_up(&rootfs, &config, &settings).map_err(directory)?;
    Ok(spec)
}

/// Looks whether anything is missing that can be seen before a start: the settings as they are passed, and the root
/// file system, opened. Blocking.
///
/// # Errors
/// [`Error::Secret`], [`Error::Directory`], [`Error::Spec`].
pub(super) fn check(config: &PluginConfig, settings: &Settings, rootfs: &Path) -> Result<(Settings, Root)> {
    let settings = secret::resolve(settings).map_err(Error::Secret)?;
    let directory = |source| Error::Directory { path: rootfs.to_owned(), source };
    let rootfs = Root::open(rootfs).map_err(directory)?;
    spec::check(config, &settings, &rootfs, &spec::Machine).map_err(Error::Spec)?;
    Ok((settings, rootfs))
}

async fn until_ready(
    inner: &Inner,
    plugin: &Plugin,
    process: &Process,
    deadline: Duration,
    since: Timestamp,
) -> Result<()> {
    let socket = &plugin.config().interface.socket;
    let sockets = inner.parts.exec.plugin(plugin.id.as_str()).sockets();
    tokio::select! {
        biased;
        exit = process.wait() => {
            ended(inner, plugin, &exit);
            Err(Error::Died {
                name: plugin.name(),
                how: how(&exit),
                socket: socket.clone(),
                last_words: last_words(process, since).await,
            })
        }
        ready = drivers::ready(&sockets, socket) => ready.map_err(Error::Driver),
        order = plugin.ordered() => match order {
            Order::Leave => Err(Error::Closing),
            Order::Run | Order::Stop => Err(Error::Interrupted { name: plugin.name() }),
        },
        () = tokio::time::sleep(deadline) => Err(Error::Late {
            name: plugin.name(),
            socket: socket.clone(),
            deadline_s: deadline.as_secs(),
            last_words: last_words(process, since).await,
        }),
    }
}

/// How a process has ended, in words.
pub(super) fn how(exit: &Exit) -> String {
    match exit {
        Exit { lost: true, .. } => "has ended and nobody saw how".to_owned(),
        Exit { oom: true, .. } => "ran out of memory".to_owned(),
        Exit { code, .. } => format!("exited with code {code}"),
    }
}

/// What the process wrote last, since it was started, in one line that harms no terminal; empty when it wrote nothing.
async fn last_words(process: &Process, since: Timestamp) -> String {
    let read = process.clone();
    let lines = tokio::task::spawn_blocking(move || read.log_tail(LAST_LINES)).await.unwrap_or_default();
    let own = lines.iter().filter(|line| line.time >= since).map(|line| line.log.trim_end());
    quote(own.filter(|line| !line.is_empty()))
}

fn quote<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    let words = lines.collect::<Vec<_>>().join(" | ");
    if words.is_empty() {
        return words;
    }
    let harmless = |character: char| if character.is_control() { ' ' } else { character };
    let skipped = words.chars().count().saturating_sub(LAST_WORDS_MAX);
    let dots = if skipped > 0 { "…" } else { "" };
    format!("; its last words: {dots}{}", words.chars().skip(skipped).map(harmless).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_are_one_harmless_line() {
        assert_eq!(quote([].into_iter()), "");
        assert_eq!(quote(["a", "b\x1b[31m"].into_iter()), "; its last words: a | b [31m");
        let long = "x".repeat(LAST_WORDS_MAX + 1);
        assert_eq!(quote([long.as_str()].into_iter()), format!("; its last words: …{}", &long[1..]));
    }
}
