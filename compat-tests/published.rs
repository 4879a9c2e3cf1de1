//! Managed plugins published as legacy sockets: used by a real podman, and by a real dockerd that knows nothing of them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::mount::{MsFlags, mount};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::archive::{Entry, Tar};
use crate::support::cli::Docker;
use crate::support::daemon::{Daemon, Program};
use crate::support::http::{Answer, Http};
use crate::support::podman::Podman;
use crate::support::{plugin, process, until};

/// A daemon that publishes in a directory of its own, which comes first, to be removed when the daemon has ended.
fn publishing() -> Option<(TempDir, Daemon)> {
    (Program::chosen() == Program::Dockplugd).then(start)
}

fn start() -> (TempDir, Daemon) {
    let directory = tempfile::Builder::new().prefix("published").tempdir().unwrap();
    let sockets = directory.path().join("sockets").display().to_string();
    let daemon = Daemon::start_as(Program::Dockplugd, &["--publish-sockets", &sockets]);
    (directory, daemon)
}

/// Where a driver is published.
fn socket(directory: &TempDir, name: &str) -> PathBuf {
    directory.path().join("sockets").join(format!("{name}.sock"))
}

/// Waits until it is there: it appears with the driver, of which the answer to `enable` does not wait.
fn published(directory: &TempDir, name: &str) -> Http {
    let socket = socket(directory, name);
    until("it is published", || std::os::unix::net::UnixStream::connect(&socket).ok());
    Http::new(&socket)
}

fn ask(plugin: &Http, call: &str, body: &Value) -> Answer {
    plugin.json("POST", &format!("/{call}"), body)
}

#[test]
fn podman_uses_a_managed_plugin_and_its_files_stay_while_the_daemon_dies() {
    let Some((directory, mut daemon)) = publishing() else { return };
    let store = plugin::run_rclone(&daemon, "rclone").join("store");
    fs::create_dir(&store).unwrap();
    published(&directory, "rclone");
    let podman = Podman::new(&daemon.place().join("podman"), &[("rclone", &socket(&directory, "rclone"))]);

    let options = ["--driver", "rclone", "-o", "type=local", "-o", "path=/data/cache/store", "data"];
    podman.ok(&[&["volume", "create"][..], &options].concat());
    assert_eq!(podman.ok(&["volume", "ls", "--format", "{{.Driver}} {{.Name}}"]), "rclone data");
    assert_eq!(daemon.http().look("/volumes/data")["Driver"], "rclone:latest", "it is a volume here too");
    podman.shell(&["--rm", "-v", "data:/data"], "echo through podman >/data/file");
    assert_eq!(fs::read_to_string(store.join("file")).unwrap(), "through podman\n");
    assert_eq!(podman.shell(&["--rm", "-v", "data:/data"], "/bin/busybox cat /data/file"), "through podman");

    // A container that goes on while the daemon is killed, started, and ended.
    let fifo = daemon.place().join("go");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    podman.shell(
        &["-d", "--name", "long", "-v", "data:/data", "-v", &format!("{}:/go", fifo.display())],
        "read line </go; echo $line >/data/late; read line </go",
    );
    let refused = daemon.http().ask("DELETE", "/volumes/data");
    assert_eq!(refused.status, 409, "podman uses it: {}", refused.text());
    daemon.kill();
    fs::write(&fifo, "while it was dead\n").unwrap();
    until("the container writes", || {
        fs::read_to_string(store.join("late")).ok().filter(|text| !text.is_empty())
    });
    daemon.launch();
    published(&directory, "rclone");
    assert_eq!(daemon.http().ask("DELETE", "/volumes/data").status, 409, "it is still in use");
    podman.ok(&["rm", "-f", "-t", "0", "long"]);
    until("podman has taken its mount back", || {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        (!mounts.contains(&format!("{}/", daemon.exec_root().join("mounts").display()))).then_some(())
    });
    assert_eq!(
        podman.shell(&["--rm", "-v", "data:/data"], "/bin/busybox cat /data/late"),
        "while it was dead"
    );
    assert_eq!(podman.ok(&["volume", "rm", "data"]), "data");
    assert_eq!(daemon.http().ask("GET", "/volumes/data").status, 404);
}

