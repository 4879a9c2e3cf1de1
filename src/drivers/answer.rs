//! What a plugin answered, read the way Go's `encoding/json` reads it for dockerd.
//!
//! Keys in any case, null for nothing, the first JSON value of the body and no care for what follows it. Plugins in
//! many languages rely on each of these. Everything that has the wrong type is an error; nothing is guessed.

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::fields;

/// The longest name of a volume that is believed, in bytes.
const NAME_MAX_BYTES: usize = 1024;
/// The longest path that is believed, in bytes: Linux' `PATH_MAX`.
const PATH_MAX_BYTES: usize = 4096;

/// One JSON object of an answer.
#[derive(Debug, Default)]
pub(super) struct Answer(Map<String, Value>);

/// What is wrong with an answer, to be put behind "makes no sense: ".
pub(super) type Problem = String;

impl Answer {
    /// Reads the first JSON value of a body.
    pub(super) fn parse(body: &[u8]) -> Result<Self, Problem> {
        match serde_json::Deserializer::from_slice(body).into_iter::<Value>().next() {
            None => Err("the body is empty, expected a JSON object".to_owned()),
            Some(Ok(value)) => Self::from_value(value, "the body"),
            Some(Err(error)) => Err(format!("the body is not JSON: {error}")),
        }
    }

    fn from_value(value: Value, what: &str) -> Result<Self, Problem> {
        match value {
            Value::Object(fields) => Ok(Self(fields)),
            Value::Null => Ok(Self::default()),
            other => Err(format!("{what} is {}, expected an object", kind(&other))),
        }
    }

    /// A field by its name; the exact case wins over other cases. A null counts as absent.
    fn take(&mut self, name: &str) -> Option<Value> {
        fields::take(&mut self.0, name)
    }

    /// A text; empty when it is absent.
    pub(super) fn text(&mut self, name: &str) -> Result<String, Problem> {
        match self.take(name) {
            None => Ok(String::new()),
            Some(Value::String(text)) => Ok(text),
            Some(other) => Err(format!("{name} is {}, expected a string", kind(&other))),
        }
    }

    /// Yes or no; no when it is absent.
    pub(super) fn flag(&mut self, name: &str) -> Result<bool, Problem> {
        match self.take(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(other) => Err(format!("{name} is {}, expected a boolean", kind(&other))),
        }
    }

    /// A path; empty when it is absent.
    pub(super) fn path(&mut self, name: &str) -> Result<String, Problem> {
        let path = self.text(name)?;
        if path.len() > PATH_MAX_BYTES {
            return Err(format!("{name} has {} bytes, at most {PATH_MAX_BYTES} make a path", path.len()));
        }
        if path.contains('\0') {
            return Err(format!("{name} contains a NUL"));
        }
        Ok(path)
    }

    /// A name of a volume; empty when it is absent.
    pub(super) fn name(&mut self, name: &str) -> Result<String, Problem> {
        let text = self.text(name)?;
        if text.len() > NAME_MAX_BYTES {
            return Err(format!("{name} has {} bytes, at most {NAME_MAX_BYTES} make a name", text.len()));
        }
        if text.chars().any(char::is_control) {
            return Err(format!("{name} contains control characters"));
        }
        Ok(text)
    }

    /// A point in time; `None` when it is absent, unreadable, or Go's zero time.
    pub(super) fn time(&mut self, name: &str) -> Result<Option<Timestamp>, Problem> {
        const GO_ZERO_SECOND: i64 = -62_135_596_800;
        let time = self.text(name)?.parse::<Timestamp>().ok();
        Ok(time.filter(|time| time.as_second() != GO_ZERO_SECOND))
    }

    /// An object; `None` when it is absent.
    pub(super) fn object(&mut self, name: &str) -> Result<Option<Self>, Problem> {
        self.take(name).map(|value| Self::from_value(value, name)).transpose()
    }

