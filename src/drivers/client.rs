//! One call: a POST with JSON over the plugin's socket, with a deadline and a limit.
//!
//! The request is dockerd's to the header: `POST /VolumeDriver.X`, `Host: plugin.moby.localhost`,
//! `Accept: application/vnd.docker.plugins.v1.2+json`, no content type, a JSON object and a newline.
//!
//! Calls that only read use kept connections. A kept connection may be one to a process that is no more; what was
//! read over it is asked once again over a new one. Calls that change something always get a new connection: when it
//! cannot be made nothing was sent, and after that nothing is ever sent twice. A plugin that is being started is waited
//! for first, then `gate` lets the call through, or not. This file knows no call's fields.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, StatusCode, header};
use serde::Serialize;
use tokio::sync::watch;

use super::answer::Answer;
use super::connection::{Connection, Idle, Trouble};
use super::deadlines::Deadlines;
use super::error::Error;
use super::gate::{Gate, Held, Lane};
use super::presence::{Presence, after_start};
use super::way::Way;

/// The largest answer of a plugin to anything but `List`.
pub const ANSWER_MAX_BYTES: usize = 4 * 1024 * 1024;
/// The largest answer to `List`: some 100,000 volumes.
pub const LIST_ANSWER_MAX_BYTES: usize = 16 * 1024 * 1024;
/// The longest text of a plugin that is passed on in an error.
const REASON_MAX_BYTES: usize = 8 * 1024;
/// What dockerd says it accepts.
const ACCEPT: &str = "application/vnd.docker.plugins.v1.2+json";
/// The call that a legacy plugin is greeted with, and the name of the interface that volume drivers answer it with.
const ACTIVATE: &str = "Plugin.Activate";
const VOLUME_DRIVER: &str = "VolumeDriver";

/// The calls of `docker.volumedriver/1.0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Create,
    Get,
    List,
    Remove,
    Path,
    Mount,
    Unmount,
    Capabilities,
}

impl Method {
    /// All of them.
    pub(super) const ALL: [Self; 8] = [
        Self::Create,
        Self::Get,
        Self::List,
        Self::Remove,
        Self::Path,
        Self::Mount,
        Self::Unmount,
        Self::Capabilities,
    ];

    /// As the protocol calls it: `Create`.
    pub(super) fn word(self) -> &'static str {
        let name = self.name();
        name.strip_prefix("VolumeDriver.").unwrap_or(name)
    }

    /// As it stands in the URL and in messages.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Create => "VolumeDriver.Create",
            Self::Get => "VolumeDriver.Get",
            Self::List => "VolumeDriver.List",
            Self::Remove => "VolumeDriver.Remove",
            Self::Path => "VolumeDriver.Path",
            Self::Mount => "VolumeDriver.Mount",
            Self::Unmount => "VolumeDriver.Unmount",
            Self::Capabilities => "VolumeDriver.Capabilities",
        }
    }

    /// Whether it changes nothing, so that it may be sent twice.
    fn only_reads(self) -> bool {
        match self {
            Self::Get | Self::List | Self::Path | Self::Capabilities => true,
            Self::Create | Self::Remove | Self::Mount | Self::Unmount => false,
        }
    }

    fn deadline(self, deadlines: Deadlines) -> Duration {
        match self {
            Self::Create => deadlines.create,
            Self::Get => deadlines.get,
            Self::List => deadlines.list,
            Self::Remove => deadlines.remove,
            Self::Path => deadlines.path,
            Self::Mount => deadlines.mount,
            Self::Unmount => deadlines.unmount,
            Self::Capabilities => deadlines.capabilities,
        }
    }

    /// Which other calls it shares a bound with.
    fn lane(self) -> Lane {
        match self {
            Self::Create | Self::Remove | Self::Mount | Self::Unmount => Lane::Changes,
            Self::Get | Self::Path | Self::Capabilities => Lane::Reads,
            Self::List => Lane::Lists,
        }
    }

    fn limit_bytes(self) -> usize {
        if self == Self::List { LIST_ANSWER_MAX_BYTES } else { ANSWER_MAX_BYTES }
    }
}

/// The way to one plugin.
pub(super) struct Client {
    driver: String,
    way: Way,
    deadlines: Deadlines,
    presence: watch::Receiver<Presence>,
    gate: Gate,
    /// Connections for what only reads.
    idle: Idle,
}

