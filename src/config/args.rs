//! The command line, raw: what was typed and nothing else. Defaults and meaning are added by [`super::Config`].

use std::path::PathBuf;

use super::command::Command;

/// Docker's managed plugins and volumes, for any engine, without dockerd.
///
/// dockplugd answers the Docker Engine API on a socket: /plugins and /volumes, from the stock docker CLI and the
/// SDKs. It needs root, and a program that speaks runc's command line.
#[allow(clippy::doc_markdown, reason = "these lines are what --help prints")]
#[derive(Debug, Clone, Default, clap::Parser)]
#[command(name = "dockplugd", version, disable_help_subcommand = true, subcommand_help_heading = "Commands, which ask a running daemon", disable_version_flag = true, after_help = EXAMPLES)]
pub struct Args {
    /// Where to listen: unix://PATH, tcp://HOST:PORT or fd:// (sockets from the service manager); repeatable
    /// [default: unix:///var/run/docker.sock]; for a command, whom to ask [default: $DOCKER_HOST]
    #[arg(short = 'H', long = "host", value_name = "ADDRESS", global = true)]
    pub hosts: Vec<String>,

    /// Directory of what must survive a reboot: plugins, volumes, state [default: /var/lib/dockplug]
    #[arg(long, value_name = "DIR")]
    pub data_root: Option<PathBuf>,

    /// Directory of what a reboot may forget: sockets, bundles [default: /run/dockplug]
    #[arg(long, value_name = "DIR")]
    pub exec_root: Option<PathBuf>,

    /// File for the daemon's process id [default: dockplugd.pid below the exec root]
    #[arg(long, value_name = "FILE")]
    pub pidfile: Option<PathBuf>,

    /// Group, by name or number, that may use the unix socket [default: docker, if there is such a group]
    #[arg(short = 'G', long, value_name = "GROUP")]
    pub group: Option<String>,

    /// Log one line a request, and more; the same as --log-level debug
    #[arg(short = 'D', long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub debug: Option<bool>,

    /// The least that is logged: trace, debug, info, warn, error or fatal [default: info]
    #[arg(short = 'l', long, value_name = "LEVEL")]
    pub log_level: Option<String>,

    /// Shape of the lines in the log: text or json [default: text]
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,

    /// The same settings as JSON, with dockerd's key names; a key may not be set here and there
    /// [default: /etc/dockplug/daemon.json, if it exists]
    #[arg(long, value_name = "FILE")]
    pub config_file: Option<PathBuf>,

    /// Leave plugins running while the daemon is away; =false stops them with it [default: true]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub live_restore: Option<bool>,

    /// Seconds that running requests get to end at SIGTERM; negative waits for ever [default: 15]
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub shutdown_timeout: Option<i64>,

    /// Serve metrics for Prometheus at http://HOST:PORT/metrics, readable by whoever can connect: prefer loopback, as in
    /// 127.0.0.1:9323 [default: not served]
    #[arg(long, value_name = "HOST:PORT")]
    pub metrics_addr: Option<String>,

    /// The runtime that starts plugins: `embedded` (in dockplugd itself), `runc`, or a name of --add-runtime; the first that
    /// works here is taken, beginning with this one [default: embedded]
    #[arg(long, value_name = "NAME")]
    pub default_runtime: Option<String>,

    /// Name another program that speaks runc's command line; repeatable
    #[arg(long = "add-runtime", value_name = "NAME=PATH")]
    pub runtimes: Vec<String>,

    /// Seconds a volume driver gets to answer CALL: create or mount [default: 120], get, remove, path, unmount or capabilities
    /// [default: 60], list [default: 2]; repeatable, as in --driver-timeout mount=300
    #[arg(long = "driver-timeout", value_name = "CALL=SECONDS")]
    pub driver_timeouts: Vec<String>,

    /// Talk to a registry, as HOST, HOST:PORT or a network like 10.0.0.0/8, without a valid certificate, or in the clear;
    /// repeatable; loopback always is one
    #[arg(long = "insecure-registry", value_name = "REGISTRY")]
    pub insecure_registries: Vec<String>,

    /// Ask this registry, by its URL, before docker.io; repeatable
    #[arg(long = "registry-mirror", value_name = "URL")]
    pub registry_mirrors: Vec<String>,

    /// Show the value of a plugin's variable of this name, in which * is anything, as ********; repeatable
    #[arg(long = "redact-env", value_name = "PATTERN")]
    pub redact_env: Vec<String>,

    /// Which system calls plugins may make: builtin, unconfined, or a file in Docker's form [default: builtin]
    #[arg(long, value_name = "PROFILE")]
    pub seccomp_profile: Option<String>,

