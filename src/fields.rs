//! Fields of JSON objects as Go finds them: by a key in any case. Pure. It knows no object.
//!
//! Facts: Go's `encoding/json`, `bytes.EqualFold` of ASCII letters and of the two other characters that fold to one.

use serde_json::{Map, Value};

/// Whether a key means a field, as Go's decoder compares them.
pub fn same(key: &str, field: &str) -> bool {
    key.chars().map(fold).eq(field.chars().map(fold))
}

fn fold(character: char) -> char {
    match character {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    }
}

/// Takes a field by its name in any case of ASCII letters, the exact one first; a null counts as absent.
pub fn take(object: &mut Map<String, Value>, name: &str) -> Option<Value> {
    let key = if object.contains_key(name) {
        name.to_owned()
    } else {
        object.keys().find(|key| key.eq_ignore_ascii_case(name))?.clone()
    };
    object.remove(&key).filter(|value| !value.is_null())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_key_is_a_field_in_every_case() {
        for key in ["Binds", "binds", "BINDS", "bind\u{17f}"] {
            assert!(same(key, "Binds"), "{key}");
        }
        assert!(same("\u{212a}ey", "Key") && !same("Bind", "Binds") && !same("\u{e4}", "\u{c4}"));
    }

    #[test]
    fn the_exact_key_comes_first_and_a_null_is_nothing() {
        let mut object = json!({"name": 1, "Name": 2, "none": null}).as_object().unwrap().clone();
        assert_eq!((take(&mut object, "Name"), take(&mut object, "Name")), (Some(json!(2)), Some(json!(1))));
        assert_eq!(take(&mut object, "None"), None);
    }
}
