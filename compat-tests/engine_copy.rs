//! The first use of an empty volume in front of podman: it gets what the image has at its place, as from dockerd.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::thread;

use crate::support::archive::{Entry, Tar, pax_record};
use crate::support::engine_world::{RUN, World, command};
use crate::support::{process, until};

/// How many files the large directory of the image has.
const FILES: usize = 2000;

/// Brings an image `full`: `/srv` with owners, modes and links, `/many` with many files, `/own` which is its volume.
fn bring_image(world: &World) {
    let busybox = fs::read(process::program("busybox")).unwrap();
    let owned = |id: &str| [pax_record("uid", id), pax_record("gid", id)].concat();
    let mut tar = Tar::new()
        .with(&Entry::directory("bin"))
        .with(&Entry::file("bin/busybox", &busybox))
        .with_pax(&owned("33"))
        .with(&Entry::directory("srv"))
        .with_pax(&owned("1234"))
        .with(&Entry::file("srv/file", b"text"))
        .with(&Entry::symlink("srv/link", "/etc/passwd"))
        .with(&Entry::hardlink("srv/tool", "bin/busybox"))
        .with(&Entry::fifo("srv/pipe"))
        .with(&Entry::directory("srv/deep"))
        .with(&Entry::file("srv/deep/er", b"deeper"))
        .with(&Entry::directory("var"))
        .with(&Entry::symlink("var/www", "../srv"))
        .with(&Entry::directory("own"))
        .with(&Entry::file("own/mine", b"own"))
        .with(&Entry::directory("many"));
    for number in 0..FILES {
        tar.push(&Entry::file(&format!("many/{number}"), number.to_string().as_bytes()));
    }
    let file = world.daemon.place().join("full.tar");
    fs::write(&file, tar.end()).unwrap();
    world.docker().ok(&["import", "-c", "VOLUME /own", &file.display().to_string(), "full"]);
}

fn create<'a>(flags: &[&'a str]) -> Vec<&'a str> {
    [&["create"], &RUN[..], flags, &["full", "/bin/busybox", "true"]].concat()
}

/// Where a local volume's files are.
fn of_volume(world: &World, name: &str) -> PathBuf {
    world.docker().ok(&["volume", "inspect", "-f", "{{.Mountpoint}}", name]).into()
}

fn names(directory: &Path) -> Vec<String> {
    let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

/// No container but these is left in podman, and no volume.
fn assert_clean(world: &World, containers: usize) {
    assert_eq!(world.engine.ok(&["ps", "-aq"]).lines().count(), containers);
    assert_eq!(world.volumes_of_engine(), "");
    assert_eq!(world.staged(), 0);
}

#[test]
fn an_empty_volume_gets_what_the_image_has() {
    let Some(world) = World::new() else { return };
    bring_image(&world);
    let docker = world.docker();
    docker.ok(&create(&["-v", "data:/srv"]));
    let data = of_volume(&world, "data");
    assert_eq!(names(&data), ["deep", "file", "link", "pipe", "tool"]);
    let own = fs::metadata(&data).unwrap();
    assert_eq!((own.uid(), own.gid(), own.mode() & 0o7777), (33, 33, 0o755));
    let file = fs::metadata(data.join("file")).unwrap();
    assert_eq!((file.uid(), file.gid(), file.mode() & 0o7777), (1234, 1234, 0o755));
    assert_eq!(fs::read(data.join("tool")).unwrap(), fs::read(process::program("busybox")).unwrap());
    assert_eq!(fs::read_link(data.join("link")).unwrap(), Path::new("/etc/passwd"));
    assert_eq!(fs::read_to_string(data.join("deep/er")).unwrap(), "deeper");

    // Through links of the image, for reading only, and below it.
    docker.ok(&create(&["-v", "linked:/var/www:ro", "-v", "below:/var/www/deep"]));
    assert_eq!(names(&of_volume(&world, "linked")), names(&data));
    assert_eq!(names(&of_volume(&world, "below")), ["er"]);
    // Not where something is, nothing is to be, or there is nothing.
    fs::remove_file(data.join("file")).unwrap();
    docker.ok(&create(&["-v", "data:/srv", "-v", "bare:/srv2:nocopy", "-v", "none:/nothing"]));
    docker.ok(&create(&["--mount", "type=volume,src=bare,dst=/srv,volume-nocopy"]));
    assert!(!data.join("file").exists());
    assert!(names(&of_volume(&world, "bare")).is_empty() && names(&of_volume(&world, "none")).is_empty());
    // The image's own.
    let anonymous = docker.ok(&["volume", "ls", "-q", "--filter", "label=com.docker.volume.anonymous"]);
    assert_eq!(anonymous.lines().count(), 4);
    for name in anonymous.lines() {
        assert_eq!(names(&of_volume(&world, name)), ["mine"]);
    }
    let refusal = docker.fails(&create(&["-v", "bad:/srv/file"]));
    assert_eq!(refusal, "cannot mount volume over existing file, file exists /srv/file");
    assert_clean(&world, 4);
}

#[test]
fn a_plugins_volume_gets_it_too_and_the_image_cannot_lead_it_elsewhere() {
    let Some(world) = World::new() else { return };
    bring_image(&world);
    let (docker, daemon) = (world.docker(), &world.daemon);
    daemon.run("tiny", &daemon.tiny());
    docker.ok(&["volume", "create", "-d", "tiny", "data"]);
    docker.ok(&create(&["-v", "data:/srv"]));
    assert_eq!(world.staged(), 0);
    let said = world.run(&["--rm", "-v", "data:/d"], "/bin/busybox cat /d/file /d/deep/er; echo x > /d/file");
    assert_eq!(said, "textdeeper");
    docker.ok(&create(&["-v", "data:/srv"]));
    let said = world.run(&["--rm", "-v", "data:/d"], "/bin/busybox cat /d/file");
    assert_eq!(said, "x");
    // A local volume that is a file system is mounted for it.
    let srv = daemon.place().join("srv");
    fs::create_dir(&srv).unwrap();
    let device = format!("device={}", srv.display());
    docker.ok(&["volume", "create", "-o", "type=none", "-o", "o=bind", "-o", &device, "bound"]);
    docker.ok(&create(&["-v", "bound:/srv"]));
    assert_eq!(names(&srv).len(), 5);
    assert!(names(&of_volume(&world, "bound")).is_empty());
}

#[test]
fn many_at_once_fill_a_volume_once() {
    let Some(world) = World::new() else { return };
    bring_image(&world);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| world.docker().ok(&create(&["-v", "data:/many"])));
        }
    });
    assert_eq!(names(&of_volume(&world, "data")).len(), FILES);
    assert_clean(&world, 4);
}

