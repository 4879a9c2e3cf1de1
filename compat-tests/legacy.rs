//! Legacy plugins: a real rclone that runs as a service, and plugins on a network that lie.

use std::fs;
use std::net::TcpListener;

use serde_json::{Value, json};

use crate::support::daemon::Daemon;
use crate::support::http::Answer;
use crate::support::legacy::Rclone;
use crate::support::openmetrics::{self, Exposition};
use crate::support::until;
use crate::support::wire::{Reply, Request, Server};

fn act(daemon: &Daemon, verb: &str, volume: &str, reference: &str) -> Answer {
    daemon.http().json("POST", &format!("/volumes/{volume}/{verb}"), &json!({ "Reference": reference }))
}

/// A daemon, and a rclone whose socket it finds.
fn with_rclone() -> Option<(Daemon, Rclone)> {
    let daemon = Daemon::ours()?;
    let rclone = start_rclone(&daemon);
    Some((daemon, rclone))
}

/// A rclone whose socket a daemon finds; the volumes that [`create`] makes are the directory `store`.
fn start_rclone(daemon: &Daemon) -> Rclone {
    fs::create_dir(daemon.legacy()).unwrap();
    fs::create_dir(daemon.place().join("store")).unwrap();
    let socket = daemon.legacy().join("rclone.sock").display().to_string();
    Rclone::start(&daemon.place().join("rclone"), &socket)
}

fn create(daemon: &Daemon, name: &str) -> Answer {
    let options = json!({"type": "local", "path": daemon.place().join("store")});
    daemon.volume(&json!({"Name": name, "Driver": "rclone", "DriverOpts": options}))
}

#[test]
fn a_real_legacy_plugin_is_found_when_it_is_asked_for() {
    let Some((daemon, rclone)) = with_rclone() else { return };
    let docker = daemon.docker();
    let drivers = || daemon.http().look("/info")["Plugins"]["Volume"].clone();
    assert_eq!(drivers(), json!(["local"]), "as dockerd, what nobody has used yet is not told");
    assert_eq!(docker.ok(&["volume", "ls", "-q"]), "");
    assert_eq!(drivers(), json!(["local", "rclone"]), "a list looks for all");
    assert_eq!(create(&daemon, "data").status, 201);
    let shown = daemon.http().look("/volumes/data");
    assert_eq!((&shown["Driver"], &shown["Scope"]), (&json!("rclone"), &json!("local")));
    assert_eq!(shown["Mountpoint"], json!(rclone.volumes().join("data")), "a path of the host");
    for (filter, listed) in [("driver=rclone", "data"), ("driver=local", ""), ("name=data", "data")] {
        assert_eq!(docker.ok(&["volume", "ls", "-q", "--filter", filter]), listed, "{filter}");
    }
    let refused = docker.fails(&["volume", "create", "-d", "rclone:latest", "other"]);
    let message =
        r#"create other: error looking up volume plugin rclone:latest: plugin "rclone:latest" not found"#;
    assert_eq!(refused, message);

    let mounted = act(&daemon, "mount", "data", "r1").json();
    let place = mounted["Mountpoint"].as_str().unwrap();
    assert!(place.starts_with(daemon.exec_root().canonicalize().unwrap().to_str().unwrap()), "{mounted}");
    fs::write(format!("{place}/file"), "text").unwrap();
    assert_eq!(fs::read_to_string(daemon.place().join("store/file")).unwrap(), "text");
    assert_eq!(docker.fails(&["volume", "rm", "data"]), "remove data: volume is in use - [r1]");
    assert_eq!(act(&daemon, "unmount", "data", "r1").status, 204);
    assert_eq!(docker.ok(&["volume", "rm", "data"]), "data");
    assert_eq!(docker.ok(&["volume", "ls", "-q"]), "");
}

