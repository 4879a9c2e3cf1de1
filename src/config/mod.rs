//! What the daemon is told: the command line ([`Args`]) and `daemon.json` ([`file`]), resolved into one [`Config`].
//!
//! Nobody else reads the environment or the file, and nothing below `app` sees more of the result than the value it
//! needs. Names of flags and keys, the two texts about wrong keys, and the rule that a key set in both places is an
//! error are dockerd's (moby `daemon/config/config.go`). It knows no room and opens nothing but that file.

mod args;
pub mod command;
mod error;
mod file;
mod host;
mod metrics;
mod runtimes;
mod seccomp;
mod timeouts;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

pub use self::args::Args;
pub use self::error::Error;
pub use self::host::{Host, InvalidHost};
pub use self::metrics::MetricsAddress;
pub use self::runtimes::{Program, Runtimes};
pub use self::seccomp::SeccompProfile;
pub use self::timeouts::{DRIVER_TIMEOUT_MAX_SECONDS, DriverCall, DriverTimeouts};
use crate::paths::{DataRoot, ExecRoot};

/// Where `daemon.json` is looked for when `--config-file` does not say; it may be absent there.
pub const CONFIG_FILE: &str = "/etc/dockplug/daemon.json";
/// Default of `--data-root`.
pub const DATA_ROOT: &str = "/var/lib/dockplug";
/// Default of `--exec-root`.
pub const EXEC_ROOT: &str = "/run/dockplug";
/// Default of `--pidfile`: this name below the exec root, so that two daemons with two roots do not meet.
pub const PIDFILE: &str = "dockplugd.pid";
/// Default of `--group`; used only when the machine has such a group.
pub const GROUP: &str = "docker";
/// Default of `--legacy-plugins-dir`: dockerd's directories.
pub const LEGACY_PLUGINS_DIRS: [&str; 3] =
    ["/run/docker/plugins", "/etc/docker/plugins", "/usr/lib/docker/plugins"];
/// Default of `--shutdown-timeout`, in seconds.
pub const SHUTDOWN_TIMEOUT_SECONDS: i64 = 15;

/// Everything the daemon was told, with all defaults in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where to listen; never empty.
    pub hosts: Vec<Host>,
    /// What must survive a reboot.
    pub data_root: DataRoot,
    /// What a reboot may forget.
    pub exec_root: ExecRoot,
    /// Where the daemon's process id is written.
    pub pidfile: PathBuf,
    /// Who may connect to the unix sockets besides root.
    pub group: Group,
    /// What is logged, and how.
    pub log: Log,
    /// Whether plugins keep running while the daemon is away.
    pub live_restore: bool,
    /// How long running requests may take to end after SIGTERM; `None` waits for ever.
    pub shutdown_timeout: Option<Duration>,
    /// Where metrics are served, if anywhere.
    pub metrics_addr: Option<MetricsAddress>,
    /// What may run plugins.
    pub runtimes: Runtimes,
    /// How long volume drivers may take, where that is not as usual.
    pub driver_timeouts: DriverTimeouts,
    /// Registries that are trusted without proof: `host[:port]` or a network.
    pub insecure_registries: Vec<String>,
    /// Who is asked before docker.io: URLs.
    pub registry_mirrors: Vec<String>,
    /// Names of variables of plugins whose values are not shown; `*` is anything.
    pub redact_env: Vec<String>,
    /// Which system calls plugins may make.
    pub seccomp_profile: SeccompProfile,
    /// Where files name legacy plugins; empty for none.
    pub legacy_plugins_dirs: Vec<PathBuf>,
    /// Where managed volume plugins are published as legacy ones, if anywhere.
    pub publish_sockets: Option<PathBuf>,
    /// Which other engine answers the routes that are not ours.
    pub engine: Engine,
    /// Where programs without a path are looked for: the environment's `PATH`.
    pub search_path: OsString,
}

/// The group that owns the unix sockets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Group {
    /// Nobody said: the group `docker` if there is one, root's otherwise.
    Default,
    /// A name or a number that was asked for; it must exist.
    Named(String),
}

/// What is logged, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    /// The least important level that is still written.
    pub level: Level,
    /// The shape of a line.
    pub format: Format,
}

/// dockerd's levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Every step.
    Trace,
    /// One line a request.
    Debug,
    /// What an operator wants to know (the default).
    Info,
    /// What went wrong and was survived.
    Warn,
    /// What went wrong.
    Error,
    /// Only what ends the daemon.
    Fatal,
}

