//! t
use super::Rooms;
use super::error::Result;
#[derive(Debug, serde::Serialize)]
pub(super) struct Shape;
pub(super) async fn usage(_rooms: &Rooms) -> Result<Vec<Shape>> {
    Ok(Vec::new())
}
