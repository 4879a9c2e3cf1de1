//! The driver against small plugins of its own: what it sends, what it believes, what it refuses.

use std::time::Duration;

use serde_json::json;

use super::super::testing::{Call, FakePlugin, Reply};
use super::super::{
    ANSWER_MAX_BYTES, Calls, Drivers, LIST_ANSWER_MAX_BYTES, Outcome, Presence, TIMEOUTS_TO_OPEN,
};
use super::*;

/// How long lists wait.
const PATIENCE: Duration = Duration::from_mins(1);

struct Rig {
    plugin: FakePlugin,
    drivers: Drivers,
    driver: Arc<Driver>,
    directory: tempfile::TempDir,
}

fn rig_with(deadlines: Deadlines, reply: impl Fn(&Call) -> Reply + Send + Sync + 'static) -> Rig {
    let directory = tempfile::tempdir().unwrap();
    let plugin = FakePlugin::start(directory.path(), reply);
    let drivers = Drivers::with_deadlines(deadlines);
    drivers.register(plugin.registration("fake:latest"));
    let driver = drivers.lookup("fake").unwrap();
    Rig { plugin, drivers, driver, directory }
}

fn rig(reply: impl Fn(&Call) -> Reply + Send + Sync + 'static) -> Rig {
    rig_with(Deadlines::default(), reply)
}

#[tokio::test]
async fn a_request_is_dockerds_to_the_header() {
    let rig = rig(|_| Reply::ok(json!({})));
    let options = BTreeMap::from([("size".to_owned(), "1".to_owned())]);
    rig.driver.create("v", Some(&options)).await.unwrap();
    rig.driver.create("w", None).await.unwrap();
    rig.driver.unmount("v", "id").await.unwrap();
    rig.driver.list(PATIENCE).await.unwrap();
    let calls = rig.plugin.calls();
    let bodies: Vec<_> = calls.iter().map(|call| call.body.as_str()).collect();
    assert_eq!(
        bodies,
        [
            "{\"Name\":\"v\",\"Opts\":{\"size\":\"1\"}}\n",
            "{\"Name\":\"w\",\"Opts\":null}\n",
            "{\"Name\":\"v\",\"ID\":\"id\"}\n",
            "{}\n"
        ]
    );
    let headers = &calls[0].headers;
    assert_eq!(headers["host"], "plugin.moby.localhost");
    assert_eq!(headers["accept"], "application/vnd.docker.plugins.v1.2+json");
    assert_eq!(headers["content-length"], bodies[0].len().to_string());
    assert_eq!(headers.len(), 3, "{headers:?}");
}

#[tokio::test]
async fn answers_become_values_of_the_host() {
    let rig = rig(|call| match call.method.as_str() {
        "Get" => Reply::ok(json!({"Volume": {"Name": "v", "Mountpoint": "/mnt/v", "Status": {"a": [1]}}})),
        "List" => Reply::ok(json!({"Volumes": [
            {"Name": "v", "CreatedAt": "2024-01-02T03:04:05Z"}, {"Name": "v"}, {"Name": ""}, null, {"Name": "w"}
        ]})),
        "Mount" | "Path" => Reply::ok(json!({"Mountpoint": "/mnt/../../etc"})),
        other => panic!("{other}"),
    });
    let found = rig.driver.get("v").await.unwrap().unwrap();
    assert_eq!(found.mountpoint, Some("/d/prop/v".into()));
    assert_eq!(found.status["a"], json!([1]));
    let listed = rig.driver.list(PATIENCE).await.unwrap();
    let names: Vec<_> = listed.iter().map(|found| found.name.as_str()).collect();
    assert_eq!(names, ["v", "w"]);
    assert_eq!(listed[0].created_at.unwrap().to_string(), "2024-01-02T03:04:05Z");
    assert_eq!(rig.driver.mount("v", "id").await.unwrap(), Path::new("/mnt/../../etc"));
    assert_eq!(rig.driver.path("v").await.unwrap(), Some("/d/rootfs/etc".into()));
}

