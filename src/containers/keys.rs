//! Objects of JSON as Go reads them: a key means a field whatever its case, so that no spelling gets past who looks here
//! and is understood by who comes after. It knows no field.

use serde_json::{Map, Value};

use super::{Error, Result};
use crate::fields::same;

/// An object.
pub(super) type Object = Map<String, Value>;

/// Gives the keys that mean one of these fields the field's own spelling.
///
/// # Errors
/// Two keys mean one field: which of them counts is nobody's to guess.
pub(super) fn spell(object: &mut Object, fields: &[&'static str]) -> Result<()> {
    for field in fields {
        let keys: Vec<String> = object.keys().filter(|key| same(key, field)).cloned().collect();
        match keys.as_slice() {
            [] => {}
            [key] => {
                if let Some(value) = object.remove(key) {
                    object.insert((*field).to_owned(), value);
                }
            }
            _ => return Err(Error::Twice { field }),
        }
    }
    Ok(())
}

/// The object in a field; none when it is missing or null.
///
/// # Errors
/// It is something else.
pub(super) fn object<'a>(of: &'a mut Object, field: &'static str) -> Result<Option<&'a mut Object>> {
    match of.get_mut(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(object)) => Ok(Some(object)),
        Some(_) => Err(Error::Field { field, expected: "an object" }),
    }
}

/// Takes a text; none when it is missing, null or empty.
pub(super) fn take_text(of: &mut Object, field: &'static str) -> Result<Option<String>> {
    match of.remove(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
        Some(_) => Err(Error::Field { field, expected: "a text" }),
    }
}

/// Takes a yes or no; missing and null are a no.
pub(super) fn take_flag(of: &mut Object, field: &'static str) -> Result<bool> {
    match of.remove(field) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(flag)) => Ok(flag),
        Some(_) => Err(Error::Field { field, expected: "true or false" }),
    }
}

/// Takes a list; missing and null are an empty one.
pub(super) fn take_list(of: &mut Object, field: &'static str) -> Result<Vec<Value>> {
    match of.remove(field) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(list)) => Ok(list),
        Some(_) => Err(Error::Field { field, expected: "a list" }),
    }
}

/// Takes a list of texts.
pub(super) fn take_texts(of: &mut Object, field: &'static str) -> Result<Vec<String>> {
    let text = |value| match value {
        Value::String(text) => Ok(text),
        _ => Err(Error::Field { field, expected: "a list of texts" }),
    };
    take_list(of, field)?.into_iter().map(text).collect()
}

/// Takes a map from text to text; none when it is missing or null.
pub(super) fn take_map(
    of: &mut Object,
    field: &'static str,
) -> Result<Option<std::collections::BTreeMap<String, String>>> {
    match of.remove(field) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => serde_json::from_value(value)
            .map(Some)
            .map_err(|_| Error::Field { field, expected: "an object of texts" }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn map(value: &Value) -> Object {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn every_spelling_of_a_key_is_the_field() {
        for key in ["Binds", "binds", "BINDS", "bind\u{17f}"] {
            let mut object = map(&json!({ key: ["a"], "Other": 1 }));
            spell(&mut object, &["Binds"]).unwrap();
            assert_eq!(Value::Object(object), json!({"Binds": ["a"], "Other": 1}), "{key}");
        }
        let error = spell(&mut map(&json!({"Binds": [], "binds": []})), &["Binds"]).unwrap_err();
        assert_eq!(error.to_string(), "two keys mean \"Binds\": one is enough");
    }

    #[test]
    fn a_value_of_another_kind_is_named() {
        let error = take_texts(&mut map(&json!({"Binds": [1]})), "Binds").unwrap_err();
        assert_eq!(error.to_string(), "\"Binds\" is not what it must be: expected a list of texts");
        assert_eq!(take_texts(&mut map(&json!({"Binds": null})), "Binds").unwrap(), [""; 0]);
    }
}
