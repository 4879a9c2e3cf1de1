//! The engine's part of `/events`: its lines as they are, but for those about volumes and plugins, which are ours to tell.
//!
//! Containers that are there for us alone are not told of, nor the label by which we know the others.
//!
//! All of them are asked for, and chosen here: some engines choose by other names than those they tell. When the engine
//! goes, its part waits until it is back, and goes on from the last event that was told.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use futures_util::stream::{self, Stream};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::{Told, Wanted};
use crate::api::face::Dialect;
use crate::containers::{COPY_LABEL, LABEL};
use crate::engine::{Engine, Error, Result};
use crate::error::chain;

/// The longest line that is read, in bytes: one event.
const LINE_MAX_BYTES: usize = 1 << 20;
/// The pause before an engine that ends its stream at once is asked again; it doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// An event's time in nanoseconds, and its line.
pub(super) type Timed = (i128, String);

/// Docker's event message, as far as it is looked at.
#[derive(Debug, Deserialize)]
struct Message {
    #[serde(rename = "Type", default)]
    kind: String,
    #[serde(rename = "Action", default)]
    action: String,
    #[serde(rename = "Actor", default)]
    actor: Actor,
    #[serde(default)]
    scope: String,
    #[serde(rename = "timeNano", default)]
    time_nano: i128,
}

#[derive(Debug, Default, Deserialize)]
struct Actor {
    #[serde(rename = "ID", default)]
    id: String,
    #[serde(rename = "Attributes", default)]
    attributes: Option<BTreeMap<String, String>>,
}

/// Which of the engine's events are told.
#[derive(Debug, Clone)]
pub(super) struct Choice {
    pub(super) wanted: Wanted,
    /// Only those that are younger, if there is a time.
    pub(super) after: Option<i128>,
    /// Only those that are not younger, if there is a time.
    pub(super) up_to: Option<i128>,
}

impl Choice {
    /// A line's time, if it is told.
    fn of(&self, line: &str) -> Option<i128> {
        let message: Message = serde_json::from_str(line).ok()?;
        let (time, attributes) = (message.time_nano, message.actor.attributes.unwrap_or_default());
        let told = Told {
            kind: &message.kind,
            action: &message.action,
            actor: &message.actor.id,
            attributes: &attributes,
            scope: if message.scope.is_empty() { super::SCOPE } else { &message.scope },
        };
        let in_time = self.after.is_none_or(|after| time > after) && self.up_to.is_none_or(|end| time <= end);
        let is_ours = matches!(told.kind, "volume" | "plugin") || told.attributes.contains_key(COPY_LABEL);
        (in_time && !is_ours && self.wanted.includes(&told)).then_some(time)
    }
}

/// The engine's events that have passed, up to `now`; in its order.
pub(super) async fn past(
    engine: &Engine,
    wanted: &Wanted,
    dialect: Dialect,
    now: Timestamp,
) -> Result<Lines> {
    let until = wanted.until.map_or(now, |until| until.min(now));
    let mut query = Vec::new();
    if let Some(since) = wanted.since {
        query.push(format!("since={}", seconds(since.as_nanosecond())));
    }
    query.push(match dialect {
        Dialect::Docker => format!("until={}", seconds(until.as_nanosecond())),
        Dialect::Podman => "stream=false".to_owned(),
    });
    let stream = engine.stream(&format!("/events?{}", query.join("&"))).await?;
    let after = wanted.since.map(|since| since.as_nanosecond() - 1);
    let choice = Choice { wanted: wanted.clone(), after, up_to: Some(until.as_nanosecond()) };
    Ok(Lines { stream, choice, read: Vec::new(), ready: VecDeque::new() })
}

/// The engine's events from `now` on, over all its restarts. Ends when it refuses.
pub(super) fn live(engine: Engine, wanted: Wanted, now: Timestamp) -> impl Stream<Item = String> + Send {
    let choice = Choice { wanted, after: Some(now.as_nanosecond()), up_to: None };
    let live = Live { engine, choice, lines: None, pause: PAUSE_MIN };
    stream::unfold(live, |mut live| async move { Some((live.next().await?, live)) })
}

struct Live {
    engine: Engine,
    choice: Choice,
    lines: Option<Lines>,
    pause: Duration,
}

impl Live {
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(lines) = &mut self.lines {
                if let Some((time, line)) = lines.next().await {
                    self.pause = PAUSE_MIN;
                    // Where another stream goes on after this one.
                    self.choice.after = self.choice.after.max(Some(time));
                    return Some(line);
                }
                self.lines = None;
                // One that ends its streams at once is not asked again at once.
                tokio::time::sleep(self.pause).await;
                self.pause = PAUSE_MAX.min(self.pause * 2);
            }
            self.engine.returns().await;
            let since = seconds(self.choice.after.unwrap_or_default());
            match self.engine.stream(&format!("/events?since={since}")).await {
                Ok(stream) => {
                    let choice = self.choice.clone();
                    self.lines = Some(Lines { stream, choice, read: Vec::new(), ready: VecDeque::new() });
                }
                Err(error @ Error::Refused { .. }) => {
                    tracing::warn!(error = chain(&error), "the engine's events are not told");
                    return None;
                }
                Err(error) => tracing::debug!(error = chain(&error), "the engine has no events at present"),
            }
        }
    }
}

