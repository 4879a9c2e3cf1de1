//! What the engine says happens to its containers, from its events; and after any time nobody listened, from its list.
//!
//! Somebody listens while there is a container to listen for, from the first request that is about one. When the engine
//! goes, it is tried again at the next request and every now and then.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::{Method, StatusCode};
use serde_json::Value;

use super::body::LABEL;
use super::create::json;
use super::life::is_over;
use super::record::Record;
use super::{Containers, Error, Result};
use crate::error::chain;

/// The longest line of the engine's events, in bytes: one event.
const LINE_MAX_BYTES: usize = 1 << 20;
/// How long it takes until an engine that has gone is tried again without a request; twice as long each time.
const PAUSE_FIRST: Duration = Duration::from_millis(250);
/// As long, and no longer.
const PAUSE_LONGEST: Duration = Duration::from_secs(30);
/// Everything that happens to containers; what is wanted of it is found here.
const EVENTS: &str = "/events?filters=%7B%22type%22%3A%5B%22container%22%5D%7D";
const LIST: &str = "/containers/json?all=1";

impl Containers {
    /// Listens from now on, if nobody does and there is something to hear.
    pub fn follow(&self) {
        if self.is_empty() {
            return;
        }
        if self.0.following.swap(true, Ordering::SeqCst) {
            return self.0.wake.notify_one();
        }
        let containers = self.clone();
        tokio::spawn(async move { containers.listen_on().await });
    }

    /// Listens, and when the engine has gone, until it is back: at the next request, or after a while.
    async fn listen_on(&self) {
        let mut pause = PAUSE_FIRST;
        let mut interval = tokio::time::interval(PAUSE_LONGEST);
        loop {
            let began = Instant::now();
            if let Err(error) = self.listen().await {
                tracing::debug!(error = chain(&error), "the engine is not listened to any more");
            }
            if self.is_empty() {
                break;
            }
            pause = if began.elapsed() > PAUSE_LONGEST { PAUSE_FIRST } else { PAUSE_LONGEST.min(pause * 2) };
            interval.reset_after(pause);
            tokio::select! {
                _ = interval.tick() => {}
                () = self.0.wake.notified() => {}
            }
        }
        self.0.following.store(false, Ordering::SeqCst);
    }

    async fn listen(&self) -> Result<()> {
        // First the ears, then the look: what happens in between is heard.
        let mut events = self.engine().stream(EVENTS).await?;
        self.reconcile().await?;
        let mut waiting = Vec::new();
        while let Some(piece) = next(&mut events).await {
            waiting.extend_from_slice(&piece);
            while let Some(end) = waiting.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = waiting.drain(..=end).collect();
                if let Ok(event) = serde_json::from_slice::<Value>(&line) {
                    self.hear(&event).await;
                }
            }
            if waiting.len() > LINE_MAX_BYTES {
                return Err(Error::Nonsense {
                    asked: EVENTS.to_owned(),
                    expected: "events of a few kilobytes",
                });
            }
        }
        Ok(())
    }

    async fn hear(&self, event: &Value) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let action = [&event["Action"], &event["status"]].into_iter().map(text).find(|text| !text.is_empty());
        let id = [&event["Actor"]["ID"], &event["id"]].into_iter().map(text).find(|text| !text.is_empty());
        let (Some(action), Some(id)) = (action, id) else { return };
        match action.as_str() {
            "die" | "died" => {
                if let Some((token, _)) = self.find(&id) {
                    self.ended(&token, &id).await;
                }
            }
            // Some engines say so when a container will not be started again by its policy.
            "stop" | "cleanup" => {
                if let Some((token, _)) = self.find(&id) {
                    self.over(&token, &id).await;
                }
            }
            // One that was given up has turned up after all, or one that nobody has seen to its end.
            "create" => {
                let token = event["Actor"]["Attributes"][LABEL].as_str().unwrap_or_default();
                if self.is_undecided(token)
                    && let Err(error) = self.reconcile().await
                {
                    tracing::warn!(error = chain(&error), "a container that has turned up is not looked at");
                }
            }
            "destroy" | "remove" => self.removed(&id).await,
            _ => {}
        }
    }

    /// Whether a container with this token is none that is known, and none that is being made.
    fn is_undecided(&self, token: &str) -> bool {
        let is_unseen = self.0.records().get(token).is_some_and(|record| record.id.is_none());
        (is_unseen || self.0.unwanted.contains(token)) && !self.is_being_made(token)
    }

    /// Looks at the engine's list, if there is a container to look for.
    ///
    /// # Errors
    /// As [`Containers::reconcile`].
    pub async fn catch_up(&self) -> Result<()> {
        if self.is_empty() { Ok(()) } else { self.reconcile().await }
    }

    /// Looks at the engine's list, and makes what is known agree with it.
    ///
    /// # Errors
    /// The engine is not there, or its list cannot be read.
    pub async fn reconcile(&self) -> Result<()> {
        let _one_at_a_time = self.0.looking.lock().await;
        // Before the list: what is made meanwhile is not in it, and is not gone.
        let records: Vec<(String, Record)> = self.0.records().clone().into_iter().collect();
        let records: Vec<_> = records.into_iter().filter(|(token, _)| !self.is_being_made(token)).collect();
        let answer = self.engine().ask(Method::GET, LIST, None).await?;
        let nonsense = || Error::Nonsense { asked: LIST.to_owned(), expected: "a list of containers" };
        if answer.status != StatusCode::OK {
            return Err(nonsense());
        }
        let list = json(LIST, &answer)?;
        let list = list.as_array().ok_or_else(nonsense)?;
        let (mut by_id, mut by_token) = (BTreeMap::new(), BTreeMap::new());
        for container in list {
            let Some(id) = container["Id"].as_str() else { continue };
            by_id.insert(id.to_owned(), !is_over(&container["State"]));
            if let Some(token) = container["Labels"][LABEL].as_str() {
                by_token.insert(token.to_owned(), id.to_owned());
            }
        }
        by_token.retain(|_, id| by_id.get(id) == Some(&false));
        self.remove_all_unwanted(&by_token).await?;
        for (token, mut record) in records {
            if record.id.is_none() {
                // Its create was not seen to the end: there is such a container, or there is none.
                let Some(id) = by_token.get(&token) else {
                    // The engine may be making it still: then nobody wants it.
                    self.give_up(&token).await?;
                    self.abandon(&token, &record).await;
                    continue;
                };
                record.id = Some(id.clone());
                self.note(&token, record.clone()).await?;
            }
            let running = record.id.as_ref().and_then(|id| by_id.get(id)).copied();
            self.settle(&token, &record, running).await;
        }
        Ok(())
    }
}

/// The next piece of a stream; none at its end.
async fn next(stream: &mut Incoming) -> Option<bytes::Bytes> {
    loop {
        if let Ok(piece) = stream.frame().await?.ok()?.into_data() {
            return Some(piece);
        }
    }
}
