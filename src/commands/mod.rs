//! The commands: what `dockplugd` does besides being the daemon, as a client of a running one.
//!
//! One command is one file. They know the API's paths and shapes, as any client does, and no room of the daemon.

mod connection;
mod consent;
mod error;
mod load;
mod logs;
mod mount;
mod progress;
mod rename;
mod save;
mod set;
mod upgrade;

use crate::config::Host;
use crate::config::command::Command;

use connection::Daemon;
pub use error::Error;

/// The result of a command.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Does what was typed, asking `host`.
///
/// # Errors
/// [`Error`]: nobody answers there, the daemon says no, or a file cannot be read or written.
pub async fn run(command: Command, host: Host) -> Result<()> {
    let daemon = Daemon::new(host);
    match command {
        Command::Save(save) => save::save(&daemon, &save).await,
        Command::Load(load) => load::load(&daemon, load).await,
        Command::Upgrade(wanted) => upgrade::upgrade(&daemon, wanted).await,
        Command::Rename(rename) => rename::rename(&daemon, &rename).await,
        Command::Set(set) => set::set(&daemon, &set).await,
        Command::Mount(wanted) => mount::mount(&daemon, &wanted).await,
        Command::Umount(wanted) => mount::umount(&daemon, &wanted).await,
        Command::Logs(logs) => logs::logs(&daemon, &logs).await,
    }
}