/// The shape of a line in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people (the default).
    Text,
    /// One JSON object a line.
    Json,
}

/// Which other engine answers the routes that are not ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Engine {
    /// Whichever listens on a well-known socket, or else a podman that is started.
    Auto,
    /// There is none: those routes are answered 501.
    None,
    /// The one that listens on this socket.
    At(PathBuf),
}

impl Config {
    /// Puts flags, file and defaults together.
    ///
    /// # Errors
    /// [`Error`]: the file cannot be read or has an unknown, doubled or unusable key; a value is not well-formed.
    pub fn resolve(args: &Args) -> Result<Self, Error> {
        let path = args.config_file.as_deref().unwrap_or(Path::new(CONFIG_FILE));
        let content = match std::fs::read(path) {
            Ok(content) => Some(content),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && args.config_file.is_none() => None,
            Err(error) => return Err(Error::Unreadable(path.to_owned(), error)),
        };
        let file = match &content {
            Some(content) => file::File::parse(path, content, &args.directives())?,
            None => file::File::default(),
        };
        let mut config = Self::merge(args, file)?;
        config.search_path = std::env::var_os("PATH").unwrap_or_default();
        Ok(config)
    }

    fn merge(args: &Args, file: file::File) -> Result<Self, Error> {
        let hosts = list(&args.hosts, file.hosts);
        let mut hosts = hosts.iter().map(|host| host.parse()).collect::<Result<Vec<Host>, _>>()?;
        if hosts.is_empty() {
            hosts.push(Host::default());
        }
        let exec_root = args.exec_root.clone().or(file.exec_root).unwrap_or_else(|| EXEC_ROOT.into());
        let pidfile = args.pidfile.clone().or(file.pidfile).unwrap_or_else(|| exec_root.join(PIDFILE));
        let level = match args.log_level.as_ref().or(file.log_level.as_ref()) {
            _ if args.debug.or(file.debug).unwrap_or(false) => Level::Debug,
            Some(level) => level.parse()?,
            None => Level::Info,
        };
        let format = args.log_format.as_ref().or(file.log_format.as_ref());
        let seconds = args.shutdown_timeout.or(file.shutdown_timeout).unwrap_or(SHUTDOWN_TIMEOUT_SECONDS);
        // As for dockerd, an empty one is none.
        let metrics_addr = args.metrics_addr.as_ref().or(file.metrics_addr.as_ref());
        let metrics_addr = metrics_addr.filter(|address| !address.is_empty());
        let default_runtime = args.default_runtime.clone().or(file.default_runtime);
        Ok(Self {
            hosts,
            data_root: DataRoot::new(
                args.data_root.clone().or(file.data_root).unwrap_or_else(|| DATA_ROOT.into()),
            ),
            exec_root: ExecRoot::new(exec_root),
            pidfile,
            group: args.group.clone().or(file.group).map_or(Group::Default, Group::Named),
            log: Log { level, format: format.map_or(Ok(Format::Text), |format| format.parse())? },
            live_restore: args.live_restore.or(file.live_restore).unwrap_or(true),
            shutdown_timeout: u64::try_from(seconds).ok().map(Duration::from_secs),
            metrics_addr: metrics_addr.map(|address| address.parse()).transpose()?,
            runtimes: Runtimes::new(&args.runtimes, file.runtimes.unwrap_or_default(), default_runtime)?,
            driver_timeouts: DriverTimeouts::new(&args.driver_timeouts, file.driver_timeouts.as_ref())?,
            insecure_registries: list(&args.insecure_registries, file.insecure_registries),
            registry_mirrors: list(&args.registry_mirrors, file.registry_mirrors),
            redact_env: list(&args.redact_env, file.redact_env),
            seccomp_profile: args.seccomp_profile.clone().or(file.seccomp_profile).unwrap_or_default().into(),
            legacy_plugins_dirs: legacy_plugins_dirs(&args.legacy_plugins_dirs, file.legacy_plugins_dirs),
            publish_sockets: args.publish_sockets.clone().or(file.publish_sockets),
            engine: args.engine.as_ref().or(file.engine.as_ref()).map_or(Ok(Engine::Auto), |e| e.parse())?,
            search_path: OsString::new(),
        })
    }
}

