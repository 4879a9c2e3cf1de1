//! Local volumes with a file system of their own: mounted at the first use, once, detached after the last. The mounts,
//! the devices and the directories are real.
//!
//! What a client reads of options is the same on dockerd, where a container uses the volume.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::support::archive::{Entry, Tar};
use crate::support::daemon::Daemon;
use crate::support::local::{Disk, act, data, layers, make, mounted, tmpfs, unmount};

#[test]
fn every_kind_of_file_system_is_mounted_once_and_keeps_its_data() {
    let Some(daemon) = Daemon::ours() else { return };
    let place = daemon.place().to_owned();
    for directory in ["host", "lower", "upper", "work"] {
        fs::create_dir(place.join(directory)).unwrap();
    }
    fs::write(place.join("lower/below"), "lower").unwrap();
    let disk = Disk::new(&place.join("image"));
    let overlay = format!("lowerdir={0}/lower,upperdir={0}/upper,workdir={0}/work", place.display());
    let table = [
        ("scratch", tmpfs(), "tmpfs", "size=1024k", None),
        (
            "bound",
            json!({"type": "none", "device": place.join("host"), "o": "bind"}),
            "",
            "",
            Some("host/file"),
        ),
        (
            "layered",
            json!({"type": "overlay", "device": "overlay", "o": overlay}),
            "overlay",
            "upperdir=",
            Some("upper/file"),
        ),
        ("disk", json!({"type": "ext4", "device": disk.device, "o": "noatime"}), "ext4", "noatime", None),
    ];
    for (volume, options, kind, word, file) in table {
        make(&daemon, volume, &options);
        let own = data(&daemon, volume);
        assert!(layers(&own).is_empty(), "nothing is mounted before the first use");
        assert_eq!(mounted(&daemon, volume, "one"), own);
        assert_eq!(mounted(&daemon, volume, "two"), own);
        let line = layers(&own).join("\n");
        assert!(line.lines().count() == 1 && line.contains(kind) && line.contains(word), "{volume}: {line}");
        fs::write(own.join("file"), volume).unwrap();
        let refused = daemon.http().ask("DELETE", &format!("/volumes/{volume}?force=1"));
        let text = format!("remove {volume}: volume is in use - [one, two]");
        assert_eq!((refused.status, refused.message()), (409, text));
        unmount(&daemon, volume, "one");
        assert_eq!(fs::read_to_string(own.join("file")).unwrap(), volume);
        unmount(&daemon, volume, "two");
        assert!(layers(&own).is_empty() && !own.join("file").exists());
        if let Some(file) = file {
            assert_eq!(fs::read_to_string(place.join(file)).unwrap(), volume);
        }
    }
    let again = mounted(&daemon, "disk", "one");
    assert_eq!(fs::read_to_string(again.join("file")).unwrap(), "disk");
    unmount(&daemon, "disk", "one");
    for volume in ["scratch", "bound", "layered", "disk"] {
        daemon.docker().ok(&["volume", "rm", volume]);
    }
    assert_eq!(fs::read_to_string(place.join("host/file")).unwrap(), "bound");
    assert_eq!(fs::read_to_string(place.join("lower/below")).unwrap(), "lower");
}

#[test]
fn neither_df_nor_prune_looks_into_what_is_mounted() {
    let daemon = Daemon::start();
    fs::create_dir(daemon.place().join("host")).unwrap();
    fs::write(daemon.place().join("host/precious"), "x").unwrap();
    make(&daemon, "bound", &json!({"type": "none", "device": daemon.place().join("host"), "o": "bind"}));
    make(&daemon, "plain", &json!({}));
    let usage = daemon.http().look("/v1.41/system/df");
    let names: Vec<_> = usage["Volumes"].as_array().unwrap().iter().map(|volume| &volume["Name"]).collect();
    assert_eq!(names, ["plain"]);
    let pruned = daemon.http().ask("POST", "/v1.41/volumes/prune").json();
    assert_eq!(pruned["VolumesDeleted"], json!(["plain"]));
    assert_eq!(daemon.http().ask("DELETE", "/volumes/bound").status, 204);
    assert!(daemon.place().join("host/precious").exists());
}

