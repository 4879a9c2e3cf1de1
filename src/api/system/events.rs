//! `GET /events`: what happened and what happens, one JSON object a line, until `until` or until the client leaves.
//!
//! Plugins' and volumes' events are ours, all others the engine's (`of_engine`): the past in the order of time, the rest as it
//! comes. Which events a filter lets through, and what `since` and `until` mean, is dockerd's (moby `daemon/events`,
//! `api/types/time`): times are seconds with up to nine decimals; the CLI makes them of dates and durations.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::Response;
use axum::http::header::CONTENT_TYPE;
use futures_util::StreamExt as _;
use futures_util::stream;
use jiff::Timestamp;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use self::of_engine::{Lines, Timed};
use crate::api::error::{Failure, Result};
use crate::api::filters::Filters;
use crate::api::form::Form;
use crate::api::{Rooms, reply};
use crate::engine::Engine;
use crate::error::chain;
use crate::events::{Event, Receiver};

mod of_engine;

/// How many clients listen, for `/info`.
#[derive(Debug, Clone, Default)]
pub struct Listeners(Arc<AtomicUsize>);

/// One of them, while it lives.
#[derive(Debug)]
struct Listening(Listeners);

impl Listeners {
    /// How many there are now.
    pub(in crate::api) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn enter(&self) -> Listening {
        self.0.fetch_add(1, Ordering::Relaxed);
        Listening(self.clone())
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Docker's event message.
#[derive(Debug, Serialize)]
struct Message<'a> {
    #[serde(rename = "Type")]
    kind: &'a str,
    #[serde(rename = "Action")]
    action: &'a str,
    #[serde(rename = "Actor")]
    actor: Actor<'a>,
    scope: &'static str,
    time: i64,
    #[serde(rename = "timeNano")]
    time_nano: i128,
}

#[derive(Debug, Serialize)]
struct Actor<'a> {
    #[serde(rename = "ID")]
    id: &'a str,
    #[serde(rename = "Attributes")]
    attributes: &'a BTreeMap<String, String>,
}

/// Everything here happens on this machine, in no swarm.
const SCOPE: &str = "local";

/// What a client wants to hear.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    filters: Filters,
}

impl Wanted {
    fn parse(form: &Form) -> Result<Self> {
        let (since, until) = (form.time("since")?, form.time("until")?);
        if let (Some(after), Some(before)) = (since, until)
            && before < after
        {
            return Err(Failure::invalid(format!(
                "`since` time ({}) cannot be after `until` time ({})",
                form.text("since"),
                form.text("until")
            )));
        }
        Ok(Self { since, until, filters: form.filters()? })
    }

    /// Whether an event that is already past is told: only to those who named a time.
    fn past(&self, event: &Event) -> bool {
        self.names_a_time()
            && self.since.is_none_or(|since| event.time >= since)
            && self.until.is_none_or(|until| event.time <= until)
            && self.includes(&Told::of(event))
    }

    /// Whether the past is asked for.
    fn names_a_time(&self) -> bool {
        self.since.is_some() || self.until.is_some()
    }

    /// Whether an event that is not ours could get through the filters.
    fn may_be_of_engine(&self) -> bool {
        let kinds = self.filters.values("type");
        kinds.is_empty() || kinds.iter().any(|kind| !matches!(kind.as_str(), "volume" | "plugin"))
    }

    /// Whether the filters let an event through.
    fn includes(&self, told: &Told<'_>) -> bool {
        let filters = &self.filters;
        let name = told.attributes.get("name").map_or("", String::as_str);
        // dockerd compares each of these keys with every event, whatever its type.
        let kinds =
            ["daemon", "container", "plugin", "volume", "network", "node", "service", "secret", "config"];
        // These actions go on after a colon.
        let goes_on = ["health_status", "exec_create", "exec_start"];
        let action = if filters.values("event").iter().any(|event| goes_on.contains(&event.as_str())) {
            filters.prefix("event", told.action)
        } else {
            filters.exact("event", told.action)
        };
        action
            && filters.exact("type", told.kind)
            && filters.exact("scope", told.scope)
            && kinds.iter().all(|kind| filters.prefix(kind, told.actor) || filters.prefix(kind, name))
            && told.images().into_iter().any(|image| filters.exact("image", image))
            && filters.labels("label", told.attributes)
    }
}

