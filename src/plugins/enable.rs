//! `enable`: starts a plugin, once, for somebody who waits.
//!
//! The wish becomes durable when the plugin listens, and before anybody hears of it. A crash in between leaves a
//! process of a disabled plugin, which the next start ends.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::launch::{self, Leftover};
use super::observed::Status;
use super::plugin::Order;
use super::supervise::{self, First};
use super::{Error, Inner, Result, START_DEADLINE};
use crate::error::chain;

/// No plugin may take longer until it listens, whatever the client says.
const DEADLINE_MAX: Duration = Duration::from_hours(1);

pub(super) async fn enable(inner: &Arc<Inner>, selector: &str, timeout: Duration) -> Result<()> {
    let plugin = inner.shelf.find(selector)?;
    let mut turn = plugin.turn(selector).await?;
    if plugin.is_enabled() {
        return Err(Error::AlreadyEnabled { name: plugin.name() });
    }
    plugin.orders.send_replace(Order::Run);
    if inner.closing.load(Ordering::SeqCst) {
        return Err(Error::Closing);
    }
    plugin.observe(|state| *state = super::State { status: Status::Starting, ..super::State::default() });
    let deadline = if timeout.is_zero() { START_DEADLINE } else { timeout.min(DEADLINE_MAX) };
    let started = async {
        let process = launch::launch(inner, &plugin, deadline, Leftover::End).await?;
        let mut record = plugin.record();
        record.enabled = true;
        record.start_deadline_s = timeout.min(DEADLINE_MAX).as_secs();
        match plugin.commit(&inner.parts.store, record).await {
            Ok(()) => Ok(process),
            Err(error) => {
                launch::stop(inner, &plugin, &process).await;
                Err(error)
            }
        }
    }
    .await;
    match started {
        Ok(process) => {
            launch::make_known(inner, &plugin);
            turn.supervisor = Some(supervise::spawn(inner, &plugin, First::Running(process)));
            inner.tell("enable", &plugin.id, selector);
            Ok(())
        }
        Err(error) => {
            launch::settle(inner, &plugin).await;
            plugin.observe(|state| {
                state.status = Status::Failed;
                state.error = Some(chain(&error));
            });
            Err(error)
        }
    }
}
