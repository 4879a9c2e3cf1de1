//! The disk of the data root is full: what has no room is refused with a 507, nothing that was acknowledged is lost, also
//! over a kill, and when there is room again everything works without a restart.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use serde_json::json;

use crate::support::daemon::Daemon;

/// More records than the disk has room for.
const VOLUMES_MAX: usize = 2_000;
/// How large a label is.
const LABEL_BYTES: usize = 100_000;

/// Takes all the room that there is.
fn fill(path: &Path) {
    let mut ballast = File::create(path).unwrap();
    while ballast.write_all(&[0; 4096]).is_ok() {}
}

fn volumes(daemon: &Daemon) -> BTreeSet<String> {
    let list = daemon.http().look("/volumes");
    let volumes = list["Volumes"].as_array().unwrap().iter();
    volumes.map(|volume| volume["Name"].as_str().unwrap().to_owned()).collect()
}

/// The references that have the volume mounted.
fn users(daemon: &Daemon, volume: &str) -> String {
    daemon.http().ask("DELETE", &format!("/volumes/{volume}")).message()
}

#[test]
fn what_has_no_room_is_refused_and_what_was_acknowledged_stays() {
    let Some(mut daemon) = Daemon::ours() else { return };
    assert_eq!(daemon.stop(), Some(0));
    let nothing: Option<&str> = None;
    let root = daemon.data_root();
    mount(nothing, &root, Some("tmpfs"), MsFlags::empty(), Some("size=32m,mode=700")).unwrap();
    daemon.launch();
    assert_eq!(daemon.volume(&json!({"Name": "used"})).status, 201);
    fill(&root.join("ballast"));

    let labels = json!({"l": "x".repeat(LABEL_BYTES)});
    let mut acknowledged = BTreeSet::from(["used".to_owned()]);
    let mut refused = None;
    for number in 0..VOLUMES_MAX {
        let name = format!("v{number}");
        let answer = daemon.volume(&json!({"Name": name, "Labels": labels}));
        if answer.status != 201 {
            refused = Some((name, answer));
            break;
        }
        acknowledged.insert(name);
    }
    let (name, answer) = refused.unwrap();
    assert_eq!(answer.status, 507, "{}", answer.text());
    assert!(answer.message().starts_with(&format!("create {name}: ")), "{}", answer.message());
    assert!(answer.message().contains("No space left on device"), "{}", answer.message());
    assert_eq!(volumes(&daemon), acknowledged);

    // The ledger takes what it has room for.
    let mut mounted = BTreeSet::new();
    for number in 0..VOLUMES_MAX {
        let reference = format!("{number}-{}", "r".repeat(200));
        let body = json!({"Reference": reference});
        let answer = daemon.http().json("POST", "/volumes/used/mount", &body);
        if answer.status != 200 {
            assert_eq!(answer.status, 507, "{}", answer.text());
            break;
        }
        mounted.insert(reference);
    }
    daemon.kill();
    daemon.launch();
    assert_eq!(volumes(&daemon), acknowledged);
    let told = users(&daemon, "used");
    assert!(mounted.iter().all(|reference| told.contains(reference.as_str())), "{told}");

    fs::remove_file(root.join("ballast")).unwrap();
    assert_eq!(daemon.volume(&json!({"Name": "later", "Labels": labels})).status, 201);
    for reference in &mounted {
        let answer = daemon.http().json("POST", "/volumes/used/unmount", &json!({"Reference": reference}));
        assert!(matches!(answer.status, 200 | 204), "{}", answer.text());
    }
    acknowledged.insert("later".to_owned());
    assert_eq!(volumes(&daemon), acknowledged);
}
