//! What is kept on disk of a volume: all that its driver does not know.
//!
//! The key is the volume's name. A record is written when the volume exists and before anybody hears of it.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Create, LOCAL_DRIVER, Texts};
use crate::state::Table;

/// The volumes' records, by name.
pub(super) const VOLUMES: Table<Record> = Table::new("volumes");

/// One volume's record.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    /// `local`, or a plugin's familiar name: `rclone:latest`.
    pub(super) driver: String,
    /// The legacy plugin it was of before a managed one of the same name took its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) formerly: Option<String>,
    /// As given; `None` is not the same as empty. May be secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) options: Option<Texts>,
    /// As given; `None` is not the same as empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) labels: Option<Texts>,
    /// When it was made here.
    pub(super) created_at: Timestamp,
}

impl Record {
    /// The record of a volume that is made now.
    pub(super) fn new(driver: &str, request: Create) -> Self {
        let Create { name: _, driver: _, options, labels } = request;
        Self { driver: driver.to_owned(), formerly: None, options, labels, created_at: Timestamp::now() }
    }

    pub(super) fn is_local(&self) -> bool {
        self.driver == LOCAL_DRIVER
    }
}

/// Tells the names of options, not their values.
impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("driver", &self.driver)
            .field("formerly", &self.formerly)
            .field("options", &self.options.as_ref().map(|options| options.keys().collect::<Vec<_>>()))
            .field("labels", &self.labels)
            .field("created_at", &self.created_at)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_json_and_hides_secrets() {
        let options = Some(Texts::from([("password".to_owned(), "hunter2".to_owned())]));
        let record = Record {
            driver: "rclone:latest".to_owned(),
            formerly: None,
            options,
            labels: None,
            created_at: "2024-01-02T03:04:05.6Z".parse().unwrap(),
        };
        let json = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&json).unwrap(), record);
        assert!(!json.contains("labels"));
        let shown = format!("{record:?}");
        assert!(shown.contains("password") && !shown.contains("hunter2"), "{shown}");
    }
}
