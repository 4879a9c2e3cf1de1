//! What is seen of a plugin's process, beside what the user wants of it.

use jiff::Timestamp;

use crate::drivers::Presence;
use crate::runtime::{Exit, Process};

/// What a plugin's process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Status {
    /// There is none, and none is wanted.
    #[default]
    Stopped,
    /// It is being started, or runs and does not listen yet.
    Starting,
    /// It listens.
    Running,
    /// It has died, or did not come up, and is started again after a while.
    BackingOff,
    /// It is being ended.
    Stopping,
    /// The last `enable` has failed; it is not tried again.
    Failed,
}

impl Status {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Stopped, Self::Starting, Self::Running, Self::BackingOff, Self::Stopping, Self::Failed];

    /// The word for it, in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::BackingOff => "backing off",
            Self::Stopping => "stopping",
            Self::Failed => "failed",
        }
    }
}

/// What is seen of a plugin.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct State {
    /// What its process does.
    pub status: Status,
    /// The process, while there is one.
    pub pid: Option<i32>,
    /// When the last process was started.
    pub started_at: Option<Timestamp>,
    /// When the last process that ended did so.
    pub finished_at: Option<Timestamp>,
    /// Its exit status, or 128 and the signal.
    pub exit_code: Option<i32>,
    /// Whether one of its processes was killed because memory ran out, when the last one ended.
    pub oom_killed: bool,
    /// How often it was started again since it was enabled, or since the daemon started.
    pub restarts: u32,
    /// Why it is not running, when it should be.
    pub error: Option<String>,
    /// When it is started again, while it is backing off.
    pub next_try_at: Option<Timestamp>,
}

impl State {
    /// What a call to its socket shall expect; `wanted` is whether the plugin is enabled.
    pub(super) fn presence(&self, wanted: bool) -> Presence {
        match (self.status, self.next_try_at) {
            (Status::BackingOff, Some(next_try)) => {
                Presence::BackingOff { error: self.error.clone().unwrap_or_default(), next_try }
            }
            (Status::Starting, _) => Presence::Starting,
            // In the midst of a restart, or of the start of the daemon.
            (Status::Stopped | Status::Stopping, _) if wanted => Presence::Starting,
            _ => Presence::Here,
        }
    }

    /// There is a process.
    pub(super) fn born(&mut self, process: &Process) {
        self.pid = Some(process.pid());
        self.started_at = Some(process.started_at());
    }

    /// The process has ended.
    pub(super) fn ended(&mut self, exit: &Exit) {
        self.pid = None;
        self.finished_at = Some(exit.at);
        self.exit_code = Some(exit.code);
        self.oom_killed = exit.oom;
    }
}
