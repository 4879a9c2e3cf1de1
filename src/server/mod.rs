//! The HTTP server: sockets in, requests out to one service, answers back, and an orderly end.
//!
//! It knows HTTP and sockets, and nothing of Docker: the service it is given answers every request. `listen` makes
//! the sockets, `connection` speaks on one of them. `axum::serve` is not used because it drops a client that
//! half-closes after its request (as `printf … | nc -N -U` does), and has neither limits nor `fd://`.

mod connection;
mod listen;
mod unread;

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response};
use nix::sys::resource::{Resource, getrlimit};
use tokio::sync::{Notify, Semaphore};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::listen::{Error, Listeners};
use self::listen::{Socket, SocketFile};

/// How many connections are served at a time; more wait in the kernel's backlog.
const MAX_CONNECTIONS: usize = 4096;
/// File descriptors left to the rest of the daemon when the process may not open many.
const RESERVED_FDS: u64 = 256;
/// What a connection may hold: its socket, and the twin that watches for the client going away.
const FDS_PER_CONNECTION: u64 = 3;
/// How long accepting pauses when the process or the machine has no descriptor left, unless a connection ends first.
const OUT_OF_FDS_PAUSE: Duration = Duration::from_millis(100);

/// How often a timer ends while clients are connected, see [`keep_time`]: before the deadlines of most requests.
const TICK: Duration = Duration::from_secs(1);

/// What answers requests: a `tower` service that cannot fail.
pub trait Answers:
    tower::Service<
        Request<Body>,
        Response = Response<Body>,
        Error = Infallible,
        Future: Future<Output = Result<Response<Body>, Infallible>> + Send + 'static,
    > + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> Answers for S where
    S: tower::Service<
            Request<Body>,
            Response = Response<Body>,
            Error = Infallible,
            Future: Future<Output = Result<Response<Body>, Infallible>> + Send + 'static,
        > + Clone
        + Send
        + Sync
        + 'static
{
}

/// A server at work: accepting, until it is drained.
#[derive(Debug)]
pub struct Server {
    shared: Shared,
    files: Vec<SocketFile>,
}

/// What all connections share.
#[derive(Debug, Clone)]
struct Shared {
    /// Cancelled when the server drains: no further request on any connection.
    closing: CancellationToken,
    /// Connections, and work that goes on when its client has left.
    tasks: TaskTracker,
    /// One permit a connection.
    slots: Arc<Semaphore>,
    /// Told when a connection begins.
    began: Arc<Notify>,
    /// Told when a connection ends.
    ended: Arc<Notify>,
}

impl Server {
    /// Begins to answer on all sockets, until it is drained; that cancels `closing`, which the service's endless
    /// answers must watch. Must be called inside the tokio runtime.
    pub fn start(listeners: Listeners, service: &impl Answers, closing: CancellationToken) -> Self {
        Self::start_with(max_connections(), listeners, service, closing)
    }

    /// The same with another limit on how many connections are served at a time.
    pub fn start_with(
        connections_max: usize,
        listeners: Listeners,
        service: &impl Answers,
        closing: CancellationToken,
    ) -> Self {
        let shared = Shared {
            closing,
            tasks: TaskTracker::new(),
            slots: Arc::new(Semaphore::new(connections_max)),
            began: Arc::new(Notify::new()),
            ended: Arc::new(Notify::new()),
        };
        shared.tasks.spawn(keep_time(shared.clone(), connections_max));
        let (sockets, files) = listeners.into_parts();
        for socket in sockets {
            let (shared, service) = (shared.clone(), service.clone());
            // Tracked: after a drain nothing holds the service any more.
            shared.tasks.clone().spawn(accept(socket, shared, service));
        }
        Self { shared, files }
    }

    /// Stops accepting, lets running requests finish for at most `timeout` (`None`: as long as it takes), and removes
    /// the socket files. Says whether all of them finished.
    pub async fn drain(self, timeout: Option<Duration>) -> bool {
        self.shared.closing.cancel();
        drop(self.files);
        self.shared.tasks.close();
        let finished = self.shared.tasks.wait();
        match timeout {
            None => {
                finished.await;
                true
            }
            Some(timeout) => tokio::time::timeout(timeout, finished).await.is_ok(),
        }
    }
}

/// The limit on connections that this process can keep.
fn max_connections() -> usize {
    let Ok((soft, _)) = getrlimit(Resource::RLIMIT_NOFILE) else { return MAX_CONNECTIONS };
    let room = soft.saturating_sub(RESERVED_FDS) / FDS_PER_CONNECTION;
    usize::try_from(room).unwrap_or(MAX_CONNECTIONS).clamp(16, MAX_CONNECTIONS)
}

/// Accepts on one socket until the server closes.
async fn accept(socket: Socket, shared: Shared, service: impl Answers) {
    loop {
        let slot = tokio::select! {
            slot = shared.slots.clone().acquire_owned() => slot,
            () = shared.closing.cancelled() => return,
        };
        let Ok(slot) = slot else { return };
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            () = shared.closing.cancelled() => return,
        };
        match accepted {
            Ok(stream) => {
                let (task, service) = (shared.clone(), service.clone());
                shared.began.notify_one();
                shared.tasks.spawn(async move {
                    connection::serve(stream, service, &task.closing, &task.tasks).await;
                    drop(slot);
                    task.ended.notify_one();
                });
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                let _elapsed = tokio::time::timeout(OUT_OF_FDS_PAUSE, shared.ended.notified()).await;
            }
        }
    }
}

/// Has a timer end soon, as long as there are clients. A timer that ends before all others wakes a thread, so that it waits
/// no longer than that for the kernel's events; the deadlines in a request would do so, one after the other, in the middle
/// of it.
async fn keep_time(shared: Shared, connections_max: usize) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shared.began.notified() => {}
            () = shared.closing.cancelled() => return,
        }
        while shared.slots.available_permits() < connections_max {
            tokio::select! {
                _ = tick.tick() => {}
                () = shared.closing.cancelled() => return,
            }
        }
    }
}

/// Whether an error of accept(2) tells of a client that left early, and nothing about the socket.
fn is_of_one_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

#[cfg(test)]
mod tests;
