//! The manager with real files, a real runtime and a real plugin.

mod deaths;
mod distribution;
mod ground;

use std::fs;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tokio::io::AsyncWriteExt;

use super::*;
use crate::drivers::LIST_DEADLINE;
use crate::error::{Classified, Kind, chain};
use ground::{Ground, archive, context, create, lives, mounted_below, observed, tiny};

fn text<T: fmt::Debug>(result: Result<T>) -> String {
    chain(&result.unwrap_err())
}

fn actions(ground: &Ground) -> Vec<String> {
    ground.events.recent().iter().map(|e| format!("{} {}", e.action, e.attributes["name"])).collect()
}

#[tokio::test]
async fn a_plugin_that_was_made_is_there_after_a_restart_and_leaves_nothing_when_removed() {
    let ground = Ground::new();
    let plugins = ground.open();
    let id = create(&plugins, "tiny", tiny("")).await.unwrap();
    plugins.set("tiny", vec!["MODE=x".to_owned()], false).await.unwrap();
    let before = plugins.inspect("tiny").unwrap();
    assert_eq!((before.name.as_str(), before.plugin_reference.as_str()), ("tiny:latest", "tiny:latest"));
    assert_eq!(before.settings.env, ["MODE=x"]);
    assert_eq!(before.config.docker_version, "0.0.0-test");
    assert_eq!(before.config.rootfs.as_ref().unwrap().diff_ids.len(), 1);
    drop(plugins);
    let plugins = ground.open();
    let after = plugins.inspect(&id).unwrap();
    assert_eq!((&after.id, &after.name, after.enabled), (&id, &before.name, false));
    assert_eq!((&after.config, &after.settings), (&before.config, &before.settings));
    assert_eq!(plugins.list(&Filter::default()).len(), 1);
    assert_eq!(plugins.remove("tiny", false).await.unwrap().id, id);
    assert!(plugins.list(&Filter::default()).is_empty());
    assert!(ground.is_empty());
    assert_eq!(actions(&ground), ["create tiny:latest", "remove tiny"]);
}

#[tokio::test]
async fn the_same_content_may_have_two_names_and_a_name_only_one_plugin() {
    let ground = Ground::new();
    let plugins = ground.open();
    create(&plugins, "one", tiny("")).await.unwrap();
    create(&plugins, "two", tiny("")).await.unwrap();
    for name in ["one", "library/one", "docker.io/one:latest"] {
        assert_eq!(text(create(&plugins, name, tiny("")).await), "plugin one:latest already exists");
    }
    plugins.remove("one", false).await.unwrap();
    let two = plugins.0.shelf.find("two").unwrap().record();
    for blob in two.blobs() {
        assert!(plugins.0.parts.content.contains(&blob), "{blob}");
    }
    let digest = format!("three@sha256:{}", "0".repeat(64));
    assert_eq!(text(create(&plugins, &digest, tiny("")).await), "canonical references are not permitted");
}

#[tokio::test]
async fn a_name_is_taken_while_its_plugin_is_being_made() {
    let ground = Ground::new();
    let plugins = ground.open();
    let (mut sender, receiver) = tokio::io::duplex(1024);
    let first = tokio::spawn({
        let plugins = plugins.clone();
        async move { plugins.create("tiny".parse().unwrap(), receiver).await }
    });
    // More than the pipe holds: the first one is reading when this returns.
    sender.write_all(&[0; 1025]).await.unwrap();
    assert_eq!(text(create(&plugins, "tiny", tiny("")).await), "plugin tiny:latest already exists");
    drop(sender);
    assert_eq!(first.await.unwrap().unwrap_err().kind(), Kind::Invalid);
    create(&plugins, "tiny", tiny("")).await.unwrap();
}

