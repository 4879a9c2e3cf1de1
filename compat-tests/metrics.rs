//! `--metrics-addr`: what Prometheus reads of plugins, their calls, volumes and requests, while plugins live and die.

use std::thread;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::daemon::Daemon;
use crate::support::openmetrics::{Exposition, ask};
use crate::support::{process, until};

const CALLS: &str = "dockplug_volume_driver_calls_total";
const IN_FLIGHT: &str = "dockplug_volume_driver_calls_in_flight";

/// A daemon that serves metrics on a port of its own, and where.
fn serving() -> Option<(Daemon, String)> {
    let daemon = Daemon::ours_with(&["--metrics-addr=127.0.0.1:0"])?;
    let log = daemon.log();
    let line = log.lines().find(|line| line.contains("metrics listen on")).unwrap();
    let (_, address) = line.split_once("address=").unwrap();
    let address = address.to_owned();
    Some((daemon, address))
}

fn scrape(address: &str) -> Exposition {
    let answer = ask(address, "GET", "/metrics");
    assert_eq!(answer.status, 200, "{}", answer.text());
    Exposition::parse(&answer.text())
}

/// The state that is 1; exactly one is.
fn state(scraped: &Exposition, plugin: &str) -> String {
    let states = scraped.find("dockplug_plugin_state", &[("plugin", plugin)]);
    let mut on = states.iter().filter(|sample| sample.value == "1");
    let state = on.next().unwrap().labels["state"].clone();
    assert!(
        on.next().is_none() && states.iter().all(|s| ["0", "1"].contains(&s.value.as_str())),
        "{states:?}"
    );
    state
}

fn pid(daemon: &Daemon) -> i32 {
    let pid = daemon.http().look("/plugins/tiny/json")["State"]["Pid"].as_i64().unwrap();
    i32::try_from(pid).unwrap()
}

#[test]
fn a_plugins_life_and_calls_are_told_until_it_is_removed() {
    let Some((daemon, address)) = serving() else { return };
    let plugin = ("plugin", "tiny:latest");
    let driver = ("driver", "tiny:latest");
    let created = [driver, ("call", "Create"), ("outcome", "ok")];
    assert!(scrape(&address).find("dockplug_plugin_state", &[plugin]).is_empty());

    daemon.install("tiny", &daemon.tiny());
    let scraped = scrape(&address);
    assert_eq!(state(&scraped, "tiny:latest"), "stopped");
    assert_eq!(scraped.count("dockplug_plugin_enabled", &[plugin]), 0);
    assert!(scraped.find("dockplug_plugin_start_time_seconds", &[plugin]).is_empty());

    assert_eq!(daemon.enable("tiny").status, 200);
    let scraped = scrape(&address);
    assert_eq!(state(&scraped, "tiny:latest"), "running");
    assert_eq!(scraped.count("dockplug_plugin_enabled", &[plugin]), 1);
    assert_eq!(scraped.count("dockplug_plugin_restarts_total", &[plugin]), 0);
    assert_eq!(scraped.count(CALLS, &created), 0);
    let started = scraped.number("dockplug_plugin_start_time_seconds", &[plugin]);

    assert_eq!(daemon.volume(&json!({"Name": "data", "Driver": "tiny"})).status, 201);
    assert_eq!(daemon.volume(&json!({"Name": "mine"})).status, 201);
    let scraped = scrape(&address);
    assert_eq!(scraped.count(CALLS, &created), 1);
    let durations = "dockplug_volume_driver_call_duration_seconds_count";
    assert_eq!(scraped.count(durations, &created[..2]), 1);
    assert_eq!(scraped.count(IN_FLIGHT, &created[..2]), 0);
    for name in ["tiny:latest", "local"] {
        assert_eq!(scraped.count("dockplug_volumes", &[("driver", name)]), 1, "{name}");
    }
    let requests = [("route", "/volumes/create"), ("status", "2xx")];
    assert_eq!(scraped.count("dockplug_http_requests_total", &requests), 2);

    process::send(pid(&daemon), Signal::SIGKILL);
    let scraped = until("it is back", || {
        let scraped = scrape(&address);
        let again = scraped.count("dockplug_plugin_restarts_total", &[plugin]) == 1;
        (again && state(&scraped, "tiny:latest") == "running").then_some(scraped)
    });
    assert!(scraped.number("dockplug_plugin_start_time_seconds", &[plugin]) > started);
    assert_eq!(scraped.count(CALLS, &created), 1, "the numbers go on over a restart");

    assert_eq!(daemon.http().ask("DELETE", "/volumes/data").status, 204);
    assert_eq!(daemon.http().ask("DELETE", "/plugins/tiny?force=1").status, 200);
    let scraped = scrape(&address);
    let left: Vec<_> = scraped
        .samples()
        .iter()
        .filter(|sample| sample.labels.values().any(|v| v.contains("tiny")))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_scrape_does_not_wait_for_a_plugin_that_hangs() {
    let Some((daemon, address)) = serving() else { return };
    daemon.run("tiny", &daemon.tiny().mode("hang=Create"));
    let create = [("driver", "tiny:latest"), ("call", "Create")];
    thread::scope(|scope| {
        let creating = scope.spawn(|| daemon.volume(&json!({"Name": "data", "Driver": "tiny"})));
        until("the plugin is asked", || (scrape(&address).count(IN_FLIGHT, &create) == 1).then_some(()));
        assert!(!creating.is_finished());
        process::send(pid(&daemon), Signal::SIGKILL);
        assert!(creating.join().unwrap().status >= 400);
    });
    let scraped = scrape(&address);
    assert_eq!(scraped.count(IN_FLIGHT, &create), 0);
    let ended = |outcome| scraped.count(CALLS, &[create[0], create[1], ("outcome", outcome)]);
    assert_eq!(["ok", "error", "timeout", "unreachable"].map(ended), [0, 1, 0, 0]);
}

#[test]
fn one_path_is_answered_and_nothing_of_the_api() {
    let Some((mut daemon, address)) = serving() else { return };
    let get = ask(&address, "GET", "/metrics");
    let openmetrics = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!((get.status, get.header("Content-Type")), (200, Some(openmetrics)));
    let build = Exposition::parse(&get.text());
    let version = daemon.http().look("/version")["Version"].as_str().unwrap().to_owned();
    assert_eq!(build.count("dockplug_build_info", &[("version", &version)]), 1);
    let head = ask(&address, "HEAD", "/metrics");
    assert_eq!((head.status, head.header("Content-Type"), head.body.len()), (200, Some(openmetrics), 0));
    assert!(head.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length")));
    for (method, target) in [
        ("POST", "/metrics"),
        ("GET", "/"),
        ("GET", "/_ping"),
        ("GET", "/plugins"),
        ("DELETE", "/plugins/tiny"),
    ] {
        assert_eq!(ask(&address, method, target).status, 404, "{method} {target}");
    }
    assert_eq!(daemon.http().ask("GET", "/metrics").status, 404, "the API's socket has no such route");
    assert_eq!(daemon.stop(), Some(0));
    std::net::TcpStream::connect(&address).unwrap_err();
}
