//! bollard: plugins and volumes through its client, its events and its errors.
//!
//! It reads `DOCKER_HOST`; `CLIENTS_REGISTRY` and `CLIENTS_CONTEXT_TAR` name a registry with plugins and a context of one.

use std::collections::HashMap;
use std::env;

use bollard::Docker;
use bollard::body_full;
use bollard::errors::Error;
use bollard::models::{Plugin, PluginPrivilege, VolumeCreateRequest};
use bollard::query_parameters::{
    CreatePluginOptionsBuilder, DataUsageOptions, EnablePluginOptionsBuilder, EventsOptionsBuilder,
    GetPluginPrivilegesOptionsBuilder, InstallPluginOptionsBuilder, ListPluginsOptionsBuilder,
    ListVolumesOptions, ListVolumesOptionsBuilder, PruneVolumesOptionsBuilder, RemovePluginOptionsBuilder,
    RemoveVolumeOptions, UpgradePluginOptionsBuilder,
};
use futures_util::stream::TryStreamExt;

fn docker() -> Docker {
    Docker::connect_with_defaults().unwrap()
}

fn remote(tag: &str) -> String {
    format!("{}/plugins/tiny:{tag}", env::var("CLIENTS_REGISTRY").unwrap())
}

async fn create(docker: &Docker, name: &str) -> Result<(), Error> {
    let tar = std::fs::read(env::var("CLIENTS_CONTEXT_TAR").unwrap()).unwrap();
    let options = CreatePluginOptionsBuilder::default().name(name).build();
    docker.create_plugin(options, body_full(tar.into())).await
}

async fn privileges(docker: &Docker, remote: &str) -> Vec<PluginPrivilege> {
    let options = GetPluginPrivilegesOptionsBuilder::default().remote(remote).build();
    docker.get_plugin_privileges(options).await.unwrap()
}

async fn install(docker: &Docker, name: &str, granted: Vec<PluginPrivilege>) -> Result<(), Error> {
    let options = InstallPluginOptionsBuilder::default().remote(&remote("1")).name(name).build();
    docker.install_plugin(options, granted, None).try_collect::<Vec<_>>().await.map(drop)
}

async fn enable(docker: &Docker, name: &str) -> Result<(), Error> {
    docker.enable_plugin(name, Some(EnablePluginOptionsBuilder::default().timeout(30).build())).await
}

async fn remove(docker: &Docker, name: &str) {
    // It wants the removed plugin as the answer, as Docker's specification has it; no daemon sends one.
    let options = RemovePluginOptionsBuilder::default().force(true).build();
    let _ = docker.remove_plugin(name, Some(options)).await;
    assert_refused(docker.inspect_plugin(name).await, 404, "not found");
}

#[track_caller]
fn assert_refused<T: std::fmt::Debug>(answer: Result<T, Error>, status: u16, words: &str) {
    match answer {
        Err(Error::DockerResponseServerError { status_code, message }) => {
            assert_eq!((status_code, message.contains(words)), (status, true), "{message}");
        }
        other => panic!("expected {status} with {words:?}, got {other:?}"),
    }
}

async fn volumes(docker: &Docker, options: Option<ListVolumesOptions>) -> Vec<String> {
    let listed = docker.list_volumes(options).await.unwrap().volumes.unwrap();
    listed.into_iter().map(|volume| volume.name).collect()
}

fn labelled(label: &str) -> Option<ListVolumesOptions> {
    let filters = HashMap::from([("label", vec![label])]);
    Some(ListVolumesOptionsBuilder::default().filters(&filters).build())
}

fn labels(of: &str) -> Option<HashMap<String, String>> {
    Some(HashMap::from([("test".to_owned(), of.to_owned())]))
}

#[tokio::test]
async fn the_version_is_negotiated_and_the_daemon_tells_of_itself() {
    let docker = docker().negotiate_version().await.unwrap();
    let version = docker.version().await.unwrap();
    assert!(version.api_version.is_some());
    let info = docker.info().await.unwrap();
    assert!(info.plugins.unwrap().volume.unwrap().contains(&"local".to_owned()));
    assert_eq!(docker.ping().await.unwrap(), "OK");
}

#[tokio::test]
async fn a_plugin_is_created_enabled_set_and_removed() {
    let docker = docker();
    create(&docker, "made").await.unwrap();
    enable(&docker, "made").await.unwrap();
    let plugin: Plugin = docker.inspect_plugin("made").await.unwrap();
    assert_eq!((plugin.name.as_str(), plugin.enabled), ("made:latest", true));
    let filters = HashMap::from([("enabled", vec!["true"])]);
    let listed =
        docker.list_plugins(Some(ListPluginsOptionsBuilder::default().filters(&filters).build())).await;
    assert!(listed.unwrap().iter().any(|each| each.name == "made:latest"));
    assert_refused(create(&docker, "made").await, 409, "already exists");
    assert_refused(enable(&docker, "made").await, 409, "already enabled");
    let set = || docker.set_plugin_config("made", vec!["DEBUG=1".to_owned()]);
    assert_refused(set().await, 409, "disable plugin before setting");
    docker.disable_plugin("made", None).await.unwrap();
    set().await.unwrap();
    let plugin = docker.inspect_plugin("made").await.unwrap();
    assert!(plugin.settings.env.contains(&"DEBUG=1".to_owned()));
    remove(&docker, "made").await;
}