/// What filters look at in an event.
#[derive(Debug, Clone, Copy)]
struct Told<'a> {
    kind: &'a str,
    action: &'a str,
    actor: &'a str,
    attributes: &'a BTreeMap<String, String>,
    scope: &'a str,
}

impl<'a> Told<'a> {
    fn of(event: &'a Event) -> Self {
        Self {
            kind: event.kind.as_str(),
            action: &event.action,
            actor: &event.actor,
            attributes: &event.attributes,
            scope: SCOPE,
        }
    }

    /// The names of the image that it is about, with and without a tag.
    fn images(&self) -> [&'a str; 4] {
        let key = if self.kind == "image" { "name" } else { "image" };
        let name = self.attributes.get(key).map_or("", String::as_str);
        [self.actor, name, untagged(self.actor), untagged(name)]
    }
}

/// A reference without its tag and its digest.
fn untagged(reference: &str) -> &str {
    let reference = reference.split_once('@').map_or(reference, |(name, _)| name);
    match reference.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => reference,
    }
}

/// `GET /events?since=&until=&filters=`
pub(in crate::api) async fn events(State(rooms): State<Rooms>, form: Form) -> Result<Response<Body>> {
    let wanted = Wanted::parse(&form)?;
    let listening = rooms.listeners.enter();
    let (recent, receiver) = rooms.events.subscribe_with_recent();
    let backlog = recent.iter().filter(|event| wanted.past(event));
    let backlog: VecDeque<_> = backlog.map(|event| (event.time.as_nanosecond(), line(event))).collect();
    let now = Timestamp::now();
    let engine = rooms.containers.as_ref().map(|containers| containers.engine().clone());
    let engine = engine.filter(|_| wanted.may_be_of_engine());
    let past_of_engine = match &engine {
        Some(engine) if wanted.names_a_time() => past_of_engine(engine, &rooms, &wanted, now).await,
        _ => None,
    };
    let past = Merged { own: backlog, engine: past_of_engine, waiting: None };
    let past = stream::unfold(past, |mut past| async move { Some((past.next().await?, past)) });
    let end = end(wanted.until, rooms.closing.clone());
    let live_of_engine = match engine {
        Some(engine) => of_engine::live(engine, wanted.clone(), now).left_stream(),
        None => stream::empty().right_stream(),
    };
    let live = Live { receiver, wanted, _listening: listening };
    let live = stream::unfold(live, |mut live| async move { Some((live.next().await?, live)) });
    let live = stream::select(live, live_of_engine).take_until(Box::pin(end));
    let lines = past.chain(live).map(Ok::<_, Infallible>);
    let mut response = Response::new(Body::from_stream(lines));
    response.headers_mut().insert(CONTENT_TYPE, reply::JSON);
    Ok(response)
}

/// What the engine tells of the past; nothing when it is not there.
async fn past_of_engine(engine: &Engine, rooms: &Rooms, wanted: &Wanted, now: Timestamp) -> Option<Lines> {
    let asked = async {
        rooms.face.awake().await?;
        of_engine::past(engine, wanted, rooms.face.now().dialect, now).await
    };
    match asked.await {
        Ok(lines) => Some(lines),
        Err(error) => {
            tracing::warn!(error = chain(&error), "the engine's past events are not told");
            None
        }
    }
}

/// Resolves when `until` has come or the daemon ends.
async fn end(until: Option<Timestamp>, closing: CancellationToken) {
    let closed = closing.cancelled();
    match until.map(|until| until.duration_since(Timestamp::now())) {
        Some(left) => {
            let left = Duration::try_from(left).unwrap_or(Duration::ZERO);
            let _until_or_closed = tokio::time::timeout(left, closed).await;
        }
        None => closed.await,
    }
}

/// What has passed, in the order of time, from both of us.
struct Merged {
    own: VecDeque<Timed>,
    engine: Option<Lines>,
    waiting: Option<Timed>,
}

