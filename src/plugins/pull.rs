//! `pull`: a plugin from a registry, under a name of its own or another.
//!
//! The record is the commit, as in `create`; what fails before leaves nothing but downloads that can go on. The manifest
//! and the configuration are kept byte for byte. The consent is compared before any layer is fetched.

use std::sync::Arc;

use jiff::Timestamp;

use super::fetch::{self, Fetched};
use super::plugin::Plugin;
use super::privilege::{self, Privilege};
use super::record::Record;
use super::remote::Remote;
use super::report::Report;
use super::resources::Resources;
use super::settings::Settings;
use super::shelf::Reserved;
use super::{Error, Inner, PluginId, Result, blocking, collect, describe, directories};
use crate::events::{Event, Type};
use crate::oci::Reference;
use crate::registry::{Access, Credentials};

/// What is to be fetched, for whom, and with whose consent to what.
#[derive(Debug)]
pub struct Order {
    /// What is fetched.
    pub remote: Remote,
    /// Who the user is to the registry.
    pub credentials: Credentials,
    /// What the user has consented to.
    pub privileges: Vec<Privilege>,
}

/// Where an installed plugin is from.
pub(super) struct Source {
    /// As dockerd shows it.
    pub(super) reference: String,
    /// The repository, if it was a registry's.
    pub(super) origin: Option<String>,
}

pub(super) async fn pull(
    inner: &Arc<Inner>,
    name: Reference,
    order: Order,
    report: &Report,
) -> Result<PluginId> {
    let familiar = name.familiar();
    let taken = |_| Error::NameTaken { name: familiar.clone() };
    let reserved = inner.shelf.reserve(&familiar).map_err(taken)?;
    inner.former.check_free(inner, &familiar).await?;
    let id = PluginId::random()?;
    let reference = order.remote.reference().clone();
    let result = async {
        let fetched = fetch_into(inner, &id, order, report).await?;
        let source = Source { reference: reference.to_string(), origin: Some(reference.name()) };
        install(inner, &id, name, source, fetched, reserved).await
    }
    .await;
    match result {
        Ok(()) => {
            tell(inner, &reference, &familiar);
            tracing::info!(plugin = familiar, %id, %reference, "pulled");
            Ok(id)
        }
        Err(error) => {
            collect::remains(inner, &id).await;
            Err(error)
        }
    }
}

/// Fetches a plugin into the directory of `id`, which has none yet.
pub(super) async fn fetch_into(
    inner: &Arc<Inner>,
    id: &PluginId,
    order: Order,
    report: &Report,
) -> Result<Fetched> {
    let Order { remote, credentials, privileges } = order;
    let asking = async {
        let session = fetch::session(inner, remote.reference(), credentials, Access::Pull).await?;
        let described = describe::describe(&session, &remote, Some(report)).await?;
        Ok::<_, Error>((session, described))
    };
    let (session, described) = tokio::select! {
        biased;
        () = report.abandoned() => return Err(Error::Abandoned),
        asked = asking => asked?,
    };
    let granted = privilege::check(&described.config, &privileges).map_err(Error::Privileges)?;
    let rootfs = {
        let (inner, id) = (Arc::clone(inner), id.clone());
        blocking(move || directories::create(&inner.parts, &id)).await?
    };
    fetch::fetch(inner, Some(&session), described, granted, rootfs, report).await
}

/// Makes a plugin of what was fetched. It is durable when this returns.
pub(super) async fn install(
    inner: &Arc<Inner>,
    id: &PluginId,
    name: Reference,
    source: Source,
    fetched: Fetched,
    reserved: Reserved,
) -> Result<()> {
    let record = Record {
        name,
        reference: source.reference,
        origin: source.origin,
        enabled: false,
        start_deadline_s: 0,
        config: fetched.config_blob.digest,
        manifest: fetched.manifest_blob.digest,
        layers: fetched.layers.clone(),
        settings: Settings::initial(&fetched.config),
        resources: Resources::default(),
        created: Timestamp::now(),
    };
    let plugin = Plugin::new(id.clone(), record.clone(), fetched.config.clone());
    inner.former.commit_new(inner, &plugin, record).await?;
    inner.shelf.add(Arc::new(plugin), reserved);
    // The pins go here, after the record can be seen.
    drop(fetched);
    Ok(())
}

/// dockerd's event of a pull and of an upgrade: its actor is not the plugin, but what was fetched.
pub(super) fn tell(inner: &Inner, reference: &Reference, name: &str) {
    inner.parts.events.publish(Event::new(Type::Plugin, "pull", reference.familiar()).with("name", name));
}