/// The lines of one stream that are told.
pub(super) struct Lines {
    stream: Incoming,
    choice: Choice,
    read: Vec<u8>,
    ready: VecDeque<Timed>,
}

impl Lines {
    /// The next one; none at the end, whatever ended it.
    pub(super) async fn next(&mut self) -> Option<Timed> {
        loop {
            if let Some(ready) = self.ready.pop_front() {
                return Some(ready);
            }
            let Ok(piece) = self.stream.frame().await?.ok()?.into_data() else { continue };
            self.read.extend_from_slice(&piece);
            if let Some(end) = self.read.iter().rposition(|byte| *byte == b'\n') {
                let whole: Vec<u8> = self.read.drain(..=end).collect();
                for line in String::from_utf8_lossy(&whole).lines() {
                    self.ready.extend(self.choice.of(line).map(|time| (time, shown(line))));
                }
            } else if self.read.len() > LINE_MAX_BYTES {
                tracing::warn!(LINE_MAX_BYTES, "the engine tells of an event that is too long");
                return None;
            }
        }
    }
}

/// A line as clients read it.
fn shown(line: &str) -> String {
    if !line.contains(LABEL) {
        return format!("{line}\n");
    }
    let mut message: Value = serde_json::from_str(line).unwrap_or_default();
    if let Some(attributes) = message["Actor"]["Attributes"].as_object_mut() {
        attributes.remove(LABEL);
    }
    format!("{message}\n")
}

/// A time as the API has it.
fn seconds(nanoseconds: i128) -> String {
    format!("{}.{:09}", nanoseconds.div_euclid(1_000_000_000), nanoseconds.rem_euclid(1_000_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::filters::Filters;

    #[test]
    fn what_is_ours_and_what_is_not_wanted_is_left_out() {
        let line = |kind: &str, action: &str, time: i64| {
            format!(
                r#"{{"Type":"{kind}","Action":"{action}","Actor":{{"ID":"abc","Attributes":{{"name":"c1","image":"localhost/box:latest"}}}},"timeNano":{time}}}"#
            )
        };
        let choice = |filters: &str| {
            let wanted = Wanted { since: None, until: None, filters: Filters::parse(filters).unwrap() };
            Choice { wanted, after: Some(10), up_to: Some(20) }
        };
        for (line, filters, expected) in [
            (line("container", "die", 15), "{}", true),
            (line("container", "die", 10), "{}", false),
            (line("container", "die", 20), "{}", true),
            (line("container", "die", 21), "{}", false),
            (line("volume", "create", 15), "{}", false),
            (line("plugin", "enable", 15), "{}", false),
            (line("container", "die", 15), r#"{"event": ["die"]}"#, true),
            (line("container", "die", 15), r#"{"event": ["start"]}"#, false),
            (line("container", "exec_start: ls", 15), r#"{"event": ["exec_start"]}"#, true),
            (line("container", "die", 15), r#"{"container": ["c1"], "image": ["localhost/box"]}"#, true),
            (
                line("container", "die", 15),
                r#"{"scope": ["local"], "image": ["localhost/box:latest"]}"#,
                true,
            ),
            (line("container", "die", 15), r#"{"image": ["box"]}"#, false),
            (line("container", "die", 15), r#"{"type": ["network"]}"#, false),
            ("nonsense".to_owned(), "{}", false),
        ] {
            assert_eq!(choice(filters).of(&line).is_some(), expected, "{line} {filters}");
        }
    }

    #[test]
    fn what_only_we_need_is_not_shown() {
        let line = format!(
            r#"{{"Type":"container","Actor":{{"ID":"a","Attributes":{{"{LABEL}":"t","mine":"1"}}}},"timeNano":1}}"#
        );
        let shown: Value = serde_json::from_str(&shown(&line)).unwrap();
        assert_eq!(shown["Actor"]["Attributes"], serde_json::json!({"mine": "1"}));
        let all = Wanted { since: None, until: None, filters: Filters::parse("{}").unwrap() };
        let choice = Choice { wanted: all, after: None, up_to: None };
        assert!(choice.of(&line).is_some());
        assert_eq!(choice.of(&line.replace(LABEL, COPY_LABEL)), None);
    }

    #[test]
    fn a_time_is_seconds_with_nine_decimals() {
        assert_eq!(seconds(1_000_000_005), "1.000000005");
        assert_eq!(seconds(0), "0.000000000");
    }
}
