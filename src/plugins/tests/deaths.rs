//! A plugin that dies again and again, with hardly a pause.

use super::*;

/// How often it dies.
const DEATHS: u32 = 100;

#[tokio::test]
async fn a_plugin_that_dies_on_and_on_leaves_nothing_behind() {
    let mut ground = Ground::new();
    ground.backoff = Backoff { min: Duration::from_millis(1), max: Duration::from_millis(1) };
    let plugins = ground.open();
    create(&plugins, "tiny", tiny("")).await.unwrap();
    plugins.enable("tiny", Duration::ZERO).await.unwrap();
    let first = plugins.inspect("tiny").unwrap().observed;
    let tree = || {
        let list = |path: &Path| {
            let mut names: Vec<_> =
                fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        let (data, exec) = (ground.data().plugins(), ground.exec());
        let id = &list(&data)[0];
        [list(&data.join(id)), list(&exec.plugins().join(id)), list(&exec.runtime())]
    };
    let (before, mounts) = (tree(), mounted_below(&ground.path("")).len());

    // From now on it dies at once.
    let plugin = plugins.0.shelf.find("tiny").unwrap();
    let mut record = plugin.record();
    record.settings.env = vec!["MODE=exit=3".to_owned()];
    plugin.try_on(record.clone(), plugin.config());
    kill(Pid::from_raw(first.pid.unwrap()), Signal::SIGKILL).unwrap();
    let state = observed(&plugins, "tiny", |state| state.restarts >= DEATHS).await;
    assert_eq!(state.exit_code, Some(3));
    assert!(state.error.unwrap().contains("exited with code 3"));
    let deaths = ground.events.recent().iter().filter(|event| event.action == "die").count();
    assert!(deaths > 1, "{deaths}");

    // Cured, it is as if nothing had been.
    record.settings.env.clear();
    plugin.try_on(record, plugin.config());
    let last = observed(&plugins, "tiny", |state| state.status == Status::Running).await;
    assert_eq!((tree(), mounted_below(&ground.path("")).len()), (before, mounts));
    assert_eq!(last.error, None);
    plugins.remove("tiny", true).await.unwrap();
    assert!(!lives(last.pid.unwrap()));
    assert!(ground.is_empty());
    assert_eq!(fs::read_dir(ground.exec().runtime()).unwrap().count(), 0);
}