#[tokio::test]
async fn a_plugin_is_installed_with_what_it_asks_for_and_upgraded() {
    let docker = docker();
    match install(&docker, "installed", vec![]).await {
        Err(Error::DockerStreamError { error }) => assert!(error.contains("incorrect privileges"), "{error}"),
        other => panic!("{other:?}"),
    }
    install(&docker, "installed", privileges(&docker, &remote("1")).await).await.unwrap();
    let options = UpgradePluginOptionsBuilder::default().remote(&remote("2")).build();
    docker.upgrade_plugin("installed", options, privileges(&docker, &remote("2")).await, None).await.unwrap();
    // It hangs up as soon as the answer begins, and that ends an upgrade, with dockerd too: either version is right.
    let plugin = docker.inspect_plugin("installed").await.unwrap();
    assert!([remote("1"), remote("2")].contains(&plugin.plugin_reference.unwrap()));
    enable(&docker, "installed").await.unwrap();
    remove(&docker, "installed").await;
}

#[tokio::test]
async fn a_push_begins() {
    let docker = docker();
    let name = format!("{}/pushed/by-bollard:latest", env::var("CLIENTS_REGISTRY").unwrap());
    create(&docker, &name).await.unwrap();
    // As with an upgrade, it does not wait for the end.
    docker.push_plugin(&name, None).await.unwrap();
    remove(&docker, &name).await;
    assert_refused(docker.push_plugin(&name, None).await, 404, "not found");
}

#[tokio::test]
async fn a_volume_of_a_plugin_lives() {
    let docker = docker();
    create(&docker, "driver").await.unwrap();
    enable(&docker, "driver").await.unwrap();
    let request = VolumeCreateRequest {
        name: Some("data".into()),
        driver: Some("driver".into()),
        driver_opts: Some(HashMap::from([("size".to_owned(), "1".to_owned())])),
        labels: labels("plugin"),
        ..Default::default()
    };
    docker.create_volume(request).await.unwrap();
    let listed = docker.list_volumes(labelled("test=plugin")).await.unwrap().volumes.unwrap();
    assert_eq!(listed[0].driver, "driver:latest");
    // It takes a status of objects only; this plugin, as others do, tells text, and it passes through.
    match docker.inspect_volume("data").await {
        Err(Error::JsonDataError { message, .. }) => assert!(message.contains("\"here\""), "{message}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(volumes(&docker, labelled("test=plugin")).await, ["data"]);
    assert_refused(docker.disable_plugin("driver", None).await, 409, "in use");
    docker.remove_volume("data", None::<RemoveVolumeOptions>).await.unwrap();
    remove(&docker, "driver").await;
}

#[tokio::test]
async fn volumes_are_listed_and_pruned() {
    let docker = docker();
    let request = |name: &str| VolumeCreateRequest {
        name: Some(name.to_owned()),
        labels: labels("prune"),
        ..Default::default()
    };
    for name in ["prune-1", "prune-2"] {
        docker.create_volume(request(name)).await.unwrap();
    }
    // Its answer has room for what API 1.52 tells, which is more than this version does.
    docker.df(None::<DataUsageOptions>).await.unwrap();
    let filters = HashMap::from([("all", vec!["true"]), ("label", vec!["test=prune"])]);
    let pruned =
        docker.prune_volumes(Some(PruneVolumesOptionsBuilder::default().filters(&filters).build())).await;
    let mut gone = pruned.unwrap().volumes_deleted.unwrap();
    gone.sort();
    assert_eq!(gone, ["prune-1", "prune-2"]);
    assert!(volumes(&docker, labelled("test=prune")).await.is_empty());
}

#[tokio::test]
async fn events_come_as_things_happen() {
    let docker = docker();
    let filters = HashMap::from([("volume", vec!["seen"])]);
    let options = EventsOptionsBuilder::default().since("0").filters(&filters).build();
    let mut events = Box::pin(docker.events(Some(options)));
    let request = VolumeCreateRequest { name: Some("seen".into()), ..Default::default() };
    docker.create_volume(request).await.unwrap();
    docker.remove_volume("seen", None::<RemoveVolumeOptions>).await.unwrap();
    for action in ["create", "destroy"] {
        let event = events.try_next().await.unwrap().unwrap();
        assert_eq!(
            (event.action.as_deref(), event.actor.unwrap().id.as_deref()),
            (Some(action), Some("seen"))
        );
    }
}

#[tokio::test]
async fn errors_carry_status_and_words() {
    let docker = docker();
    assert_refused(docker.inspect_plugin("absent").await, 404, "absent");
    assert_refused(enable(&docker, "absent").await, 404, "absent");
    assert_refused(docker.inspect_volume("absent").await, 404, "no such volume");
    assert_refused(docker.remove_volume("absent", None::<RemoveVolumeOptions>).await, 404, "no such volume");
    let request = VolumeCreateRequest { name: Some("a b".into()), ..Default::default() };
    assert_refused(docker.create_volume(request).await, 400, "includes invalid characters");
    let request = VolumeCreateRequest {
        name: Some("other".into()),
        driver: Some("absent".into()),
        ..Default::default()
    };
    assert_refused(docker.create_volume(request).await, 404, "absent");
}
