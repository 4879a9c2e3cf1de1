//! The `filters` parameter of lists: JSON, in either of the two shapes clients send, and how its values match.
//!
//! Pure. Shapes, matching and texts are dockerd's (moby 20.10 `api/types/filters`). Which keys a list knows is said by
//! the list. Regular expressions, which dockerd allows in a few keys, are the business of the room that lists.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::error::{Failure, Result};
use super::go_json::{self, Reader};

/// Keys, and the values each may have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Filters(BTreeMap<String, BTreeSet<String>>);

impl Filters {
    /// Reads `{"key": {"value": true}}` or the older `{"key": ["value"]}`; an empty text is no filter.
    ///
    /// # Errors
    /// Invalid, in Go's words for what is no such JSON.
    pub(super) fn parse(json: &str) -> Result<Self> {
        if json.is_empty() {
            return Ok(Self::default());
        }
        let keys = match go_json::read(json.as_bytes(), Reader::Unmarshal).map_err(Failure::invalid)? {
            Value::Object(keys) => keys,
            Value::Null => return Ok(Self::default()),
            other => return Err(mismatch(&other, "map[string]map[string]bool")),
        };
        let read = |of: fn(&Value) -> Result<BTreeSet<String>>| {
            keys.iter().map(|(key, values)| Ok((key.clone(), of(values)?))).collect::<Result<_>>().map(Self)
        };
        // If neither shape fits, dockerd complains about the newer one.
        read(newer).or_else(|failure| read(older).map_err(|_| failure))
    }

    /// Keys and values, for a room that reads them itself.
    pub(super) fn into_terms(self) -> BTreeMap<String, BTreeSet<String>> {
        self.0
    }

    /// Refuses keys that are not `known`.
    ///
    /// # Errors
    /// Invalid: dockerd's text, naming the first such key.
    pub(super) fn only(&self, known: &[&str]) -> Result<()> {
        match self.0.keys().find(|key| !known.contains(&key.as_str())) {
            Some(unknown) => Err(Failure::invalid(format!("Invalid filter '{unknown}'"))),
            None => Ok(()),
        }
    }

    /// The values of a key, in order; none if it is not there.
    pub(super) fn values(&self, key: &str) -> Vec<String> {
        self.0.get(key).into_iter().flatten().cloned().collect()
    }

    /// A key that is `true` or `false`, in so many words; `None` if it is not there. Both mean true, as does nothing.
    ///
    /// # Errors
    /// Invalid: the key is there, and says something else.
    pub(super) fn bool(&self, key: &str) -> Result<Option<bool>> {
        let Some(values) = self.0.get(key) else { return Ok(None) };
        match ["true", "false"].map(|word| self.exact(key, word)) {
            [true, _] => Ok(Some(true)),
            [_, true] => Ok(Some(false)),
            _ => {
                // Go prints a slice without commas.
                let values: Vec<&str> = values.iter().map(String::as_str).collect();
                Err(Failure::invalid(format!("Invalid filter '{key}=[{}]'", values.join(" "))))
            }
        }
    }

    /// Whether `value` is one of the key's, or the key has none.
    pub(super) fn exact(&self, key: &str, value: &str) -> bool {
        self.any(key, |wanted| wanted == value)
    }

    /// Whether `value` begins with one of the key's, or the key has none.
    pub(super) fn prefix(&self, key: &str, value: &str) -> bool {
        self.any(key, |wanted| value.starts_with(wanted))
    }

    /// Whether all of the key's `name` or `name=value` are among the labels, or the key has none.
    pub(super) fn labels(&self, key: &str, labels: &BTreeMap<String, String>) -> bool {
        let has = |wanted: &String| match wanted.split_once('=') {
            Some((name, value)) => labels.get(name).is_some_and(|is| is == value),
            None => labels.contains_key(wanted),
        };
        self.0.get(key).is_none_or(|values| values.iter().all(has))
    }

    fn any(&self, key: &str, matches: impl Fn(&str) -> bool) -> bool {
        self.0.get(key).is_none_or(|values| values.is_empty() || values.iter().any(|value| matches(value)))
    }
}