#[test]
fn options_are_refused_as_dockerd_refuses_them() {
    let daemon = Daemon::start();
    for (options, message) in [
        (json!({"color": "red"}), r#"invalid option: "color""#),
        (json!({"type": "nfs"}), r#"missing required option: "device""#),
        (json!({"device": "/x"}), r#"missing required option: "type""#),
        (json!({"o": "password=hunter2", "device": "/x"}), r#"missing required option: "type""#),
        (json!({"size": "hello"}), "invalid size: 'hello'"),
        (json!({"size": "1m"}), "quota size requested but no quota support"),
    ] {
        let answer = daemon.volume(&json!({"Name": "data", "DriverOpts": options}));
        daemon.assert_refused(&answer, 400, &format!("create data: {message}"));
    }
    make(&daemon, "data", &json!({"size": "0"}));
}

#[test]
fn a_size_of_what_is_mounted_is_refused() {
    let Some(daemon) = Daemon::ours() else { return };
    let options = |size: &str| json!({"type": "tmpfs", "device": "tmpfs", "size": size});
    let answer = daemon.volume(&json!({"Name": "data", "DriverOpts": options("1m")}));
    let message = answer.message();
    assert_eq!(answer.status, 400, "{message}");
    assert!(message.starts_with("create data: \"size\" limits a volume's own directory"), "{message}");
    assert!(message.ends_with("in \"o\", as in \"o=size=100m\""), "{message}");
    make(&daemon, "data", &options("0"));
    make(&daemon, "told", &json!({"type": "tmpfs", "device": "tmpfs", "o": "size=1m"}));
}

/// What is said when the volume `data` is used for the first time. dockerd uses it for a container.
fn refusal(daemon: &Daemon) -> String {
    if daemon.is_ours() {
        let answer = act(&daemon.http(), "mount", "data", "one");
        assert_eq!(answer.status, 500, "{}", answer.text());
        let message = answer.message();
        return message.strip_prefix("mount data: ").unwrap_or(&message).to_owned();
    }
    let docker = daemon.docker();
    let container = docker.ok(&["create", "--network=none", "-v", "data:/data", "image", "/none"]);
    let said = docker.fails(&["start", &container]);
    docker.ok(&["rm", &container]);
    let said = said.lines().next().unwrap_or_default();
    said.split_once("_data': ").map_or(said, |(_, reason)| reason).to_owned()
}

#[test]
fn errors_are_dockerds_and_tell_no_password() {
    let daemon = Daemon::start();
    if !daemon.is_ours() {
        let image = daemon.place().join("image.tar");
        fs::write(&image, Tar::new().with(&Entry::file("none", b"")).end()).unwrap();
        daemon.docker().ok(&["import", image.to_str().unwrap(), "image"]);
    }
    let begin = "failed to mount local volume: mount ";
    for (kind, device, o, expected) in [
        ("none", "/nowhere", "bind,ro", ("/nowhere", ", flags: 0x1001: no such file or directory")),
        ("none", "/proc/version", "bind", ("/proc/version", ", flags: 0x1000: not a directory")),
        ("nope", "x", "", ("x", ": no such device")),
        ("tmpfs", "tmpfs", "size=x,ro", ("tmpfs", ", flags: 0x1, data: size=x: invalid argument")),
        ("tmpfs", "tmpfs", "defaults", ("tmpfs", ", data: defaults: invalid argument")),
        ("ext4", "/dev/nope", "", ("/dev/nope", ": no such file or directory")),
        (
            "overlay",
            "overlay",
            "lowerdir=/nope",
            ("overlay", ", data: lowerdir=/nope: no such file or directory"),
        ),
        // What the kernel says then depends on whether it has an NFS client, and on who listens.
        ("nfs", ":/path", "addr=localhost,rw,soft", (":/path", ", data: addr=127.0.0.1,soft: ")),
    ] {
        make(&daemon, "data", &json!({"type": kind, "device": device, "o": o}));
        let own = data(&daemon, "data");
        let expected = format!("{begin}{}:{}{}", expected.0, own.display(), expected.1);
        let said = refusal(&daemon);
        let is_whole = kind != "nfs";
        assert!(if is_whole { said == expected } else { said.starts_with(&expected) }, "{said}\n{expected}");
        assert!(layers(&own).is_empty());
        assert_eq!(daemon.http().ask("DELETE", "/volumes/data").status, 204);
    }
    make(&daemon, "data", &json!({"type": "nfs", "device": ":/path", "o": "addr=nope.invalid"}));
    let said = refusal(&daemon);
    let begin = "error resolving passed in network volume address: lookup nope.invalid";
    assert!(said.starts_with(begin), "{said}");
    assert_eq!(daemon.http().ask("DELETE", "/volumes/data").status, 204);
    make(&daemon, "data", &json!({"type": "tmpfs", "device": "", "o": ""}));
    assert_eq!(refusal(&daemon), "missing device in volume options");
}

#[test]
fn no_password_is_told_anywhere() {
    let Some(daemon) = Daemon::ours_with(&["--debug"]) else { return };
    let options =
        json!({"type": "cifs", "device": "//me:hunter2@127.0.0.1/s", "o": "pass=hunter2,password=hunter2"});
    make(&daemon, "data", &options);
    let said = refusal(&daemon);
    assert!(
        said.contains("//me:********@127.0.0.1/s") && said.contains("pass=********,password=********"),
        "{said}"
    );
    assert_eq!(daemon.http().ask("DELETE", "/volumes/data").status, 204);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let until = format!("{}.{:09}", now.as_secs(), now.subsec_nanos());
    let events = daemon.http().ask("GET", &format!("/events?since=1&until={until}")).text();
    assert!(events.contains("destroy"), "{events}");
    for told in [said, daemon.log(), events] {
        assert!(!told.contains("hunter2"), "{told}");
    }
}

#[test]
fn commands_tell_where_the_data_is() {
    let Some(daemon) = Daemon::ours() else { return };
    make(&daemon, "data", &tmpfs());
    let run = |arguments: &[&str]| {
        let mut command = Command::new(Daemon::program_of_ours());
        command.args(arguments).env("DOCKER_HOST", format!("unix://{}", daemon.socket().display()));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        PathBuf::from(String::from_utf8(output.stdout).unwrap().trim_end())
    };
    let place = run(&["mount", "data"]);
    assert_eq!(place, data(&daemon, "data"));
    assert!(layers(&place).join("").contains("tmpfs"));
    run(&["umount", "data"]);
    assert!(layers(&place).is_empty());
}