impl Merged {
    async fn next(&mut self) -> Option<String> {
        if self.waiting.is_none()
            && let Some(engine) = &mut self.engine
        {
            self.waiting = engine.next().await;
            if self.waiting.is_none() {
                self.engine = None;
            }
        }
        let own_is_next = match (self.own.front(), &self.waiting) {
            (Some((own, _)), Some((other, _))) => own <= other,
            (own, _) => own.is_some(),
        };
        let next = if own_is_next { self.own.pop_front() } else { self.waiting.take() };
        next.map(|(_, line)| line)
    }
}

/// Our events from now on.
struct Live {
    receiver: Receiver,
    wanted: Wanted,
    _listening: Listening,
}

impl Live {
    async fn next(&mut self) -> Option<String> {
        loop {
            let event = self.receiver.recv().await?;
            if self.wanted.includes(&Told::of(&event)) {
                return Some(line(&event));
            }
        }
    }
}

/// An event as a client reads it.
fn line(event: &Event) -> String {
    let message = Message {
        kind: event.kind.as_str(),
        action: &event.action,
        actor: Actor { id: &event.actor, attributes: &event.attributes },
        scope: SCOPE,
        time: event.time.as_second(),
        time_nano: event.time.as_nanosecond(),
    };
    // Strings and numbers cannot fail to serialise.
    let mut line = serde_json::to_string(&message).unwrap_or_default();
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Type;

    fn wanted(query: &str) -> std::result::Result<Wanted, Failure> {
        Wanted::parse(&Form::parse(query).unwrap())
    }

    fn event(kind: Type, action: &str, actor: &str) -> Event {
        let mut event = Event::new(kind, action, actor).with("name", "me/p:latest");
        event.time = Timestamp::new(100, 5).unwrap();
        event
    }

    #[test]
    fn a_time_that_is_wrong_is_refused() {
        assert_eq!(
            wanted("since=5&until=4"),
            Err(Failure::invalid("`since` time (5) cannot be after `until` time (4)"))
        );
        let soon = "strconv.ParseInt: parsing \"soon\": invalid syntax";
        assert_eq!(wanted("until=soon"), Err(Failure::invalid(soon)));
    }

    #[test]
    fn the_past_is_told_only_to_those_who_ask() {
        let event = event(Type::Plugin, "enable", "abc");
        for (query, expected) in [
            ("", false),
            ("since=0", true),
            ("since=100.000000005", true),
            ("since=100.000000006", false),
            ("until=100.000000005", true),
            ("until=100", false),
            ("since=0&filters=%7B%22event%22%3A%5B%22disable%22%5D%7D", false),
        ] {
            assert_eq!(wanted(query).unwrap().past(&event), expected, "{query}");
        }
    }

    #[test]
    fn filters_choose() {
        let enabled = event(Type::Plugin, "enable", "abcdef");
        for (filters, expected) in [
            ("{}", true),
            (r#"{"type": ["plugin"]}"#, true),
            (r#"{"type": ["plug"]}"#, false),
            (r#"{"type": ["volume", "plugin"]}"#, true),
            (r#"{"event": ["enable"]}"#, true),
            (r#"{"event": ["en"]}"#, false),
            (r#"{"plugin": ["abc"]}"#, true),
            (r#"{"plugin": ["me/p"]}"#, true),
            (r#"{"plugin": ["other"]}"#, false),
            (r#"{"volume": ["abc"]}"#, true),
            (r#"{"daemon": ["other"]}"#, false),
            (r#"{"scope": ["local"]}"#, true),
            (r#"{"scope": ["swarm"]}"#, false),
            (r#"{"label": ["name=me/p:latest"]}"#, true),
            (r#"{"label": ["name=x"]}"#, false),
            (r#"{"unknown": ["x"]}"#, true),
        ] {
            let filters = Filters::parse(filters).unwrap();
            let wanted = Wanted { since: None, until: None, filters };
            assert_eq!(wanted.includes(&Told::of(&enabled)), expected, "{:?}", wanted.filters);
        }
    }

    #[test]
    fn a_line_has_dockers_shape() {
        assert_eq!(
            line(&event(Type::Volume, "create", "v")),
            "{\"Type\":\"volume\",\"Action\":\"create\",\"Actor\":{\"ID\":\"v\",\"Attributes\":{\"name\":\
             \"me/p:latest\"}},\"scope\":\"local\",\"time\":100,\"timeNano\":100000000005}\n"
        );
    }
}
