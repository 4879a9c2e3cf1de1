//! The workflow of the documentation of managed plugins, on our socket alone: an image is built, its files become a
//! plugin, which is pushed, installed, and serves a container.

use std::fs;
use std::process::Stdio;

use crate::support::engine_world::{RUN, World};
use crate::support::process;
use crate::support::registry::Registry;

#[test]
fn a_plugin_is_developed_on_one_socket() {
    let Some(world) = World::new() else { return };
    let docker = world.docker();
    let (source, plugin) = (world.daemon.place().join("source"), world.daemon.place().join("plugin"));
    world.daemon.tiny().write(&source);
    fs::write(source.join("Dockerfile"), "FROM scratch\nCOPY rootfs/ /\n").unwrap();
    docker.ok(&["build", "-t", "rootfsimage", source.to_str().unwrap()]);

    let id = docker.ok(&["create", "rootfsimage", "true"]);
    fs::create_dir_all(plugin.join("rootfs")).unwrap();
    let mut export = docker.command(&["export", &id]).stdout(Stdio::piped()).spawn().unwrap();
    let mut tar = std::process::Command::new(process::program("tar"));
    tar.arg("-x").arg("-C").arg(plugin.join("rootfs")).stdin(export.stdout.take().unwrap());
    assert!(tar.status().unwrap().success());
    assert!(export.wait().unwrap().success());
    docker.ok(&["rm", "-vf", &id]);
    docker.ok(&["rmi", "rootfsimage"]);
    assert_eq!(fs::read(plugin.join("rootfs/tiny")).unwrap(), fs::read(source.join("rootfs/tiny")).unwrap());

    fs::copy(source.join("config.json"), plugin.join("config.json")).unwrap();
    let registry = Registry::open();
    let name = registry.name("team/tiny:1");
    docker.ok(&["plugin", "create", &name, plugin.to_str().unwrap()]);
    docker.ok(&["plugin", "enable", &name]);
    docker.ok(&["plugin", "push", &name]);
    docker.ok(&["plugin", "rm", "-f", &name]);
    assert_eq!(docker.ok(&["plugin", "ls", "-q"]), "");

    docker.ok(&["plugin", "install", "--grant-all-permissions", &name]);
    docker.ok(&["volume", "create", "-d", &name, "vol"]);
    let run = |script: &str| {
        let mut arguments = vec!["run", "--rm", "-v", "vol:/data"];
        arguments.extend(RUN);
        arguments.extend(["box", "/bin/busybox", "sh", "-c", script]);
        docker.ok(&arguments)
    };
    run("echo text > /data/file");
    assert_eq!(run("/bin/busybox ls /data; /bin/busybox cat /data/file"), "file\ntext");
    assert_eq!(world.volumes_of_engine(), "");
}
