//! What `dockplugd` does besides being the daemon: commands that ask a running one. Raw, as they were typed.
//!
//! Knows whom to ask, and nothing of how.

use std::path::PathBuf;

use super::{Args, Error, Host};

/// The variable that names the daemon to ask, as for the docker CLI.
const DOCKER_HOST: &str = "DOCKER_HOST";

/// Something to ask of a running daemon.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Command {
    /// Write a plugin to a file, for a machine that reaches no registry: a tar that is an OCI image layout
    Save(Save),
    /// Install a plugin from such a file
    Load(Load),
    /// Print what a plugin wrote on its standard output and standard error
    Logs(Logs),
    /// Change settings of a plugin
    Set(Set),
    /// Put another version in the place of a plugin
    Upgrade(Upgrade),
    /// Give a plugin another name, while it runs; its volumes follow
    Rename(Rename),
    /// Mount a volume, and print where its files are
    Mount(Use),
    /// Take a mount back
    Umount(Use),
}

/// `dockplugd save`
#[derive(Debug, Clone, clap::Args)]
pub struct Save {
    /// The file to write [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// The plugin, by its name or its id
    pub plugin: String,
}

/// `dockplugd load`
#[derive(Debug, Clone, clap::Args)]
pub struct Load {
    /// The file to read [default: standard input]
    #[arg(short, long, value_name = "FILE")]
    pub input: Option<PathBuf>,

    /// What to call the plugin here [default: the name it was saved under]
    #[arg(long, value_name = "NAME")]
    pub alias: Option<String>,

    /// Grant what the plugin asks for without being asked
    #[arg(long)]
    pub grant_all_permissions: bool,
}

/// `dockplugd logs`
#[derive(Debug, Clone, clap::Args)]
pub struct Logs {
    /// Go on as the plugin writes, over its restarts, until it is disabled
    #[arg(short, long)]
    pub follow: bool,

    /// Only the last lines [default: all]
    #[arg(short = 'n', long, value_name = "LINES")]
    pub tail: Option<u64>,

    /// Only what was written since then: 10m (ago), 2026-11-24T10:00:00Z, or seconds since 1970
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,

    /// Only what was written until then
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,

    /// Begin each line with its time
    #[arg(short, long)]
    pub timestamps: bool,

    /// The plugin, by its name or its id
    pub plugin: String,
}

/// `dockplugd set`
#[derive(Debug, Clone, clap::Args)]
pub struct Set {
    /// Also if it is enabled: start it anew; it gets its old settings again if it does not come up with these
    #[arg(long)]
    pub restart: bool,

    /// The plugin, by its name or its id
    pub plugin: String,

    /// As in docker plugin set: KEY=VALUE, NAME.source=/path, args="..."
    #[arg(required = true, value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
}

/// `dockplugd upgrade`
#[derive(Debug, Clone, clap::Args)]
pub struct Upgrade {
    /// Also if it is enabled: start it anew; it gets its old version again if it does not come up with this one
    #[arg(long)]
    pub restart: bool,

    /// Grant what the new version asks for without being asked
    #[arg(long)]
    pub grant_all_permissions: bool,

    /// The plugin, by its name or its id
    pub plugin: String,

    /// The new version, at its registry [default: where the plugin is from]
    pub remote: Option<String>,
}

/// `dockplugd rename`
#[derive(Debug, Clone, clap::Args)]
pub struct Rename {
    /// The plugin, by its name or its id
    pub plugin: String,

    /// What it is called from now on: a name that no plugin has
    pub name: String,
}

/// `dockplugd mount` and `dockplugd umount`
#[derive(Debug, Clone, clap::Args)]
pub struct Use {
    /// Who uses the volume: it stays mounted until each that has mounted it has taken that back
    #[arg(long, value_name = "NAME", default_value = "dockplugd")]
    pub reference: String,

    /// The volume
    pub volume: String,
}

impl Args {
    /// The daemon that a command asks: `-H`, else `DOCKER_HOST`, else the socket that the docker CLI asks.
    ///
    /// # Errors
    /// [`Error`]: a flag of the daemon's was given too; the host is none, or more than one, or one to listen on only.
    pub fn daemon(&self) -> Result<Host, Error> {
        let directives = self.directives();
        let others = directives.iter().map(|(key, _)| *key).filter(|key| *key != "hosts");
        let flags: Vec<_> = others.chain(self.config_file.is_some().then_some("config-file")).collect();
        if !flags.is_empty() {
            return Err(Error::NotForACommand { flags: flags.join(", ") });
        }
        let host = match self.hosts.as_slice() {
            [] => std::env::var(DOCKER_HOST).unwrap_or_default().parse()?,
            [host] => host.parse()?,
            _ => return Err(Error::NotOneHost),
        };
        if matches!(host, Host::Fd(_)) { Err(Error::NotOneHost) } else { Ok(host) }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn daemon(line: &str) -> Result<String, String> {
        let args = Args::try_parse_from(line.split(' ')).unwrap();
        args.daemon().map(|host| host.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_command_asks_the_host_that_is_named_before_or_after_it() {
        let expected = Ok("unix:///x.sock".to_owned());
        assert_eq!(daemon("dockplugd -H unix:///x.sock save p"), expected);
        assert_eq!(daemon("dockplugd save -o f -H unix:///x.sock p"), expected);
        assert_eq!(daemon("dockplugd load -H tcp://h:1"), Ok("tcp://h:1".to_owned()));
    }

    #[test]
    fn what_is_for_the_daemon_is_refused() {
        let table = [
            ("dockplugd --data-root d --engine none save p", "data-root, engine is for the daemon"),
            ("dockplugd --config-file f load", "config-file is for the daemon"),
            ("dockplugd load -H fd://", "a command asks one daemon"),
            ("dockplugd -H unix:///a -H unix:///b save p", "a command asks one daemon"),
        ];
        for (line, expected) in table {
            let error = daemon(line).unwrap_err();
            assert!(error.starts_with(expected), "{line}: {error}");
        }
    }
}
