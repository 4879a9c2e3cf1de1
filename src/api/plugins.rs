//! `/plugins`: Docker's shapes, and one call of the plugins' room each.

use super::Rooms;

/// The enabled volume drivers among the plugins, by their familiar names.
pub(super) fn enabled_volume_drivers(_rooms: &Rooms) -> Vec<String> {
    Vec::new()
}