#[tokio::test]
async fn no_is_told_in_dockerds_words() {
    for (reply, text) in [
        (Reply::err("no room"), "no room"),
        (Reply::Json(500, json!({"Err": "no room"})), "VolumeDriver.Create: no room"),
        (Reply::Json(404, json!({"message": "x"})), r#"VolumeDriver.Create: {"message":"x"}"#),
        (Reply::Raw(404, b"404 page not found\n"), "VolumeDriver.Create: 404 page not found\n"),
        (Reply::Raw(502, b""), "VolumeDriver.Create: "),
    ] {
        let rig = rig(move |_| reply.clone());
        let error = rig.driver.create("v", None).await.unwrap_err();
        assert_eq!(error.to_string(), text);
        assert!(error.is_answer());
    }
}

#[tokio::test]
async fn nonsense_is_an_error_and_no_answer() {
    for reply in [
        Reply::Raw(200, b""),
        Reply::Raw(200, b"<html>"),
        Reply::Raw(200, b"\x00\xff"),
        Reply::ok(json!([])),
        Reply::ok(json!({"Err": 1})),
        Reply::ok(json!({"Volume": {"Name": "another"}})),
        Reply::ok(json!({"Volume": {"Name": "v", "Mountpoint": 3}})),
    ] {
        let rig = rig(move |_| reply.clone());
        let error = rig.driver.get("v").await.unwrap_err();
        assert!(matches!(error, Error::Answer { .. }) && !error.is_answer(), "{error}");
    }
    let rig = rig(|_| Reply::ok(json!({})));
    assert!(matches!(rig.driver.mount("v", "id").await, Err(Error::Answer { .. })));
    assert_eq!(rig.driver.get("v").await.unwrap(), None);
    assert_eq!(rig.driver.path("v").await.unwrap(), None);
}

#[tokio::test]
async fn a_huge_answer_is_cut_off() {
    const GIB: usize = 1 << 30;
    let rig = rig(|_| Reply::Huge(GIB));
    for (limit, error) in [
        (ANSWER_MAX_BYTES, rig.driver.create("v", None).await.unwrap_err()),
        (LIST_ANSWER_MAX_BYTES, rig.driver.list(PATIENCE).await.unwrap_err()),
    ] {
        assert!(matches!(error, Error::TooLarge { limit_bytes, .. } if limit_bytes == limit), "{error}");
    }
}

#[tokio::test]
async fn a_plugin_that_hangs_is_given_up() {
    let short = Deadlines {
        mount: Duration::from_millis(20),
        get: Duration::from_millis(10),
        ..Deadlines::default()
    };
    let rig = rig_with(short, |_| Reply::Hang);
    let error = rig.driver.get("v").await.unwrap_err();
    assert_eq!(error.to_string(), "VolumeDriver.Get: plugin fake:latest did not answer within 0.01 s");
    let error = rig.driver.mount("v", "id").await.unwrap_err();
    assert_eq!(error.to_string(), "VolumeDriver.Mount: plugin fake:latest did not answer within 0.02 s");
}

#[tokio::test]
async fn a_plugin_that_was_started_again_is_not_noticed_by_readers() {
    let rig = rig(|_| Reply::ok(json!({"Volumes": []})));
    rig.driver.list(PATIENCE).await.unwrap();
    let Rig { plugin, driver, directory, .. } = rig;
    drop(plugin);
    let again = FakePlugin::start(directory.path(), |_| Reply::ok(json!({"Volumes": [{"Name": "new"}]})));
    assert_eq!(driver.list(PATIENCE).await.unwrap()[0].name, "new");
    assert_eq!(again.methods(), ["List"]);
}

#[tokio::test]
async fn only_what_reads_is_sent_twice() {
    let rig = rig(|_| Reply::Close);
    assert!(matches!(rig.driver.list(PATIENCE).await, Err(Error::Broken { .. })));
    assert!(matches!(rig.driver.create("v", None).await, Err(Error::Broken { .. })));
    assert!(matches!(rig.driver.remove("v").await, Err(Error::Broken { .. })));
    assert_eq!(rig.plugin.methods(), ["List", "List", "Create", "Remove"]);
}

#[tokio::test]
async fn a_plugin_that_is_gone_is_told_with_the_cause() {
    let rig = rig(|_| Reply::Hang);
    std::fs::remove_file(rig.directory.path().join("p.sock")).unwrap();
    let error = rig.driver.create("v", None).await.unwrap_err();
    let line = crate::error::chain(&error);
    assert!(line.starts_with("VolumeDriver.Create: connecting to plugin fake:latest: opening /"), "{line}");
    assert!(line.ends_with("p.sock: No such file or directory (os error 2)"), "{line}");
    assert_eq!(rig.drivers.names(), ["fake:latest"]);
}

#[tokio::test]
async fn capabilities_are_asked_once() {
    for (reply, reach) in [
        (Reply::ok(json!({"Capabilities": {"Scope": "Global"}})), Reach::Global),
        (Reply::ok(json!({"Capabilities": {"Scope": "local"}})), Reach::Local),
        (Reply::ok(json!({"Capabilities": {"Scope": "galactic"}})), Reach::Local),
        (Reply::ok(json!({"Capabilities": {}})), Reach::Local),
        (Reply::Raw(404, b"404 page not found"), Reach::Local),
    ] {
        let rig = rig(move |_| reply.clone());
        assert_eq!(rig.driver.capabilities().await, reach);
        assert_eq!(rig.driver.capabilities().await, reach);
        assert_eq!(rig.plugin.methods(), ["Capabilities"]);
    }
}

#[tokio::test]
async fn capabilities_are_asked_again_after_a_broken_connection() {
    let rig = rig(|_| Reply::Close);
    assert_eq!(rig.driver.capabilities().await, Reach::Local);
    drop(rig.plugin);
    let again = |_: &Call| Reply::ok(json!({"Capabilities": {"Scope": "global"}}));
    let _plugin = FakePlugin::start(rig.directory.path(), again);
    assert_eq!(rig.driver.capabilities().await, Reach::Global);
    assert_eq!(rig.driver.known_reach(), Reach::Global);
}

/// How often a call ended in each way, and how often in all: ok, error, timeout, unreachable; durations.
fn ended(calls: &Calls, call: &str) -> ([u64; 4], u64) {
    let (_, tally) = calls.each().find(|(name, _)| *name == call).unwrap();
    assert_eq!(tally.in_flight(), 0, "{call}");
    (Outcome::ALL.map(|outcome| tally.ended(outcome)), tally.durations().count)
}

#[tokio::test]
async fn every_call_is_counted_by_its_outcome() {
    let rig = rig(|call| match call.method.as_str() {
        "Create" => Reply::ok(json!({})),
        "Get" => Reply::ok(json!({"Volume": {"Name": "another"}})),
        "Remove" => Reply::err("in use"),
        _ => Reply::Close,
    });
    rig.driver.create("v", None).await.unwrap();
    rig.driver.get("v").await.unwrap_err();
    rig.driver.remove("v").await.unwrap_err();
    rig.driver.path("v").await.unwrap_err();
    rig.driver.capabilities().await;
    std::fs::remove_file(rig.directory.path().join("p.sock")).unwrap();
    rig.driver.unmount("v", "id").await.unwrap_err();
    let calls = rig.driver.calls();
    for (call, outcomes) in [
        ("Create", [1, 0, 0, 0]),
        ("Get", [0, 1, 0, 0]),
        ("Remove", [0, 1, 0, 0]),
        ("Path", [0, 1, 0, 0]),
        ("Capabilities", [0, 1, 0, 0]),
        ("Unmount", [0, 0, 0, 1]),
    ] {
        assert_eq!(ended(calls, call), (outcomes, 1), "{call}");
    }
    assert_eq!(ended(calls, "List"), ([0; 4], 0));

    let short = Deadlines {
        mount: Duration::from_millis(20),
        get: Duration::from_millis(10),
        ..Deadlines::default()
    };
    let rig = rig_with(short, |_| Reply::Hang);
    rig.driver.mount("v", "id").await.unwrap_err();
    assert_eq!(ended(rig.driver.calls(), "Mount"), ([0, 0, 1, 0], 1));
}

#[tokio::test]
async fn a_call_is_in_flight_until_nobody_waits_for_it() {
    let (asked, mut hears) = tokio::sync::mpsc::unbounded_channel();
    let rig = rig(move |_| {
        asked.send(()).unwrap();
        Reply::Hang
    });
    let calls = Arc::clone(rig.driver.calls());
    let driver = Arc::clone(&rig.driver);
    let waiting = tokio::spawn(async move { driver.list(PATIENCE).await });
    hears.recv().await.unwrap();
    let (_, tally) = calls.each().find(|(name, _)| *name == "List").unwrap();
    assert_eq!((tally.in_flight(), tally.durations().count), (1, 0));
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    assert_eq!(ended(&calls, "List"), ([0, 0, 1, 0], 1));
}

#[tokio::test]
async fn a_plugin_that_is_being_started_is_waited_for_but_not_by_lists() {
    let rig = rig(|_| Reply::ok(json!({})));
    rig.plugin.presence.send_replace(Presence::Starting);
    assert!(!rig.driver.is_here());
    let creating = tokio::spawn({
        let driver = Arc::clone(&rig.driver);
        async move { driver.create("v", None).await }
    });
    let error = rig.driver.list(PATIENCE).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "VolumeDriver.List: plugin fake:latest is starting and does not listen yet"
    );
    assert!(rig.plugin.methods().is_empty() && !creating.is_finished());
    rig.plugin.presence.send_replace(Presence::Here);
    creating.await.unwrap().unwrap();
    assert_eq!(rig.plugin.methods(), ["Create"]);
}

