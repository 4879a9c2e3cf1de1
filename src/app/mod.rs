//! The one file that names every layer: opens them leaf first, serves, and takes them down in the other order.
//!
//! The socket answers before any plugin starts, because plugins may call it while they start.

mod logging;
mod pidfile;
mod publishing;
mod signals;

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sd_notify::NotifyState;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use self::logging::start as start_logging;
use self::pidfile::Pidfile;
use self::publishing::Publishing;
pub use self::signals::signals;
use crate::api::router::Api;
use crate::api::{COMMIT, Face, Facts, Listeners as EventListeners, Machine, Rooms, VERSION};
use crate::config::{self, Config, DriverCall, DriverTimeouts, Host, Level, Program};
use crate::containers::{self, Containers};
use crate::drivers::{Deadlines, Drivers};
use crate::engine::Engine;
use crate::error::{Classified, Kind, chain};
use crate::events::Bus;
use crate::plugins::spec::seccomp::{self, Profile};
use crate::plugins::{self, Kernel, Plugins};
use crate::registry::{self, Hosts};
use crate::runtime::{self, Candidate, EmbeddedRuntime, Launcher, Runtime, RuntimeProgram};
use crate::scrape::{Build, Scrape, Sources};
use crate::server::{self, Listeners, Server};
use crate::state::{self, Change, Store, Table};
use crate::volumes::{self, Volumes};
use crate::{content, layer};

/// What this file keeps in the state: who the daemon is.
const DAEMON: Table<String> = Table::new("daemon");
/// The key of [`DAEMON`] for the id that `/info` tells.
const ID: &str = "id";
/// How many random bytes the id has.
const ID_BYTES: usize = 16;
/// How many connections may ask for metrics at a time: Prometheus needs one, and two of them are common.
const METRICS_CONNECTIONS_MAX: usize = 16;

/// The daemon, serving.
#[derive(Debug)]
pub struct App {
    config: Config,
    server: Server,
    metrics: Option<Server>,
    publishing: Option<Publishing>,
    plugins: Plugins,
    engine: Option<Engine>,
    _pidfile: Pidfile,
}

impl App {
    /// Opens everything and begins to serve; then plugins that were enabled start in the background.
    ///
    /// # Errors
    /// [`Error`]: another daemon has the state or a socket, or a directory or a file cannot be used.
    pub async fn start(config: Config) -> Result<Self, Error> {
        private_directory(config.data_root.path())?;
        private_directory(config.exec_root.path())?;
        let seccomp = Profile::load(&config.seccomp_profile, Kernel::ask().has_seccomp)?;
        let store = Store::open(&config.data_root.state())?;
        let id = own_id(&store).await?;
        let own = std::env::current_exe().map_err(Error::OwnProgram)?;
        let listeners = Listeners::bind(&config.hosts, &config.group).await?;
        let metrics_listeners = match &config.metrics_addr {
            Some(address) => Some(Listeners::bind_metrics(address).await?),
            None => None,
        };
        let pidfile = Pidfile::write(&config.pidfile)?;

        let hosts = Arc::new(Hosts::new(&config.insecure_registries, &config.registry_mirrors)?);
        let (events, drivers) = (Bus::new(), drivers(&config));
        let volumes = Volumes::open(
            store.clone(),
            drivers.clone(),
            events.clone(),
            &volumes::Roots { local: config.data_root.volumes(), mounts: config.exec_root.mounts() },
        )?;
        let (settling, published) = (volumes.clone(), (drivers.clone(), volumes.clone()));
        let containers = containers(&config, &volumes, &store)?;
        let plugins = Plugins::open(plugins::Parts {
            data: config.data_root.clone(),
            exec: config.exec_root.clone(),
            store,
            content: content::Store::open(&config.data_root.content())?,
            events: events.clone(),
            drivers: drivers.clone(),
            launcher: launcher(&config, &own)?,
            hosts: Arc::clone(&hosts),
            backoff: plugins::Backoff::default(),
            live_restore: config.live_restore,
            seccomp,
            limits: layer::Limits::default(),
            version: VERSION.to_owned(),
        })?;
        let rooms = Rooms {
            plugins: plugins.clone(),
            hosts,
            volumes: volumes.clone(),
            face: containers.as_ref().map(Face::of).unwrap_or_default(),
            containers: containers.clone(),
            events,
            facts: Arc::new(facts(&config, &own, id, listeners.addresses())),
            listeners: EventListeners::default(),
            closing: CancellationToken::new(),
        };
        for address in listeners.addresses() {
            tracing::info!(%address, "API listen on");
        }
        let api = Api::new(rooms.clone());
        let build = Build { version: VERSION, commit: COMMIT };
        let sources = Sources { plugins: plugins.clone(), volumes, drivers, requests: api.requests(), build };
        // Before the API, so that whoever has an answer of that finds this too.
        let metrics = metrics_listeners.map(|listeners| serve_metrics(listeners, sources));
        let publishing = match &config.publish_sockets {
            Some(directory) => Some(publish(directory, published)?),
            None => None,
        };
        let server = Server::start(listeners, &api, rooms.closing);
        tell_service_manager(NotifyState::Ready);
        settling.follow_drivers();
        let engine = begin_with_engine(containers, &config);
        plugins.restore();
        Ok(Self { config, server, metrics, publishing, plugins, engine, _pidfile: pidfile })
    }

