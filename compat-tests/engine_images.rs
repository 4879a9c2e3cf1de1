//! Files and images go in and come out through dockplugd: archives of containers, builds, and whole images as tars.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::archive::{Entry, Tar};
use crate::support::engine_world::{RUN, World, command};
use crate::support::{process, until};

/// The names in a tar; of a directory without the slash that some engines write.
fn names(tar: &[u8]) -> Vec<String> {
    let mut list = Command::new(process::program("tar"));
    let mut list = list.arg("-t").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = list.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || drop(input.write_all(tar)));
        list.wait_with_output().unwrap()
    });
    assert!(output.status.success());
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|name| name.trim_end_matches('/').to_owned())
        .collect()
}

/// The bytes a command writes, which must succeed.
fn bytes(mut command: Command) -> Vec<u8> {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn files_are_copied_in_and_out_and_into_a_plugins_volume() {
    let Some(world) = World::new() else { return };
    let docker = world.docker();
    world.daemon.run("tiny", &world.daemon.tiny());
    let file = world.daemon.place().join("file");
    fs::write(&file, "text\n").unwrap();
    let file = file.to_str().unwrap();
    docker.ok(&command(
        "create",
        &["--name", "one", "-v", "data:/data", "--volume-driver", "tiny"],
        "/bin/busybox mkdir /made; exec /bin/busybox sleep 1000",
    ));
    let read = |path: &str| docker.ok(&["exec", "one", "/bin/busybox", "cat", path]);
    // Into a container that does not run yet: the volume is there as long as that takes.
    docker.ok(&["cp", file, "one:/data/before"]);
    until("it is unmounted", || (world.staged() == 0).then_some(()));
    docker.ok(&["start", "one"]);
    assert_eq!(read("/data/before"), "text");
    until("it has made a directory", || {
        docker.run(&["exec", "one", "/bin/busybox", "ls", "/made"]).code.filter(|code| *code == 0)
    });
    for (to, at) in [
        ("/data", "/data/file"),
        ("/data/new", "/data/new"),
        ("/made/", "/made/file"),
        ("/made/new", "/made/new"),
    ] {
        docker.ok(&["cp", file, &format!("one:{to}")]);
        assert_eq!(read(at), "text", "cp to {to}");
    }
    let tar = Tar::new().with(&Entry::directory("d")).with(&Entry::file("d/streamed", b"of tar")).end();
    for directory in ["/data", "/made"] {
        let said = docker.feed(&["cp", "-", &format!("one:{directory}")], &tar);
        assert_eq!(said.code, Some(0), "{said:?}");
        assert_eq!(read(&format!("{directory}/d/streamed")), "of tar");
        let streamed = bytes(docker.command(&["cp", &format!("one:{directory}/d"), "-"]));
        assert_eq!(names(&streamed), ["d", "d/streamed"], "{directory}");
        let out = world.daemon.place().join("out");
        docker.ok(&["cp", "-L", &format!("one:{directory}/file"), out.to_str().unwrap()]);
        assert_eq!(fs::read_to_string(&out).unwrap(), "text\n", "{directory}");
    }
    assert!(docker.fails(&["cp", "-", "one:/data/file"]).contains("must be a directory"));
    assert_ne!(docker.run(&["cp", "one:/nosuch", "-"]).code, Some(0));
    docker.ok(&["rm", "-f", "one"]);
    until("nobody uses it", || (docker.run(&["volume", "rm", "data"]).code == Some(0)).then_some(()));
}

#[test]
fn an_image_is_built_and_its_own_volume_is_ours() {
    let Some(world) = World::new() else { return };
    let docker = world.docker();
    let context = world.daemon.place().join("context");
    fs::create_dir(&context).unwrap();
    // More than fits into any buffer on the way.
    fs::write(context.join("large"), "0123456789abcdef".repeat(1 << 20)).unwrap();
    fs::write(context.join("file"), "text\n").unwrap();
    let steps = "FROM box\nCOPY file large /copied/\nRUN [\"/bin/busybox\", \"sh\", \"-c\", \"echo ran > /ran\"]\n\
        VOLUME /own\nCMD [\"/bin/busybox\", \"cat\", \"/copied/file\", \"/ran\"]\n";
    fs::write(context.join("Dockerfile"), steps).unwrap();
    // With the builder of the engine's, and with whichever the CLI takes by itself.
    for builder in ["0", ""] {
        let mut build = docker.command(&["build", "--no-cache", "-t", "built", context.to_str().unwrap()]);
        if !builder.is_empty() {
            build.env("DOCKER_BUILDKIT", builder);
        }
        let output = build.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        assert!(said.contains("Successfully tagged built"), "{said}");
    }
    let mut run = vec!["run", "--name", "one"];
    run.extend(RUN);
    run.push("built");
    assert_eq!(docker.ok(&run), "text\nran");
    let mounts: Value =
        serde_json::from_str(&docker.ok(&["inspect", "-f", "{{json .Mounts}}", "one"])).unwrap();
    assert_eq!(
        (&mounts[0]["Type"], &mounts[0]["Destination"]),
        (&"volume".into(), &"/own".into()),
        "{mounts}"
    );
    assert_eq!(world.volumes_of_engine(), "");
    let own = mounts[0]["Name"].as_str().unwrap();
    assert_eq!(docker.ok(&["volume", "ls", "-q", "--filter", "dangling=false"]), own);
    docker.ok(&["rm", "-v", "one"]);
    assert_eq!(docker.ok(&["volume", "ls", "-q"]), "");

    fs::write(context.join("Dockerfile"), "FROM box\nRUN [\"/bin/busybox\", \"false\"]\n").unwrap();
    let failed = docker.run(&["build", context.to_str().unwrap()]);
    let straight = world.straight().run(&["build", context.to_str().unwrap()]);
    assert_eq!(failed.code, straight.code, "{failed:?}");
    assert_ne!(failed.code, Some(0));
}

#[test]
fn images_are_tagged_saved_loaded_exported_and_imported() {
    let Some(world) = World::new() else { return };
    let docker = world.docker();
    let tags = || docker.ok(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    docker.ok(&["tag", "box", "other:tag"]);
    assert!(tags().contains("other:tag"), "{}", tags());
    let saved = bytes(docker.command(&["save", "other:tag"]));
    assert!(names(&saved).contains(&"manifest.json".to_owned()));
    docker.ok(&["rmi", "other:tag"]);
    assert!(!tags().contains("other:tag"), "{}", tags());
    let loaded = docker.feed(&["load"], &saved);
    assert_eq!(loaded.code, Some(0), "{loaded:?}");
    assert!(loaded.out.contains("Loaded image") && tags().contains("other:tag"), "{loaded:?}, {}", tags());

    docker.ok(&command("create", &["--name", "one", "-v", "data:/data"], "true"));
    let exported = world.daemon.place().join("exported.tar");
    docker.ok(&["export", "-o", exported.to_str().unwrap(), "one"]);
    let exported = fs::read(&exported).unwrap();
    assert!(names(&exported).contains(&"bin/busybox".to_owned()), "{:?}", names(&exported));
    let imported = docker.feed(&["import", "-", "imported:1"], &exported);
    assert_eq!(imported.code, Some(0), "{imported:?}");
    let mut run = vec!["run", "--rm"];
    run.extend(RUN);
    run.extend(["imported:1", "/bin/busybox", "echo", "from a tar"]);
    assert_eq!(docker.ok(&run), "from a tar");

    // podman 4.3 wants a body that the CLI does not send.
    let [straight, through] =
        [world.straight(), docker.clone()].map(|docker| docker.run(&["commit", "one", "committed"]));
    assert_eq!((through.code, &through.err), (straight.code, &straight.err));
    assert_eq!(through.code == Some(0), !world.engine.is_podman(), "{through:?}");
    if through.code == Some(0) {
        assert_eq!(docker.ok(&["image", "inspect", "-f", "{{.Id}}", "committed"]), through.out);
    }
}

#[test]
fn volumes_are_shared_and_go_with_their_container() {
    let Some(world) = World::new() else { return };
    let docker = world.docker();
    world.daemon.run("tiny", &world.daemon.tiny());
    let mount = "type=volume,src=data,dst=/data,volume-driver=tiny";
    let script = "echo text > /data/file; echo own > /own/file; exec /bin/busybox sleep 1000";
    docker.ok(&command("run", &["-d", "--name", "one", "--mount", mount, "-v", "/own"], script));
    assert_eq!(docker.ok(&["volume", "inspect", "-f", "{{.Driver}}", "data"]), "tiny:latest");
    let read =
        "while [ ! -e /own/file ]; do /bin/busybox usleep 10000; done; /bin/busybox cat /data/file /own/file";
    assert_eq!(world.run(&["--rm", "--volumes-from", "one"], read), "text\nown");
    assert_eq!(
        world.run(&["--rm", "--volumes-from", "one:ro"], "touch /data/x 2>/dev/null || echo refused"),
        "refused"
    );
    docker.ok(&["volume", "create", "unused"]);
    assert_eq!(docker.ok(&["volume", "ls", "-q", "--filter", "dangling=true"]), "unused");
    assert_eq!(docker.ok(&["volume", "ls", "-q", "--filter", "dangling=false"]).lines().count(), 2);
    docker.ok(&["volume", "rm", "unused"]);
    docker.ok(&["rm", "-fv", "one"]);
    assert_eq!(docker.ok(&["volume", "ls", "-q"]), "data");
    assert_eq!(docker.ok(&["volume", "ls", "-q", "--filter", "dangling=true"]), "data");
    assert_eq!(docker.ok(&["volume", "rm", "data"]), "data");
    assert_eq!((world.volumes_of_engine(), world.staged()), (String::new(), 0));
}
