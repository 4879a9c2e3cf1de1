//! What a scrape tells: the text, for names as bad as they get, and the one path.

use std::collections::BTreeMap;

use axum::body::to_bytes;
use tower::ServiceExt as _;

use super::snapshot::Plugin;
use super::*;
use crate::drivers::testing::{Call, FakePlugin, Reply};
use crate::events::Bus;
use crate::metrics::Answered;
use crate::paths::{DataRoot, ExecRoot};
use crate::plugins::{Parts, State, Status};
use crate::runtime::{Launcher, RuntimeProgram};
use crate::state::Store;
use crate::volumes::Roots;
use crate::{content, layer};

const BUILD: Build = Build { version: "1.2.3", commit: "abc" };
/// Everything that would end a label's value or a line, and what is not ASCII.
const HOSTILE: &str = "a\"} 1\n# EOF\n\\é,x=\"";

fn empty() -> Snapshot {
    Snapshot {
        build: BUILD,
        plugins: Vec::new(),
        calls: Vec::new(),
        breakers: Vec::new(),
        volumes: BTreeMap::new(),
        requests: Vec::new(),
    }
}

/// The samples of one name, without the name.
fn samples<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    text.lines()
        .filter_map(|line| line.strip_prefix(name))
        .filter(|rest| rest.starts_with(['{', ' ']))
        .collect()
}