/// `{"value": true}`; a value that is false is not there.
fn newer(values: &Value) -> Result<BTreeSet<String>> {
    match values {
        Value::Object(values) => values
            .iter()
            .filter_map(|(value, wanted)| match wanted {
                Value::Bool(true) => Some(Ok(value.clone())),
                Value::Bool(false) | Value::Null => None,
                other => Some(Err(mismatch(other, "bool"))),
            })
            .collect(),
        Value::Null => Ok(BTreeSet::new()),
        other => Err(mismatch(other, "map[string]bool")),
    }
}

/// `["value"]`
fn older(values: &Value) -> Result<BTreeSet<String>> {
    match values {
        Value::Array(values) => values
            .iter()
            .map(|value| match value {
                Value::String(value) => Ok(value.clone()),
                Value::Null => Ok(String::new()),
                other => Err(mismatch(other, "string")),
            })
            .collect(),
        Value::Null => Ok(BTreeSet::new()),
        other => Err(mismatch(other, "[]string")),
    }
}

fn mismatch(got: &Value, expected: &str) -> Failure {
    Failure::invalid(go_json::mismatch(got, &format!("value of type {expected}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> std::result::Result<Filters, Failure> {
        Filters::parse(json)
    }

    #[test]
    fn both_shapes_say_the_same() {
        let table = [
            r#"{"label": {"a=b": true, "c": true}, "name": {}}"#,
            r#"{"label": ["c", "a=b"], "name": []}"#,
            r#"{"label": {"a=b": true, "c": true, "d": false}, "name": null}"#,
        ];
        for json in table {
            let filters = parse(json).unwrap();
            assert_eq!(filters.values("label"), ["a=b", "c"], "{json}");
            assert!(filters.values("name").is_empty());
            assert!(filters.only(&["label", "name"]).is_ok());
            assert_eq!(filters.only(&["name"]), Err(Failure::invalid("Invalid filter 'label'")));
        }
        for nothing in ["", "{}", "null"] {
            assert_eq!(parse(nothing).unwrap(), Filters::default());
        }
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        for (json, message) in [
            ("x", "invalid character 'x' looking for beginning of value"),
            ("{nope", "invalid character 'n' looking for beginning of object key string"),
            ("{", "unexpected end of JSON input"),
            ("[]", "json: cannot unmarshal array into Go value of type map[string]map[string]bool"),
            (r#"{"a": "b"}"#, "json: cannot unmarshal string into Go value of type map[string]bool"),
            (r#"{"a": [1]}"#, "json: cannot unmarshal array into Go value of type map[string]bool"),
            (r#"{"a": {"b": 1}}"#, "json: cannot unmarshal number into Go value of type bool"),
        ] {
            assert_eq!(parse(json), Err(Failure::invalid(message)), "{json}");
        }
    }

    #[test]
    fn a_bool_is_one_of_two_words() {
        let table = [
            ("{}", Ok(None)),
            (r#"{"k": ["true"]}"#, Ok(Some(true))),
            (r#"{"k": {"false": true}}"#, Ok(Some(false))),
            (r#"{"k": ["false", "true"]}"#, Ok(Some(true))),
            (r#"{"k": []}"#, Ok(Some(true))),
            (r#"{"k": ["1"]}"#, Err("Invalid filter 'k=[1]'")),
            (r#"{"k": ["b", "a"]}"#, Err("Invalid filter 'k=[a b]'")),
        ];
        for (json, expected) in table {
            assert_eq!(parse(json).unwrap().bool("k"), expected.map_err(Failure::invalid), "{json}");
        }
    }

    #[test]
    fn values_match_as_in_dockerd() {
        let filters = parse(r#"{"a": ["one", "two"], "none": [], "l": ["x=1", "y"]}"#).unwrap();
        assert!(filters.exact("a", "one") && !filters.exact("a", "onetwo") && filters.exact("other", "z"));
        assert!(filters.prefix("a", "onetwo") && !filters.prefix("a", "on") && filters.prefix("none", "z"));
        let labels = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        assert!(filters.labels("l", &labels(&[("x", "1"), ("y", "anything")])));
        assert!(!filters.labels("l", &labels(&[("x", "2"), ("y", "")])));
        assert!(!filters.labels("l", &labels(&[("x", "1")])));
        assert!(filters.labels("other", &labels(&[])));
    }
}
