//! A table's name and type, and a change to some records.
//!
//! Pure: values become JSON here, in the thread of whoever asks for the change, so that the writer only writes.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::Serialize;

use super::{Error, Result};

/// The largest value of a record, as JSON. A plugin's configuration is the largest thing that is kept, and comes
/// from a blob of at most 4 MiB.
pub const VALUE_MAX_BYTES: usize = 16 * 1024 * 1024;

/// A table of records with values of type `V`. The room that owns the table has the one constant of it.
pub struct Table<V> {
    name: &'static str,
    value: PhantomData<fn(V) -> V>,
}

impl<V> Table<V> {
    /// Names a table; it comes into being with its first record.
    ///
    /// # Panics
    /// When the name is empty: at compile time, in a constant.
    pub const fn new(name: &'static str) -> Self {
        assert!(!name.is_empty(), "a table needs a name");
        Self { name, value: PhantomData }
    }

    /// The name.
    pub const fn name(self) -> &'static str {
        self.name
    }
}

impl<V> Clone for Table<V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<V> Copy for Table<V> {}

impl<V> fmt::Debug for Table<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Table").field(&self.name).finish()
    }
}

/// Records to write and records to delete, in this order, all of them or none.
#[derive(Default)]
pub struct Change {
    pub(super) steps: Vec<Step>,
}

/// One record written (`Some`) or deleted (`None`).
#[cfg_attr(test, derive(PartialEq, Eq))]
pub(super) struct Step {
    /// A constant's name, or one that was read from the journal.
    pub(super) table: Cow<'static, str>,
    pub(super) key: String,
    pub(super) value: Option<Vec<u8>>,
}

impl Change {
    /// A change of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes a record, over the one that has the key now.
    ///
    /// # Errors
    /// [`Error::Encode`] when the value has no JSON, [`Error::TooLarge`] above [`VALUE_MAX_BYTES`].
    pub fn put<V: Serialize>(mut self, table: Table<V>, key: impl Into<String>, value: &V) -> Result<Self> {
        let (table, key) = (table.name(), key.into());
        match serde_json::to_vec(value) {
            Err(error) => Err(Error::Encode { table, key, source: Arc::new(error) }),
            Ok(json) if json.len() > VALUE_MAX_BYTES => {
                Err(Error::TooLarge { table, key, bytes: json.len() })
            }
            Ok(json) => {
                self.steps.push(Step { table: Cow::Borrowed(table), key, value: Some(json) });
                Ok(self)
            }
        }
    }

    /// Deletes a record; fine when there is none.
    #[must_use]
    pub fn delete<V>(mut self, table: Table<V>, key: impl Into<String>) -> Self {
        self.steps.push(Step { table: Cow::Borrowed(table.name()), key: key.into(), value: None });
        self
    }
}

/// Tells tables and keys only: values may be secrets.
impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.steps).finish()
    }
}

/// Tells table and key only.
impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.value.is_some() { "put" } else { "delete" };
        (verb, &self.table, &self.key).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRETS: Table<String> = Table::new("secrets");

    #[test]
    fn a_change_does_not_tell_its_values() {
        let change = Change::new().put(SECRETS, "a", &"hunter2".to_owned()).unwrap().delete(SECRETS, "b");
        assert_eq!(format!("{change:?}"), r#"[("put", "secrets", "a"), ("delete", "secrets", "b")]"#);
    }

    #[test]
    fn a_value_beyond_the_limit_is_refused() {
        let quotes = 2;
        let fits = Change::new().put(SECRETS, "a", &"x".repeat(VALUE_MAX_BYTES - quotes));
        assert!(fits.is_ok());
        let error = Change::new().put(SECRETS, "a", &"x".repeat(VALUE_MAX_BYTES)).unwrap_err();
        assert!(
            matches!(error, Error::TooLarge { bytes, .. } if bytes == VALUE_MAX_BYTES + quotes),
            "{error}"
        );
    }
}