#[test]
fn a_scrape_of_nothing_describes_everything() {
    let text = text::encode(empty()).unwrap();
    let expected = "\
# HELP dockplug_build Which dockplug this is.
# TYPE dockplug_build info
dockplug_build_info{version=\"1.2.3\",commit=\"abc\"} 1
# HELP dockplug_plugin_enabled Whether the user wants the plugin to run.
# TYPE dockplug_plugin_enabled gauge
# HELP dockplug_plugin_state What the plugin's process does: 1 for the state it is in, 0 for the others.
# TYPE dockplug_plugin_state gauge
# HELP dockplug_plugin_restarts How often the plugin was started again, since it was enabled or the daemon started.
# TYPE dockplug_plugin_restarts counter
# HELP dockplug_plugin_start_time_seconds When the plugin's last process was started, since 1970.
# TYPE dockplug_plugin_start_time_seconds gauge
# UNIT dockplug_plugin_start_time_seconds seconds
# HELP dockplug_volume_driver_calls Calls of volume drivers that have ended, by outcome.
# TYPE dockplug_volume_driver_calls counter
# HELP dockplug_volume_driver_calls_in_flight Calls of volume drivers that have begun and not ended.
# TYPE dockplug_volume_driver_calls_in_flight gauge
# HELP dockplug_volume_driver_call_duration_seconds How long calls of volume drivers took, whatever their outcome.
# TYPE dockplug_volume_driver_call_duration_seconds histogram
# UNIT dockplug_volume_driver_call_duration_seconds seconds
# HELP dockplug_volume_driver_breaker_open Whether the volume driver is sent no calls of this kind at present, because it did not answer them.
# TYPE dockplug_volume_driver_breaker_open gauge
# HELP dockplug_volumes Volumes that are kept, by driver.
# TYPE dockplug_volumes gauge
# HELP dockplug_http_requests Requests of the API that were answered, by route and class of status.
# TYPE dockplug_http_requests counter
# EOF
";
    assert_eq!(text, expected);
}

#[test]
fn hostile_names_stay_within_their_labels() {
    let observed = State {
        status: Status::BackingOff,
        restarts: 7,
        started_at: Some("2024-01-02T03:04:05.25Z".parse().unwrap()),
        ..State::default()
    };
    let text = text::encode(Snapshot {
        plugins: vec![Plugin { name: HOSTILE.to_owned(), enabled: true, observed }],
        breakers: vec![(HOSTILE.to_owned(), [("lists", false), ("others", true)])],
        volumes: BTreeMap::from([(HOSTILE.to_owned(), 3)]),
        requests: vec![Answered { route: "/volumes/{name}", status: "2xx", count: 5 }],
        ..empty()
    })
    .unwrap();
    let escaped = r#""a\"} 1\n# EOF\n\\é,x=\"""#;
    let plugin = |rest: &str| format!("{{plugin={escaped}{rest}");
    assert_eq!(samples(&text, "dockplug_plugin_enabled"), [plugin("} 1")]);
    assert_eq!(samples(&text, "dockplug_plugin_restarts_total"), [plugin("} 7")]);
    assert_eq!(samples(&text, "dockplug_plugin_start_time_seconds"), [plugin("} 1704164645.25")]);
    let state = |state: &str, value: u8| plugin(&format!(",state=\"{state}\"}} {value}"));
    let expected = [
        state("stopped", 0),
        state("starting", 0),
        state("running", 0),
        state("backing off", 1),
        state("stopping", 0),
        state("failed", 0),
    ];
    assert_eq!(samples(&text, "dockplug_plugin_state"), expected);
    let breaker = |calls: &str, open: u8| format!("{{driver={escaped},calls=\"{calls}\"}} {open}");
    let expected = [breaker("lists", 0), breaker("others", 1)];
    assert_eq!(samples(&text, "dockplug_volume_driver_breaker_open"), expected);
    assert_eq!(samples(&text, "dockplug_volumes"), [format!("{{driver={escaped}}} 3")]);
    let requests = [r#"{route="/volumes/{name}",status="2xx"} 5"#];
    assert_eq!(samples(&text, "dockplug_http_requests_total"), requests);
    assert_eq!(text.lines().filter(|line| *line == "# EOF").count(), 1);
    assert!(text.ends_with("\n# EOF\n"));
}

#[tokio::test]
async fn calls_are_told_by_driver_call_and_outcome() {
    let directory = tempfile::tempdir().unwrap();
    let plugin = FakePlugin::start(directory.path(), |call: &Call| match call.method.as_str() {
        "Create" => Reply::err("no room"),
        _ => Reply::ok(serde_json::json!({})),
    });
    let drivers = Drivers::new();
    drivers.register(plugin.registration(HOSTILE));
    let driver = drivers.lookup(HOSTILE).unwrap();
    driver.create("v", None).await.unwrap_err();
    driver.remove("v").await.unwrap();
    let text = text::encode(Snapshot { calls: drivers.calls(), ..empty() }).unwrap();

    let escaped = r#"{driver="a\"} 1\n# EOF\n\\é,x=\"""#;
    let totals = samples(&text, "dockplug_volume_driver_calls_total");
    // Eight calls, four outcomes: also what never happened, so that its first time is seen as an increase.
    assert_eq!(totals.len(), 32);
    let counted: Vec<_> = totals.into_iter().filter(|line| !line.ends_with(" 0")).collect();
    let total = |call: &str, outcome: &str| format!("{escaped},call=\"{call}\",outcome=\"{outcome}\"}} 1");
    assert_eq!(counted, [total("Create", "error"), total("Remove", "ok")]);
    assert_eq!(samples(&text, "dockplug_volume_driver_calls_in_flight").len(), 8);
    let duration = "dockplug_volume_driver_call_duration_seconds";
    let count = |call: &str| format!("{escaped},call=\"{call}\"}} 1");
    assert_eq!(samples(&text, &format!("{duration}_count")), [count("Create"), count("Remove")]);
    let mut last = samples(&text, &format!("{duration}_bucket"));
    last.retain(|line| line.contains(r#"le="+Inf""#));
    assert!(last.len() == 2 && last.iter().all(|line| line.ends_with(" 1")), "{text}");
}

/// The service on real rooms in which there is nothing.
fn service(directory: &std::path::Path) -> Scrape {
    let store = Store::open(&directory.join("state.redb")).unwrap();
    let (events, drivers) = (Bus::new(), Drivers::new());
    let roots = Roots { local: directory.join("volumes"), mounts: directory.join("mounts") };
    let volumes = Volumes::open(store.clone(), drivers.clone(), events.clone(), &roots).unwrap();
    // Nothing is started here, so any program will do.
    let program = RuntimeProgram::find("true", &std::env::var_os("PATH").unwrap()).unwrap();
    let plugins = Plugins::open(Parts {
        data: DataRoot::new(directory.join("data")),
        exec: ExecRoot::new(directory.join("exec")),
        store,
        content: content::Store::open(&directory.join("content")).unwrap(),
        events,
        drivers: drivers.clone(),
        launcher: Launcher::new("/bin/true".into(), Arc::new(program), directory.join("runtime")),
        hosts: Arc::default(),
        backoff: crate::plugins::Backoff::default(),
        live_restore: true,
        seccomp: crate::plugins::spec::seccomp::Profile::Builtin,
        limits: layer::Limits::default(),
        version: String::new(),
    })
    .unwrap();
    Scrape::new(Sources { plugins, volumes, drivers, requests: Arc::new(Requests::new([])), build: BUILD })
}

#[tokio::test]
async fn one_path_is_answered() {
    let directory = tempfile::tempdir().unwrap();
    let service = service(directory.path());
    for (method, uri, status) in [
        ("GET", "/metrics", 200),
        ("GET", "/metrics?name%5B%5D=x", 200),
        ("HEAD", "/metrics", 200),
        ("POST", "/metrics", 404),
        ("OPTIONS", "/metrics", 404),
        ("GET", "/", 404),
        ("GET", "/metrics/", 404),
        ("GET", "/_ping", 404),
    ] {
        let request = Request::builder().method(method).uri(uri).body(Body::empty()).unwrap();
        let response = service.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{method} {uri}");
        let expected = if status == 200 { OPENMETRICS } else { PLAIN };
        assert_eq!(response.headers()[CONTENT_TYPE], expected, "{method} {uri}");
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        assert_eq!(body.ends_with(b"\n# EOF\n"), status == 200, "{method} {uri}");
        assert_eq!(
            std::str::from_utf8(&body).unwrap().contains("dockplug_volumes{driver=\"local\"} 0\n"),
            status == 200
        );
    }
}