    /// Serves until the first of the `signals`, drains until all requests have ended, the deadline has passed or a
    /// second signal has come, and leaves the plugins running or stops them, as `--live-restore` says.
    pub async fn run(self, mut signals: mpsc::Receiver<&'static str>) {
        let signal = signals.recv().await;
        tracing::info!(signal, "ending: no new requests; a second signal ends at once");
        tell_service_manager(NotifyState::Stopping);
        let ending = async {
            let timeout = self.config.shutdown_timeout;
            let metrics = async {
                match self.metrics {
                    Some(metrics) => metrics.drain(timeout).await,
                    None => true,
                }
            };
            let publishing = async {
                match self.publishing {
                    Some(publishing) => publishing.end(timeout).await,
                    None => true,
                }
            };
            if tokio::join!(self.server.drain(timeout), metrics, publishing) != (true, true, true) {
                tracing::warn!("requests were still running at the deadline");
            }
            self.plugins.shutdown().await;
            if let Some(engine) = self.engine {
                engine.end().await;
            }
        };
        tokio::select! {
            () = ending => {}
            signal = signals.recv() => tracing::warn!(signal, "ending at once"),
        }
    }
}

/// Begins to answer scrapes.
fn serve_metrics(listeners: Listeners, sources: Sources) -> Server {
    for address in listeners.addresses() {
        tracing::info!(%address, "metrics listen on");
    }
    let closing = CancellationToken::new();
    Server::start_with(METRICS_CONNECTIONS_MAX, listeners, &Scrape::new(sources), closing)
}

/// Begins to publish volume plugins as legacy ones.
fn publish(directory: &Path, (drivers, volumes): (Drivers, Volumes)) -> Result<Publishing, Error> {
    let started = Publishing::start(directory, drivers, volumes);
    started.map_err(|error| Error::Directory(directory.to_owned(), error))
}

/// Makes a directory that only root may look into.
fn private_directory(path: &Path) -> Result<(), Error> {
    let make = || {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        std::fs::set_permissions(path, Permissions::from_mode(0o700))
    };
    make().map_err(|error| Error::Directory(path.to_owned(), error))
}

/// The id this daemon keeps for ever, made at its first start.
async fn own_id(store: &Store) -> Result<String, Error> {
    if let Some((_, id)) = store.load(DAEMON)?.into_iter().find(|(key, _)| key == ID) {
        return Ok(id);
    }
    let mut bytes = [0; ID_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| Error::Random(io::Error::other(error)))?;
    let id = format!("{:032x}", u128::from_be_bytes(bytes));
    store.commit(Change::new().put(DAEMON, ID, &id)?).await?;
    Ok(id)
}

/// What runs containers: the first runtime that works, under monitors that are this very program.
fn launcher(config: &Config, own: &Path) -> Result<Launcher, Error> {
    let mut candidates = Vec::new();
    for (name, program) in config.runtimes.in_order() {
        let runtime: Arc<dyn Runtime> = match program {
            Program::Embedded => Arc::new(EmbeddedRuntime::new(own.to_owned())),
            Program::Path(path) => match RuntimeProgram::find(&path.to_string_lossy(), &config.search_path) {
                Ok(program) => Arc::new(program),
                Err(error) if config.runtimes.asked_for() == Some(name) => return Err(error.into()),
                Err(error) => {
                    tracing::debug!(runtime = name, error = chain(&error), "not there");
                    continue;
                }
            },
        };
        candidates.push(Candidate { name: name.to_owned(), runtime });
    }
    Ok(Launcher::choosing(own.to_owned(), candidates, &config.exec_root))
}

/// The containers of the engine that the user named, if there is one.
fn containers(config: &Config, volumes: &Volumes, store: &Store) -> Result<Option<Containers>, Error> {
    let open =
        |engine| Containers::open(engine, volumes.clone(), store.clone(), config.exec_root.containers());
    Ok(engine(config).map(open).transpose().map_err(Box::new)?)
}