#[tokio::test]
async fn a_context_that_is_refused_leaves_nothing() {
    let ground = Ground::new();
    let plugins = ground.open();
    let good = tiny("");
    let config = |json: &[u8]| archive(&[("config.json", json), ("rootfs/a", b"a")]);
    let cases = [
        (Vec::new(), "no rootfs found: EOF"),
        (archive(&[("rootfs/a", b"a")]), "config not found"),
        (good[..good.len() / 2].to_vec(), "failed to read \"rootfs/tiny\": unexpected EOF: "),
        (config(b"{nope"), "failed to parse config: "),
        (
            config(br#"{"linux":[]}"#),
            "failed to parse config: json: cannot unmarshal array into Go struct field",
        ),
        (config(b"{}"), "config.json: entrypoint: got nothing"),
    ];
    for (context, expected) in cases {
        let error = create(&plugins, "bad", context).await.unwrap_err();
        assert!(chain(&error).contains(expected), "{}, expected {expected}", chain(&error));
        assert_eq!(error.kind(), Kind::Invalid, "{error}");
        assert!(ground.is_empty(), "{expected}");
    }
    assert!(plugins.list(&Filter::default()).is_empty());
}

#[tokio::test]
async fn what_a_crash_has_left_is_swept_and_what_is_not_ours_is_not() {
    let ground = Ground::new();
    let (id, other) = (PluginId::random().unwrap(), PluginId::random().unwrap());
    let all = ground.data().plugins();
    fs::create_dir_all(all.join(id.as_str()).join("rootfs/deep/er")).unwrap();
    fs::create_dir_all(all.join(format!("{other}-removing/rootfs"))).unwrap();
    fs::create_dir_all(all.join("lost+found")).unwrap();
    let kept = create(&ground.open(), "tiny", tiny("")).await.unwrap();
    ground.open();
    let mut names: Vec<_> = fs::read_dir(all).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, [kept.as_str(), "lost+found"]);
}

#[tokio::test]
async fn a_plugin_that_cannot_be_read_is_left_alone() {
    let ground = Ground::new();
    let plugins = ground.open();
    let id = create(&plugins, "tiny", tiny("")).await.unwrap();
    let record = plugins.0.shelf.find("tiny").unwrap().record();
    let blob = ground.data().content().join("blobs/sha256").join(record.config.hex());
    let content = fs::read(&blob).unwrap();
    fs::write(&blob, b"{}").unwrap();
    fs::create_dir_all(ground.exec().plugin(&id).sockets()).unwrap();
    let plugins = ground.open();
    restore::end_strangers(Arc::clone(&plugins.0)).await;
    assert!(plugins.list(&Filter::default()).is_empty());
    assert_eq!(text(create(&plugins, "tiny", tiny("")).await), "plugin tiny:latest already exists");
    assert!(ground.data().plugin(&id).rootfs().join("tiny").is_file());
    fs::write(&blob, content).unwrap();
    assert_eq!(ground.open().inspect("tiny").unwrap().id, id);
}

/// An enable of `tiny` that waits, its process running.
async fn being_enabled(plugins: &Plugins) -> (tokio::task::JoinHandle<Result<()>>, State) {
    let enabling = tokio::spawn({
        let plugins = plugins.clone();
        async move { plugins.enable("tiny", Duration::from_mins(30)).await }
    });
    let state = observed(plugins, "tiny", |state| state.pid.is_some()).await;
    (enabling, state)
}

#[tokio::test]
async fn the_daemons_end_interrupts_an_enable() {
    let ground = Ground::new();
    let plugins = ground.open();
    create(&plugins, "tiny", tiny("silent")).await.unwrap();
    let (enabling, state) = being_enabled(&plugins).await;
    plugins.shutdown().await;
    let expected = "dockplugd is shutting down and starts no plugin";
    assert_eq!(text(enabling.await.unwrap()), expected);
    assert!(!lives(state.pid.unwrap()));
    assert_eq!(text(plugins.enable("tiny", Duration::ZERO).await), expected);
}

