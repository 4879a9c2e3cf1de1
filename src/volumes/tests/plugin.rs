//! Volumes of plugins, and plugins that behave badly.

use serde_json::json;

use super::*;

/// A plugin that has the volumes of these names, and takes every change.
fn having(names: &'static [&'static str]) -> impl Fn(&Call) -> Reply + Send + Sync + 'static {
    move |call| match call.method.as_str() {
        "Get" if names.contains(&call.name().as_str()) => {
            let status = json!({"size": 5});
            Reply::ok(json!({"Volume": {"Name": call.name(), "Mountpoint": "/mnt/v", "Status": status}}))
        }
        "Get" => Reply::err("no such volume here"),
        "List" => {
            let volumes: Vec<_> = names.iter().map(|name| json!({"Name": name})).collect();
            Reply::ok(json!({"Volumes": volumes}))
        }
        "Capabilities" => Reply::ok(json!({"Capabilities": {"Scope": "global"}})),
        _ => Reply::ok(json!({"Err": ""})),
    }
}

#[tokio::test]
async fn a_plugins_volume_is_made_recorded_and_removed() {
    let mut rig = Rig::new();
    let made = Arc::new(std::sync::Mutex::new(false));
    rig.plug("fake:latest", {
        let made = Arc::clone(&made);
        move |call| {
            match call.method.as_str() {
                "Create" => *made.lock().unwrap() = true,
                "Remove" => *made.lock().unwrap() = false,
                _ => {}
            }
            let names: &[_] = if *made.lock().unwrap() { &["v/1"] } else { &[] };
            having(names)(call)
        }
    });
    let (options, labels) = (texts(&[("size", "1")]), texts(&[("a", "b")]));
    let request = Create {
        name: Some("v/1".to_owned()),
        driver: "fake".to_owned(),
        options: options.clone(),
        labels: labels.clone(),
    };
    let created = rig.volumes.create(request.clone()).await.unwrap();
    assert_eq!((created.driver.as_str(), created.reach), ("fake:latest", Reach::Global));
    assert_eq!(rig.plugins[0].methods(), ["Get", "Create", "Capabilities"]);
    assert_eq!(rig.plugins[0].calls()[1].body, "{\"Name\":\"v/1\",\"Opts\":{\"size\":\"1\"}}\n");
    assert_eq!(rig.told(), [event("create", "v/1", "fake:latest")]);
    assert_eq!(rig.drivers.leases("fake"), 1);
    rig.volumes.create(request).await.unwrap();
    assert_eq!(rig.plugins[0].methods()[3..], ["Get"]);

    let rig = rig.reopened();
    assert_eq!(rig.drivers.leases("fake"), 1);
    let volume = rig.volumes.inspect("v/1").await.unwrap();
    assert_eq!(volume.mountpoint, Some("/d/prop/v".into()));
    assert_eq!((&volume.options, &volume.labels), (&options, &labels));
    assert_eq!(volume.status.as_ref().unwrap()["size"], 5);
    assert_eq!(volume.created_at, created.created_at);
    let listed = rig.list().await;
    assert_eq!((names(&listed), &listed.volumes[0].labels), (vec!["v/1"], &labels));
    assert_eq!(listed.volumes[0].status, None);

    rig.volumes.remove("v/1", false).await.unwrap();
    assert_eq!(rig.told(), [event("destroy", "v/1", "fake:latest")]);
    assert_eq!(rig.drivers.leases("fake"), 0);
    assert_eq!(rig.list().await, Listing::default());
    assert_eq!(rig.reopened().volumes.0.known.find("v/1"), None);
}

#[tokio::test]
async fn what_the_plugin_has_already_is_adopted() {
    let mut rig = Rig::new();
    rig.plug("fake:latest", having(&["old"]));
    let found = rig.volumes.inspect("old").await.unwrap();
    assert_eq!((found.driver.as_str(), found.reach, &found.labels), ("fake:latest", Reach::Global, &None));
    rig.create("old", "fake").await.unwrap();
    assert!(!rig.plugins[0].methods().contains(&"Create".to_owned()));
    assert_eq!(rig.told(), [event("create", "old", "fake:latest")]);
}