/// Listens to the engine, if there is one, and ends the one that an earlier daemon has started, where none is started any
/// more.
fn begin_with_engine(containers: Option<Containers>, config: &Config) -> Option<Engine> {
    let left_over = config.exec_root.engine_socket();
    if !matches!(&config.engine, config::Engine::Auto)
        && config.engine != config::Engine::At(left_over.clone())
    {
        tokio::spawn(async move { Engine::end_left_over(&left_over).await });
    }
    let containers = containers?;
    containers.follow();
    Some(containers.engine().clone())
}

/// Who runs containers, as the user said.
fn engine(config: &Config) -> Option<Engine> {
    match &config.engine {
        config::Engine::None => None,
        config::Engine::At(socket) => Some(Engine::at(socket.clone())),
        config::Engine::Auto => {
            let own = config.hosts.iter().filter_map(|host| match host {
                Host::Unix(path) => Some(path.clone()),
                Host::Tcp(_) | Host::Fd(_) => None,
            });
            Some(Engine::anywhere(
                own.collect(),
                config.exec_root.engine_socket(),
                config.search_path.clone(),
            ))
        }
    }
}

/// No managed drivers yet, and the legacy ones.
fn drivers(config: &Config) -> Drivers {
    Drivers::with_legacy(config.legacy_plugins_dirs.clone(), deadlines(&config.driver_timeouts))
}

/// How long volume drivers may take: as usual, but for what was asked for.
fn deadlines(asked: &DriverTimeouts) -> Deadlines {
    let mut deadlines = Deadlines::default();
    for (call, timeout) in asked.each() {
        let deadline = match call {
            DriverCall::Create => &mut deadlines.create,
            DriverCall::Get => &mut deadlines.get,
            DriverCall::List => &mut deadlines.list,
            DriverCall::Remove => &mut deadlines.remove,
            DriverCall::Path => &mut deadlines.path,
            DriverCall::Mount => &mut deadlines.mount,
            DriverCall::Unmount => &mut deadlines.unmount,
            DriverCall::Capabilities => &mut deadlines.capabilities,
        };
        *deadline = timeout;
    }
    deadlines
}

fn facts(config: &Config, own: &Path, id: String, addresses: &[String]) -> Facts {
    Facts {
        id,
        debug: matches!(config.log.level, Level::Debug | Level::Trace),
        live_restore: config.live_restore,
        data_root: config.data_root.path().to_owned(),
        runtimes: config.runtimes.programs(own),
        redact_env: config.redact_env.clone(),
        addresses: addresses.to_vec(),
        machine: Machine::ask(),
    }
}

/// Tells systemd, if it is there and asked to be told.
fn tell_service_manager(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "cannot tell the service manager");
    }
}

/// Why the daemon does not start.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each variant's message says what it is")]
pub enum Error {
    #[error("cannot use the directory {0}")]
    Directory(PathBuf, #[source] io::Error),
    #[error("cannot write the pidfile {0}")]
    Pidfile(PathBuf, #[source] io::Error),
    #[error("pidfile {path}: process {pid} is still running; end it, or give another --pidfile")]
    Running { path: PathBuf, pid: i32 },
    #[error("cannot get random bytes")]
    Random(#[source] io::Error),
    #[error("cannot listen for signals")]
    Signals(#[source] io::Error),
    #[error("cannot find the file of this program")]
    OwnProgram(#[source] io::Error),
    #[error(transparent)]
    Runtime(#[from] runtime::Error),
    #[error(transparent)]
    Seccomp(#[from] seccomp::Error),
    #[error(transparent)]
    Content(#[from] content::Error),
    #[error(transparent)]
    Plugins(Box<plugins::Error>),
    #[error(transparent)]
    Registry(#[from] registry::Error),
    #[error(transparent)]
    State(#[from] state::Error),
    #[error(transparent)]
    Containers(#[from] Box<containers::Error>),
    #[error(transparent)]
    Volumes(Box<volumes::Error>),
    #[error(transparent)]
    Server(#[from] server::Error),
}

impl From<volumes::Error> for Error {
    fn from(error: volumes::Error) -> Self {
        Self::Volumes(Box::new(error))
    }
}

impl From<plugins::Error> for Error {
    fn from(error: plugins::Error) -> Self {
        Self::Plugins(Box::new(error))
    }
}

impl Classified for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Directory(..)
            | Self::Pidfile(..)
            | Self::Random(_)
            | Self::Signals(_)
            | Self::OwnProgram(_) => Kind::Internal,
            Self::Running { .. } => Kind::Conflict,
            Self::Runtime(error) => error.kind(),
            Self::Seccomp(error) => error.kind(),
            Self::Content(error) => error.kind(),
            Self::Plugins(error) => error.kind(),
            Self::Registry(error) => error.kind(),
            Self::State(error) => error.kind(),
            Self::Containers(error) => error.kind(),
            Self::Volumes(error) => error.kind(),
            Self::Server(error) => error.kind(),
        }
    }
}

#[cfg(test)]
mod tests;
