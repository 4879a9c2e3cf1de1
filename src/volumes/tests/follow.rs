//! Volumes whose driver gets another name, and those whose driver is gone, whatever others claim.

use serde_json::json;

use super::mount::at;
use super::*;
use crate::drivers::Scope;
use crate::volumes::ledger::MOUNTS;

impl Rig {
    /// Gives the one plugin, whose root file system is a directory of the test, another name.
    fn rename(&self, former: &str, name: &str) {
        let mut registration = self.plugins.last().unwrap().registration(name);
        registration.scope = Scope::Own { rootfs: self.directory.path().join("rootfs"), propagated: None };
        self.drivers.rename(former, name, Some(registration));
    }

    /// The drivers that are written down on disk: of the volumes, and of the ledger's rows.
    fn drivers_on_disk(&self) -> (Vec<String>, Vec<String>) {
        let store = &self.volumes.0.store;
        let of_volumes = store.load(VOLUMES).unwrap().into_iter().map(|(_, record)| record.driver);
        let of_rows = store.load(MOUNTS).unwrap().into_iter().map(|(_, row)| row.driver);
        (of_volumes.collect(), of_rows.collect())
    }

    /// A legacy plugin `p`, which has whatever it is asked for; says what its file is.
    fn plug_legacy(&mut self) -> PathBuf {
        let directory = self.directory.path().join("legacy");
        self.plugins.push(FakePlugin::start(&directory, |call| match call.method.as_str() {
            "Get" => Reply::ok(json!({"Volume": {"Name": call.name()}})),
            _ => Reply::ok(json!({"Implements": ["VolumeDriver"]})),
        }));
        directory.join("p.sock")
    }
}

/// A rig in whose directory `legacy` plugins are found.
fn with_legacy() -> Rig {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("legacy")).unwrap();
    let drivers =
        Drivers::with_legacy(vec![directory.path().join("legacy")], crate::drivers::Deadlines::default());
    Rig::open(directory, drivers, Deadlines { list: Duration::from_secs(10), mount: MOUNT_DEADLINE })
}

#[tokio::test]
async fn a_mounted_volume_follows_and_the_plugin_hears_nothing() {
    let mut rig = Rig::new();
    rig.plug_at(at("/v"));
    rig.create("v", "p").await.unwrap();
    let place = rig.volumes.mount("v", "c1").await.unwrap();
    let asked = rig.plugins[0].methods().len();
    rig.rename("p", "q");
    assert_eq!(rig.drivers.leases("q"), 1, "it counts on it before it has followed");
    rig.volumes.follow().await;
    assert_eq!(rig.plugins[0].methods().len(), asked);
    let named = vec!["q:latest".to_owned()];
    assert_eq!(rig.drivers_on_disk(), (named.clone(), named));
    assert_eq!((rig.drivers.leases("q"), rig.drivers.leases("p")), (1, 0));
    assert_eq!(rig.told().last(), Some(&event("update", "v", "q:latest")));
    assert_eq!(rig.volumes.inspect("v").await.unwrap().driver, "q:latest");
    assert_eq!(rig.volumes.mount("v", "c1").await.unwrap(), place, "it stayed mounted");
    let error = rig.volumes.remove("v", false).await.unwrap_err();
    assert_eq!(chain(&error), "remove v: volume is in use - [c1]");
    rig.volumes.unmount("v", "c1").await.unwrap();
    assert_eq!(rig.asked(), ["Mount c1", "Unmount c1"]);
    rig.volumes.remove("v", false).await.unwrap();
}

#[tokio::test]
async fn before_it_has_followed_a_volume_is_used_as_after_it() {
    let mut rig = Rig::new();
    rig.plug_at(at("/v"));
    rig.create("v", "p").await.unwrap();
    rig.create("w", "p").await.unwrap();
    rig.volumes.mount("w", "c1").await.unwrap();
    rig.rename("p", "q");
    // Nobody has told it to follow.
    assert_eq!(rig.volumes.inspect("v").await.unwrap().driver, "q:latest");
    assert_eq!(
        rig.volumes.of_driver("q:latest").mountpoint("w").unwrap().map(|place| place.exists()),
        Some(true)
    );
    rig.volumes.of_driver("q:latest").unmount("w", "c1").await.unwrap();
    rig.volumes.mount("v", "c1").await.unwrap();
    assert_eq!(rig.drivers_on_disk().1, ["q:latest"], "it has followed by now");
    let rig = rig.reopened();
    assert_eq!(rig.drivers.leases("q"), 2);
    assert_eq!(rig.volumes.follow_all().await, 1, "a start goes on where a kill has interrupted");
    assert_eq!(rig.drivers_on_disk().0, ["q:latest", "q:latest"]);
}