    /// Look for legacy volume plugins (NAME.sock, NAME.spec, NAME.json) in this directory; repeatable; an empty name for
    /// nowhere [default: /run/docker/plugins, /etc/docker/plugins and /usr/lib/docker/plugins]
    #[arg(long = "legacy-plugins-dir", value_name = "DIR")]
    pub legacy_plugins_dirs: Vec<String>,

    /// Publish each enabled volume plugin as a legacy plugin, DIR/NAME.sock, for podman, Nomad or another engine
    /// [default: not published]
    #[arg(long, value_name = "DIR")]
    pub publish_sockets: Option<PathBuf>,

    /// Who runs containers, and answers every route that is not ours: unix://PATH, auto (whichever listens on a well-known
    /// socket, or else podman, which is started if it is installed) or none [default: auto]
    #[arg(long, value_name = "ENGINE")]
    pub engine: Option<String>,

    /// Print the version
    #[arg(short = 'v', long, action = clap::ArgAction::Version)]
    pub version: Option<bool>,

    #[allow(missing_docs, reason = "its variants say what they are, here and in --help")]
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What `--help` ends with.
const EXAMPLES: &str = "\
Example, beside a dockerd that keeps its own socket:
  dockplugd -H unix:///run/dockplug.sock &
  export DOCKER_HOST=unix:///run/dockplug.sock
  docker plugin create me/sshfs ./sshfs && docker plugin enable me/sshfs
  docker volume create -d me/sshfs -o sshcmd=me@host:/dir files

The same as /etc/dockplug/daemon.json:
  {\"hosts\": [\"unix:///run/dockplug.sock\"], \"debug\": true, \"runtimes\": {\"crun\": {\"path\": \"/usr/bin/crun\"}}}";

impl Args {
    /// What was typed, as (key of `daemon.json`, value), to find keys that are set twice.
    pub(super) fn directives(&self) -> Vec<(&'static str, String)> {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let list = |list: &[String]| (!list.is_empty()).then(|| format!("[{}]", list.join(" ")));
        [
            ("data-root", path(&self.data_root)),
            ("debug", self.debug.map(|debug| debug.to_string())),
            ("default-runtime", self.default_runtime.clone()),
            ("driver-timeouts", list(&self.driver_timeouts)),
            ("engine", self.engine.clone()),
            ("exec-root", path(&self.exec_root)),
            ("group", self.group.clone()),
            ("hosts", list(&self.hosts)),
            ("insecure-registries", list(&self.insecure_registries)),
            ("legacy-plugins-dirs", list(&self.legacy_plugins_dirs)),
            ("live-restore", self.live_restore.map(|live| live.to_string())),
            ("log-format", self.log_format.clone()),
            ("log-level", self.log_level.clone()),
            ("metrics-addr", self.metrics_addr.clone()),
            ("pidfile", path(&self.pidfile)),
            ("publish-sockets", path(&self.publish_sockets)),
            ("redact-env", list(&self.redact_env)),
            ("registry-mirrors", list(&self.registry_mirrors)),
            ("runtimes", list(&self.runtimes)),
            ("seccomp-profile", self.seccomp_profile.clone()),
            ("shutdown-timeout", self.shutdown_timeout.map(|seconds| seconds.to_string())),
        ]
        .into_iter()
        .filter_map(|(key, value)| value.map(|value| (key, value)))
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound_and_every_flag_is_a_key_or_names_the_file() {
        Args::command().debug_assert();
        let all = Args {
            hosts: vec!["h".into()],
            data_root: Some("d".into()),
            exec_root: Some("e".into()),
            pidfile: Some("p".into()),
            group: Some("g".into()),
            debug: Some(true),
            log_level: Some("l".into()),
            log_format: Some("f".into()),
            config_file: Some("c".into()),
            live_restore: Some(true),
            shutdown_timeout: Some(1),
            metrics_addr: Some("m".into()),
            default_runtime: Some("r".into()),
            runtimes: vec!["a=b".into()],
            driver_timeouts: vec!["mount=1".into()],
            insecure_registries: vec!["i".into()],
            registry_mirrors: vec!["m".into()],
            redact_env: vec!["x".into()],
            seccomp_profile: Some("s".into()),
            legacy_plugins_dirs: vec!["l".into()],
            publish_sockets: Some("p".into()),
            engine: Some("none".into()),
            version: None,
            command: None,
        };
        let flags = Args::command()
            .get_arguments()
            .filter(|flag| !matches!(flag.get_long(), Some("config-file" | "version")))
            .count();
        assert_eq!(all.directives().len(), flags);
    }
}
