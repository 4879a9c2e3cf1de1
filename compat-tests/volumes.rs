//! Volumes: the local driver's and a plugin's, named and anonymous, in use and pruned.

use std::fs;

use serde_json::{Value, json};

use crate::support::daemon::Daemon;
use crate::support::http::Answer;
use crate::support::until;

const NEVER: &str = "0001-01-01T00:00:00Z";

#[test]
fn a_local_volume_is_created_shown_and_removed() {
    let daemon = Daemon::start();
    let mut created = daemon.volume(&json!({"Name": "data", "Labels": {"b": "2", "a": "1"}}));
    assert_eq!(created.status, 201);
    let mut volume = created.json();
    assert_eq!(daemon.http().look("/volumes/data"), volume);
    assert_eq!(daemon.http().look("/volumes"), json!({"Volumes": [volume], "Warnings": null}));

    let mountpoint = volume["Mountpoint"].take();
    assert!(fs::metadata(mountpoint.as_str().unwrap()).unwrap().is_dir());
    assert!(volume["CreatedAt"].take().as_str().unwrap().ends_with('Z'));
    let expected = json!({"CreatedAt": null, "Driver": "local", "Labels": {"a": "1", "b": "2"}, "Mountpoint": null,
        "Name": "data", "Options": null, "Scope": "local"});
    assert_eq!(volume, expected);

    created = daemon.http().ask("DELETE", "/volumes/data");
    assert_eq!((created.status, created.text().as_str()), (204, ""));
    assert!(!fs::exists(mountpoint.as_str().unwrap()).unwrap());
    assert_eq!(daemon.http().look("/volumes"), json!({"Volumes": [], "Warnings": null}));
}

#[test]
fn nulls_and_empty_maps_are_told_apart() {
    let daemon = Daemon::start();
    let volume = daemon.volume(&json!({"Name": "v1", "Labels": {}, "DriverOpts": null})).json();
    assert_eq!((&volume["Labels"], &volume["Options"]), (&json!({}), &Value::Null));
    let volume = daemon.volume(&json!({"Name": "v2", "DriverOpts": {}})).json();
    assert_eq!((&volume["Labels"], &volume["Options"]), (&Value::Null, &json!({})));
}

#[test]
fn a_volume_without_a_name_gets_64_hex_digits() {
    let daemon = Daemon::start();
    for body in [json!({}), json!({"Name": ""})] {
        let name = daemon.volume(&body).json()["Name"].as_str().unwrap().to_owned();
        assert!(name.len() == 64 && name.bytes().all(|b| b"0123456789abcdef".contains(&b)), "{name}");
        assert_eq!(daemon.http().ask("DELETE", &format!("/volumes/{name}")).status, 204);
    }
}

#[test]
fn creating_a_volume_again_gives_the_one_that_is_there() {
    let daemon = Daemon::start();
    daemon.run("tiny", &daemon.tiny());
    let first = daemon.volume(&json!({"Name": "data"})).json();
    for body in [json!({"Name": "data"}), json!({"Name": "data", "Driver": "local", "Labels": {"a": "b"}})] {
        let again = daemon.volume(&body);
        assert_eq!((again.status, again.json()), (201, first.clone()), "{body}");
    }
    let answer = daemon.volume(&json!({"Name": "data", "Driver": "tiny"}));
    let message = "create data: driver 'local' already has volume 'data': volume name must be unique";
    daemon.assert_refused(&answer, 409, message);
}

/// Takes out what differs on purpose, having checked it: a volume of a plugin is where the host has it and has a time
/// here; dockerd shows `theirs` as its mountpoint, and no time when the plugin tells none.
fn without_place_and_time(daemon: &Daemon, volume: &Value, theirs: &str) -> Value {
    let mut rest = volume.clone();
    let (mountpoint, created) = (rest["Mountpoint"].take(), rest["CreatedAt"].take());
    if daemon.is_ours() {
        let id = daemon.http().look("/plugins/tiny/json")["Id"].as_str().unwrap().to_owned();
        let place = daemon.data_root().join("plugins").join(id).join("propagated-mount/data");
        // As in dockerd, nobody has asked the plugin for the place of a volume that was just created.
        let place = if theirs.is_empty() { json!("") } else { json!(place) };
        assert_eq!(mountpoint, place, "{volume}");
        assert!(created.as_str().is_some_and(|t| t.starts_with("20") && t.ends_with('Z')), "{volume}");
    } else {
        assert_eq!((mountpoint, created), (json!(theirs), json!(NEVER)), "{volume}");
    }
    rest
}