    /// A list of objects, empty when it is absent. Nulls in it are left out: Go makes nil pointers of them.
    pub(super) fn objects(&mut self, name: &str) -> Result<Vec<Self>, Problem> {
        match self.take(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(values)) => values
                .into_iter()
                .filter(|value| !value.is_null())
                .map(|value| Self::from_value(value, &format!("an entry of {name}")))
                .collect(),
            Some(other) => Err(format!("{name} is {}, expected a list", kind(&other))),
        }
    }

    /// A list of texts, empty when it is absent.
    pub(super) fn texts(&mut self, name: &str) -> Result<Vec<String>, Problem> {
        let text = |value| match value {
            Value::String(text) => Ok(text),
            other => Err(format!("an entry of {name} is {}, expected a string", kind(&other))),
        };
        match self.take(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(values)) => values.into_iter().map(text).collect(),
            Some(other) => Err(format!("{name} is {}, expected a list", kind(&other))),
        }
    }

    /// What is left, as it came.
    pub(super) fn into_fields(self) -> Map<String, Value> {
        self.0
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Answer {
        Answer::parse(body.as_bytes()).unwrap()
    }

    #[test]
    fn keys_come_in_any_case_and_the_exact_one_wins() {
        assert_eq!(parse(r#"{"err":"no"}"#).text("Err").unwrap(), "no");
        assert_eq!(parse(r#"{"ERR":"other","Err":"no"}"#).text("Err").unwrap(), "no");
    }

    #[test]
    fn absent_and_null_are_nothing() {
        for body in ["{}", "null", r#"{"Err":null,"Volumes":null,"Volume":null}"#, "{} trailing garbage"] {
            let mut answer = parse(body);
            assert_eq!(answer.text("Err").unwrap(), "", "{body}");
            assert!(answer.objects("Volumes").unwrap().is_empty(), "{body}");
            assert!(answer.object("Volume").unwrap().is_none(), "{body}");
        }
        assert_eq!(parse(r#"{"Volumes":[null,{}]}"#).objects("Volumes").unwrap().len(), 1);
    }

    #[test]
    fn wrong_types_are_named() {
        assert_eq!(Answer::parse(b"").unwrap_err(), "the body is empty, expected a JSON object");
        assert_eq!(Answer::parse(b"[1]").unwrap_err(), "the body is a list, expected an object");
        assert!(Answer::parse(b"<html>").unwrap_err().starts_with("the body is not JSON"));
        assert!(Answer::parse("[".repeat(100_000).as_bytes()).is_err());
        assert_eq!(parse(r#"{"Err":5}"#).text("Err").unwrap_err(), "Err is a number, expected a string");
        assert!(parse(r#"{"Volumes":[7]}"#).objects("Volumes").unwrap_err().contains("an entry of Volumes"));
        assert!(parse(r#"{"Volumes":{}}"#).objects("Volumes").is_err());
        assert!(parse(r#"{"Implements":[7]}"#).texts("Implements").is_err());
        assert!(parse(r#"{"Implements":"VolumeDriver"}"#).texts("Implements").is_err());
        assert_eq!(parse(r#"{"implements":["a"]}"#).texts("Implements").unwrap(), ["a"]);
    }

    #[test]
    fn paths_and_names_have_limits() {
        assert!(parse(r#"{"Mountpoint":"/a\u0000b"}"#).path("Mountpoint").is_err());
        let long = format!(r#"{{"Mountpoint":"{0}","Name":"{0}"}}"#, "a".repeat(PATH_MAX_BYTES + 1));
        assert!(parse(&long).path("Mountpoint").is_err());
        assert!(parse(&long).name("Name").is_err());
        assert!(parse("{\"Name\":\"a\\u001b[2J\"}").name("Name").is_err());
    }

    #[test]
    fn a_time_is_a_time_or_nothing() {
        let mut answer =
            parse(r#"{"a":"2024-05-01T10:00:00.5+02:00","b":"0001-01-01T00:00:00Z","c":"soon"}"#);
        assert_eq!(answer.time("a").unwrap().unwrap().to_string(), "2024-05-01T08:00:00.5Z");
        assert_eq!(answer.time("b").unwrap(), None);
        assert_eq!(answer.time("c").unwrap(), None);
        assert_eq!(answer.time("d").unwrap(), None);
    }
}
