//! t
use super::Rooms;
pub(super) async fn enabled_volume_drivers(_rooms: &Rooms) -> Vec<String> {
    Vec::new()
}
