//! What an engine asks of a published plugin, read as Go reads it: keys in any case, null for nothing.
//!
//! Pure. Errors name the field and not its value, which may be a secret.

use serde_json::{Map, Value};

use super::Refusal;
use crate::fields;
use crate::volumes::Texts;

/// One call of the protocol.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Call {
    Activate,
    Capabilities,
    Create { name: String, options: Option<Texts> },
    Remove { name: String },
    Mount { name: String, id: String },
    Unmount { name: String, id: String },
    Path { name: String },
    Get { name: String },
    List,
}

impl Call {
    /// Reads a call out of the path and the body of a POST.
    pub(super) fn parse(path: &str, body: &[u8]) -> Result<Self, Refusal> {
        let call = path.strip_prefix('/').unwrap_or(path);
        match call {
            "Plugin.Activate" => return Ok(Self::Activate),
            "VolumeDriver.Capabilities" => return Ok(Self::Capabilities),
            "VolumeDriver.List" => return Ok(Self::List),
            _ => {}
        }
        let Some(method) = call.strip_prefix("VolumeDriver.") else {
            return Err(Refusal::NoSuchCall(call.to_owned()));
        };
        let wrong = |problem: String| Refusal::Request(format!("{call}: {problem}"));
        let known = ["Create", "Remove", "Mount", "Unmount", "Path", "Get"];
        if !known.contains(&method) {
            return Err(Refusal::NoSuchCall(call.to_owned()));
        }
        let mut fields = Fields::parse(body).map_err(wrong)?;
        let name = fields.text("Name").map_err(wrong)?;
        Ok(match method {
            "Create" => Self::Create { name, options: fields.texts("Opts").map_err(wrong)? },
            "Remove" => Self::Remove { name },
            "Mount" => Self::Mount { name, id: fields.text("ID").map_err(wrong)? },
            "Unmount" => Self::Unmount { name, id: fields.text("ID").map_err(wrong)? },
            "Path" => Self::Path { name },
            _ => Self::Get { name },
        })
    }
}

/// A JSON object.
struct Fields(Map<String, Value>);

impl Fields {
    fn parse(body: &[u8]) -> Result<Self, String> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            Ok(_) => Err("the request is no JSON object".to_owned()),
            Err(error) => {
                Err(format!("the request is not JSON, at line {} column {}", error.line(), error.column()))
            }
        }
    }

    /// A field in any case, the exact one first; a null counts as absent.
    fn take(&mut self, name: &str) -> Option<Value> {
        fields::take(&mut self.0, name)
    }

    fn text(&mut self, name: &str) -> Result<String, String> {
        match self.take(name) {
            None => Ok(String::new()),
            Some(Value::String(text)) => Ok(text),
            Some(_) => Err(format!("{name} is no string")),
        }
    }

    fn texts(&mut self, name: &str) -> Result<Option<Texts>, String> {
        let text = |(key, value)| match value {
            Value::String(text) => Ok((key, text)),
            Value::Null => Ok((key, String::new())),
            _ => Err(format!("{name} has a value that is no string")),
        };
        match self.take(name) {
            None => Ok(None),
            Some(Value::Object(fields)) => fields.into_iter().map(text).collect::<Result<_, _>>().map(Some),
            Some(_) => Err(format!("{name} is no object")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::chain;

    #[test]
    fn calls_are_read_as_go_reads_them() {
        let read = |call: &str, body: &str| Call::parse(&format!("/{call}"), body.as_bytes()).unwrap();
        let name = || "v".to_owned();
        assert_eq!(read("Plugin.Activate", ""), Call::Activate);
        assert_eq!(read("VolumeDriver.List", "{}\n"), Call::List);
        assert_eq!(read("VolumeDriver.Capabilities", "not looked at"), Call::Capabilities);
        assert_eq!(
            read("VolumeDriver.Create", r#"{"Name":"v","Opts":null}"#),
            Call::Create { name: name(), options: None }
        );
        let options = Texts::from([("a".to_owned(), "b".to_owned()), ("c".to_owned(), String::new())]);
        assert_eq!(
            read("VolumeDriver.Create", r#"{"name":"v","OPTS":{"a":"b","c":null}}"#),
            Call::Create { name: name(), options: Some(options) }
        );
        assert_eq!(
            read("VolumeDriver.Mount", r#"{"Name":"v","ID":"1","More":[]}"#),
            Call::Mount { name: name(), id: "1".to_owned() }
        );
        assert_eq!(read("VolumeDriver.Get", r#"{"Name":"v"}"#), Call::Get { name: name() });
    }

    #[test]
    fn what_makes_no_sense_is_refused_without_its_values() {
        for (path, body, words) in [
            ("/", "{}", "there is no such call"),
            ("/VolumeDriver.Destroy", "{}", "VolumeDriver.Destroy: there is no such call"),
            ("/volumes", "{}", "there is no such call"),
            ("/VolumeDriver.Get", "", "VolumeDriver.Get: the request is not JSON"),
            ("/VolumeDriver.Get", "[]", "the request is no JSON object"),
            ("/VolumeDriver.Get", r#"{"Name":{"secret":1}}"#, "Name is no string"),
            ("/VolumeDriver.Create", r#"{"Opts":["secret"]}"#, "Opts is no object"),
            (
                "/VolumeDriver.Create",
                r#"{"Opts":{"password":{"secret":1}}}"#,
                "Opts has a value that is no string",
            ),
            ("/VolumeDriver.Unmount", r#"{"ID":7}"#, "ID is no string"),
        ] {
            let error = chain(&Call::parse(path, body.as_bytes()).unwrap_err());
            assert!(error.contains(words) && !error.contains("secret"), "{path} {body}: {error}");
        }
        assert!(Call::parse("/VolumeDriver.Get", "[".repeat(100_000).as_bytes()).is_err());
    }
}
