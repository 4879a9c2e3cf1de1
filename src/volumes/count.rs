//! How many volumes there are, by driver: from memory, no driver is asked.

use std::collections::BTreeMap;

use super::{LOCAL_DRIVER, Volumes};

impl Volumes {
    /// How many volumes with a record each driver has; the local one also when it has none. What only a plugin knows of
    /// is not counted.
    pub fn count_by_driver(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::from([(LOCAL_DRIVER.to_owned(), 0)]);
        self.0.known.each(|entry| match counts.get_mut(&entry.volume.driver) {
            Some(count) => *count += 1,
            None => drop(counts.insert(entry.volume.driver.clone(), 1)),
        });
        counts
    }
}