#[test]
fn half_a_copy_does_not_count() {
    let Some(mut world) = World::new() else { return };
    bring_image(&world);
    let docker = world.docker();
    for round in 0..4 {
        let name = format!("data{round}");
        let mount = format!("{name}:/many");
        docker.ok(&["volume", "create", &name]);
        let place = of_volume(&world, &name);
        thread::scope(|scope| {
            let created = scope.spawn(|| docker.run(&create(&["-v", &mount])));
            until("something is copied", || {
                (fs::read_dir(&place).unwrap().next().is_some() || created.is_finished()).then_some(())
            });
            world.daemon.kill();
            created.join().unwrap();
        });
        world.daemon.launch();
        if round == 3 {
            // Whoever uses it as it is does not get half.
            docker.ok(&[
                "run",
                "--rm",
                "--network",
                "none",
                "-v",
                &mount.replace("/many", "/d:nocopy"),
                "full",
                "/bin/busybox",
                "true",
            ]);
            assert!(matches!(names(&place).len(), 0 | FILES), "{}", names(&place).len());
        }
        docker.ok(&create(&["-v", &mount]));
        assert_eq!(names(&place).len(), FILES, "round {round}");
        for number in 0..FILES {
            assert_eq!(fs::read_to_string(place.join(number.to_string())).unwrap(), number.to_string());
        }
    }
    // What was only to show the image is gone too.
    until("podman has what we have", || {
        let theirs = world.engine.ok(&["ps", "-a", "--format", "{{.Names}}"]);
        (!theirs.contains("dockplug-copy")).then_some(())
    });
    assert_eq!(world.volumes_of_engine(), "");
}

#[test]
fn a_part_of_a_volume_is_mounted_and_leads_nowhere_else() {
    let Some(world) = World::new() else { return };
    let docker = world.docker();
    docker.ok(&["volume", "create", "data"]);
    let data = of_volume(&world, "data");
    fs::create_dir_all(data.join("sub/dir")).unwrap();
    fs::write(data.join("sub/dir/file"), "text").unwrap();
    symlink("/", data.join("out")).unwrap();
    let part = |subpath: &str| format!("type=volume,src=data,dst=/d,volume-subpath={subpath}");
    let said = world.run(&["--rm", "--mount", &part("sub/dir")], "/bin/busybox cat /d/file");
    assert_eq!(said, "text");
    let absent = format!("cannot access path {}/none: no such file or directory", data.display());
    let outside = "path concatenation escapes the base directory, base: ";
    for (subpath, expected) in [("none", absent.as_str()), ("out", outside), ("../..", outside)] {
        let said = docker.run(&command("run", &["--rm", "--mount", &part(subpath)], "true"));
        assert!(said.code != Some(0) && said.err.contains(expected), "{said:?}");
    }
    until("nothing is mounted", || (world.staged() == 0).then_some(()));
}