#[tokio::test]
async fn nothing_is_sent_to_a_plugin_that_does_not_come_or_backs_off() {
    use crate::error::{Classified as _, Kind};
    let short = Deadlines { starting: Duration::from_millis(10), ..Deadlines::default() };
    let rig = rig_with(short, |_| Reply::ok(json!({})));
    rig.plugin.presence.send_replace(Presence::Starting);
    let late = rig.driver.create("v", None).await.unwrap_err();
    assert_eq!(
        late.to_string(),
        "VolumeDriver.Create: plugin fake:latest is starting and does not listen yet after 0.01 s"
    );
    let next_try = "2026-11-25T07:00:00.5Z".parse().unwrap();
    let presence = Presence::BackingOff { error: "it exited with code 3".to_owned(), next_try };
    rig.plugin.presence.send_replace(presence);
    let error = rig.driver.get("v").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "VolumeDriver.Get: plugin fake:latest is backing off and is started again at 2026-11-25T07:00:00Z: it exited \
         with code 3"
    );
    assert_eq!((late.kind(), error.kind()), (Kind::Unavailable, Kind::Unavailable));
    assert!(rig.plugin.methods().is_empty());
}

#[tokio::test]
async fn a_plugin_that_hangs_is_left_alone_until_it_is_started_again() {
    use crate::error::{Classified as _, Kind};
    let short = Deadlines { get: Duration::from_millis(1), ..Deadlines::default() };
    let rig = rig_with(short, |_| Reply::Hang);
    for _ in 0..TIMEOUTS_TO_OPEN {
        assert!(matches!(rig.driver.get("v").await, Err(Error::Deadline { .. })));
    }
    let asked = rig.plugin.methods().len();
    let error = rig.driver.mount("v", "id").await.unwrap_err();
    assert!(matches!(error, Error::LeftAlone { .. }) && error.was_not_sent(), "{error:?}");
    assert_eq!(error.kind(), Kind::Unavailable);
    let text = error.to_string();
    assert!(text.starts_with("VolumeDriver.Mount: plugin fake:latest is sent no calls since "), "{text}");
    assert_eq!(rig.plugin.methods().len(), asked, "nothing was sent");
    assert_eq!(rig.driver.breakers(), [("lists", false), ("others", true)]);

    let Rig { plugin, drivers, directory, .. } = rig;
    drop(plugin);
    let again = FakePlugin::start(directory.path(), |_| Reply::ok(json!({})));
    drivers.register(again.registration("fake:latest"));
    let driver = drivers.lookup("fake").unwrap();
    driver.remove("v").await.unwrap();
    assert_eq!(driver.breakers(), [("lists", false), ("others", false)]);
}

