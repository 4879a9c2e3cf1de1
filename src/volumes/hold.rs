//! Being in use: a holder (a container's id) keeps a volume from being removed.
//!
//! In memory only: who held what is told again after a start by whoever knows the containers. Nothing is mounted here.

use super::{Error, Problem, Result, Volumes};

impl Volumes {
    /// Keeps a volume from being removed until [`Volumes::release`]; once more for the same holder changes nothing.
    ///
    /// # Errors
    /// `get x: no such volume` when there is no record of it.
    pub async fn hold(&self, name: &str, holder: &str) -> Result<()> {
        let _turn = self.0.turns.take(name).await;
        if self.0.known.hold(name, holder) {
            Ok(())
        } else {
            Err(Error::of("get", name, Problem::NoSuchVolume))
        }
    }

    /// Takes one [`Volumes::hold`] back; fine when there was none.
    pub fn release(&self, name: &str, holder: &str) {
        self.0.known.release(name, holder);
    }
}