#[test]
fn a_legacy_plugin_that_comes_back_is_used_again_and_its_mounts_too() {
    let Some((mut daemon, mut rclone)) = with_rclone() else { return };
    assert_eq!(create(&daemon, "data").status, 201);
    let mounted = act(&daemon, "mount", "data", "r1").json();
    let file = format!("{}/file", mounted["Mountpoint"].as_str().unwrap());
    fs::write(&file, "text").unwrap();
    rclone.kill();
    // Its socket is still there, and nobody listens.
    let listed = daemon.http().look("/volumes");
    assert_eq!(listed["Volumes"][0]["Name"], "data", "what is known of it is told: {listed}");
    assert!(listed["Warnings"][0].as_str().unwrap().starts_with("list rclone: "), "{listed}");
    assert!(create(&daemon, "other").status >= 400);
    fs::remove_file(daemon.legacy().join("rclone.sock")).unwrap();
    let gone = create(&daemon, "other");
    let words = r#"create other: error looking up volume plugin rclone: plugin "rclone" not found"#;
    assert_eq!((gone.status, gone.message().as_str()), (404, words));

    rclone.launch();
    // rclone keeps no path of a volume; as every plugin that forgets, it is told again.
    assert_eq!(daemon.http().ask("GET", "/volumes").status, 200, "this finds it");
    until("its files are there again", || fs::read_to_string(&file).ok().filter(|text| text == "text"));
    daemon.kill();
    rclone.kill();
    rclone.launch();
    daemon.launch();
    until("they are after a restart of both", || {
        fs::read_to_string(&file).ok().filter(|text| text == "text")
    });
    assert_eq!(act(&daemon, "unmount", "data", "r1").status, 204);
    assert_eq!(daemon.http().ask("DELETE", "/volumes/data").status, 204);
}

#[test]
fn events_and_metrics_tell_of_legacy_plugins_as_of_managed_ones() {
    let Some(daemon) = Daemon::ours_with(&["--metrics-addr=127.0.0.1:0"]) else { return };
    let log = daemon.log();
    let line = log.lines().find(|line| line.contains("metrics listen on")).unwrap();
    let (_, address) = line.split_once("address=").unwrap();
    let scrape = || Exposition::parse(&openmetrics::ask(address, "GET", "/metrics").text());
    let driver = ("driver", "rclone");
    assert!(scrape().find("dockplug_volume_driver_calls_total", &[driver]).is_empty(), "nobody has used it");
    let rclone = start_rclone(&daemon);
    assert_eq!(create(&daemon, "data").status, 201);
    assert_eq!(act(&daemon, "mount", "data", "r1").status, 200);
    let created = [driver, ("call", "Create"), ("outcome", "ok")];
    let scraped = scrape();
    assert_eq!(scraped.count("dockplug_volume_driver_calls_total", &created), 1);
    assert_eq!(scraped.count("dockplug_volumes", &[driver]), 1);
    assert_eq!(act(&daemon, "unmount", "data", "r1").status, 204);
    assert_eq!(daemon.http().ask("DELETE", "/volumes/data").status, 204);
    let now = jiff::Timestamp::now();
    let until = format!("{}.{:09}", now.as_second(), now.subsec_nanosecond());
    let events = daemon.http().ask("GET", &format!("/events?since=0&until={until}")).text();
    let events = events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let told: Vec<_> =
        events.map(|event| (event["Action"].clone(), event["Actor"]["Attributes"].clone())).collect();
    let used = json!({"driver": "rclone", "container": "r1"});
    let made = json!({"driver": "rclone"});
    let expected = [("create", &made), ("mount", &used), ("unmount", &used), ("destroy", &made)];
    assert_eq!(told, expected.map(|(action, attributes)| (json!(action), attributes.clone())));
    drop(rclone);
    fs::remove_file(daemon.legacy().join("rclone.sock")).unwrap();
    assert_eq!(daemon.volume(&json!({"Name": "x", "Driver": "rclone"})).status, 404);
    assert!(scrape().find("dockplug_volume_driver_calls_total", &[driver]).is_empty(), "it is not there");
}