#[tokio::test]
async fn a_plugin_is_enabled_once_and_disabled_once() {
    let ground = Ground::new();
    let plugins = ground.open();
    create(&plugins, "tiny", tiny("")).await.unwrap();
    assert!(chain(&ground.drivers.lookup("tiny").unwrap_err()).contains("plugin tiny found but disabled"));
    plugins.enable("tiny", Duration::ZERO).await.unwrap();
    let view = plugins.inspect("tiny").unwrap();
    assert!(view.enabled && view.observed.status == Status::Running, "{view:?}");
    let pid = view.observed.pid.unwrap();
    assert!(lives(pid));
    assert!(ground.drivers.lookup("tiny").unwrap().list(LIST_DEADLINE).await.unwrap().is_empty());

    let refused = [
        (
            plugins.enable("tiny", Duration::ZERO).await,
            "plugin already enabled: plugin tiny:latest is enabled",
        ),
        (
            plugins.set("tiny", vec![], false).await,
            "cannot set on an active plugin, disable plugin before setting",
        ),
        (plugins.remove("tiny", false).await.map(drop), "plugin tiny:latest is enabled"),
    ];
    for (result, expected) in refused {
        let error = result.unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (Kind::Conflict, expected));
    }

    let lease = ground.drivers.lease("tiny:latest");
    assert_eq!(text(plugins.disable("tiny", false).await), "plugin tiny:latest is in use");
    assert_eq!(text(plugins.remove("tiny", false).await), "plugin tiny:latest is in use");
    drop(lease);
    plugins.disable("tiny", false).await.unwrap();
    assert!(!lives(pid));
    let view = plugins.inspect("tiny").unwrap();
    assert_eq!(
        (view.enabled, view.observed.status, view.observed.exit_code),
        (false, Status::Stopped, Some(0))
    );
    let again = "plugin is already disabled: plugin tiny:latest found but disabled";
    assert_eq!(text(plugins.disable("tiny", true).await), again);
    assert_eq!(fs::read_dir(ground.exec().plugins()).unwrap().count(), 0);
    let told = ["create tiny:latest", "start tiny:latest", "enable tiny", "die tiny:latest", "disable tiny"];
    assert_eq!(actions(&ground), told);
}

#[tokio::test]
async fn force_removes_an_enabled_plugin_that_volumes_lean_on() {
    let ground = Ground::new();
    let plugins = ground.open();
    create(&plugins, "tiny", tiny("")).await.unwrap();
    plugins.enable("tiny", Duration::ZERO).await.unwrap();
    let pid = plugins.inspect("tiny").unwrap().observed.pid.unwrap();
    let _lease = ground.drivers.lease("tiny:latest");
    assert!(plugins.remove("tiny", true).await.unwrap().enabled);
    assert!(!lives(pid) && ground.is_empty());
    assert!(chain(&ground.drivers.lookup("tiny").unwrap_err()).contains("plugin \"tiny\" not found"));
    for result in [plugins.disable("tiny", true).await, plugins.remove("tiny", true).await.map(drop)] {
        assert_eq!(text(result), "plugin \"tiny\" not found");
    }
}

