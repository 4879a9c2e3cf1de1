//! The service against a small plugin of this process, whose file system is a directory of the test.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use super::*;
use crate::drivers::testing::{Call as Asked, FakePlugin, Reply};
use crate::drivers::{Drivers, Scope};
use crate::events::Bus;
use crate::state::Store;
use crate::volumes::{Create, Roots, Volumes};

struct Rig {
    published: Published,
    volumes: Volumes,
    plugin: FakePlugin,
    /// The plugin's volumes.
    kept: Arc<Mutex<BTreeSet<String>>>,
    directory: tempfile::TempDir,
}

impl Rig {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::create_dir_all(at("rootfs/mnt/v")).unwrap();
        std::fs::create_dir(at("sockets")).unwrap();
        let kept: Arc<Mutex<BTreeSet<String>>> = Arc::default();
        let plugin = FakePlugin::start(&at("sockets"), {
            let kept = Arc::clone(&kept);
            move |call| reply(call, &mut kept.lock().unwrap())
        });
        let drivers = Drivers::new();
        let mut registration = plugin.registration("fake:latest");
        registration.scope = Scope::Own { rootfs: at("rootfs"), propagated: None };
        drivers.register(registration);
        let store = Store::open(&at("state.redb")).unwrap();
        let roots = Roots { local: at("volumes"), mounts: at("mounts") };
        let volumes = Volumes::open(store, drivers, Bus::new(), &roots).unwrap();
        let published = Published::new(volumes.of_driver("fake:latest"));
        Self { published, volumes, plugin, kept, directory }
    }

    async fn send(&self, method: Method, path: &str, body: impl Into<Body>) -> (u16, Value) {
        let request = Request::builder().method(method).uri(path).body(body.into()).unwrap();
        let response = self.published.answer(request).await;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    }

    async fn ask(&self, call: &str, body: Value) -> (u16, Value) {
        self.send(Method::POST, &format!("/VolumeDriver.{call}"), body.to_string()).await
    }
}

/// Volumes in memory, each with the mountpoint `/mnt/v`.
fn reply(call: &Asked, kept: &mut BTreeSet<String>) -> Reply {
    let volume = |name: &str| json!({ "Name": name, "Mountpoint": "/mnt/v", "Status": { "size": 5 } });
    match call.method.as_str() {
        "Create" => drop(kept.insert(call.name())),
        "List" => {
            return Reply::ok(json!({ "Volumes": kept.iter().map(|name| volume(name)).collect::<Vec<_>>() }));
        }
        "Capabilities" => return Reply::ok(json!({ "Capabilities": { "Scope": "global" } })),
        _ if !kept.contains(&call.name()) => return Reply::err("never heard of it"),
        "Remove" => drop(kept.remove(&call.name())),
        "Get" => return Reply::ok(json!({ "Volume": volume(&call.name()) })),
        "Mount" | "Path" => return Reply::ok(json!({ "Mountpoint": "/mnt/v" })),
        _ => {}
    }
    Reply::ok(json!({}))
}

#[tokio::test]
async fn a_volume_lives_and_is_used_through_the_published_plugin() {
    let rig = Rig::new();
    let fine = (200, json!({"Err": ""}));
    assert_eq!(
        rig.send(Method::POST, "/Plugin.Activate", "").await,
        (200, json!({"Implements": ["VolumeDriver"]}))
    );
    let scope = json!({"Capabilities": {"Scope": "global"}});
    assert_eq!(rig.ask("Capabilities", json!({})).await, (200, scope));
    assert_eq!(rig.ask("Create", json!({"Name": "v", "Opts": {"a": "b"}})).await, fine);
    assert_eq!(rig.ask("Create", json!({"Name": "v", "Opts": null})).await, fine, "it is there");
    let nowhere = (200, json!({"Mountpoint": "", "Err": ""}));
    assert_eq!(rig.ask("Path", json!({"Name": "v"})).await, nowhere);
    let (_, got) = rig.ask("Get", json!({"Name": "v"})).await;
    assert_eq!((&got["Volume"]["Mountpoint"], &got["Volume"]["Status"]), (&json!(""), &json!({"size": 5})));

    let (status, mounted) = rig.ask("Mount", json!({"Name": "v", "ID": "c1"})).await;
    let place = PathBuf::from(mounted["Mountpoint"].as_str().unwrap());
    std::fs::write(place.join("file"), "text").unwrap();
    let inside = rig.directory.path().join("rootfs/mnt/v/file");
    let told = [
        rig.ask("Path", json!({"Name": "v"})).await.1["Mountpoint"].clone(),
        rig.ask("Get", json!({"Name": "v"})).await.1["Volume"]["Mountpoint"].clone(),
        rig.ask("List", json!({})).await.1["Volumes"][0]["Mountpoint"].clone(),
    ];
    let in_use = rig.ask("Remove", json!({"Name": "v"})).await;
    let unmounted = rig.ask("Unmount", json!({"Name": "v", "ID": "c1"})).await;
    assert_eq!((status, mounted["Err"].as_str()), (200, Some("")));
    assert!(place.starts_with(rig.directory.path().canonicalize().unwrap().join("mounts")), "{place:?}");
    assert_eq!(std::fs::read_to_string(inside).unwrap(), "text");
    assert!(told.iter().all(|told| *told == json!(place)), "{told:?}");
    assert_eq!(in_use, (500, json!({"Err": "remove v: volume is in use - [c1]"})));
    assert_eq!(unmounted, fine);
    assert_eq!(rig.ask("Unmount", json!({"Name": "v", "ID": "c1"})).await, fine, "again");
    assert_eq!(rig.ask("Remove", json!({"Name": "v"})).await, fine);
    assert_eq!(rig.ask("List", json!({})).await, (200, json!({"Volumes": [], "Err": ""})));
    let changes: Vec<_> = rig.plugin.methods().into_iter().filter(|call| !call.ends_with("et")).collect();
    assert_eq!(changes, ["Capabilities", "Create", "Mount", "List", "Unmount", "Remove", "List"]);
}