#[test]
fn a_volume_of_a_plugin_shows_what_the_plugin_says() {
    let daemon = Daemon::start();
    daemon.run("tiny", &daemon.tiny());
    let body = json!({"Name": "data", "Driver": "tiny", "DriverOpts": {"k": "v"}, "Labels": {"l": "1"}});
    let created = daemon.volume(&body);
    assert_eq!(created.status, 201, "{}", created.text());
    let mut expected = json!({"CreatedAt": null, "Driver": "tiny:latest", "Labels": {"l": "1"}, "Mountpoint": null,
        "Name": "data", "Options": {"k": "v"}, "Scope": "local"});
    // The plugin has not been asked yet where it is.
    let mut shown = created.json();
    assert_eq!(shown["Mountpoint"].take(), "");
    shown["CreatedAt"].take();
    assert_eq!(shown, expected);

    expected["Status"] = json!({"kept": "here"});
    let shown = daemon.http().look("/volumes/data");
    assert_eq!(without_place_and_time(&daemon, &shown, "/volumes/data"), expected);
    for driver in ["tiny:latest", "docker.io/library/tiny", "docker.io/library/tiny:latest"] {
        assert_eq!(daemon.volume(&json!({"Name": "data", "Driver": driver})).status, 201, "{driver}");
    }
    let list = daemon.http().look("/volumes");
    assert_eq!(list["Volumes"].as_array().unwrap().len(), 1);
    let place = list["Volumes"][0]["Mountpoint"].as_str().unwrap();
    assert!(place.ends_with("/propagated-mount/data") && fs::metadata(place).unwrap().is_dir(), "{list}");
    assert_eq!(daemon.http().ask("DELETE", "/volumes/data").status, 204);
    assert!(!fs::exists(place).unwrap(), "the plugin was told");
    let gone = daemon.http().ask("GET", "/volumes/data");
    daemon.assert_refused(&gone, 404, "get data: no such volume");
}

#[test]
fn a_volume_whose_driver_is_gone_is_removed_by_force() {
    let Some(daemon) = Daemon::ours() else { return };
    daemon.run("tiny", &daemon.tiny());
    assert_eq!(daemon.volume(&json!({"Name": "data", "Driver": "tiny"})).status, 201);
    assert_eq!(daemon.http().ask("DELETE", "/plugins/tiny?force=1").status, 200);
    assert!(daemon.http().ask("DELETE", "/volumes/data").status >= 400);
    assert_eq!(daemon.http().ask("DELETE", "/volumes/data?force=1").status, 204);
    assert_eq!(daemon.http().look("/volumes")["Volumes"], json!([]));
}

#[test]
fn a_volume_of_a_plugin_may_have_no_name_either() {
    let daemon = Daemon::start();
    daemon.run("tiny", &daemon.tiny());
    let name = daemon.volume(&json!({"Driver": "tiny"})).json()["Name"].as_str().unwrap().to_owned();
    assert_eq!(name.len(), 64);
    assert_eq!(daemon.http().ask("DELETE", &format!("/volumes/{name}")).status, 204);
}

#[test]
fn names_of_local_volumes_are_checked_in_dockers_words() {
    let daemon = Daemon::start();
    for name in [".a", "-a", "_a", "a/b", "..", "../../x", "a b", "ä", "a\n", "a\0", "x:y", "v@1", "/abs"] {
        // Go quotes as Rust does, but for the zero byte.
        let quoted = format!("{name:?}").replace("\\0", "\\x00");
        let message = format!(
            "create {name}: {quoted} includes invalid characters for a local volume name, only \
             \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
        );
        daemon.assert_refused(&daemon.volume(&json!({"Name": name})), 400, &message);
    }
    let message = "create a: volume name is too short, names should be at least two alphanumeric characters";
    daemon.assert_refused(&daemon.volume(&json!({"Name": "a"})), 400, message);
    for name in ["A.-_9", "0a", &"a".repeat(255)] {
        assert_eq!(daemon.volume(&json!({"Name": name})).status, 201, "{name}");
    }
    let answer = daemon.volume(&json!({"Name": "a".repeat(256)}));
    assert!(answer.status == 400 || !daemon.is_ours() && answer.status == 500, "{}", answer.text());
}

