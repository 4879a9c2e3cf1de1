//! One plugin in memory: its record, what is seen of it, and the turn that verbs on it take.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard, watch};
use tokio::task::JoinHandle;

use super::config::PluginConfig;
use super::observed::State;
use super::record::{PLUGINS, Record};
use super::resources::Resources;
use super::settings::Settings;
use super::{Error, PluginId, Result, START_DEADLINE};
use crate::drivers::Presence;
use crate::state::{self, Change};

/// What volume drivers implement.
pub(super) const VOLUME_DRIVER: &str = "volumedriver";

/// A plugin as it is at one moment.
#[derive(Debug, Clone)]
pub struct View {
    /// The id.
    pub id: PluginId,
    /// The name as Docker shows it: `rclone:latest`.
    pub name: String,
    /// What the user wants.
    pub enabled: bool,
    /// What it was made or pulled as.
    pub plugin_reference: String,
    /// What it says of itself.
    pub config: Arc<PluginConfig>,
    /// What it is started with.
    pub settings: Settings,
    /// How much of the machine it may use.
    pub resources: Resources,
    /// What is seen of its process.
    pub observed: State,
}

/// One plugin.
pub(super) struct Plugin {
    pub(super) id: PluginId,
    /// What whoever watches the process shall do. Sent without waiting for a turn.
    pub(super) orders: watch::Sender<Order>,
    /// Held by the verb whose turn it is.
    turn: Mutex<Turn>,
    /// Held for a look or a change in memory only.
    known: RwLock<Known>,
    observed: watch::Sender<State>,
    /// What is seen, as calls of its driver need it.
    presence: watch::Sender<Presence>,
}

/// What an upgrade changes at once.
struct Known {
    record: Record,
    config: Arc<PluginConfig>,
}

/// What only the verb whose turn it is may touch.
#[derive(Default)]
pub(super) struct Turn {
    /// The task that watches the process of an enabled plugin.
    pub(super) supervisor: Option<JoinHandle<()>>,
    /// The plugin is gone.
    pub(super) removed: bool,
}

/// What whoever watches a plugin's process shall do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Keep it running.
    Run,
    /// End it, and then yourself.
    Stop,
    /// End yourself, and leave it as it is.
    Leave,
}

impl Plugin {
    pub(super) fn new(id: PluginId, record: Record, config: PluginConfig) -> Self {
        let presence = State::default().presence(record.enabled);
        Self {
            id,
            orders: watch::Sender::new(Order::Run),
            turn: Mutex::default(),
            known: RwLock::new(Known { record, config: Arc::new(config) }),
            observed: watch::Sender::new(State::default()),
            presence: watch::Sender::new(presence),
        }
    }

    /// Waits for the turn of a verb.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the plugin was removed meanwhile.
    pub(super) async fn turn(&self, selector: &str) -> Result<MutexGuard<'_, Turn>> {
        let turn = self.turn.lock().await;
        if turn.removed {
            return Err(Error::NotFound { selector: selector.to_owned() });
        }
        Ok(turn)
    }

    /// Waits for an order other than to keep running.
    pub(super) async fn ordered(&self) -> Order {
        let mut orders = self.orders.subscribe();
        // The sender is in `self`; it cannot be gone.
        orders.wait_for(|order| *order != Order::Run).await.map_or(Order::Leave, |order| *order)
    }

    /// The name as Docker shows it. Another one after a rename.
    pub(super) fn name(&self) -> String {
        self.look(|known| known.record.name.familiar())
    }

    /// Calls `at` with the name, which stays the same until that has returned. For a change in memory only.
    pub(super) fn with_name(&self, at: impl FnOnce(String)) {
        self.look(|known| at(known.record.name.familiar()));
    }

    /// A copy of the record.
    pub(super) fn record(&self) -> Record {
        self.look(|known| known.record.clone())
    }

    /// What it says of itself. Another one only after an upgrade.
    pub(super) fn config(&self) -> Arc<PluginConfig> {
        self.look(|known| Arc::clone(&known.config))
    }

    /// What the user wants.
    pub(super) fn is_enabled(&self) -> bool {
        self.look(|known| known.record.enabled)
    }

    /// How long it may take to listen.
    pub(super) fn start_deadline(&self) -> Duration {
        match self.look(|known| known.record.start_deadline_s) {
            0 => START_DEADLINE,
            seconds => Duration::from_secs(seconds),
        }
    }

    /// Whether it gives volumes.
    pub(super) fn is_volume_driver(&self) -> bool {
        self.config().implements(VOLUME_DRIVER)
    }

    /// Makes a record durable, and then visible. Only in the turn of a verb.
    ///
    /// # Errors
    /// [`Error::State`]; the old record stays.
    pub(super) async fn commit(&self, store: &state::Store, record: Record) -> Result<()> {
        let change = Change::new().put(PLUGINS, self.id.as_str(), &record);
        let config = self.config();
        self.commit_change(store, change, record, config).await
    }

    /// The same with a change that has the record, and more, in it; and with another configuration.
    ///
    /// # Errors
    /// [`Error::State`]; everything stays as it is.
    pub(super) async fn commit_change(
        &self,
        store: &state::Store,
        change: state::Result<Change>,
        record: Record,
        config: Arc<PluginConfig>,
    ) -> Result<()> {
        store.commit(change.map_err(Error::State)?).await.map_err(Error::State)?;
        self.try_on(record, config);
        Ok(())
    }

    /// Makes a record visible that is not durable: one that is on trial, or the durable one after it. Only in the turn
    /// of a verb.
    pub(super) fn try_on(&self, record: Record, config: Arc<PluginConfig>) {
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Known { record, config };
    }

    /// Makes a durable record visible that has another name, and with it, for whoever looks, what `along` does. Only in
    /// the turn of a verb.
    pub(super) fn rename(&self, record: Record, along: impl FnOnce()) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.record = record;
        along();
    }

    /// Notes what is seen.
    pub(super) fn observe(&self, change: impl FnOnce(&mut State)) {
        // Not below: whoever looks at both begins with the record.
        let wanted = self.is_enabled();
        self.observed.send_modify(|state| {
            change(state);
            let presence = state.presence(wanted);
            self.presence.send_if_modified(|told| {
                let is_news = *told != presence;
                *told = presence;
                is_news
            });
        });
    }

    /// Tells whether its socket is to be asked.
    pub(super) fn presence(&self) -> watch::Receiver<Presence> {
        self.presence.subscribe()
    }

    /// Tells of every change of what is seen.
    pub(super) fn observed(&self) -> watch::Receiver<State> {
        self.observed.subscribe()
    }

    /// The plugin as it is now.
    pub(super) fn view(&self) -> View {
        self.look(|Known { record, config }| View {
            id: self.id.clone(),
            name: record.name.familiar(),
            enabled: record.enabled,
            plugin_reference: record.reference.clone(),
            config: Arc::clone(config),
            settings: record.settings.clone(),
            resources: record.resources,
            observed: self.observed.borrow().clone(),
        })
    }

    fn look<T>(&self, at: impl FnOnce(&Known) -> T) -> T {
        // No code that can panic runs under this lock; a poisoned one still holds a good record.
        at(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plugin").field("id", &self.id).field("name", &self.name()).finish_non_exhaustive()
    }
}
