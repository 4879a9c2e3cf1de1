//! `GET /events`: what happened and what happens, one JSON object a line, until `until` or until the client leaves.
//!
//! Which events a filter lets through, and what `since` and `until` mean, is dockerd's (moby `daemon/events`,
//! `api/types/time`): times are seconds with up to nine decimals; the CLI makes them of dates and durations.

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

use crate::api::error::{Failure, Result};
use crate::api::filters::Filters;
use crate::api::form::Form;
use crate::api::{Rooms, reply};
use crate::events::{Event, Receiver};

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
    attributes: &'a std::collections::BTreeMap<String, String>,
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
        (self.since.is_some() || self.until.is_some())
            && self.since.is_none_or(|since| event.time >= since)
            && self.until.is_none_or(|until| event.time <= until)
            && self.includes(event)
    }

    /// Whether the filters let an event through.
    fn includes(&self, event: &Event) -> bool {
        let filters = &self.filters;
        let name = event.attributes.get("name").map_or("", String::as_str);
        // dockerd compares each of these keys with every event, whatever its type.
        let kinds =
            ["daemon", "container", "plugin", "volume", "network", "node", "service", "secret", "config"];
        filters.exact("event", &event.action)
            && filters.exact("type", event.kind.as_str())
            && filters.exact("scope", SCOPE)
            && kinds.iter().all(|kind| filters.prefix(kind, &event.actor) || filters.prefix(kind, name))
            && (filters.exact("image", &event.actor) || filters.exact("image", ""))
            && filters.labels("label", &event.attributes)
    }
}

/// `GET /events?since=&until=&filters=`
pub(in crate::api) async fn events(State(rooms): State<Rooms>, form: Form) -> Result<Response<Body>> {
    let wanted = Wanted::parse(&form)?;
    let listening = rooms.listeners.enter();
    let (recent, receiver) = rooms.events.subscribe_with_recent();
    let backlog: Vec<String> = recent.iter().filter(|event| wanted.past(event)).map(|e| line(e)).collect();
    let live = Live { receiver, wanted, closing: rooms.closing.clone(), _listening: listening };
    let live = stream::unfold(live, |mut live| async move { Some((live.next().await?, live)) });
    let lines = stream::iter(backlog).chain(live).map(Ok::<_, Infallible>);
    let mut response = Response::new(Body::from_stream(lines));
    response.headers_mut().insert(CONTENT_TYPE, reply::JSON);
    Ok(response)
}

/// The events from now on.
struct Live {
    receiver: Receiver,
    wanted: Wanted,
    closing: CancellationToken,
    _listening: Listening,
}

impl Live {
    /// The next line; `None` when `until` has come or the daemon ends.
    async fn next(&mut self) -> Option<String> {
        let left = self.wanted.until.map(|until| until.duration_since(Timestamp::now()));
        let left = left.map(|left| Duration::try_from(left).unwrap_or(Duration::ZERO));
        let (receiver, wanted) = (&mut self.receiver, &self.wanted);
        let next = async {
            loop {
                let event = receiver.recv().await?;
                if wanted.includes(&event) {
                    return Some(line(&event));
                }
            }
        };
        let next = async {
            match left {
                Some(left) => tokio::time::timeout(left, next).await.ok().flatten(),
                None => next.await,
            }
        };
        tokio::select! {
            next = next => next,
            () = self.closing.cancelled() => None,
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
            assert_eq!(wanted.includes(&enabled), expected, "{:?}", wanted.filters);
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