#[test]
fn options_of_the_local_driver_are_checked_in_dockers_words() {
    let daemon = Daemon::start();
    let table = [
        (json!({"nope": "1"}), "create opt: invalid option: \"nope\""),
        (json!({"TYPE": "tmpfs", "device": "x"}), "create opt: invalid option: \"TYPE\""),
        (json!({"type": "tmpfs"}), "create opt: missing required option: \"device\""),
        (json!({"device": "tmpfs"}), "create opt: missing required option: \"type\""),
        (json!({"o": "size=1m"}), "create opt: missing required option: \"device\""),
    ];
    for (options, message) in table {
        let answer = daemon.volume(&json!({"Name": "opt", "DriverOpts": options}));
        daemon.assert_refused(&answer, 400, message);
    }
    let options = json!({"type": "tmpfs", "device": "tmpfs", "o": "size=1m"});
    let volume = daemon.volume(&json!({"Name": "opt", "DriverOpts": options})).json();
    assert_eq!(volume["Options"], options);
}

#[test]
fn a_driver_nobody_knows_is_not_found() {
    let daemon = Daemon::start();
    // dockerd looks for each of them for 15 s.
    let drivers: &[&str] =
        if daemon.is_ours() { &["nope", "Nope", "a/b", "..", "LOCAL", "nope:v1", "x y"] } else { &["nope"] };
    for driver in drivers {
        let answer = daemon.volume(&json!({"Name": "data", "Driver": driver}));
        let message =
            format!("create data: error looking up volume plugin {driver}: plugin \"{driver}\" not found");
        daemon.assert_refused(&answer, 404, &message);
    }
    assert_eq!(daemon.http().look("/volumes")["Volumes"], json!([]));
}

#[test]
fn bodies_that_are_no_volume_are_bad_requests() {
    let daemon = Daemon::start();
    let send =
        |content_type: &str, body: &[u8]| daemon.http().send("POST", "/volumes/create", content_type, body);
    let json = "application/json";
    let object = "Go value of type volume.VolumeCreateBody";
    let table: [(&[u8], String); 7] = [
        (b"", "got EOF while reading request body".into()),
        (b"{", "unexpected EOF".into()),
        (b"nope", "invalid character 'o' in literal null (expecting 'u')".into()),
        (b"[]", format!("json: cannot unmarshal array into {object}")),
        (b"\"x\"", format!("json: cannot unmarshal string into {object}")),
        (
            b"{\"Name\":1}",
            "json: cannot unmarshal number into Go struct field VolumeCreateBody.Name of type string".into(),
        ),
        (b"{\"Name\": \"data\", \"Labels\": [1", "unexpected EOF".into()),
    ];
    for (body, message) in table {
        let answer = send(json, body);
        assert_eq!(answer.status, 400, "{}: {}", String::from_utf8_lossy(body), answer.text());
        // moby has renamed the type since; the field and what was got are what a user needs.
        if !answer.message().contains("CreateOptions") {
            assert_eq!(answer.message(), message);
        }
    }
    for (content_type, shown) in [("", ""), ("text/plain", "text/plain")] {
        let answer = send(content_type, b"{\"Name\":\"data\"}");
        daemon.assert_refused(
            &answer,
            400,
            &format!("Content-Type specified ({shown}) must be 'application/json'"),
        );
    }
    assert_eq!(daemon.http().look("/volumes")["Volumes"], json!([]));
    for (name, content_type) in [("ok1", "application/json; charset=utf-8"), ("ok2", "APPLICATION/JSON")] {
        assert_eq!(
            send(content_type, format!("{{\"Name\":\"{name}\"}}").as_bytes()).status,
            201,
            "{content_type}"
        );
    }
    assert_eq!(send(json, b"{\"name\":\"lower\",\"Unknown\":[1]}").json()["Name"], "lower");
    assert_eq!(send(json, b"null").status, 201);
}

#[test]
fn what_is_not_there_is_no_such_volume() {
    let daemon = Daemon::start();
    let refused = |answer: &Answer| daemon.assert_refused(answer, 404, "get nope: no such volume");
    refused(&daemon.http().ask("GET", "/volumes/nope"));
    refused(&daemon.http().ask("DELETE", "/volumes/nope"));
    assert_eq!(daemon.http().ask("DELETE", "/volumes/nope?force=1").status, 204);
    assert_eq!(daemon.docker().fails(&["volume", "rm", "nope"]), "get nope: no such volume");
}

