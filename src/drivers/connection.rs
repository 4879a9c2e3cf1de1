//! One connection to a driver, and the few that are kept between calls.
//!
//! Whoever asks over a connection also drives it, in the same task: nobody else is woken, which would take longer than a
//! plugin takes to answer. So a connection that waits is looked at by nobody, and only when it is wanted again does it
//! turn out that the plugin has closed it, or that it has waited too long. This file knows no call.

use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::poll_fn;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1::{self, SendRequest, handshake};
use hyper::{Request, StatusCode};

use super::way::Stream;

/// How many connections to one driver wait at most, and for how long.
const IDLE_MAX: usize = 2;
const IDLE_TIME: Duration = Duration::from_secs(30);
/// How often in a row a task looks whether its answer has got further: a small one is there after the second time.
const LOOKS_MAX: usize = 8;

/// What has to be polled for anything to happen.
type Driven = Pin<Box<http1::Connection<Stream, Full<Bytes>>>>;

/// A connection.
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// Until it has ended: whoever waits for an answer then hears so.
    driven: Option<Driven>,
    /// Since when it waits.
    idle_since: Instant,
}

/// Why there is no answer.
pub(super) enum Trouble {
    /// The answer has more bytes than allowed.
    TooLarge,
    /// The connection broke.
    Broken(Box<dyn std::error::Error + Send + Sync>),
}

impl Connection {
    /// Begins to speak HTTP over a stream.
    pub(super) async fn over(stream: Stream) -> Result<Self, Trouble> {
        let (sender, driven) = handshake(stream).await.map_err(broken)?;
        Ok(Self { sender, driven: Some(Box::pin(driven)), idle_since: Instant::now() })
    }

    /// Asks, and reads the answer whole.
    pub(super) async fn ask(
        &mut self,
        request: Request<Full<Bytes>>,
        limit_bytes: usize,
    ) -> Result<(StatusCode, Bytes), Trouble> {
        let sender = &mut self.sender;
        let answer = pin!(async move {
            let response = sender.send_request(request).await.map_err(broken)?;
            let status = response.status();
            match Limited::new(response.into_body(), limit_bytes).collect().await {
                Ok(body) => Ok((status, body.to_bytes())),
                Err(error) if error.is::<LengthLimitError>() => Err(Trouble::TooLarge),
                Err(error) => Err(Trouble::Broken(error)),
            }
        });
        drive(&mut self.driven, answer).await
    }

    /// Whether it can be asked once more, as far as can be seen without waiting.
    fn is_open(&mut self) -> bool {
        let mut nobody = Context::from_waker(Waker::noop());
        advance(&mut self.driven, &mut nobody);
        matches!(self.sender.poll_ready(&mut nobody), Poll::Ready(Ok(())))
    }
}

/// Waits for an answer, and drives the connection over which it comes. Either tells the other when it has got further; that
/// is seen at once, and wakes nobody.
async fn drive<T>(driven: &mut Option<Driven>, mut answer: Pin<&mut impl Future<Output = T>>) -> T {
    poll_fn(|context| {
        let bell = Arc::new(Bell {
            is_near: AtomicBool::new(true),
            rung: AtomicBool::new(false),
            far: context.waker().clone(),
        });
        let waker = Waker::from(Arc::clone(&bell));
        let mut near = Context::from_waker(&waker);
        for _ in 0..LOOKS_MAX {
            if let Poll::Ready(answer) = answer.as_mut().poll(&mut near) {
                return Poll::Ready(answer);
            }
            let has_ended = advance(driven, &mut near);
            if !has_ended && bell.leave() {
                return Poll::Pending;
            }
        }
        // Others want to get further too; and who has looked that often may be told to wait for that reason alone.
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

/// Lets a connection get further; says whether it has ended now.
fn advance(driven: &mut Option<Driven>, context: &mut Context<'_>) -> bool {
    // Its own error is told with the answer that does not come.
    let has_ended = driven.as_mut().is_some_and(|driven| driven.as_mut().poll(context).is_ready());
    if has_ended {
        *driven = None;
    }
    has_ended
}

/// Wakes a task, but not while that task looks by itself.
struct Bell {
    is_near: AtomicBool,
    rung: AtomicBool,
    far: Waker,
}

impl Bell {
    /// Says whether there is nothing to look at: from then on the task is woken.
    fn leave(&self) -> bool {
        if self.rung.swap(false, Ordering::SeqCst) {
            return false;
        }
        self.is_near.store(false, Ordering::SeqCst);
        // Rung in between.
        if self.rung.load(Ordering::SeqCst) {
            self.far.wake_by_ref();
        }
        true
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::SeqCst);
        if !self.is_near.load(Ordering::SeqCst) {
            self.far.wake_by_ref();
        }
    }
}

/// The connections that wait.
#[derive(Default)]
pub(super) struct Idle(Mutex<Vec<Connection>>);

impl Idle {
    /// One that the driver has not closed; the one that has waited least.
    pub(super) fn take(&self) -> Option<Connection> {
        loop {
            let mut connection = self.locked().pop()?;
            if connection.idle_since.elapsed() < IDLE_TIME && connection.is_open() {
                return Some(connection);
            }
        }
    }

    /// Lets one wait whose answer was read.
    pub(super) fn put(&self, mut connection: Connection) {
        connection.idle_since = Instant::now();
        let mut connections = self.locked();
        connections.retain(|connection| connection.idle_since.elapsed() < IDLE_TIME);
        if connections.len() < IDLE_MAX {
            connections.push(connection);
        }
    }

    fn locked(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn broken(error: hyper::Error) -> Trouble {
    Trouble::Broken(error.into())
}
