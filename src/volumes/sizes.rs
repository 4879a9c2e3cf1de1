//! What local volumes take on disk, as last measured: one measurement at a time, shared by all who ask meanwhile.
//!
//! A measurement goes through all volumes, on a thread of its own that nobody's end waits for, since one volume with
//! millions of files takes minutes. What it has found so far can be read at any time. Whoever wants to know how large
//! volumes are now waits until each was measured after that was asked: for the measurement that is under way, and for one
//! more at the most. This file does not know how a volume is measured, nor how long anybody waits.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use jiff::Timestamp;
use tokio::sync::watch;

use super::Volume;

/// The sizes; clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Sizes(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    /// What the last measurement has found, by name. There may be very many: a list takes less than a map.
    last: Vec<Found>,
    /// The same of the one that is under way, so far.
    so_far: Vec<Found>,
    /// Closed when the measurement that is under way has ended.
    under_way: Option<watch::Receiver<()>>,
}

/// A volume, and how large it was. Another one of the same name has another size.
type Found = (Arc<Volume>, Measured);

/// How large one volume was.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measured {
    /// How many bytes its files take; `None` when that could not be found out.
    pub(super) bytes: Option<u64>,
    /// When it was looked at.
    pub(super) at: Timestamp,
    /// The same, on a clock that nobody sets.
    pub(super) looked: Instant,
}

impl Sizes {
    /// How large a volume was when it was last measured; `None` if it never was.
    pub(super) fn of(&self, volume: &Volume) -> Option<Measured> {
        let inner = self.inner();
        let found = find(&inner.so_far, volume).or_else(|| find(&inner.last, volume));
        found.map(|(_, measured)| *measured)
    }

    /// Joins the measurement that is under way, or begins one of these volumes, which are in the order of their names;
    /// what is given back is closed when it has ended.
    ///
    /// # Errors
    /// There can be no further thread.
    pub(super) fn measure(
        &self,
        volumes: Vec<Arc<Volume>>,
        measure: impl Fn(&str) -> Option<u64> + Send + 'static,
    ) -> io::Result<watch::Receiver<()>> {
        let mut inner = self.inner();
        if let Some(under_way) = inner.under_way.as_ref().filter(|run| run.has_changed().is_ok()) {
            return Ok(under_way.clone());
        }
        let (ended, under_way) = watch::channel(());
        inner.so_far.clear();
        let sizes = self.clone();
        std::thread::Builder::new().name("volume-sizes".to_owned()).spawn(move || {
            // Dropped last, also in a panic.
            let _ended = ended;
            for volume in volumes {
                let (at, looked) = (Timestamp::now(), Instant::now());
                let bytes = measure(&volume.name);
                sizes.inner().so_far.push((volume, Measured { bytes, at, looked }));
            }
            let mut inner = sizes.inner();
            inner.so_far.shrink_to_fit();
            inner.last = std::mem::take(&mut inner.so_far);
        })?;
        inner.under_way = Some(under_way.clone());
        Ok(under_way)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn find<'a>(found: &'a [Found], volume: &Volume) -> Option<&'a Found> {
    let at = found.binary_search_by(|(other, _)| other.name.cmp(&volume.name)).ok()?;
    found.get(at).filter(|(other, _)| other.created_at == volume.created_at)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::drivers::Reach;

    fn volume(name: &str, second: i64) -> Arc<Volume> {
        Arc::new(Volume {
            name: name.to_owned(),
            driver: "local".to_owned(),
            mountpoint: None,
            created_at: Some(Timestamp::from_second(second).unwrap()),
            reach: Reach::Local,
            labels: None,
            options: None,
            status: None,
        })
    }

    #[tokio::test]
    async fn one_measurement_at_a_time_is_shared_and_can_be_read_meanwhile() {
        let sizes = Sizes::default();
        let (a, b) = (volume("a", 1), volume("b", 1));
        assert!(sizes.of(&a).is_none());
        let (go, wait) = mpsc::channel::<()>();
        let (tell, told) = tokio::sync::oneshot::channel();
        let (wait, tell) = (Mutex::new(wait), Mutex::new(Some(tell)));
        let measure = move |name: &str| {
            if name == "b" {
                tell.lock().unwrap().take().unwrap().send(()).unwrap();
                wait.lock().unwrap().recv().unwrap();
                return None;
            }
            Some(7)
        };
        let mut first = sizes.measure(vec![Arc::clone(&a), Arc::clone(&b)], measure).unwrap();
        told.await.unwrap();
        assert_eq!(sizes.of(&a).unwrap().bytes, Some(7));
        assert!(sizes.of(&b).is_none());
        let never = |_: &str| -> Option<u64> { panic!("there is one under way") };
        let mut second = sizes.measure(vec![Arc::clone(&a)], never).unwrap();
        assert!(first.has_changed().is_ok() && second.has_changed().is_ok());
        go.send(()).unwrap();
        first.changed().await.unwrap_err();
        second.changed().await.unwrap_err();
        assert_eq!(sizes.of(&b).unwrap().bytes, None);

        let again = volume("a", 2);
        assert!(sizes.of(&again).is_none(), "another volume of the same name");
        sizes.measure(vec![again.clone()], |_| Some(1)).unwrap().changed().await.unwrap_err();
        assert_eq!(sizes.of(&again).unwrap().bytes, Some(1));
        assert!(sizes.of(&b).is_none(), "it was not there any more");
    }
}