#[tokio::test]
async fn a_plugin_that_says_no_is_quoted() {
    for (reply, text) in [
        (Reply::err("no room"), "create v1: no room"),
        (Reply::Raw(404, b"404 page not found\n"), "create v1: VolumeDriver.Create: 404 page not found\n"),
    ] {
        let mut rig = Rig::new();
        rig.plug("fake:latest", move |_| reply.clone());
        let error = rig.create("v1", "fake").await.unwrap_err();
        assert_eq!((chain(&error).as_str(), error.kind()), (text, Kind::Internal));
        assert_eq!(rig.drivers.leases("fake"), 0);
        assert!(rig.told().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn creates_at_once_ask_the_plugin_once() {
    let mut rig = Rig::new();
    let made = Arc::new(std::sync::atomic::AtomicBool::new(false));
    rig.plug("fake:latest", move |call| {
        if call.method == "Create" {
            made.store(true, std::sync::atomic::Ordering::SeqCst);
        }
        let names: &[_] = if made.load(std::sync::atomic::Ordering::SeqCst) { &["v1"] } else { &[] };
        having(names)(call)
    });
    let creates = (0..10).map(|_| rig.create("v1", "fake:latest"));
    assert!(futures_util::future::join_all(creates).await.iter().all(Result::is_ok));
    let asked = rig.plugins[0].methods().into_iter().filter(|method| method == "Create").count();
    assert_eq!((asked, rig.told().len(), rig.drivers.leases("fake")), (1, 1, 1));
}

#[tokio::test]
async fn a_plugin_that_hangs_delays_nobody_else() {
    let mut rig = Rig::new();
    rig.create("local", "").await.unwrap();
    rig.plug("good:latest", having(&["g1"]));
    rig.plug("sick:latest", having(&["s1"]));
    rig.create("s1", "sick").await.unwrap();
    rig.plug("sick:latest", |_| Reply::Hang);
    let hanging = tokio::spawn({
        let volumes = rig.volumes.clone();
        async move { volumes.inspect("s1").await }
    });
    tokio::task::yield_now().await;
    rig.volumes.inspect("local").await.unwrap();
    assert_eq!(rig.volumes.inspect("g1").await.unwrap().driver, "good:latest");
    rig.create("other", "").await.unwrap();
    let listed = rig.list().await;
    assert_eq!(names(&listed), ["g1", "local", "other", "s1"]);
    let [warning] = listed.warnings.as_slice() else { panic!("{:?}", listed.warnings) };
    assert!(warning.starts_with("list sick:latest: the driver did not answer within"), "{warning}");
    let error = rig.volumes.inspect("nope").await.unwrap_err();
    assert_eq!(chain(&error), "get nope: no such volume");
    hanging.abort();
}

#[tokio::test]
async fn a_list_survives_whatever_a_plugin_says() {
    const GIB: usize = 1 << 30;
    for (reply, expected) in [
        (Reply::Raw(200, b"<html>"), "gave an answer that makes no sense: the body is not JSON"),
        (Reply::Huge(GIB), "answered with more than"),
        (Reply::err("out of order"), "list fake:latest: out of order"),
        (Reply::Json(500, json!({"Err": "broken"})), "list fake:latest: VolumeDriver.List: broken"),
        (Reply::Close, "the connection to plugin fake:latest broke"),
    ] {
        // Long enough to take in as much as is allowed of the huge answer.
        let mut rig = Rig::with_list_deadline(Duration::from_mins(1));
        rig.create("local", "").await.unwrap();
        rig.plug("fake:latest", move |call| match call.method.as_str() {
            "List" => reply.clone(),
            _ => having(&["v1"])(call),
        });
        rig.create("v1", "fake").await.unwrap();
        let listed = rig.list().await;
        assert_eq!(names(&listed), ["local", "v1"], "{expected}");
        assert!(listed.warnings.len() == 1 && listed.warnings[0].contains(expected), "{:?}", listed.warnings);
    }
}

#[tokio::test]
async fn a_name_is_listed_once_under_its_owner() {
    let mut rig = Rig::new();
    rig.create("local", "").await.unwrap();
    rig.plug("a:latest", |call| match call.method.as_str() {
        "List" => Reply::ok(json!({"Volumes": [
            {"Name": "local"}, {"Name": "twice"}, {"Name": "twice"}, {"Name": "b1"}, {"Name": "bad\u{1b}"}, null
        ]})),
        _ => having(&[])(call),
    });
    rig.plug("b:latest", having(&["b1", "twice"]));
    rig.create("b1", "b").await.unwrap();
    let listed = rig.list().await;
    let pairs: Vec<_> =
        listed.volumes.iter().map(|volume| (volume.name.as_str(), volume.driver.as_str())).collect();
    assert_eq!(pairs, [("b1", "b:latest"), ("local", "local"), ("twice", "a:latest")]);
    assert!(listed.warnings.is_empty());
    let only_b = Filter { drivers: vec!["b".to_owned()], ..Filter::default() };
    assert_eq!(names(&rig.volumes.list(&only_b).await), ["b1", "twice"]);
}

#[tokio::test]
async fn an_answer_about_another_volume_is_not_believed() {
    let mut rig = Rig::new();
    rig.plug("fake:latest", having(&["v1"]));
    rig.create("v1", "fake").await.unwrap();
    rig.plug("fake:latest", |_| Reply::ok(json!({"Volume": {"Name": "other", "Mountpoint": "/"}})));
    let error = chain(&rig.volumes.inspect("v1").await.unwrap_err());
    assert!(
        error.starts_with(r#"get v1: error while checking if volume "v1" exists in driver "fake:latest": "#)
    );
    assert!(error.ends_with(r#"asked for the volume "v1", got "other""#), "{error}");
}

#[tokio::test]
async fn a_name_of_a_plugin_is_not_given_to_another_driver() {
    let mut rig = Rig::new();
    rig.plug("a:latest", having(&["v1"]));
    rig.plug("b:latest", having(&[]));
    rig.create("v1", "a").await.unwrap();
    for driver in ["local", "b"] {
        let error = rig.create("v1", driver).await.unwrap_err();
        let text = "create v1: driver 'a:latest' already has volume 'v1': volume name must be unique";
        assert_eq!((chain(&error).as_str(), error.kind()), (text, Kind::Conflict));
    }
    assert_eq!(rig.create("v1", "").await.unwrap().driver, "a:latest");
    rig.drivers.unregister("a");
    let error = rig.create("v1", "").await.unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict);
    let text = "create v1: found reference to volume 'v1' in driver 'a:latest', but got an error while checking the \
                driver: error while checking if volume \"v1\" exists in driver \"a:latest\": error looking up volume \
                plugin a:latest: plugin \"a:latest\" not found: volume name must be unique";
    assert_eq!(chain(&error), text);
}

#[tokio::test]
async fn a_volume_the_plugin_has_lost_can_be_made_again_or_cleared_away() {
    let mut rig = Rig::new();
    rig.plug("fake:latest", having(&["v1", "v2", "v3"]));
    for name in ["v1", "v2", "v3"] {
        rig.create(name, "fake").await.unwrap();
    }
    rig.plug("fake:latest", having(&[]));
    assert_eq!(chain(&rig.volumes.inspect("v1").await.unwrap_err()), "get v1: no such volume");
    rig.volumes.0.known.hold("v1", "c1");
    let error = rig.create("v1", "fake").await.unwrap_err();
    assert!(
        chain(&error).contains("but the volume was not found in the driver -- you may need to"),
        "{error}"
    );
    rig.volumes.0.known.release("v1", "c1");
    rig.create("v1", "fake").await.unwrap();
    assert!(rig.plugins[1].methods().contains(&"Create".to_owned()));
    assert_eq!(chain(&rig.volumes.remove("v2", false).await.unwrap_err()), "get v2: no such volume");
    rig.volumes.remove("v3", true).await.unwrap();
    assert_eq!(rig.drivers.leases("fake"), 1);
}

#[tokio::test]
async fn force_forgets_a_volume_whose_driver_is_gone() {
    let mut rig = Rig::new();
    rig.plug("fake:latest", having(&["v1"]));
    rig.create("v1", "fake").await.unwrap();
    rig.drivers.unregister("fake:latest");
    let error = rig.volumes.remove("v1", false).await.unwrap_err();
    let text = "get v1: error while checking if volume \"v1\" exists in driver \"fake:latest\": error looking up \
                volume plugin fake:latest: plugin \"fake:latest\" not found";
    assert_eq!((chain(&error).as_str(), error.kind()), (text, Kind::NotFound));
    rig.volumes.remove("v1", true).await.unwrap();
    assert_eq!(rig.drivers.leases("fake"), 0);
    assert_eq!(rig.reopened().volumes.0.known.find("v1"), None);
}

#[tokio::test]
async fn force_forgets_and_tells_when_the_driver_fails() {
    let mut rig = Rig::new();
    rig.plug("fake:latest", |call| match call.method.as_str() {
        "Remove" => Reply::err("still busy"),
        _ => having(&["v1"])(call),
    });
    rig.create("v1", "fake").await.unwrap();
    for force in [false, true] {
        assert_eq!(rig.drivers.leases("fake"), 1);
        let error = rig.volumes.remove("v1", force).await.unwrap_err();
        assert_eq!(chain(&error), "remove v1: still busy");
    }
    assert_eq!(rig.drivers.leases("fake"), 0);
    assert_eq!(rig.told(), [event("create", "v1", "fake:latest")]);
}

#[tokio::test]
async fn a_volume_only_the_plugin_knows_can_be_removed() {
    let mut rig = Rig::new();
    rig.plug("fake:latest", having(&["v1"]));
    rig.volumes.remove("v1", false).await.unwrap();
    assert_eq!(rig.plugins[0].methods().last().unwrap(), "Remove");
    assert_eq!(rig.told(), [event("destroy", "v1", "fake:latest")]);
}

#[tokio::test]
async fn a_prune_leaves_plugins_alone() {
    let mut rig = Rig::new();
    rig.plug("fake:latest", having(&["v1"]));
    rig.create("v1", "fake").await.unwrap();
    let asked = rig.plugins[0].calls().len();
    let pruned = rig.volumes.prune(&Prune { all: true, ..Prune::default() }).await.unwrap();
    assert_eq!((pruned, rig.plugins[0].calls().len()), (Pruned::default(), asked));
}
