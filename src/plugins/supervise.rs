//! The task of an enabled plugin: keeps it running, whatever happens, until it is told otherwise.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::JoinHandle;

use super::launch::{self, Leftover};
use super::observed::{State, Status};
use super::plugin::{Order, Plugin, Turn};
use super::{Error, Inner, restart};
use crate::error::chain;
use crate::runtime::Process;

/// How long is waited before a plugin is started again: by default 100 ms, 200 ms, 400 ms, …, 1 min, 1 min, ….
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The first wait; each next one is twice as long.
    pub min: Duration,
    /// No wait is longer.
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { min: Duration::from_millis(100), max: Duration::from_mins(1) }
    }
}

/// A plugin that ran this long is not blamed for what was before.
const STEADY: Duration = Duration::from_mins(1);

/// What the task begins with.
#[derive(Debug)]
pub(super) enum First {
    /// A process that listens.
    Running(Process),
    /// Whatever an earlier daemon has left, or nothing.
    Find,
    /// Nothing: what an earlier daemon has left was on trial, and is ended.
    Anew,
}

/// Begins to watch. In the turn of a verb, which keeps the handle.
pub(super) fn spawn(inner: &Arc<Inner>, plugin: &Arc<Plugin>, first: First) -> JoinHandle<()> {
    tokio::spawn(supervise(Arc::clone(inner), Arc::clone(plugin), first))
}

/// Begins again after a stop that came to nothing, if the plugin is enabled. In the turn of a verb.
pub(super) fn resume(inner: &Arc<Inner>, plugin: &Arc<Plugin>, turn: &mut Turn) {
    if plugin.is_enabled() {
        plugin.orders.send_replace(Order::Run);
        launch::make_known(inner, plugin);
        turn.supervisor = Some(spawn(inner, plugin, First::Find));
    }
}

async fn supervise(inner: Arc<Inner>, plugin: Arc<Plugin>, first: First) {
    let mut waits = inner.parts.backoff.waits();
    let mut is_on_trial = matches!(first, First::Anew);
    let mut process = if let First::Running(process) = first { Some(process) } else { None };
    loop {
        let running = if let Some(process) = process.take() {
            Ok(process)
        } else {
            let leftover = if is_on_trial { Leftover::End } else { Leftover::Adopt };
            let launched = launch::launch(&inner, &plugin, plugin.start_deadline(), leftover).await;
            // Now it listens: whoever waits for the driver hears of it, and none of its old connections is used.
            launched.inspect(|_| launch::make_known(&inner, &plugin))
        };
        if is_on_trial && running.is_ok() {
            restart::withdraw(&inner, &plugin).await;
            is_on_trial = false;
        }
        let trouble = match running {
            Ok(running) => match watch(&inner, &plugin, &running).await {
                Watched::Ordered(order) => return finish(&inner, &plugin, order, Some(&running)).await,
                Watched::Died { trouble, lived } => {
                    if lived >= STEADY {
                        waits = inner.parts.backoff.waits();
                    }
                    trouble
                }
            },
            Err(Error::Closing) => return,
            Err(Error::Interrupted { .. }) => return finish(&inner, &plugin, Order::Stop, None).await,
            Err(error) => chain(&error),
        };
        let wait = waits.next();
        tracing::warn!(plugin = plugin.name(), trouble, again_in_ms = wait.as_millis(), "not running");
        plugin.observe(|state| {
            state.status = Status::BackingOff;
            state.error = Some(trouble);
            state.next_try_at = Timestamp::now().checked_add(wait).ok();
        });
        tokio::select! {
            biased;
            order = plugin.ordered() => return finish(&inner, &plugin, order, None).await,
            () = tokio::time::sleep(wait) => restarting(&inner, &plugin),
        }
    }
}

/// Notes, and tells, that the plugin is started once more.
fn restarting(inner: &Inner, plugin: &Plugin) {
    let mut restarts = 0;
    plugin.observe(|state| {
        state.restarts = state.restarts.saturating_add(1);
        restarts = state.restarts;
    });
    inner.tell_with("restart", &plugin.id, &plugin.name(), &[("restarts", restarts.to_string())]);
}

/// What came first.
enum Watched {
    Ordered(Order),
    Died { trouble: String, lived: Duration },
}

async fn watch(inner: &Inner, plugin: &Plugin, process: &Process) -> Watched {
    tokio::select! {
        biased;
        order = plugin.ordered() => Watched::Ordered(order),
        exit = process.wait() => {
            launch::ended(inner, plugin, &exit);
            let lived = exit.at.duration_since(process.started_at());
            Watched::Died {
                trouble: format!("plugin {} {}", plugin.name(), launch::how(&exit)),
                lived: Duration::try_from(lived).unwrap_or_default(),
            }
        }
    }
}

async fn finish(inner: &Arc<Inner>, plugin: &Plugin, order: Order, process: Option<&Process>) {
    if order == Order::Leave {
        return;
    }
    if let Some(process) = process {
        launch::stop(inner, plugin, process).await;
    }
    launch::settle(inner, plugin).await;
    plugin
        .observe(|state| *state = State { status: Status::Stopped, pid: None, error: None, ..state.clone() });
}

/// The waits of one plugin.
#[derive(Debug)]
struct Waits {
    next: Duration,
    max: Duration,
}

impl Backoff {
    fn waits(self) -> Waits {
        Waits { next: self.min, max: self.max }
    }
}

impl Waits {
    fn next(&mut self) -> Duration {
        let wait = self.next;
        self.next = self.max.min(wait * 2);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute() {
        let mut waits = Backoff::default().waits();
        let told: Vec<_> = (0..12).map(|_| waits.next().as_millis()).collect();
        assert_eq!(told, [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 60_000, 60_000]);
    }
}
