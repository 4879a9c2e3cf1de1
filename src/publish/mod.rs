//! A managed volume plugin as a legacy one: `docker.volumedriver/1.0` on a socket that any engine can use.
//!
//! ```text
//! request  what was asked, out of hostile bytes
//! ```
//!
//! What is asked goes into the plugin by way of `volumes`: with its records, its ledger and its deadlines. So a
//! mountpoint that is told is a path of the host that the plugin cannot swap, it stays mounted while this daemon is
//! away, and a volume that somebody uses here is not removed there. Whoever asks sees the volumes of one driver alone.
//!
//! This room knows neither sockets nor how a plugin is started. Facts: Docker's "plugin API" and "volume plugin
//! protocol"; what podman 4.3 and dockerd 20.10 send.

mod request;

use std::convert::Infallible;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use serde_json::{Value, json};

use self::request::Call;
use crate::error::chain;
use crate::volumes::{self, OfDriver, Volume};

/// How large a request may be, in bytes: a name and options.
pub const REQUEST_MAX_BYTES: usize = 1024 * 1024;
/// How long a client may take to send it.
const REQUEST_DEADLINE: Duration = Duration::from_secs(30);
/// What dockerd says it accepts.
const PLUGINS: HeaderValue = HeaderValue::from_static("application/vnd.docker.plugins.v1.2+json");
/// The tag that nobody types.
const DEFAULT_TAG: &str = ":latest";

/// The file a driver's socket has, below the directory of published sockets: the name that users type, with `.sock`.
///
/// `rclone:latest` is `rclone.sock`, `me/sshfs:v2` is `me/sshfs:v2.sock`, as dockerd looks for a driver of such a name.
pub fn file_name(driver: &str) -> PathBuf {
    PathBuf::from(format!("{}.sock", driver.strip_suffix(DEFAULT_TAG).unwrap_or(driver)))
}

/// A service that answers for one driver.
#[derive(Debug, Clone)]
pub struct Published(OfDriver);

/// Why a request got no result.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("{0}: there is no such call")]
    NoSuchCall(String),
    #[error("{0}")]
    Request(String),
    #[error(transparent)]
    Volumes(#[from] volumes::Error),
}

impl Published {
    /// Answers with the volumes of one driver.
    pub fn new(volumes: OfDriver) -> Self {
        Self(volumes)
    }

    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let answered = async {
            if head.method != Method::POST {
                return Err(Refusal::NoSuchCall(format!("{} {}", head.method, head.uri.path())));
            }
            let body = read(body).await.map_err(Refusal::Request)?;
            self.call(head.uri.path(), &body).await
        };
        match answered.await {
            Ok(answer) => response(StatusCode::OK, &answer),
            Err(refusal) => {
                let status = match refusal {
                    Refusal::NoSuchCall(_) => StatusCode::NOT_FOUND,
                    Refusal::Request(_) => StatusCode::BAD_REQUEST,
                    // What plugins answer, whatever is wrong: clients look at the words.
                    Refusal::Volumes(_) => StatusCode::INTERNAL_SERVER_ERROR,
                };
                let words = chain(&refusal);
                tracing::debug!(driver = self.0.driver(), words, "a published plugin says no");
                response(status, &json!({ "Err": words }))
            }
        }
    }

    async fn call(&self, path: &str, body: &[u8]) -> Result<Value, Refusal> {
        let call = Call::parse(path, body)?;
        Ok(match call {
            Call::Activate => json!({ "Implements": ["VolumeDriver"] }),
            Call::Capabilities => json!({ "Capabilities": { "Scope": self.0.reach().await?.as_str() } }),
            Call::Create { name, options } => {
                self.0.create(&name, options).await?;
                done()
            }
            Call::Remove { name } => {
                self.0.remove(&name).await?;
                done()
            }
            Call::Mount { name, id } => mountpoint(Some(&self.0.mount(&name, &id).await?)),
            Call::Unmount { name, id } => {
                self.0.unmount(&name, &id).await?;
                done()
            }
            Call::Path { name } => mountpoint(self.0.mountpoint(&name)?.as_deref()),
            Call::Get { name } => json!({ "Volume": shape(&self.0.get(&name).await?), "Err": "" }),
            Call::List => {
                let volumes: Vec<_> = self.0.list().await.iter().map(shape).collect();
                json!({ "Volumes": volumes, "Err": "" })
            }
        })
    }
}

impl tower::Service<Request<Body>> for Published {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move { Ok(this.answer(request).await) })
    }
}

/// The whole body, or why there is none.
async fn read(body: Body) -> Result<Vec<u8>, String> {
    let whole = Limited::new(body, REQUEST_MAX_BYTES).collect();
    match tokio::time::timeout(REQUEST_DEADLINE, whole).await {
        Ok(Ok(body)) => Ok(body.to_bytes().into()),
        Ok(Err(error)) => Err(format!("reading the request, {REQUEST_MAX_BYTES} bytes at most: {error}")),
        Err(_) => Err(format!("the request was not sent within {} s", REQUEST_DEADLINE.as_secs())),
    }
}

fn done() -> Value {
    json!({ "Err": "" })
}

fn mountpoint(path: Option<&Path>) -> Value {
    json!({ "Mountpoint": path.unwrap_or(Path::new("")), "Err": "" })
}

/// A volume as the protocol tells it.
fn shape(volume: &Volume) -> Value {
    let mut shape =
        json!({ "Name": volume.name, "Mountpoint": volume.mountpoint.as_deref().unwrap_or(Path::new("")) });
    if let Some(created_at) = volume.created_at {
        shape["CreatedAt"] = created_at.to_string().into();
    }
    if let Some(status) = volume.status.as_ref().filter(|status| !status.is_empty()) {
        shape["Status"] = Value::Object(status.clone());
    }
    shape
}

fn response(status: StatusCode, answer: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(format!("{answer}\n")));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, PLUGINS);
    response
}

#[cfg(test)]
mod tests;
