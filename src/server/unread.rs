//! What is done with a body that nobody read to its end: a little of it is read and thrown away.
//!
//! hyper would close the connection at once, and a client that is still writing its body would then see a broken pipe
//! instead of the answer. Go's server reads up to 256 KiB too (`net/http/server.go`, `maxPostHandlerReadBytes`).

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Bytes, HttpBody};
use http_body_util::BodyExt as _;
use hyper::body::{Frame, Incoming, SizeHint};

/// How much of an unread body is read before the connection is given up, in bytes.
const MAX_UNREAD_BYTES: usize = 256 * 1024;
/// How long a client may take to send that.
const UNREAD_TIMEOUT: Duration = Duration::from_secs(5);

/// A request's body that is read a little further when it is dropped.
#[derive(Debug)]
pub(super) struct Unread(Option<Incoming>);

impl Unread {
    /// A body as it came. One that the client has not begun to send (`Expect: 100-continue`) must not be wrapped.
    pub(super) fn new(body: Incoming) -> Self {
        Self(Some(body))
    }
}

impl HttpBody for Unread {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.0 {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(SizeHint::default, Incoming::size_hint)
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let Some(body) = self.0.take().filter(|body| !body.is_end_stream()) else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(tokio::time::timeout(UNREAD_TIMEOUT, throw_away(body)));
        }
    }
}

async fn throw_away(mut body: Incoming) {
    let mut read_bytes = 0;
    while let Some(Ok(frame)) = body.frame().await {
        read_bytes += frame.data_ref().map_or(0, Bytes::len);
        if read_bytes > MAX_UNREAD_BYTES {
            return;
        }
    }
}