#[test]
fn an_address_in_a_file_is_used_over_tcp() {
    let Some(daemon) = Daemon::ours() else { return };
    // Whoever takes the port in between makes this test fail, and does not make it pass.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mut rclone = Rclone::start(&daemon.place().join("rclone"), &address);
    fs::create_dir_all(daemon.legacy().join("json")).unwrap();
    fs::create_dir(daemon.place().join("store")).unwrap();
    fs::write(daemon.legacy().join("plain.spec"), format!("tcp://{address}\n")).unwrap();
    let json = json!({"Name": "ignored", "Addr": format!("http://{address}")});
    fs::write(daemon.legacy().join("json/json.json"), json.to_string()).unwrap();
    for driver in ["plain", "json"] {
        let options = json!({"type": "local", "path": daemon.place().join("store")});
        let made = daemon.volume(&json!({"Name": driver, "Driver": driver, "DriverOpts": options}));
        assert_eq!((made.status, &made.json()["Driver"]), (201, &json!(driver)), "{}", made.text());
        let mounted = act(&daemon, "mount", driver, "r").json();
        fs::write(format!("{}/{driver}", mounted["Mountpoint"].as_str().unwrap()), driver).unwrap();
        assert_eq!(fs::read_to_string(daemon.place().join("store").join(driver)).unwrap(), driver);
        let file = format!("{}/{driver}", mounted["Mountpoint"].as_str().unwrap());
        rclone.kill();
        let listed = daemon.http().look("/volumes");
        assert!(listed["Warnings"][0].as_str().unwrap().starts_with(&format!("list {driver}: ")), "{listed}");
        rclone.launch();
        assert_eq!(
            daemon.http().look("/volumes")["Warnings"],
            Value::Null,
            "the same address, and a new process"
        );
        until("its files are there again", || fs::read_to_string(&file).ok());
        assert_eq!(act(&daemon, "unmount", driver, "r").status, 204);
        assert_eq!(daemon.http().ask("DELETE", &format!("/volumes/{driver}")).status, 204);
    }
}

#[test]
fn a_managed_plugin_goes_before_a_legacy_one_also_when_it_is_disabled() {
    let Some((daemon, _rclone)) = with_rclone() else { return };
    assert_eq!(create(&daemon, "old").status, 201);
    daemon.run("rclone", &daemon.tiny());
    let made = create(&daemon, "new");
    assert_eq!((made.status, &made.json()["Driver"]), (201, &json!("rclone:latest")));
    assert_eq!(daemon.http().look("/volumes/old")["Driver"], "rclone", "a volume stays its plugin's");
    assert_eq!(daemon.http().ask("DELETE", "/volumes/new").status, 204);
    assert_eq!(
        daemon.http().ask("POST", "/plugins/rclone/disable").status,
        200,
        "the old volume does not hold it"
    );
    let refused = create(&daemon, "new").message();
    assert_eq!(
        refused,
        "create new: error looking up volume plugin rclone: plugin rclone found but disabled"
    );
    assert_eq!(daemon.http().ask("DELETE", "/plugins/rclone").status, 200);
    assert_eq!(create(&daemon, "new").json()["Driver"], "rclone");
    for volume in ["old", "new"] {
        assert_eq!(daemon.http().ask("DELETE", &format!("/volumes/{volume}")).status, 204, "{volume}");
    }
}

