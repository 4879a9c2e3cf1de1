//! What the engine behind us says of itself, as far as a client must know it before it says more. The version that is
//! announced is the lower of ours and the engine's.
//!
//! The last answer counts until there is another: while an engine restarts, clients are told the same as before. An
//! engine that hangs costs one wait of [`PATIENCE`]; then nobody waits for it until it has answered. Facts: moby
//! `client/ping.go`, `cli/command` (what the CLI makes of the headers).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::http::header::{HeaderMap, HeaderName, HeaderValue};
use axum::http::{Method, StatusCode};
use serde_json::Value;

use super::router::{API_VERSION, EXPERIMENTAL};
use super::version::{self, ApiVersion};
use crate::containers::Containers;
use crate::engine::{Engine, Error, Result};

/// How long a client waits for the engine to say which version it has.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a client waits for the engine's part of `/version` and `/info`. Some engines run programs for it.
const ANSWER_PATIENCE: Duration = Duration::from_secs(20);
/// How long an engine that hangs is listened to, so that its answer is heard when it comes.
const LISTEN_MAX: Duration = Duration::from_secs(30);

/// Which builder a CLI shall use: 1 is the classic one, 2 is `BuildKit`.
pub(super) const BUILDER_VERSION: HeaderName = HeaderName::from_static("builder-version");
/// What the engine is in a swarm.
pub(super) const SWARM: HeaderName = HeaderName::from_static("swarm");
/// By which podman is known.
const LIBPOD: HeaderName = HeaderName::from_static("libpod-api-version");

/// What clients are told of us and the engine together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    /// The version that is announced.
    pub(super) highest: ApiVersion,
    /// `Builder-Version`.
    pub(super) builder: HeaderValue,
    /// `Docker-Experimental`.
    pub(super) experimental: HeaderValue,
    /// `Swarm`.
    pub(super) swarm: HeaderValue,
    /// Where its answers differ.
    pub(super) dialect: Dialect,
}

/// Whose words an engine speaks, where they differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Docker's.
    Docker,
    /// podman's: for it, `until` ends events before the past is told, and all images are pruned by another route.
    Podman,
}

/// What we are without an engine: `BuildKit`, as dockerd has said since 23.0; in no swarm.
const ALONE: Said = Said {
    highest: version::MAX,
    builder: HeaderValue::from_static("2"),
    experimental: HeaderValue::from_static("false"),
    swarm: HeaderValue::from_static("inactive"),
    dialect: Dialect::Docker,
};

/// What the engine behind us says of itself, if there is one; clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Face(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    engine: Engine,
    said: RwLock<Option<Arc<Said>>>,
    /// Whether it has not answered in time, and not yet since.
    hangs: AtomicBool,
}

impl Face {
    /// The face of an engine that has said nothing yet.
    pub fn of(containers: &Containers) -> Self {
        Self::of_engine(containers.engine().clone())
    }

    fn of_engine(engine: Engine) -> Self {
        Self(Some(Arc::new(Inner { engine, said: RwLock::default(), hangs: AtomicBool::new(false) })))
    }

    /// What is announced now. Asks nobody.
    pub(super) fn now(&self) -> Arc<Said> {
        self.0.as_ref().and_then(|inner| inner.said()).unwrap_or_else(|| Arc::new(ALONE))
    }

    /// What is announced, after the engine was asked, if it has never said anything.
    pub(super) async fn settled(&self) -> Arc<Said> {
        match self.0.as_ref().and_then(|inner| inner.said()) {
            Some(said) => said,
            None => self.look().await,
        }
    }

    /// What is announced, after the engine was asked.
    pub(super) async fn look(&self) -> Arc<Said> {
        if let Some(inner) = &self.0
            && let Err(error) = inner.look().await
        {
            tracing::debug!(error = crate::error::chain(&error), "the engine does not say what it is");
        }
        self.now()
    }

    /// Asks the engine what it is, before it is asked for more.
    ///
    /// # Errors
    /// There is none, or it is not there, or hangs.
    pub(super) async fn awake(&self) -> Result<()> {
        match &self.0 {
            Some(inner) => inner.look().await,
            None => Err(Error::Nowhere),
        }
    }

    /// The engine's answer, as JSON, to what has one on every engine; none without an engine.
    ///
    /// # Errors
    /// The engine is not there, hangs, refuses or makes no sense.
    pub(super) async fn ask(&self, version: ApiVersion, target: &str) -> Option<Result<Value>> {
        let inner = self.0.as_ref()?;
        let asked = tokio::time::timeout(ANSWER_PATIENCE, inner.ask(version, target)).await;
        Some(asked.unwrap_or_else(|_| Err(inner.silent())))
    }

    /// The same for what may take as long as it takes, unless the engine hangs.
    ///
    /// # Errors
    /// As [`Face::ask`].
    pub(super) async fn ask_patiently(&self, version: ApiVersion, target: &str) -> Option<Result<Value>> {
        Some(self.0.as_ref()?.ask(version, target).await)
    }
}

