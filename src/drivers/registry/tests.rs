//! Names, leases and numbers of drivers that nobody calls.

use super::*;

fn registration(name: &str) -> Registration {
    let scope = Scope::Own { rootfs: "/rootfs".into(), propagated: None };
    let (sockets, socket) = ("/nowhere".into(), "p.sock".into());
    Registration { name: name.into(), sockets, socket, scope, presence: watch::Sender::default().subscribe() }
}

#[test]
fn every_spelling_is_the_same_driver() {
    let drivers = Drivers::new();
    drivers.register(registration("docker.io/library/rclone"));
    for name in ["rclone", "rclone:latest", "library/rclone", "docker.io/library/rclone:latest"] {
        assert_eq!(drivers.lookup(name).unwrap().name(), "rclone:latest", "{name}");
        assert!(Drivers::same("rclone", name), "{name}");
    }
    assert!(drivers.lookup("rclone:1.2").is_err());
    assert_eq!(drivers.names(), ["rclone:latest"]);
}

#[test]
fn lookups_fail_in_dockerds_words() {
    let drivers = Drivers::new();
    let text = |name: &str| drivers.lookup(name).unwrap_err().to_string();
    assert_eq!(text("nope"), r#"error looking up volume plugin nope: plugin "nope" not found"#);
    assert_eq!(text(""), "driver name cannot be empty");
    assert_eq!(text("A B"), r#"error looking up volume plugin A B: plugin "A B" not found"#);
    drivers.register(registration("rclone:latest"));
    drivers.disable("rclone:latest");
    assert_eq!(text("rclone"), "error looking up volume plugin rclone: plugin rclone found but disabled");
    drivers.unregister("rclone");
    assert_eq!(text("rclone"), r#"error looking up volume plugin rclone: plugin "rclone" not found"#);
}

#[test]
fn leases_are_counted_by_name_live_or_not() {
    let drivers = Drivers::new();
    let first = drivers.lease("rclone:latest");
    drivers.register(registration("rclone"));
    let second = drivers.lease("rclone:latest");
    let _legacy = drivers.lease("rclone");
    assert_eq!(drivers.leases("rclone:latest"), 2);
    drivers.unregister("rclone:latest");
    assert_eq!(drivers.leases("rclone"), 2);
    drop(first);
    assert_eq!(drivers.leases("rclone"), 1);
    drop(second);
    assert_eq!(drivers.leases("rclone"), 0);
}

#[test]
fn what_nobody_needs_is_forgotten() {
    let drivers = Drivers::new();
    drop(drivers.lease("a"));
    drivers.unregister("b");
    assert!(drivers.0.slots().is_empty());
}

#[test]
fn numbers_live_as_long_as_their_plugin() {
    let drivers = Drivers::new();
    let names = || drivers.calls().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    let lease = drivers.lease("rclone:latest");
    assert_eq!(names(), [""; 0], "a volume alone has no driver");
    drivers.register(registration("rclone"));
    let first = Arc::clone(&drivers.calls()[0].1);
    let kept = || drivers.calls().iter().any(|(_, calls)| Arc::ptr_eq(calls, &first));
    drivers.register(registration("rclone"));
    assert!(kept(), "the plugin was started again");
    drivers.disable("rclone");
    assert!(kept() && names() == ["rclone:latest"], "the plugin is disabled");
    drivers.register(registration("rclone"));
    assert!(kept(), "the plugin is enabled again");
    drivers.unregister("rclone");
    assert_eq!(names(), [""; 0], "the plugin is gone, its volume is not");
    drivers.register(registration("rclone"));
    assert!(!kept(), "another plugin of the same name");
    drop(lease);
}

#[test]
fn what_counts_on_a_former_name_counts_on_the_driver_that_had_it() {
    let drivers = Drivers::new();
    drivers.register(registration("a"));
    let first = Arc::clone(&drivers.calls()[0].1);
    let lease = drivers.lease("a:latest");
    drivers.rename("a", "b", Some(registration("b")));
    drivers.rename("b", "c", Some(registration("c")));
    assert_eq!(drivers.names(), ["c:latest"]);
    assert!(Arc::ptr_eq(&drivers.calls()[0].1, &first), "its numbers go on");
    for name in ["a", "b", "c"] {
        assert_eq!(drivers.leases(name), 1, "{name}");
    }
    assert!(drivers.lookup("a").is_err(), "whoever types the name means another one");
    let moves = drivers.moves();
    assert_eq!(
        ["a:latest", "b:latest", "c:latest", "d"].map(|name| moves.now(name)),
        ["c:latest", "c:latest", "c:latest", "d"]
    );
    drivers.rename("c", "d", None);
    assert!(drivers.lookup("d").unwrap_err().to_string().ends_with("plugin d found but disabled"));
    assert_eq!(drivers.now("a:latest"), "d:latest");
    drop(lease);
    assert_eq!(drivers.leases("d"), 0);
}

#[test]
fn a_name_that_somebody_has_again_leads_nowhere() {
    let drivers = Drivers::new();
    drivers.moved("a", "b");
    assert_eq!(
        (drivers.now("a:latest").as_str(), drivers.names()),
        ("b:latest", vec![]),
        "whether or not it is there"
    );
    drivers.disable("a");
    assert_eq!(drivers.now("a:latest"), "a:latest");
    drivers.moved("x", "y");
    drivers.moved("y", "x");
    let led = drivers.now("x:latest");
    assert!(led == "x:latest" || led == "y:latest", "a circle ends: {led}");
}

#[tokio::test]
async fn the_driver_of_a_former_name_is_found_where_it_was_written_down() {
    let drivers = Drivers::new();
    drivers.register(registration("a"));
    drivers.rename("a", "b", Some(registration("b")));
    assert_eq!(drivers.recorded("a:latest").await.unwrap().name(), "b:latest");
    assert!(drivers.find("a:latest").await.is_err());
    assert!(matches!(drivers.heir("a:latest", None).await, Some(Heir::Renamed(now)) if now == "b:latest"));
    assert!(drivers.heir("b:latest", None).await.is_none());
}