#[test]
fn a_managed_plugin_takes_the_place_of_a_legacy_one_and_gives_it_back() {
    let Some((daemon, _rclone)) = with_rclone() else { return };
    let driver = |volume: &str| daemon.http().look(&format!("/volumes/{volume}"))["Driver"].clone();
    for name in ["data", "other"] {
        assert_eq!(create(&daemon, name).status, 201);
    }
    // The managed one has one of its volumes.
    fs::create_dir_all(daemon.record().join("volumes/data")).unwrap();
    daemon.run("rclone", &daemon.tiny().mode("remember"));
    assert_eq!(driver("data"), "rclone", "what is there keeps what is its");
    // Gone for whoever looks; the process lives, since rclone forgets volumes with a restart.
    let (socket, away) = (daemon.legacy().join("rclone.sock"), daemon.place().join("away.sock"));
    fs::rename(&socket, &away).unwrap();
    let listed = daemon.docker().ok(&["volume", "ls", "--format", "{{.Driver}} {{.Name}}"]);
    assert_eq!(listed, "rclone:latest data");
    assert_eq!(driver("data"), "rclone:latest");
    let use_it = || {
        let mounted = act(&daemon, "mount", "data", "r1").json();
        fs::write(format!("{}/file", mounted["Mountpoint"].as_str().unwrap()), "text").unwrap();
    };
    use_it();
    let refused = daemon.http().ask("POST", "/plugins/rclone/disable");
    assert_eq!(refused.status, 409, "it counts on the managed one");
    assert_eq!(act(&daemon, "unmount", "data", "r1").status, 204);
    let kept = daemon.http().ask("GET", "/volumes/other");
    assert!(kept.message().contains(r#"exists in driver "rclone""#), "{}", kept.text());

    fs::rename(&away, &socket).unwrap();
    assert_eq!(driver("data"), "rclone:latest", "as with dockerd, the managed one goes before");
    assert_eq!(driver("other"), "rclone", "and what it has not got is not lost");
    assert_eq!(daemon.http().ask("DELETE", "/plugins/rclone?force=1").status, 200);
    assert_eq!(driver("data"), "rclone", "as with dockerd, it goes back");
    let store = daemon.place().join("store/file");
    assert!(!store.exists(), "nothing was written to it");
    use_it();
    assert_eq!(fs::read_to_string(store).unwrap(), "text");
    assert_eq!(act(&daemon, "unmount", "data", "r1").status, 204);
}

/// A plugin on a port of this machine that answers `Mount` with this mountpoint.
fn liar(mountpoint: &str) -> Server {
    let mountpoint = mountpoint.to_owned();
    Server::start(move |request: &Request| {
        let asked: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let answer = match request.path() {
            "/Plugin.Activate" => json!({"Implements": ["VolumeDriver"]}),
            "/VolumeDriver.Get" => json!({"Volume": {"Name": asked["Name"]}}),
            "/VolumeDriver.Mount" => json!({"Mountpoint": mountpoint}),
            _ => json!({}),
        };
        Reply::new(200, answer.to_string())
    })
}

#[test]
fn a_mountpoint_of_the_host_is_refused_where_no_volume_can_be() {
    let Some(daemon) = Daemon::ours() else { return };
    fs::create_dir(daemon.legacy()).unwrap();
    let place = daemon.place().display().to_string();
    std::os::unix::fs::symlink("/proc/1", daemon.place().join("link")).unwrap();
    let refused =
        ["/", "srv", "/proc/1/root", "/sys", "/dev/shm", "/srv/../etc", "/nonexistent", "/etc/passwd"];
    let own = [format!("{place}/link"), format!("{place}/exec"), format!("{place}/exec/mounts"), place];
    for (number, path) in refused.iter().map(ToString::to_string).chain(own).enumerate() {
        let server = liar(&path);
        let name = format!("liar{number}");
        fs::write(daemon.legacy().join(format!("{name}.spec")), format!("tcp://{}", server.address()))
            .unwrap();
        assert_eq!(daemon.volume(&json!({"Name": name, "Driver": name})).status, 201);
        let answer = act(&daemon, "mount", &name, "r");
        let words = format!(
            "mount {name}: plugin {name} gave volume {name} the mountpoint {path:?}, which is refused: "
        );
        assert!(answer.status == 500 && answer.message().starts_with(&words), "{path}: {}", answer.text());
        assert_eq!(daemon.http().ask("DELETE", &format!("/volumes/{name}")).status, 204, "it is not in use");
    }
}

#[test]
fn what_is_no_volume_plugin_is_told_in_dockers_words_and_in_no_list() {
    let Some(daemon) = Daemon::ours() else { return };
    fs::create_dir(daemon.legacy()).unwrap();
    let network = Server::start(|_| Reply::new(200, json!({"Implements": ["NetworkDriver"]}).to_string()));
    let sick = Server::start(|_| Reply::new(500, json!({"Err": "not today"}).to_string()));
    let huge = Server::start(|_| Reply::new(200, vec![b' '; 5 << 20]));
    for (name, address) in [
        ("net", network.address()),
        ("sick", sick.address()),
        ("huge", huge.address()),
        ("gone", "127.0.0.1:1"),
    ] {
        fs::write(daemon.legacy().join(format!("{name}.spec")), format!("tcp://{address}")).unwrap();
    }
    fs::write(daemon.legacy().join("odd.spec"), "gopher://127.0.0.1").unwrap();
    for (name, words) in [
        ("net", "Plugin does not implement the requested driver"),
        ("sick", "Plugin.Activate: not today"),
        ("huge", "Plugin.Activate: plugin huge answered with more than 4194304 bytes"),
        ("gone", "Plugin.Activate: connecting to plugin gone: connecting to 127.0.0.1:1: Connection refused"),
        ("odd", "has an unknown protocol, expected unix:///PATH"),
    ] {
        let answer = daemon.volume(&json!({"Name": "x", "Driver": name}));
        let begin = format!("create x: error looking up volume plugin {name}: legacy plugin: ");
        let message = answer.message();
        assert!(answer.status == 500 && message.starts_with(&begin) && message.contains(words), "{message}");
    }
    let listed = daemon.http().look("/volumes");
    assert_eq!((&listed["Volumes"], &listed["Warnings"]), (&json!([]), &Value::Null));
    assert_eq!(daemon.http().look("/info")["Plugins"]["Volume"], json!(["local"]));
}