#[tokio::test]
async fn a_plugin_that_dies_or_does_not_listen_says_why_and_stays_disabled() {
    let ground = Ground::new();
    let plugins = ground.open();
    let fixed = |name: &str, value: serde_json::Value| context(&json!({ name: value }));
    let missing = json!([{"name": "m", "source": "/no/such", "destination": "/m", "type": "bind"}]);
    let cases = [
        (
            tiny("exit=3"),
            "plugin sick:latest exited with code 3 before it listened on its socket \"tiny.sock\"; its last words: ",
        ),
        (tiny("silent"), "plugin sick:latest did not listen on its socket \"tiny.sock\" within 1 s"),
        (tiny("link=/run/docker.sock"), "tiny.sock"),
        (fixed("entrypoint", json!(["/nope"])), "/nope"),
        (fixed("mounts", missing), "mount \"m\": its source /no/such does not exist on this host: create it"),
        (fixed("linux", json!({"devices": [{"path": "/dev/nope"}]})), "adding custom device \"/dev/nope\""),
    ];
    for (context, expected) in cases {
        create(&plugins, "sick", context).await.unwrap();
        let error = plugins.enable("sick", Duration::from_secs(1)).await.unwrap_err();
        assert!(chain(&error).contains(expected), "{}, expected {expected}", chain(&error));
        assert_eq!(error.kind(), Kind::Internal);
        let view = plugins.inspect("sick").unwrap();
        assert_eq!((view.enabled, view.observed.status, view.observed.pid), (false, Status::Failed, None));
        assert_eq!(view.observed.error, Some(chain(&error)));
        assert_eq!(fs::read_dir(ground.exec().plugins()).map_or(0, Iterator::count), 0, "{expected}");
        plugins.remove("sick", false).await.unwrap();
        assert!(ground.is_empty(), "{expected}");
    }
}

#[tokio::test]
async fn force_ends_an_enable_that_waits_for_ever() {
    let ground = Ground::new();
    let plugins = ground.open();
    create(&plugins, "tiny", tiny("silent")).await.unwrap();
    let (enabling, state) = being_enabled(&plugins).await;
    assert_eq!(state.status, Status::Starting);
    assert!(!plugins.inspect("tiny").unwrap().enabled);
    plugins.remove("tiny", true).await.unwrap();
    assert_eq!(text(enabling.await.unwrap()), "plugin tiny:latest was stopped before it listened");
    assert!(!lives(state.pid.unwrap()) && ground.is_empty());
}

#[tokio::test]
async fn a_plugin_that_dies_is_started_again() {
    let ground = Ground::new();
    let plugins = ground.open();
    create(&plugins, "tiny", tiny("")).await.unwrap();
    plugins.enable("tiny", Duration::ZERO).await.unwrap();
    let first = plugins.inspect("tiny").unwrap().observed.pid.unwrap();
    kill(Pid::from_raw(first), Signal::SIGKILL).unwrap();
    let state = observed(&plugins, "tiny", |s| s.restarts == 1 && s.status == Status::Running).await;
    assert_ne!(state.pid.unwrap(), first);
    assert_eq!(state.exit_code, Some(128 + 9));
    assert!(ground.drivers.lookup("tiny").unwrap().list(LIST_DEADLINE).await.unwrap().is_empty());
    assert!(plugins.inspect("tiny").unwrap().enabled);
}

#[tokio::test]
async fn plugins_outlive_the_daemon_and_are_found_again() {
    let ground = Ground::new();
    let plugins = ground.open();
    create(&plugins, "tiny", tiny("")).await.unwrap();
    plugins.enable("tiny", Duration::ZERO).await.unwrap();
    let pid = plugins.inspect("tiny").unwrap().observed.pid;
    plugins.shutdown().await;
    assert_eq!(
        text(plugins.enable("tiny", Duration::ZERO).await),
        "plugin already enabled: plugin tiny:latest is enabled"
    );
    let plugins = ground.open();
    plugins.restore();
    assert_eq!(ground.drivers.names(), ["tiny:latest"]);
    let state = observed(&plugins, "tiny", |state| state.status == Status::Running).await;
    assert_eq!((state.pid, state.restarts), (pid, 0));
    plugins.disable("tiny", false).await.unwrap();
    assert!(!lives(pid.unwrap()));
}