impl Client {
    pub(super) fn new(
        driver: &str,
        way: Way,
        deadlines: Deadlines,
        presence: watch::Receiver<Presence>,
    ) -> Self {
        let (gate, idle) = (Gate::new(driver), Idle::default());
        Self { driver: driver.to_owned(), way, deadlines, presence, gate, idle }
    }

    /// Who lets calls through.
    pub(super) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Whether the plugin is there to be asked.
    pub(super) fn is_here(&self) -> bool {
        *self.presence.borrow() == Presence::Here
    }

    /// The driver's name, for messages.
    pub(super) fn driver(&self) -> &str {
        &self.driver
    }

    /// Calls, and gives back the answer without its `Err`, which is empty then. The call has its own deadline for the
    /// answer, and as much to wait for its turn before that; or `patience` for all of it.
    pub(super) async fn call(
        &self,
        method: Method,
        patience: Option<Duration>,
        request: &impl Serialize,
    ) -> Result<Answer, Error> {
        let (begun, usual) = (Instant::now(), method.deadline(self.deadlines));
        let left = || patience.map_or(usual, |patience| patience.saturating_sub(begun.elapsed()));
        let lane = if patience.is_some() { Lane::Lists } else { method.lane() };
        let body = self.body(method, request)?;
        self.present(method, left()).await?;
        let pass = self.gate.enter(lane, method.name(), left()).await;
        let pass = pass.map_err(|held| self.held(method, held))?;
        let exchange = async {
            let (name, limit_bytes) = (method.name(), method.limit_bytes());
            if !method.only_reads() {
                let mut connection = self.open(name).await?;
                return self.exchange(&mut connection, name, limit_bytes, body).await;
            }
            let connection = match self.idle.take() {
                Some(connection) => connection,
                None => self.open(name).await?,
            };
            match self.read_over(connection, name, limit_bytes, body.clone()).await {
                Err(Error::Broken { .. }) => {
                    self.present(method, left()).await?;
                    let connection = self.open(name).await?;
                    self.read_over(connection, name, limit_bytes, body).await
                }
                other => other,
            }
        };
        let Ok(answered) = tokio::time::timeout(left(), exchange).await else {
            let deadline = patience.unwrap_or(usual);
            pass.timed_out(deadline);
            return Err(Error::Deadline { method: method.name(), driver: self.driver.clone(), deadline });
        };
        pass.answered();
        let (status, bytes) = answered?;
        self.read(method.name(), status, &bytes)
    }

    /// Greets a legacy plugin, and tells whether it is a volume driver.
    pub(super) async fn activate(&self) -> Result<bool, Error> {
        let deadline = self.deadlines.capabilities;
        let exchange = async {
            let mut connection = self.open(ACTIVATE).await?;
            self.exchange(&mut connection, ACTIVATE, ANSWER_MAX_BYTES, Bytes::new()).await
        };
        let answered = tokio::time::timeout(deadline, exchange).await;
        let driver = || self.driver.clone();
        let late = |_| Error::Deadline { method: ACTIVATE, driver: driver(), deadline };
        let (status, bytes) = answered.map_err(late)??;
        let nonsense = |problem| Error::Answer { method: ACTIVATE, driver: driver(), problem };
        let implements = self.read(ACTIVATE, status, &bytes)?.texts("Implements").map_err(nonsense)?;
        Ok(implements.iter().any(|interface| interface == VOLUME_DRIVER))
    }

    /// Waits for a plugin that is being started.
    async fn present(&self, method: Method, left: Duration) -> Result<(), Error> {
        // A list is of all plugins: what is known of this one has to do.
        let patience =
            if method == Method::List { Duration::ZERO } else { self.deadlines.starting.min(left) };
        let (method, driver) = (method.name(), || self.driver.clone());
        match after_start(&self.presence, patience).await {
            Presence::Here => Ok(()),
            Presence::Starting => Err(Error::Starting { method, driver: driver(), waited: patience }),
            Presence::BackingOff { error, next_try } => {
                Err(Error::BackingOff { method, driver: driver(), error, next_try })
            }
        }
    }