/// The values of flag or file; only one of them may be set.
fn list(flags: &[String], file: Option<Vec<String>>) -> Vec<String> {
    if flags.is_empty() { file.unwrap_or_default() } else { flags.to_vec() }
}

/// The directories of flag or file, or dockerd's; an empty name is none.
fn legacy_plugins_dirs(flags: &[String], file: Option<Vec<String>>) -> Vec<PathBuf> {
    if flags.is_empty() && file.is_none() {
        return LEGACY_PLUGINS_DIRS.map(PathBuf::from).to_vec();
    }
    list(flags, file).into_iter().filter(|directory| !directory.is_empty()).map(PathBuf::from).collect()
}

impl FromStr for Level {
    type Err = Error;

    fn from_str(level: &str) -> Result<Self, Error> {
        match level {
            "trace" => Ok(Self::Trace),
            "debug" => Ok(Self::Debug),
            "info" => Ok(Self::Info),
            "warn" | "warning" => Ok(Self::Warn),
            "error" => Ok(Self::Error),
            "fatal" | "panic" => Ok(Self::Fatal),
            other => Err(Error::NotALevel(other.to_owned())),
        }
    }
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(format: &str) -> Result<Self, Error> {
        match format {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(Error::NotAFormat(other.to_owned())),
        }
    }
}

impl FromStr for Engine {
    type Err = Error;

    fn from_str(engine: &str) -> Result<Self, Error> {
        match engine {
            "auto" => Ok(Self::Auto),
            "none" => Ok(Self::None),
            other => match other.strip_prefix("unix://").map(PathBuf::from) {
                Some(socket) if socket.is_absolute() => Ok(Self::At(socket)),
                _ => Err(Error::NotAnEngine(other.to_owned())),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::error::chain;

    /// Resolves a command line with this `daemon.json`, or says why not.
    fn resolve(flags: &[&str], json: &str) -> Result<Config, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), json).unwrap();
        let path = file.path().to_str().unwrap();
        let line = ["dockplugd", "--config-file", path].into_iter().chain(flags.iter().copied());
        let args = Args::try_parse_from(line).map_err(|error| error.to_string())?;
        Config::resolve(&args).map_err(|error| chain(&error).replace(path, "FILE"))
    }

    #[test]
    fn without_a_word_everything_has_its_default() {
        let config = resolve(&[], "{}").unwrap();
        assert_eq!(config.hosts, [Host::Unix("/var/run/docker.sock".into())]);
        assert_eq!(config.data_root.path(), Path::new(DATA_ROOT));
        assert_eq!(config.pidfile, Path::new("/run/dockplug/dockplugd.pid"));
        assert_eq!(config.group, Group::Default);
        assert_eq!(config.log, Log { level: Level::Info, format: Format::Text });
        assert!(config.live_restore);
        assert_eq!(config.shutdown_timeout, Some(Duration::from_secs(15)));
        assert_eq!(config.metrics_addr, None);
        assert_eq!(config.runtimes.asked_for(), None);
        assert_eq!(config.engine, Engine::Auto);
        assert_eq!(config.legacy_plugins_dirs, LEGACY_PLUGINS_DIRS.map(PathBuf::from));
        assert_eq!(config.publish_sockets, None);
        assert_eq!(config.seccomp_profile, SeccompProfile::Builtin);
    }

