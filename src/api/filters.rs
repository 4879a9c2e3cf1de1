//! The `filters` parameter of lists: JSON, in either of the two shapes clients send, and how its values match.
//!
//! Pure. Shapes, matching and texts are dockerd's (moby `daemon/internal/filters`). Which keys a list knows is said by
//! the list. Regular expressions, which dockerd allows in a few keys, are the business of the room that lists.

use std::collections::{BTreeMap, BTreeSet};

use super::error::{Failure, Result};

/// What a client sends, with the values in one of two shapes.
type Sent<V> = Option<BTreeMap<String, Option<V>>>;

/// Keys, and the values each may have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Filters(BTreeMap<String, BTreeSet<String>>);

impl Filters {
    /// Reads `{"key": {"value": true}}` or the older `{"key": ["value"]}`; an empty text is no filter.
    ///
    /// # Errors
    /// Invalid: dockerd's "invalid filter".
    pub(super) fn parse(json: &str) -> Result<Self> {
        if json.is_empty() {
            return Ok(Self::default());
        }
        if let Ok(filters) = serde_json::from_str::<Sent<BTreeMap<String, bool>>>(json) {
            let wanted = |values: BTreeMap<String, bool>| {
                values.into_iter().filter_map(|(value, wanted)| wanted.then_some(value)).collect()
            };
            return Ok(Self::of(filters, wanted));
        }
        match serde_json::from_str::<Sent<BTreeSet<String>>>(json) {
            Ok(filters) => Ok(Self::of(filters, |values| values)),
            Err(_) => Err(Failure::invalid("invalid filter")),
        }
    }

    fn of<V: Default>(filters: Sent<V>, values: impl Fn(V) -> BTreeSet<String>) -> Self {
        let filters = filters.unwrap_or_default().into_iter();
        Self(filters.map(|(key, of_key)| (key, values(of_key.unwrap_or_default()))).collect())
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
            Some(unknown) => Err(Failure::invalid(format!("invalid filter '{unknown}'"))),
            None => Ok(()),
        }
    }

    /// The values of a key, in order; none if it is not there.
    pub(super) fn values(&self, key: &str) -> Vec<String> {
        self.0.get(key).into_iter().flatten().cloned().collect()
    }

    /// A key that is true or false; `None` if it is not there.
    ///
    /// # Errors
    /// Invalid: the key is there, but says neither or both.
    pub(super) fn bool(&self, key: &str) -> Result<Option<bool>> {
        let Some(values) = self.0.get(key) else { return Ok(None) };
        let says = |words: [&str; 2]| words.iter().any(|word| values.contains(*word));
        match (says(["1", "true"]), says(["0", "false"])) {
            (true, false) => Ok(Some(true)),
            (false, true) => Ok(Some(false)),
            _ if values.is_empty() => Err(Failure::invalid(format!("invalid filter '{key}'"))),
            _ => {
                // Go prints a slice without commas.
                let values = self.values(key).join(" ");
                Err(Failure::invalid(format!("invalid filter '{key}=[{values}]'")))
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
            assert_eq!(filters.only(&["name"]), Err(Failure::invalid("invalid filter 'label'")));
        }
        for nothing in ["", "{}", "null"] {
            assert_eq!(parse(nothing).unwrap(), Filters::default());
        }
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        for json in ["x", "[]", "1", "\"a\"", r#"{"a": "b"}"#, r#"{"a": [1]}"#, r#"{"a": {"b": 1}}"#] {
            assert_eq!(parse(json), Err(Failure::invalid("invalid filter")), "{json}");
        }
    }

    #[test]
    fn a_bool_is_said_once() {
        let table = [
            ("{}", Ok(None)),
            (r#"{"k": ["true"]}"#, Ok(Some(true))),
            (r#"{"k": ["1", "true"]}"#, Ok(Some(true))),
            (r#"{"k": ["0"]}"#, Ok(Some(false))),
            (r#"{"k": []}"#, Err("invalid filter 'k'")),
            (r#"{"k": ["maybe"]}"#, Err("invalid filter 'k=[maybe]'")),
            (r#"{"k": ["true", "false"]}"#, Err("invalid filter 'k=[false true]'")),
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