    /// An error that says why nothing was sent.
    fn held(&self, method: Method, held: Held) -> Error {
        let (method, driver) = (method.name(), self.driver.clone());
        match held {
            Held::Crowded(why) => Error::Crowded { method, driver, why },
            Held::LeftAlone(why) => Error::LeftAlone { method, driver, why },
        }
    }

    /// An error that says what is wrong with an answer.
    pub(super) fn nonsense(&self, method: Method, problem: String) -> Error {
        Error::Answer { method: method.name(), driver: self.driver.clone(), problem }
    }

    fn body(&self, method: Method, request: &impl Serialize) -> Result<Bytes, Error> {
        let mut body = serde_json::to_vec(request).map_err(|error| self.unwritten(method.name(), error))?;
        body.push(b'\n');
        Ok(body.into())
    }

    fn unwritten(
        &self,
        method: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Error {
        Error::Request { method, driver: self.driver.clone(), source: source.into() }
    }

    /// A new connection.
    async fn open(&self, method: &'static str) -> Result<Connection, Error> {
        let driver = || self.driver.clone();
        let connected = self.way.connect().await;
        let stream = connected.map_err(|source| Error::Connect { method, driver: driver(), source })?;
        Connection::over(stream).await.map_err(|trouble| self.unanswered(method, 0, trouble))
    }

    /// Asks what only reads, and keeps the connection.
    async fn read_over(
        &self,
        mut connection: Connection,
        method: &'static str,
        limit_bytes: usize,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), Error> {
        let answered = self.exchange(&mut connection, method, limit_bytes, body).await?;
        self.idle.put(connection);
        Ok(answered)
    }

    async fn exchange(
        &self,
        connection: &mut Connection,
        method: &'static str,
        limit_bytes: usize,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), Error> {
        let request = Request::post(format!("/{method}"))
            .header(header::HOST, self.way.authority())
            .header(header::ACCEPT, ACCEPT)
            .body(Full::new(body))
            .map_err(|error| self.unwritten(method, error))?;
        let answered = connection.ask(request, limit_bytes).await;
        answered.map_err(|trouble| self.unanswered(method, limit_bytes, trouble))
    }

    fn unanswered(&self, method: &'static str, limit_bytes: usize, trouble: Trouble) -> Error {
        let driver = self.driver.clone();
        match trouble {
            Trouble::TooLarge => Error::TooLarge { method, driver, limit_bytes },
            Trouble::Broken(source) => Error::Broken { method, driver, source },
        }
    }

    fn read(&self, method: &'static str, status: StatusCode, bytes: &[u8]) -> Result<Answer, Error> {
        let parsed = Answer::parse(bytes);
        if status != StatusCode::OK {
            let told = parsed.ok().and_then(|mut answer| answer.text("Err").ok());
            let reason = told
                .filter(|text| !text.is_empty())
                .unwrap_or_else(|| String::from_utf8_lossy(bytes).into_owned());
            let reason = presentable(&reason);
            return Err(Error::Status { method, status: status.as_u16(), reason });
        }
        let nonsense = |problem| Error::Answer { method, driver: self.driver.clone(), problem };
        let mut answer = parsed.map_err(nonsense)?;
        let refusal = answer.text("Err").map_err(nonsense)?;
        if !refusal.is_empty() {
            return Err(Error::Refused { reason: presentable(&refusal) });
        }
        Ok(answer)
    }
}

/// A plugin's words, short enough for a line of a terminal and without commands to the terminal.
fn presentable(words: &str) -> String {
    let mut end = words.len().min(REASON_MAX_BYTES);
    while !words.is_char_boundary(end) {
        end -= 1;
    }
    let shown = words.get(..end).unwrap_or_default();
    let tame = |c: char| if c.is_control() && !matches!(c, '\n' | '\t') { '\u{fffd}' } else { c };
    let mut text: String = shown.chars().map(tame).collect();
    if end < words.len() {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_plugin_are_shortened_and_tamed() {
        assert_eq!(presentable("no such\tvolume\n"), "no such\tvolume\n");
        assert_eq!(presentable("\u{1b}[2Jgone"), "\u{fffd}[2Jgone");
        let long = presentable(&"é".repeat(REASON_MAX_BYTES));
        assert!(long.len() <= REASON_MAX_BYTES + '…'.len_utf8() && long.ends_with('…'));
    }
}
