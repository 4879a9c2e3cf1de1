//! JSON read the way Go's `encoding/json` reads it into structures.
//!
//! Plugins in the wild depend on it: keys come in any case, `null` stands for anything that is empty, keys are
//! repeated (the last one wins, structures are merged), unknown ones are ignored. The words of an error are Go's too,
//! because dockerd's clients have read them for years. This file knows no field of any document; it limits the depth
//! and the number of values, because the documents come from anybody.
//!
//! Facts: Go's `encoding/json/decode.go`; what dockerd 20.10 answers to documents of a wrong shape.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

/// How deeply arrays and objects may be nested. Real configurations need 4.
pub(super) const DEPTH_MAX: usize = 64;
/// How many values (of arrays, of objects, and those themselves) a document may have. Real configurations have
/// hundreds.
pub(super) const VALUES_MAX: usize = 100_000;

/// Why a document could not be read. `Display` is what Go would say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not JSON, or beyond a limit of this file.
    #[error("{0}")]
    Syntax(String),
    /// The whole document is of another type than expected.
    #[error("json: cannot unmarshal {got} into Go value of type {expected}")]
    Document {
        /// The JSON type that is there.
        got: String,
        /// Go's type that was expected.
        expected: String,
    },
    /// A field is of another type than expected.
    #[error("json: cannot unmarshal {got} into Go struct field {structure}.{path} of type {expected}")]
    Field {
        /// The JSON type that is there.
        got: String,
        /// Go's structure that holds the field.
        structure: &'static str,
        /// The names of the fields that lead there, joined by dots.
        path: String,
        /// Go's type that was expected.
        expected: String,
    },
    /// A type with a syntax of its own.
    #[error("{got:?} is not a {expected}")]
    Text {
        /// The JSON that is there.
        got: String,
        /// What it should be.
        expected: &'static str,
    },
}

/// The result of reading a document.
pub(super) type Result<T> = std::result::Result<T, Error>;

/// One JSON value with everything that is in it: the order of the keys, and the repeated ones.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    String(String),
    Array(Vec<Node>),
    Object(Vec<(String, Node)>),
}

/// What can be read from a [`Node`], into a value that may have been read into before.
pub(super) trait Go: Default {
    /// Go's name of the type.
    fn go_type() -> String;

    /// Takes over what the node says.
    ///
    /// # Errors
    /// When the node is of another type.
    fn assign(&mut self, node: Node, at: &At) -> Result<()>;
}

/// A structure: named fields.
pub(super) trait Structure: Default {
    /// Go's name of the structure, without its package.
    const NAME: &'static str;
    /// The names of the fields, as Go writes them.
    const FIELDS: &'static [&'static str];

    /// Takes over one field, which is one of [`Structure::FIELDS`].
    ///
    /// # Errors
    /// When the node is of another type.
    fn assign_field(&mut self, field: &'static str, node: Node, at: &At) -> Result<()>;
}

/// Where in the document: the innermost structure and the fields that lead to it.
#[derive(Debug, Clone, Default)]
pub(super) struct At {
    structure: Option<&'static str>,
    path: Vec<&'static str>,
}

/// Reads a whole document of at most [`DEPTH_MAX`] levels. Bytes that are no UTF-8 are read as U+FFFD.
///
/// # Errors
/// [`Error`], in Go's words where it is about types.
pub(super) fn read<T: Go>(document: &[u8]) -> Result<T> {
    let text = String::from_utf8_lossy(document);
    let mut reader = serde_json::Deserializer::from_str(&text);
    let left = Cell::new(VALUES_MAX);
    let node = Seed { depth: 0, left: &left }.deserialize(&mut reader).map_err(syntax)?;
    reader.end().map_err(syntax)?;
    let mut value = T::default();
    value.assign(node, &At::default())?;
    Ok(value)
}

/// Defines how a structure is read: `structure!(Env, "PluginEnv", "Name" => name, …)`.
macro_rules! structure {
    ($type:ty, $name:literal, $($go:literal => $field:ident),+ $(,)?) => {
        impl $crate::plugins::go_json::Structure for $type {
            const NAME: &'static str = $name;
            const FIELDS: &'static [&'static str] = &[$($go),+];

            fn assign_field(
                &mut self,
                field: &'static str,
                node: $crate::plugins::go_json::Node,
                at: &$crate::plugins::go_json::At,
            ) -> $crate::plugins::go_json::Result<()> {
                match field {
                    $($go => $crate::plugins::go_json::Go::assign(&mut self.$field, node, at),)+
                    _ => Ok(()),
                }
            }
        }
    };
}
pub(super) use structure;

