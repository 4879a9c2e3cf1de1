//! SIGTERM and SIGINT, which end the daemon.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::Error;

/// How many signals are remembered; the third and later ones say nothing new.
const REMEMBERED: usize = 2;

/// Listens from now on: these signals no longer kill the process, but come out here by name, and a first one is kept
/// until somebody asks. Must be called inside the tokio runtime.
///
/// # Errors
/// [`Error::Signals`].
pub fn signals() -> Result<mpsc::Receiver<&'static str>, Error> {
    let listen = |kind| signal(kind).map_err(Error::Signals);
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let (sender, receiver) = mpsc::channel(REMEMBERED);
    tokio::spawn(async move {
        loop {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            let _already_enough = sender.try_send(name);
        }
    });
    Ok(receiver)
}
