//! Connections to the engine that have answered and wait for a next question, for a moment: a client asks many small
//! things in a row, and to connect takes as long as to answer them.
//!
//! Only what reads, and has no body, goes this way: it may be asked once more when the engine has closed the connection
//! meanwhile. Everything else has a connection of its own. A client that hangs up in the middle of an answer ends the
//! connection too.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::http::request::Parts;
use hyper::{Method, Request, Response};

use super::{Engine, Error, Result};

/// How many wait at most.
const IDLE_MAX: usize = 8;
/// How long they wait.
const IDLE_TIME: Duration = Duration::from_millis(500);

type Connection = SendRequest<Empty<Bytes>>;

/// Those that wait, and since when.
#[derive(Debug, Default)]
pub(super) struct Idle(Mutex<Vec<(Instant, Connection)>>);

/// Whether a request with this method may be asked twice.
pub(super) fn only_reads(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

impl Engine {
    /// Asks what only reads and has no body, and gives the answer as soon as its head is there.
    pub(super) async fn read(&self, head: Parts) -> Result<Response<Incoming>> {
        let request = || {
            let mut request = Request::new(Empty::new());
            *request.method_mut() = head.method.clone();
            *request.uri_mut() = head.uri.clone();
            *request.headers_mut() = head.headers.clone();
            request
        };
        while let Some(mut connection) = self.0.idle.take() {
            match connection.send_request(request()).await {
                Ok(response) => {
                    self.keep(connection);
                    return Ok(response);
                }
                Err(error) => tracing::debug!(%error, "the engine has closed a connection that waited"),
            }
        }
        let mut connection = self.open().await?;
        let response = connection.send_request(request()).await.map_err(Error::Broken)?;
        self.keep(connection);
        Ok(response)
    }

    /// Lets a connection wait once its answer has been read to the end.
    fn keep(&self, mut connection: Connection) {
        let inner = Arc::clone(&self.0);
        tokio::spawn(async move {
            if connection.ready().await.is_err() {
                return;
            }
            inner.idle.put(connection);
            tokio::time::sleep(IDLE_TIME).await;
            inner.idle.expire();
        });
    }
}

impl Idle {
    /// The one that has waited least.
    fn take(&self) -> Option<Connection> {
        self.locked().pop().map(|(_, connection)| connection)
    }

    fn put(&self, connection: Connection) {
        let mut all = self.locked();
        if all.len() < IDLE_MAX {
            all.push((Instant::now(), connection));
        }
    }

    fn expire(&self) {
        self.locked().retain(|(since, connection)| since.elapsed() < IDLE_TIME && !connection.is_closed());
    }

    fn locked(&self) -> MutexGuard<'_, Vec<(Instant, Connection)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{UnixListener, UnixStream};

    use super::*;

    /// Answers one request, or none, and closes the connection when the next has come.
    async fn serve(mut stream: UnixStream, answers: usize) {
        let mut read = [0; 1024];
        for _ in 0..answers {
            assert!(stream.read(&mut read).await.unwrap() > 0);
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
        }
        assert!(stream.read(&mut read).await.unwrap() > 0);
    }

    async fn ask(engine: &Engine) {
        let answer = engine.ask(Method::GET, "/x", None).await.unwrap();
        assert_eq!(answer.body, "ok");
        while engine.0.idle.locked().is_empty() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_connection_is_asked_again_and_one_that_is_closed_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let engine = Engine::at(socket);
        let first = tokio::spawn(async move {
            serve(listener.accept().await.unwrap().0, 2).await;
            listener
        });
        ask(&engine).await;
        ask(&engine).await;
        // The third goes to the first connection as well, which is closed without an answer.
        let second = tokio::spawn(async move {
            let listener = first.await.unwrap();
            serve(listener.accept().await.unwrap().0, 1).await;
        });
        ask(&engine).await;
        assert_eq!(engine.0.idle.locked().len(), 1);
        let refused = engine.ask(Method::GET, "/x", None).await.unwrap_err();
        assert!(matches!(refused, Error::Absent { .. }), "nobody listens any more: {refused}");
        second.await.unwrap();
    }
}