#[tokio::test]
async fn lists_that_are_late_open_a_breaker_of_their_own() {
    let rig = rig(|call| if call.method == "List" { Reply::Hang } else { Reply::ok(json!({})) });
    for _ in 0..TIMEOUTS_TO_OPEN {
        let error = rig.driver.list(Duration::from_millis(1)).await.unwrap_err();
        assert!(matches!(error, Error::Deadline { .. }), "{error}");
    }
    assert!(matches!(rig.driver.list(PATIENCE).await, Err(Error::LeftAlone { .. })));
    assert!(matches!(rig.driver.get_within("v", PATIENCE).await, Err(Error::LeftAlone { .. })));
    rig.driver.create("v", None).await.unwrap();
}

#[tokio::test]
async fn what_reads_uses_a_connection_again_and_one_that_was_closed_is_replaced() {
    let rig = rig(|_| Reply::ok(json!({})));
    let connections = || rig.plugin.connections();
    for _ in 0..3 {
        rig.driver.get("v").await.unwrap();
    }
    assert_eq!(connections(), 1);
    for _ in 0..2 {
        rig.driver.remove("v").await.unwrap();
    }
    assert_eq!(connections(), 3, "a change has a connection of its own");
    rig.driver.get("v").await.unwrap();
    assert_eq!(connections(), 3);
    // Another process takes the socket over; the connection that waits is to the first.
    let sockets = rig.plugin.sockets.clone();
    drop(rig.plugin);
    let next = FakePlugin::start(&sockets, |_| Reply::ok(json!({})));
    rig.driver.get("v").await.unwrap();
    assert_eq!((next.methods(), next.connections()), (vec!["Get".to_owned()], 1));
}