#[test]
fn a_socket_is_there_while_its_plugin_is_enabled() {
    let Some((directory, mut daemon)) = publishing() else { return };
    let sockets = directory.path().join("sockets");
    assert_eq!(fs::metadata(&sockets).unwrap().permissions().mode() & 0o777, 0o700);
    daemon.run("tiny", &daemon.tiny());
    daemon.run("me/tiny:v2", &daemon.tiny());
    let network = daemon
        .tiny()
        .with("interface", json!({"socket": "tiny.sock", "types": ["docker.networkdriver/1.0"]}));
    daemon.run("net", &network);
    for name in ["tiny", "me/tiny:v2"] {
        let plugin = published(&directory, name);
        assert_eq!(
            ask(&plugin, "Plugin.Activate", &json!({})).json(),
            json!({"Implements": ["VolumeDriver"]})
        );
        let mode = fs::metadata(socket(&directory, name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    assert!(!socket(&directory, "net").exists());
    let gone = |name: &str| {
        until("the socket is gone", || (!socket(&directory, name).exists()).then_some(()));
    };
    assert_eq!(daemon.http().ask("POST", "/plugins/tiny/disable").status, 200);
    gone("tiny");
    assert_eq!(daemon.enable("tiny").status, 200);
    published(&directory, "tiny");
    assert_eq!(daemon.http().ask("DELETE", "/plugins/me/tiny:v2?force=1").status, 200);
    gone("me/tiny:v2");

    // What a killed daemon has left is replaced; where somebody else listens, it is left to them.
    daemon.kill();
    assert!(socket(&directory, "tiny").exists());
    daemon.launch();
    published(&directory, "tiny");
    assert_eq!(daemon.stop(), Some(0));
    assert_eq!(
        fs::read_dir(&sockets).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_file()).count(),
        0
    );
    assert!(!socket(&directory, "tiny").exists());
    let other = UnixListener::bind(socket(&directory, "tiny")).unwrap();
    daemon.launch();
    until("the daemon says so", || daemon.log().contains("cannot publish a volume plugin").then_some(()));
    assert!(socket(&directory, "tiny").exists());
    drop(other);
}

#[test]
fn a_sick_plugin_and_a_hostile_client_harm_nobody() {
    let Some((directory, daemon)) = publishing() else { return };
    daemon.run("tiny", &daemon.tiny());
    daemon.run("sick", &daemon.tiny().mode("hang=Get"));
    daemon.run("liar", &daemon.tiny().mode("climb=/proc/1/root"));
    let [tiny, sick, liar] = ["tiny", "sick", "liar"].map(|name| published(&directory, name));
    assert_eq!(daemon.volume(&json!({"Name": "ours"})).status, 201);
    assert_eq!(ask(&tiny, "VolumeDriver.Create", &json!({"Name": "data"})).status, 200);
    assert_eq!(ask(&liar, "VolumeDriver.Create", &json!({"Name": "lie"})).status, 200);
    let mut hanging = sick.open().unwrap();
    hanging
        .write(b"POST /VolumeDriver.Get HTTP/1.1\r\nHost: p\r\nContent-Length: 14\r\n\r\n{\"Name\":\"data\"}")
        .unwrap();

    let answer = ask(&liar, "VolumeDriver.Mount", &json!({"Name": "lie", "ID": "r"}));
    let words = answer.json()["Err"].as_str().unwrap().to_owned();
    assert!(answer.status == 500 && words.contains("which is refused: it is in /proc"), "{words}");
    for call in ["Get", "Path"] {
        let told = ask(&liar, &format!("VolumeDriver.{call}"), &json!({"Name": "lie"})).json();
        let mountpoint = told.get("Volume").unwrap_or(&told)["Mountpoint"].clone();
        assert_eq!(mountpoint, "", "what cannot be mounted has no place: {told}");
    }
    for name in ["ours", "lie", "none"] {
        let answer = ask(&tiny, "VolumeDriver.Remove", &json!({"Name": name}));
        assert_eq!(answer.status, 500, "{name}: {}", answer.text());
    }
    assert_eq!(daemon.http().ask("GET", "/volumes/ours").status, 200);
    assert_eq!(tiny.send("POST", "/VolumeDriver.Create", "", &vec![b'x'; 2 << 20]).status, 400);
    assert_eq!(tiny.ask("GET", "/volumes").status, 404);
    assert_eq!(tiny.ask("POST", "/volumes/create").status, 404);
    assert!(tiny.raw(b"\x00\x01 no HTTP\r\n\r\n", true).is_none_or(|answer| answer.status == 400));

    // More connections than are served: they wait for their turn, and nobody else does.
    let idle: Vec<_> = (0..70).map(|_| tiny.open().unwrap()).collect();
    assert_eq!(daemon.http().ask("GET", "/volumes/data").status, 200);
    assert_eq!(ask(&liar, "VolumeDriver.List", &json!({})).status, 200);
    drop(idle);
    let listed = ask(&tiny, "VolumeDriver.List", &json!({})).json();
    assert_eq!(listed["Volumes"][0]["Name"], "data", "{listed}");
}

#[test]
fn the_directory_may_be_one_where_legacy_plugins_are_looked_for() {
    if Program::chosen() != Program::Dockplugd {
        return;
    }
    let directory = tempfile::Builder::new().prefix("published").tempdir().unwrap();
    let sockets = directory.path().join("sockets");
    let flags =
        ["--publish-sockets", sockets.to_str().unwrap(), "--legacy-plugins-dir", sockets.to_str().unwrap()];
    let daemon = Daemon::start_as(Program::Dockplugd, &flags);
    daemon.run("tiny", &daemon.tiny());
    published(&directory, "tiny");
    assert_eq!(daemon.volume(&json!({"Name": "data", "Driver": "tiny"})).json()["Driver"], "tiny:latest");
    let listed = daemon.http().look("/volumes");
    assert_eq!(
        (listed["Volumes"].as_array().unwrap().len(), &listed["Warnings"]),
        (1, &Value::Null),
        "{listed}"
    );
    assert_eq!(daemon.http().look("/info")["Plugins"]["Volume"], json!(["local", "tiny:latest"]));
}

/// A real dockerd in a mount namespace of its own, in which `plugins` lies at /run/docker/plugins. Ended when it is
/// dropped.
struct Dockerd {
    child: Child,
    place: TempDir,
}

impl Dockerd {
    fn start(plugins: &Path) -> Self {
        let place = tempfile::Builder::new().prefix("dockerd").tempdir().unwrap();
        fs::write(place.path().join("daemon.json"), "{}").unwrap();
        // Nothing of the machine's own /run is touched: this one has another.
        let script = "mount -t tmpfs tmpfs /run && mkdir -p /run/docker/plugins && \
            mount --bind \"$1\" /run/docker/plugins && exec dockerd --data-root \"$2/data\" --exec-root \"$2/exec\" \
            --pidfile \"$2/pid\" -H \"unix://$2/docker.sock\" --bridge=none --iptables=false --ip6tables=false \
            --config-file \"$2/daemon.json\"";
        let log = fs::File::create(place.path().join("log")).unwrap();
        let mut command = Command::new("unshare");
        command
            .args(["-m", "--propagation", "slave", "sh", "-c", script, "sh"])
            .arg(plugins)
            .arg(place.path());
        command.env("PATH", process::search_path()).stdin(Stdio::null());
        let child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let mut dockerd = Self { child, place };
        until("dockerd answers", || {
            let ended = dockerd.child.try_wait().unwrap();
            let log = fs::read_to_string(dockerd.place.path().join("log")).unwrap();
            assert!(ended.is_none(), "dockerd ended ({ended:?}):\n{log}");
            (dockerd.docker().run(&["version"]).code == Some(0)).then_some(())
        });
        dockerd
    }

    fn docker(&self) -> Docker {
        Docker::new(&self.place.path().join("docker.sock"), &self.place.path().join("cli"))
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            process::send(pid, Signal::SIGTERM);
        }
        let _ = self.child.wait();
    }
}

/// Beside dockerd alone (`make oracle`): it is not there otherwise.
#[test]
fn a_real_dockerd_finds_a_published_plugin_as_its_own() {
    if Program::chosen() != Program::Dockerd {
        return;
    }
    let (directory, daemon) = start();
    // As on a machine whose mounts are shared: what is mounted there, another mount namespace sees.
    let (exec, none) = (daemon.exec_root(), None::<&str>);
    mount(Some(&exec), &exec, none, MsFlags::MS_BIND, none).unwrap();
    mount(none, &exec, none, MsFlags::MS_SHARED, none).unwrap();
    daemon.run("tiny", &daemon.tiny());
    daemon.run("me/tiny", &daemon.tiny());
    let plugin = published(&directory, "tiny");
    published(&directory, "me/tiny");
    let dockerd = Dockerd::start(&directory.path().join("sockets"));
    let docker = dockerd.docker();
    assert_eq!(docker.ok(&["volume", "create", "-d", "tiny", "data"]), "data");
    assert_eq!(docker.ok(&["volume", "inspect", "-f", "{{.Driver}} {{.Scope}}", "data"]), "tiny local");
    assert_eq!(docker.ok(&["volume", "create", "-d", "me/tiny", "other"]), "other");
    assert_eq!(docker.ok(&["volume", "ls", "-q"]), "data\nother");
    assert_eq!(daemon.http().look("/volumes/other")["Driver"], "me/tiny:latest");
    let busybox = fs::read(process::program("busybox")).unwrap();
    let image = Tar::new().with(&Entry::directory("bin")).with(&Entry::file("bin/busybox", &busybox)).end();
    let file = dockerd.place.path().join("box.tar");
    fs::write(&file, image).unwrap();
    docker.ok(&["import", file.to_str().unwrap(), "box"]);
    let shell = |script: &str| {
        let run = [
            "run",
            "--rm",
            "--network",
            "none",
            "-v",
            "data:/data",
            "box",
            "/bin/busybox",
            "sh",
            "-c",
            script,
        ];
        docker.ok(&run)
    };
    shell("echo through dockerd >/data/file");
    let id = daemon.http().look("/plugins/tiny/json")["Id"].as_str().unwrap().to_owned();
    let kept = daemon.data_root().join("plugins").join(id).join("propagated-mount/data/file");
    assert_eq!(fs::read_to_string(kept).unwrap(), "through dockerd\n");
    assert_eq!(shell("/bin/busybox cat /data/file"), "through dockerd");
    assert_eq!(ask(&plugin, "VolumeDriver.Mount", &json!({"Name": "data", "ID": "x"})).status, 200);
    assert!(docker.fails(&["volume", "rm", "data"]).contains("volume is in use - [x]"));
    assert_eq!(ask(&plugin, "VolumeDriver.Unmount", &json!({"Name": "data", "ID": "x"})).status, 200);
    assert_eq!(docker.ok(&["volume", "rm", "data", "other"]), "data\nother");
    assert_eq!(daemon.http().look("/volumes")["Volumes"], json!([]));
}