    #[test]
    fn flag_and_file_say_the_same_things() {
        let flags = [
            "-H=unix:///a.sock",
            "-Htcp://127.0.0.1:2375",
            "--data-root=/d",
            "--exec-root=/e",
            "--pidfile=/p",
            "-G=staff",
            "-D",
            "--log-format=json",
            "--live-restore=false",
            "--shutdown-timeout=-1",
            "--metrics-addr=127.0.0.1:9323",
            "--default-runtime=crun",
            "--add-runtime=crun=/usr/bin/crun",
            "--driver-timeout=mount=300",
            "--insecure-registry=a:5000",
            "--insecure-registry=10.0.0.0/8",
            "--registry-mirror=https://m",
            "--redact-env=*_KEY",
            "--seccomp-profile=/s.json",
            "--engine=none",
            "--legacy-plugins-dir=/l1",
            "--legacy-plugins-dir=/l2",
            "--publish-sockets=/ps",
        ];
        let file = r#"{"hosts": ["unix:///a.sock", "tcp://127.0.0.1:2375"], "data-root": "/d", "exec-root": "/e",
            "pidfile": "/p", "group": "staff", "debug": true, "log-format": "json", "live-restore": false,
            "shutdown-timeout": -1, "default-runtime": "crun", "runtimes": {"crun": {"path": "/usr/bin/crun"}},
            "insecure-registries": ["a:5000", "10.0.0.0/8"], "registry-mirrors": ["https://m"], "engine": "none",
            "redact-env": ["*_KEY"], "metrics-addr": "127.0.0.1:9323", "seccomp-profile": "/s.json",
            "legacy-plugins-dirs": ["/l1", "/l2"], "publish-sockets": "/ps", "driver-timeouts": {"mount": 300}}"#;
        let config = resolve(&flags, "{}").unwrap();
        assert_eq!(config, resolve(&[], file).unwrap());
        assert_eq!(config.insecure_registries, ["a:5000", "10.0.0.0/8"]);
        assert_eq!(config.registry_mirrors, ["https://m"]);
        assert_eq!(config.shutdown_timeout, None);
        assert_eq!(config.metrics_addr.as_ref().unwrap().as_str(), "127.0.0.1:9323");
        assert_eq!(resolve(&[], r#"{"metrics-addr": ""}"#).unwrap().metrics_addr, None);
        assert_eq!(config.log.level, Level::Debug);
        assert_eq!(config.legacy_plugins_dirs, [Path::new("/l1"), Path::new("/l2")]);
        assert_eq!(config.publish_sockets.as_deref(), Some(Path::new("/ps")));
        let none: [&Path; 0] = [];
        assert_eq!(resolve(&["--legacy-plugins-dir="], "{}").unwrap().legacy_plugins_dirs, none);
        assert_eq!(resolve(&[], r#"{"legacy-plugins-dirs": []}"#).unwrap().legacy_plugins_dirs, none);
        let crun = Program::Path("/usr/bin/crun".into());
        assert_eq!(config.runtimes.in_order().first(), Some(&("crun", crun)));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let table: &[(&[&str], &str, &str)] = &[
            (
                &[],
                r#"{"data-rot": "/d", "bip": ""}"#,
                "unable to configure the daemon with file FILE: the following directives don't match any \
                 configuration option: bip, data-rot",
            ),
            (
                &["--data-root=/x", "-H", "unix:///a", "-l", "warn"],
                r#"{"data-root": "/y", "hosts": ["unix:///b"], "log-level": "info"}"#,
                "unable to configure the daemon with file FILE: the following directives are specified both as a \
                 flag and in the configuration file: data-root: (from flag: /x, from file: /y), hosts: (from flag: \
                 [unix:///a], from file: [unix:///b]), log-level: (from flag: warn, from file: info)",
            ),
            (&[], "{", "FILE: invalid JSON: EOF while parsing"),
            (
                &[],
                r#"{"debug": "yes"}"#,
                "FILE: invalid JSON: invalid type: string \"yes\", expected a boolean",
            ),
            (&["-l", "loud"], "{}", "invalid logging level: \"loud\""),
            (&["--default-runtime", "crun"], "{}", "specified default runtime 'crun' does not exist"),
            (&["--add-runtime", "runc=/x"], "{}", "runtime name 'runc' is reserved"),
            (&["--add-runtime", "crun"], "{}", "invalid runtime \"crun\": expected NAME=PATH"),
            (&["--driver-timeout", "mount"], "{}", "invalid driver timeout \"mount\": expected CALL=SECONDS"),
            (&["--engine", "podman"], "{}", "invalid engine \"podman\": expected auto, none or unix:///PATH"),
            (&["--engine", "unix://podman.sock"], "{}", "invalid engine \"unix://podman.sock\""),
            (&["--metrics-addr", ":9323"], "{}", "invalid metrics address \":9323\": there is no host"),
            (&["-H", "http://x"], "{}", "invalid bind address (http://x)"),
        ];
        for (flags, json, expected) in table {
            let error = resolve(flags, json).unwrap_err();
            assert!(error.contains(expected), "{flags:?} {json}: got {error:?}, expected {expected:?}");
        }
    }

    #[test]
    fn only_the_default_file_may_be_missing() {
        let args = Args::try_parse_from(["dockplugd", "--config-file", "/nonexistent/daemon.json"]).unwrap();
        let error = chain(&Config::resolve(&args).unwrap_err());
        assert!(
            error.starts_with("unable to read the configuration file /nonexistent/daemon.json"),
            "{error}"
        );
    }
}
