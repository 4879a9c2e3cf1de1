//! A real plugin, made of this machine's rclone: the story of `make demo`, and what rclone says of its volumes.

use std::fs;

use serde_json::json;

use crate::support::daemon::Daemon;
use crate::support::plugin;

#[test]
fn rclone_serves_volumes_in_memory() {
    let daemon = Daemon::start();
    let docker = daemon.docker();
    let context = daemon.place().join("rclone");
    plugin::write_rclone(&context);
    let (config, cache) = (daemon.place().join("rclone-config"), daemon.place().join("rclone-cache"));
    fs::create_dir(&config).unwrap();
    fs::create_dir(&cache).unwrap();

    assert_eq!(docker.ok(&["plugin", "create", "rclone", context.to_str().unwrap()]), "rclone");
    let config = format!("config.source={}", config.display());
    let cache = format!("cache.source={}", cache.display());
    assert_eq!(docker.ok(&["plugin", "set", "rclone", &config, &cache]), "");
    assert_eq!(docker.ok(&["plugin", "enable", "rclone"]), "rclone");
    assert_eq!(docker.ok(&["volume", "create", "-d", "rclone", "-o", "type=memory", "data"]), "data");

    let shown = daemon.http().look("/volumes/data");
    assert_eq!(shown["Driver"], "rclone:latest");
    assert_eq!(shown["Options"], json!({"type": "memory"}));
    let mountpoint = shown["Mountpoint"].as_str().unwrap();
    // On the host here, in the plugin for dockerd.
    assert!(
        mountpoint.ends_with(if daemon.is_ours() { "/propagated-mount/data" } else { "/mnt/data" }),
        "{shown}"
    );
    assert_eq!(shown["Status"], json!({"Mounts": []}));
    assert!(shown["CreatedAt"].as_str().unwrap().starts_with("20"), "rclone knows when it was made: {shown}");
    assert_eq!(docker.ok(&["volume", "ls", "--filter", "driver=rclone:latest", "-q"]), "data");

    let refused = docker.fails(&["volume", "create", "-d", "rclone", "-o", "type=nonsense", "bad"]);
    assert!(refused.starts_with("create bad: VolumeDriver.Create: "), "{refused}");
    assert_eq!(docker.ok(&["volume", "rm", "data"]), "data");
    assert_eq!(docker.ok(&["plugin", "disable", "rclone"]), "rclone");
    assert_eq!(docker.ok(&["plugin", "rm", "rclone"]), "rclone");
}