impl Node {
    /// Go's word for the type, as in `cannot unmarshal <word> into …`.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "bool",
            Self::Number(_) => "number",
            Self::String(_) => "string",
            Self::Array(_) => "array",
            Self::Object(_) => "object",
        }
    }
}

impl At {
    /// The error that there is a `got` where Go's type `expected` should be.
    pub(super) fn mismatch(&self, got: impl Into<String>, expected: impl Into<String>) -> Error {
        let (got, expected) = (got.into(), expected.into());
        match self.structure {
            Some(structure) => Error::Field { got, structure, path: self.path.join("."), expected },
            None => Error::Document { got, expected },
        }
    }

    fn field(&self, structure: &'static str, field: &'static str) -> Self {
        let mut path = self.path.clone();
        path.push(field);
        Self { structure: Some(structure), path }
    }
}

impl Go for String {
    fn go_type() -> String {
        "string".to_owned()
    }

    fn assign(&mut self, node: Node, at: &At) -> Result<()> {
        match node {
            Node::Null => {}
            Node::String(text) => *self = text,
            other => return Err(at.mismatch(other.kind(), Self::go_type())),
        }
        Ok(())
    }
}

impl Go for bool {
    fn go_type() -> String {
        "bool".to_owned()
    }

    fn assign(&mut self, node: Node, at: &At) -> Result<()> {
        match node {
            Node::Null => {}
            Node::Bool(value) => *self = value,
            other => return Err(at.mismatch(other.kind(), Self::go_type())),
        }
        Ok(())
    }
}

impl Go for u32 {
    fn go_type() -> String {
        "uint32".to_owned()
    }

    fn assign(&mut self, node: Node, at: &At) -> Result<()> {
        match node {
            Node::Null => {}
            Node::Number(number) => match number.as_u64().and_then(|wide| Self::try_from(wide).ok()) {
                Some(value) => *self = value,
                None => return Err(at.mismatch(format!("number {number}"), Self::go_type())),
            },
            other => return Err(at.mismatch(other.kind(), Self::go_type())),
        }
        Ok(())
    }
}

/// A pointer: `null` is none.
impl<T: Go> Go for Option<T> {
    fn go_type() -> String {
        T::go_type()
    }

    fn assign(&mut self, node: Node, at: &At) -> Result<()> {
        if node == Node::Null {
            *self = None;
            return Ok(());
        }
        self.get_or_insert_default().assign(node, at)
    }
}

impl<T: Structure> Go for T {
    fn go_type() -> String {
        format!("types.{}", T::NAME)
    }

    fn assign(&mut self, node: Node, at: &At) -> Result<()> {
        match node {
            Node::Null => Ok(()),
            Node::Object(members) => {
                for (key, node) in members {
                    if let Some(field) = named(T::FIELDS, &key) {
                        self.assign_field(field, node, &at.field(T::NAME, field))?;
                    }
                }
                Ok(())
            }
            other => Err(at.mismatch(other.kind(), Self::go_type())),
        }
    }
}

/// The field a key means: the one of exactly this name, or else the one that differs in case only.
fn named(fields: &'static [&'static str], key: &str) -> Option<&'static str> {
    let folded = |field: &&&str| field.chars().map(fold).eq(key.chars().map(fold));
    fields.iter().find(|field| **field == key).or_else(|| fields.iter().find(folded)).copied()
}

/// Go folds ASCII letters, and the two other characters that fold to one.
fn fold(character: char) -> char {
    match character {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    }
}

fn syntax(error: impl fmt::Display) -> Error {
    Error::Syntax(error.to_string())
}

/// Reads a [`Node`] within the limits.
struct Seed<'a> {
    depth: usize,
    left: &'a Cell<usize>,
}