impl Inner {
    fn said(&self) -> Option<Arc<Said>> {
        self.said.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn silent(&self) -> Error {
        Error::Silent { socket: self.engine.socket() }
    }

    async fn look(self: &Arc<Self>) -> Result<()> {
        if self.hangs.load(Ordering::Relaxed) {
            return Err(self.silent());
        }
        // An engine that we start has a deadline of its own.
        self.engine.wake().await?;
        let inner = Arc::clone(self);
        let mut asking = tokio::spawn(async move { inner.learn().await });
        if let Ok(ended) = tokio::time::timeout(PATIENCE, &mut asking).await {
            return ended.unwrap_or_else(|_| Err(self.silent()));
        }
        self.hangs.store(true, Ordering::Relaxed);
        let inner = Arc::clone(self);
        tokio::spawn(async move {
            // Whatever comes of it: the next client asks again.
            let _elapsed = tokio::time::timeout(LISTEN_MAX, &mut asking).await;
            asking.abort();
            inner.hangs.store(false, Ordering::Relaxed);
        });
        Err(self.silent())
    }

    async fn learn(&self) -> Result<()> {
        let said = Arc::new(read(&self.engine.headers("/_ping").await?));
        *self.said.write().unwrap_or_else(PoisonError::into_inner) = Some(said);
        Ok(())
    }

    async fn ask(self: &Arc<Self>, version: ApiVersion, target: &str) -> Result<Value> {
        self.look().await?;
        // The engine may have become older than what the client was told.
        let version = self.said().map_or(version, |said| version.min(said.highest));
        let target = format!("/v{version}{target}");
        let answer = self.engine.ask(Method::GET, &target, None).await?;
        if answer.status != StatusCode::OK {
            return Err(Error::Refused { what: target, status: answer.status.as_u16() });
        }
        serde_json::from_slice(&answer.body).map_err(|error| Error::Answer(Box::new(error)))
    }
}

/// What an engine's answer to a ping says. What it does not say is the least.
fn read(headers: &HeaderMap) -> Said {
    let text = |name: &HeaderName| headers.get(name).filter(|value| !value.is_empty());
    let told = text(&API_VERSION).and_then(|value| ApiVersion::told(value.to_str().ok()?));
    let or =
        |name: &HeaderName, otherwise| text(name).cloned().unwrap_or(HeaderValue::from_static(otherwise));
    Said {
        highest: told.map_or(version::MAX, ApiVersion::with_engine),
        builder: or(&BUILDER_VERSION, "1"),
        experimental: or(&EXPERIMENTAL, "false"),
        swarm: or(&SWARM, "inactive"),
        dialect: if headers.contains_key(LIBPOD) { Dialect::Podman } else { Dialect::Docker },
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn said(pairs: &[(&'static str, &'static str)]) -> Said {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        read(&pairs.iter().map(pair).collect())
    }

    #[test]
    fn an_engines_headers_are_told_on() {
        let podman = said(&[
            ("api-version", "1.41"),
            ("builder-version", ""),
            ("docker-experimental", "true"),
            ("libpod-api-version", "4.3.1"),
        ]);
        let value = HeaderValue::from_static;
        let expected = Said {
            highest: ApiVersion::v1(41),
            builder: value("1"),
            experimental: value("true"),
            swarm: value("inactive"),
            dialect: Dialect::Podman,
        };
        assert_eq!(podman, expected);
        let dockerd = said(&[("api-version", "1.60"), ("builder-version", "2"), ("swarm", "active/manager")]);
        let expected = Said { swarm: value("active/manager"), ..ALONE };
        assert_eq!(dockerd, expected);
        assert_eq!(said(&[]).highest, version::MAX);
    }

    #[tokio::test]
    async fn without_an_engine_we_speak_for_ourselves() {
        let face = Face::default();
        assert_eq!(*face.look().await, ALONE);
        assert!(face.ask(version::MAX, "/info").await.is_none());
        let absent = Face::of_engine(Engine::at("/no/such.sock".into()));
        assert_eq!(*absent.look().await, ALONE);
        let error = absent.ask(version::MAX, "/info").await.unwrap().unwrap_err();
        assert!(matches!(error, Error::Absent { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn nobody_waits_twice_for_an_engine_that_hangs() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("e.sock");
        // It listens, and never answers.
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let face = Face::of_engine(Engine::at(socket.clone()));
        assert_eq!(*face.look().await, ALONE);
        // Ready at once: nothing in between waits for anything.
        assert_eq!(*face.look().now_or_never().unwrap(), ALONE);
        let error = face.ask(version::MAX, "/info").now_or_never().unwrap().unwrap().unwrap_err();
        assert!(error.to_string().contains(socket.to_str().unwrap()), "{error}");
    }
}
