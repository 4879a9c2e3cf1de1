//! JSON read the way Go's `encoding/json` reads it into structures.
//!
//! Plugins in the wild depend on it: keys come in any case, `null` stands for anything that is empty, keys are
//! repeated (the last one wins, structures are merged), unknown ones are ignored. The words of an error are Go's too,
//! because dockerd's clients have read them for years. This file knows no field of any document; it limits the depth
//! and the number of values, because the documents come from anybody.
//!
//! Facts: Go's `encoding/json/decode.go` and `scanner.go`; what dockerd 20.10 answers to documents of a wrong shape.

mod parse;

use crate::fields::same;

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
    /// As it was written.
    Number(String),
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
    let node = parse::document(document)?;
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
            Node::Number(number) => match number.parse() {
                Ok(value) => *self = value,
                Err(_) => return Err(at.mismatch(format!("number {number}"), Self::go_type())),
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
    let folded = |field: &&&str| same(key, field);
    fields.iter().find(|field| **field == key).or_else(|| fields.iter().find(folded)).copied()
}

#[cfg(test)]
mod tests;