#[test]
fn the_clis_words_are_dockers() {
    let daemon = Daemon::start();
    let docker = daemon.docker();
    assert_eq!(docker.ok(&["volume", "create", "--label", "a=b", "data"]), "data");
    assert_eq!(
        docker.ok(&["volume", "inspect", "-f", "{{.Name}} {{.Driver}} {{.Labels}}", "data"]),
        "data local map[a:b]"
    );
    assert_eq!(docker.ok(&["volume", "ls", "-q"]), "data");
    assert!(docker.fails(&["volume", "inspect", "nope"]).ends_with("get nope: no such volume"));
    assert!(
        docker.fails(&["volume", "create", "b a d"]).starts_with("create b a d: \"b a d\" includes invalid")
    );
    assert_eq!(docker.ok(&["volume", "rm", "data"]), "data");
    assert_eq!(docker.ok(&["volume", "rm", "-f", "nope"]), "nope");
}

#[test]
fn sixteen_clients_create_volumes_at_once_and_each_gets_its_own() {
    let daemon = Daemon::start();
    std::thread::scope(|scope| {
        for client in 0..16 {
            let daemon = &daemon;
            scope.spawn(move || {
                for volume in 0..8 {
                    let body = json!({"Name": format!("v{client}-{volume}")});
                    assert_eq!(daemon.volume(&body).status, 201);
                }
            });
        }
    });
    assert_eq!(daemon.http().look("/volumes")["Volumes"].as_array().unwrap().len(), 128);
}

#[test]
fn volumes_survive_a_restart_with_all_they_are() {
    let mut daemon = Daemon::start();
    let body = json!({"Name": "data", "Labels": {"a": "b"},
        "DriverOpts": {"type": "tmpfs", "device": "tmpfs"}});
    let created = daemon.volume(&body);
    assert_eq!(created.status, 201, "{}", created.text());
    let before = created.json();
    daemon.stop();
    daemon.launch();
    assert_eq!(daemon.http().look("/volumes/data"), before);
}

#[test]
fn labels_can_be_changed_and_are_kept() {
    let Some(mut daemon) = Daemon::ours() else { return };
    daemon.run("tiny", &daemon.tiny());
    assert_eq!(daemon.volume(&json!({"Name": "mine", "Labels": {"a": "1", "b": "2"}})).status, 201);
    assert_eq!(daemon.volume(&json!({"Name": "far", "Driver": "tiny"})).status, 201);
    let put = |daemon: &Daemon, name: &str, body: &Value| {
        daemon.http().json("PUT", &format!("/v1.42/volumes/{name}"), body)
    };
    for name in ["mine", "far"] {
        let answer = put(&daemon, name, &json!({"Labels": {"c": "3"}}));
        assert_eq!((answer.status, answer.text().as_str()), (200, ""), "{name}");
    }
    daemon.kill();
    daemon.launch();
    for name in ["mine", "far"] {
        // The daemon answers before it has its plugins again.
        let volume = until("the volume can be asked for", || {
            let answer = daemon.http().ask("GET", &format!("/volumes/{name}"));
            (answer.status == 200).then(|| answer.json())
        });
        assert_eq!(volume["Labels"], json!({"c": "3"}), "{name}");
    }
    let list = daemon.http().look("/volumes?filters=%7B%22label%22%3A%5B%22c%3D3%22%5D%7D");
    assert_eq!(list["Volumes"].as_array().unwrap().len(), 2, "{list}");
    assert_eq!(put(&daemon, "nope", &json!({"Labels": {}})).status, 404);
    assert_eq!(put(&daemon, "mine", &json!({"Labels": {"c": 3}})).status, 400);
    assert_eq!(daemon.http().json("PUT", "/v1.41/volumes/mine", &json!({"Labels": {}})).status, 400);
    let answer = put(&daemon, "mine", &json!({"Spec": {"Availability": "drain"}, "Labels": {}}));
    let text = "volume update only valid for cluster volumes, but swarm is unavailable";
    assert_eq!((answer.status, answer.message().as_str()), (503, text));
    assert_eq!(daemon.http().look("/volumes/mine")["Labels"], json!({"c": "3"}));
}