#[tokio::test]
async fn volumes_of_other_drivers_are_none() {
    let rig = Rig::new();
    let request = Create { name: Some("local-one".to_owned()), ..Create::default() };
    rig.volumes.create(request).await.unwrap();
    rig.volumes.mount("local-one", "c1").await.unwrap();
    let body = || json!({"Name": "local-one", "ID": "c1"});
    for call in ["Get", "Path", "Mount", "Unmount", "Remove"] {
        let answer = rig.ask(call, body()).await;
        assert_eq!(answer, (500, json!({"Err": "get local-one: no such volume"})), "{call}");
    }
    let (status, answer) = rig.ask("Create", body()).await;
    let words = answer["Err"].as_str().unwrap();
    assert!(status == 500 && words.contains("volume name must be unique"), "{words}");
    assert_eq!(rig.ask("List", json!({})).await.1["Volumes"], json!([]));
    assert!(rig.volumes.inspect("local-one").await.is_ok());
    assert_eq!(rig.plugin.methods().iter().filter(|call| *call != "List").count(), 0);
}

#[tokio::test]
async fn what_only_the_plugin_knows_is_told_and_can_be_used() {
    let rig = Rig::new();
    rig.kept.lock().unwrap().extend(["old".to_owned(), "older".to_owned()]);
    assert_eq!(rig.ask("Get", json!({"Name": "old"})).await.0, 200);
    assert_eq!(rig.ask("Mount", json!({"Name": "old", "ID": "c1"})).await.0, 200);
    assert_eq!(rig.ask("Unmount", json!({"Name": "old", "ID": "c1"})).await.0, 200);
    assert_eq!(rig.ask("Remove", json!({"Name": "older"})).await.0, 200);
    let none = (500, json!({"Err": "get none: no such volume"}));
    for call in ["Get", "Mount", "Unmount"] {
        assert_eq!(rig.ask(call, json!({"Name": "none", "ID": "c1"})).await, none, "{call}");
    }
    assert_eq!(*rig.kept.lock().unwrap(), BTreeSet::from(["old".to_owned()]));
}

#[tokio::test]
async fn hostile_requests_are_refused() {
    let rig = Rig::new();
    for (method, path, body, status, words) in [
        (Method::GET, "/Plugin.Activate", Body::empty(), 404, "no such call"),
        (Method::POST, "/VolumeDriver.Nope", Body::empty(), 404, "no such call"),
        (Method::POST, "/VolumeDriver.Create", Body::from("{"), 400, "not JSON"),
        (Method::POST, "/VolumeDriver.Create", Body::from("{}"), 500, "name is empty"),
        (
            Method::POST,
            "/VolumeDriver.Create",
            Body::from(vec![b'x'; REQUEST_MAX_BYTES + 1]),
            400,
            "bytes at most",
        ),
        (
            Method::POST,
            "/VolumeDriver.Mount",
            Body::from(r#"{"Name":"v"}"#),
            500,
            "the reference cannot be used",
        ),
    ] {
        let (got, answer) = rig.send(method, path, body).await;
        assert!(got == status && answer["Err"].as_str().unwrap().contains(words), "{path}: {got} {answer}");
    }
    assert_eq!(rig.plugin.methods(), [""; 0]);
}

#[test]
fn a_socket_is_called_what_users_type() {
    for (driver, file) in [
        ("rclone:latest", "rclone.sock"),
        ("rclone:v2", "rclone:v2.sock"),
        ("me/sshfs:latest", "me/sshfs.sock"),
        ("localhost:5000/me/fs:1", "localhost:5000/me/fs:1.sock"),
    ] {
        assert_eq!(file_name(driver), Path::new(file));
    }
}