impl Seed<'_> {
    fn inner<E: serde::de::Error>(&self) -> std::result::Result<Seed<'_>, E> {
        if self.depth == DEPTH_MAX {
            return Err(E::custom(format_args!("nested more than {DEPTH_MAX} levels deep")));
        }
        Ok(Seed { depth: self.depth + 1, left: self.left })
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Node, D::Error> {
        match self.left.get().checked_sub(1) {
            Some(left) => self.left.set(left),
            None => return Err(D::Error::custom(format_args!("more than {VALUES_MAX} values"))),
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> std::result::Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> std::result::Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> std::result::Result<Node, E> {
        Ok(Node::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> std::result::Result<Node, E> {
        Ok(Node::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> std::result::Result<Node, E> {
        serde_json::Number::from_f64(value).map(Node::Number).ok_or_else(|| E::custom("not a number"))
    }

    fn visit_str<E>(self, value: &str) -> std::result::Result<Node, E> {
        Ok(Node::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> std::result::Result<Node, E> {
        Ok(Node::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> std::result::Result<Node, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = elements.next_element_seed(self.inner()?)? {
            nodes.push(node);
        }
        Ok(Node::Array(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> std::result::Result<Node, A::Error> {
        let mut nodes = Vec::new();
        while let Some(key) = members.next_key::<String>()? {
            nodes.push((key, members.next_value_seed(self.inner()?)?));
        }
        Ok(Node::Object(nodes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, PartialEq)]
    struct Inner {
        number: u32,
        disk: String,
    }
    structure!(Inner, "Inner", "Number" => number, "Disk" => disk);

    #[derive(Debug, Default, PartialEq)]
    struct Outer {
        name: String,
        flag: bool,
        pointer: Option<String>,
        inner: Inner,
    }
    structure!(Outer, "Outer", "Name" => name, "Flag" => flag, "Pointer" => pointer, "Inner" => inner);

    fn outer(json: &str) -> Result<Outer> {
        read(json.as_bytes())
    }

    #[test]
    fn keys_are_read_in_any_case_and_the_last_one_wins() {
        let cases = [
            (r#"{"name":"a"}"#, "a"),
            (r#"{"NAME":"a"}"#, "a"),
            (r#"{"Name":"a","name":"b"}"#, "b"),
            (r#"{"name":"b","Name":"a"}"#, "a"),
            (r#"{"name":"a","name":null}"#, "a"),
            (r#"{"name":"a","unknown":[{"name":1}]}"#, "a"),
            (r#"{"name":null}"#, ""),
            (r#"{"name":"a\u0000b"}"#, "a\0b"),
            ("null", ""),
        ];
        for (json, name) in cases {
            assert_eq!(outer(json).unwrap().name, name, "{json}");
        }
    }

    #[test]
    fn repeated_structures_are_merged_as_go_merges_them() {
        let read = outer(r#"{"inner":{"number":1},"INNER":{"di\u017f\u212a":"d"},"Inner":null}"#).unwrap();
        assert_eq!(read.inner, Inner { number: 1, disk: "d".to_owned() });
    }

    #[test]
    fn a_pointer_tells_null_from_empty() {
        let cases = [("{}", None), (r#"{"pointer":null}"#, None), (r#"{"pointer":""}"#, Some(String::new()))];
        for (json, expected) in cases {
            assert_eq!(outer(json).unwrap().pointer, expected, "{json}");
        }
    }

    #[test]
    fn types_that_do_not_fit_are_told_in_the_words_of_go() {
        let cases = [
            ("[]", "json: cannot unmarshal array into Go value of type types.Outer"),
            (r#""x""#, "json: cannot unmarshal string into Go value of type types.Outer"),
            (r#"{"name":1}"#, "json: cannot unmarshal number into Go struct field Outer.Name of type string"),
            (r#"{"flag":"x"}"#, "json: cannot unmarshal string into Go struct field Outer.Flag of type bool"),
            (
                r#"{"pointer":{}}"#,
                "json: cannot unmarshal object into Go struct field Outer.Pointer of type string",
            ),
            (
                r#"{"inner":[]}"#,
                "json: cannot unmarshal array into Go struct field Outer.Inner of type types.Inner",
            ),
            (
                r#"{"inner":{"number":-1}}"#,
                "json: cannot unmarshal number -1 into Go struct field Inner.Inner.Number of type uint32",
            ),
            (
                r#"{"inner":{"number":4294967296}}"#,
                "json: cannot unmarshal number 4294967296 into Go struct field Inner.Inner.Number of type uint32",
            ),
        ];
        for (json, expected) in cases {
            assert_eq!(outer(json).unwrap_err().to_string(), expected, "{json}");
        }
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for json in ["", "{", "{}x", "{nope}", r#"{"name":"a"} {}"#, "\u{feff}{}"] {
            assert!(matches!(outer(json), Err(Error::Syntax(_))), "{json}");
        }
        let broken: Result<Outer> = read(b"{\"name\":\"a\xff\"}");
        assert_eq!(broken.unwrap().name, "a\u{fffd}");
    }

    #[test]
    fn depth_and_number_of_values_are_limited() {
        let nested = |levels: usize| format!("{{\"x\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
        assert!(outer(&nested(DEPTH_MAX - 1)).is_ok());
        let error = outer(&nested(DEPTH_MAX)).unwrap_err().to_string();
        assert!(error.starts_with("nested more than 64 levels deep"), "{error}");
        assert!(outer(&nested(1_000_000)).is_err());
        let wide = |values: usize| format!("{{\"x\":[{}0]}}", "0,".repeat(values - 1));
        assert!(outer(&wide(VALUES_MAX - 2)).is_ok());
        let error = outer(&wide(VALUES_MAX - 1)).unwrap_err().to_string();
        assert!(error.starts_with("more than 100000 values"), "{error}");
    }
}