#[tokio::test]
async fn a_volume_that_is_made_meanwhile_follows_at_once() {
    let mut rig = Rig::new();
    rig.plug_at(at("/v"));
    let before = rig.drivers.lookup("p").unwrap();
    rig.rename("p", "q");
    let turn = rig.volumes.0.turns.take("v").await;
    let made = rig.volumes.record("v", before.name(), Create::default()).await.unwrap();
    drop(turn);
    assert_eq!((made.driver.as_str(), rig.drivers_on_disk().0), ("q:latest", vec!["q:latest".to_owned()]));
}

#[tokio::test]
async fn whoever_claims_a_volume_of_a_driver_that_is_gone_does_not_get_it() {
    let mut rig = Rig::new();
    rig.plug_at(at("/v"));
    rig.create("v", "p").await.unwrap();
    rig.drivers.unregister("p");
    rig.plug("claims:latest", |call| match call.method.as_str() {
        "Get" => Reply::ok(json!({"Volume": {"Name": call.name()}})),
        "List" => Reply::ok(json!({"Volumes": [{"Name": "v"}]})),
        _ => Reply::ok(json!({})),
    });
    rig.volumes.follow().await;
    let error = rig.volumes.inspect("v").await.unwrap_err();
    assert!(chain(&error).contains(r#"exists in driver "p:latest": "#), "{}", chain(&error));
    assert!(names(&rig.list().await).is_empty());
    assert!(rig.volumes.mount("v", "c1").await.is_err());
    assert_eq!(rig.drivers_on_disk().0, ["p:latest"]);
}

#[tokio::test]
async fn a_managed_plugin_takes_the_place_of_its_legacy_namesake_and_gives_it_back() {
    let mut rig = with_legacy();
    let file = rig.plug_legacy();
    for name in ["kept", "forgotten"] {
        rig.create(name, "p").await.unwrap();
    }
    let having = |call: &Call| match call.method.as_str() {
        "Get" if call.name() == "forgotten" => Reply::err("no such volume"),
        "Get" => Reply::ok(json!({"Volume": {"Name": call.name()}})),
        "List" => Reply::ok(json!({"Volumes": [{"Name": "kept"}]})),
        _ => Reply::ok(json!({})),
    };
    rig.plug("p:latest", having);
    rig.volumes.follow().await;
    assert_eq!(
        rig.volumes.inspect("kept").await.unwrap().driver,
        "p",
        "while it is there it keeps what is its"
    );
    let away = rig.directory.path().join("away");
    std::fs::rename(&file, &away).unwrap();
    assert_eq!(names(&rig.list().await), ["kept"], "whoever looks finds it where it is now");
    assert_eq!(rig.volumes.inspect("kept").await.unwrap().driver, "p:latest");
    assert!(rig.volumes.inspect("forgotten").await.is_err(), "what the managed one does not have stays");
    rig.create("own", "p").await.unwrap();
    assert_eq!(rig.drivers_on_disk().0, ["p", "p:latest", "p:latest"]);
    let labels = Texts::from([("a".to_owned(), "b".to_owned())]);
    rig.volumes.relabel("kept", labels.clone()).await.unwrap();

    let rig = rig.reopened();
    rig.drivers.unregister("p:latest");
    std::fs::rename(away, &file).unwrap();
    let kept = rig.volumes.inspect("kept").await.unwrap();
    assert_eq!((kept.driver.as_str(), &kept.labels), ("p", &Some(labels)), "as with dockerd it goes back");
    assert_eq!(rig.volumes.inspect("forgotten").await.unwrap().driver, "p", "nothing was lost");
    assert!(rig.volumes.inspect("own").await.is_err(), "what was never its own does not");
    assert_eq!(rig.drivers_on_disk().0, ["p", "p", "p:latest"]);
}