#[tokio::test]
async fn without_live_restore_plugins_end_with_the_daemon_and_start_with_the_next() {
    let ground = Ground::new().without_live_restore();
    let plugins = ground.open();
    create(&plugins, "tiny", tiny("")).await.unwrap();
    plugins.enable("tiny", Duration::ZERO).await.unwrap();
    let pid = plugins.inspect("tiny").unwrap().observed.pid.unwrap();
    plugins.shutdown().await;
    assert!(!lives(pid));
    assert!(plugins.inspect("tiny").unwrap().enabled);
    let plugins = ground.open();
    plugins.restore();
    let state = observed(&plugins, "tiny", |state| state.status == Status::Running).await;
    assert_ne!(state.pid.unwrap(), pid);
}

#[tokio::test]
async fn an_enabled_plugin_that_cannot_start_at_boot_is_tried_again_until_it_can() {
    let ground = Ground::new().without_live_restore();
    let source = ground.path("source");
    fs::create_dir(&source).unwrap();
    let plugins = ground.open();
    let mounts = json!([{"name": "m", "source": source, "destination": "/m", "type": "bind"}]);
    create(&plugins, "tiny", context(&json!({ "mounts": mounts }))).await.unwrap();
    plugins.enable("tiny", Duration::ZERO).await.unwrap();
    plugins.shutdown().await;
    fs::remove_dir(&source).unwrap();

    let plugins = ground.open();
    plugins.restore();
    let state = observed(&plugins, "tiny", |s| s.status == Status::BackingOff && s.restarts >= 1).await;
    assert!(state.error.unwrap().contains("does not exist on this host"));
    assert!(plugins.inspect("tiny").unwrap().enabled, "never silently disabled");
    fs::create_dir(&source).unwrap();
    let state = observed(&plugins, "tiny", |state| state.status == Status::Running).await;
    assert_eq!(state.error, None);

    fs::remove_dir(&source).unwrap();
    kill(Pid::from_raw(state.pid.unwrap()), Signal::SIGKILL).unwrap();
    observed(&plugins, "tiny", |state| state.status == Status::BackingOff).await;
    plugins.disable("tiny", false).await.unwrap();
    assert_eq!(plugins.inspect("tiny").unwrap().observed.status, Status::Stopped);
}

#[tokio::test]
async fn a_process_that_no_enabled_plugin_has_is_ended_at_boot() {
    let ground = Ground::new();
    let plugins = ground.open();
    create(&plugins, "tiny", tiny("")).await.unwrap();
    let plugin = plugins.0.shelf.find("tiny").unwrap();
    // As if the daemon was killed just before the record was written.
    let process = launch::launch(&plugins.0, &plugin, START_DEADLINE, launch::Leftover::End).await.unwrap();
    let plugins = ground.open();
    plugins.restore();
    tokio::time::timeout(ground::PATIENCE, process.wait()).await.unwrap();
    assert!(!plugins.inspect("tiny").unwrap().enabled);
    plugins.enable("tiny", Duration::ZERO).await.unwrap();
    plugins.disable("tiny", false).await.unwrap();
}

#[tokio::test]
async fn what_was_mounted_below_a_plugin_goes_with_it_and_nothing_else() {
    let ground = Ground::new();
    let plugins = ground.open();
    let id = create(&plugins, "tiny", tiny("")).await.unwrap();
    plugins.enable("tiny", Duration::ZERO).await.unwrap();
    let propagated = ground.data().plugin(&id).propagated_mount();
    let beside = ground.path("beside");
    let mounts = |path: &Path| mounted_below(path).len();
    for place in
        [propagated.join("a b"), propagated.join("a b/deeper"), propagated.join("a b"), beside.clone()]
    {
        fs::create_dir_all(&place).unwrap();
        let none: Option<&str> = None;
        nix::mount::mount(none, &place, Some("tmpfs"), nix::mount::MsFlags::empty(), none).unwrap();
    }
    assert_eq!(mounts(&propagated), 4);
    plugins.disable("tiny", false).await.unwrap();
    assert_eq!((mounts(&propagated), mounts(&beside)), (0, 1));
    plugins.remove("tiny", false).await.unwrap();
    assert!(ground.is_empty());
}
