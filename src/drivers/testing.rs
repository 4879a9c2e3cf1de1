//! A volume plugin that behaves as badly as a test wants: on a real socket, in the test's own process.
//!
//! Only for what a real plugin cannot be made to show. It is no model of a good plugin.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use super::{Presence, Registration, Scope};

/// How the plugin answers one call.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// Status and JSON.
    Json(u16, Value),
    /// Status and these bytes.
    Raw(u16, &'static [u8]),
    /// Never.
    Hang,
    /// 200, and so many bytes of a JSON string.
    Huge(usize),
    /// By closing the connection.
    Close,
}

impl Reply {
    /// 200 and JSON.
    pub(crate) fn ok(value: Value) -> Self {
        Self::Json(200, value)
    }

    /// 200 with the error text in JSON.
    pub(crate) fn err(text: &str) -> Self {
        Self::ok(json!({ "Err": text }))
    }
}

/// What the plugin was asked.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// `Create`, `Get`, …
    pub(crate) method: String,
    /// The header lines, by lower-case name.
    pub(crate) headers: BTreeMap<String, String>,
    /// As it came.
    pub(crate) body: String,
}

impl Call {
    /// The name of the volume that was asked for.
    pub(crate) fn name(&self) -> String {
        let body: Value = serde_json::from_str(&self.body).unwrap();
        body["Name"].as_str().unwrap_or_default().to_owned()
    }
}

/// A plugin that listens. Dropping it closes its socket and its connections.
pub(crate) struct FakePlugin {
    /// The sockets directory; the socket is `p.sock`.
    pub(crate) sockets: PathBuf,
    calls: Arc<Mutex<Vec<Call>>>,
    connections: Arc<AtomicUsize>,
    accept: AbortHandle,
    /// What is said of it.
    pub(crate) presence: watch::Sender<Presence>,
}

type Body = BoxBody<Bytes, Infallible>;

impl FakePlugin {
    /// Listens on `p.sock` in a directory that exists.
    pub(crate) fn start(sockets: &Path, reply: impl Fn(&Call) -> Reply + Send + Sync + 'static) -> Self {
        let _ = std::fs::remove_file(sockets.join("p.sock"));
        let listener = UnixListener::bind(sockets.join("p.sock")).unwrap();
        let calls: Arc<Mutex<Vec<Call>>> = Arc::default();
        let reply: Arc<dyn Fn(&Call) -> Reply + Send + Sync> = Arc::new(reply);
        let recorded = Arc::clone(&calls);
        let connected: Arc<AtomicUsize> = Arc::default();
        let counted = Arc::clone(&connected);
        let accept = tokio::spawn(async move {
            // Dropped with this task, and every connection with it.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                let (calls, reply) = (Arc::clone(&recorded), Arc::clone(&reply));
                let service = hyper::service::service_fn(move |request| {
                    serve(request, Arc::clone(&calls), Arc::clone(&reply))
                });
                connections.spawn(async move {
                    let http = hyper::server::conn::http1::Builder::new();
                    let _ = http.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self {
            sockets: sockets.to_owned(),
            calls,
            connections: connected,
            accept: accept.abort_handle(),
            presence: watch::Sender::default(),
        }
    }

    /// What was asked so far.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    /// How many connections were made so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// The methods of what was asked so far.
    pub(crate) fn methods(&self) -> Vec<String> {
        self.calls().into_iter().map(|call| call.method).collect()
    }

    /// How it is registered under a name.
    pub(crate) fn registration(&self, name: &str) -> Registration {
        Registration {
            name: name.to_owned(),
            sockets: self.sockets.clone(),
            socket: "p.sock".to_owned(),
            scope: Scope::Own {
                rootfs: "/d/rootfs".into(),
                propagated: Some(("/mnt".into(), "/d/prop".into())),
            },
            presence: self.presence.subscribe(),
        }
    }
}

impl Drop for FakePlugin {
    fn drop(&mut self) {
        self.accept.abort();
    }
}

async fn serve(
    request: Request<Incoming>,
    calls: Arc<Mutex<Vec<Call>>>,
    reply: Arc<dyn Fn(&Call) -> Reply + Send + Sync>,
) -> Result<Response<Body>, std::io::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
    let headers =
        head.headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
    let call = Call {
        method: head.uri.path().trim_start_matches("/VolumeDriver.").to_owned(),
        headers: headers.collect(),
        body: String::from_utf8(body.to_vec()).unwrap(),
    };
    calls.lock().unwrap().push(call.clone());
    let answer = |status: u16, body: Body| Ok(Response::builder().status(status).body(body).unwrap());
    match reply(&call) {
        Reply::Json(status, value) => answer(status, Full::new(Bytes::from(value.to_string())).boxed()),
        Reply::Raw(status, bytes) => answer(status, Full::new(Bytes::from_static(bytes)).boxed()),
        Reply::Hang => std::future::pending().await,
        Reply::Close => Err(std::io::Error::other("closed on purpose")),
        Reply::Huge(bytes) => {
            const CHUNK: usize = 1 << 16;
            let chunk = Bytes::from(vec![b'x'; CHUNK]);
            let chunks = stream::repeat(chunk).take(bytes.div_ceil(CHUNK));
            let opening = stream::once(std::future::ready(Bytes::from_static(b"{\"Err\":\"")));
            let frames = opening.chain(chunks).map(|bytes| Ok::<_, Infallible>(Frame::data(bytes)));
            answer(200, BodyExt::boxed(StreamBody::new(frames)))
        }
    }
}
