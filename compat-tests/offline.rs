//! A plugin that travels as a file: `dockplugd save` and `dockplugd load`, between daemons that share nothing else.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::support::daemon::Daemon;
use crate::support::process;

/// `dockplugd ARGUMENTS`, asking the daemon.
fn command(daemon: &Daemon, arguments: &[&str]) -> Command {
    let mut command = Command::new(Daemon::program_of_ours());
    command.args(arguments).env("DOCKER_HOST", format!("unix://{}", daemon.socket().display()));
    command.stdin(Stdio::null());
    command
}

/// Runs it without a terminal, which it must not find by another way.
fn run(command: &mut Command) -> Output {
    use std::os::unix::process::CommandExt as _;
    command.process_group(0).output().unwrap()
}

#[track_caller]
fn ok(command: &mut Command) -> String {
    let output = run(command);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn fails(command: &mut Command) -> String {
    let output = run(command);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}

/// Manifest, configuration and layers of the one plugin there is.
fn blobs(daemon: &Daemon) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(daemon.data_root().join("content/blobs/sha256"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    names
}

/// A daemon with one plugin that asks for the host's network, and a file it was saved to.
fn saved() -> Option<(Daemon, String)> {
    let daemon = Daemon::ours()?;
    daemon.install("team/tiny:v1", &daemon.tiny().with("network", json!({"type": "host"})));
    let file = daemon.place().join("tiny.tar").display().to_string();
    ok(&mut command(&daemon, &["save", "-o", &file, "team/tiny:v1"]));
    Some((daemon, file))
}

#[test]
fn a_saved_plugin_is_loaded_elsewhere_byte_for_byte_and_runs() {
    let Some((from, file)) = saved() else { return };
    let to = Daemon::start();
    // The tests' plugin writes what it is asked into a directory of its daemon's; there it is bound from.
    let out = ok(&mut command(&to, &["load", "--grant-all-permissions", "-i", &file]));
    assert!(out.contains("Loaded plugin team/tiny:v1"), "{out}");
    assert_eq!(blobs(&to), blobs(&from));
    let docker = to.docker();
    assert_eq!(docker.ok(&["plugin", "ls", "--format", "{{.Name}} {{.Enabled}}"]), "team/tiny:v1 false");
    docker.ok(&["plugin", "enable", "team/tiny:v1"]);
    docker.ok(&["plugin", "disable", "team/tiny:v1"]);

    // Saved again it is the same file, and skopeo finds nothing wrong with it.
    let again = to.place().join("again.tar").display().to_string();
    ok(&mut command(&to, &["save", "-o", &again, "team/tiny:v1"]));
    assert_eq!(fs::read(&again).unwrap(), fs::read(&file).unwrap());
    let layout = to.place().join("layout");
    fs::create_dir(&layout).unwrap();
    let untar = Command::new("tar").arg("-xf").arg(&again).arg("-C").arg(&layout).status().unwrap();
    assert!(untar.success());
    // By its name skopeo looks for OCI manifests alone; the only manifest there is it takes as it is.
    let source = format!("oci:{}", layout.display());
    let target = format!("dir:{}", to.place().join("copy").display());
    let skopeo = Command::new(process::program("skopeo"))
        .args(["--insecure-policy", "copy", "--quiet", "--preserve-digests", &source, &target])
        .output()
        .unwrap();
    assert!(skopeo.status.success(), "{}", String::from_utf8_lossy(&skopeo.stderr));
}

#[test]
fn it_goes_through_pipes_and_under_another_name() {
    let Some((from, file)) = saved() else { return };
    let piped = run(&mut command(&from, &["save", "team/tiny:v1"]));
    assert_eq!(piped.stdout, fs::read(&file).unwrap());
    let to = Daemon::start();
    let mut load = command(&to, &["load", "--grant-all-permissions", "--alias", "mine"]);
    let mut child = load.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    std::io::copy(&mut File::open(&file).unwrap(), &mut child.stdin.take().unwrap()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).ends_with("Loaded plugin mine\n"));
    assert_eq!(to.http().look("/plugins")[0]["Name"], "mine:latest");
}

#[test]
fn nothing_is_installed_that_was_not_granted() {
    let Some((_from, file)) = saved() else { return };
    let to = Daemon::start();
    let before = to.tree();
    let answering = |answer: &str| {
        let path = to.place().join("answer");
        fs::write(&path, answer).unwrap();
        let mut load = command(&to, &["load", "-i", &file]);
        run(load.stdin(File::open(path).unwrap()))
    };
    for answer in ["", "n\n", "yes please\n"] {
        let output = answering(answer);
        assert_eq!(output.status.code(), Some(1), "{answer:?}");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(
            out.contains(
                "Plugin \"team/tiny:v1\" is requesting the following privileges:\n - network: [host]"
            )
        );
        assert!(err.contains("permission was not granted; nothing was installed"), "{err}");
        assert_eq!(to.http().look("/plugins"), json!([]));
        assert_eq!(to.tree(), before);
    }
    // Over HTTP it is the same: wrong consent is none.
    let tar = fs::read(&file).unwrap();
    for consent in ["", "[]", r#"[{"Name":"network","Value":["none"]}]"#] {
        let consent = consent.replace('"', "%22");
        let path = format!("/plugins/load?privileges={consent}");
        let answer = to.http().send("POST", &path, "application/x-tar", &tar);
        assert_eq!(answer.status, 403, "{consent}");
        assert!(answer.message().starts_with("incorrect privileges"), "{}", answer.message());
        assert_eq!(to.tree(), before);
    }
    let output = answering("y\n");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(to.http().look("/plugins")[0]["Name"], "team/tiny:v1");
}

#[test]
fn what_goes_wrong_is_told() {
    let Some((daemon, file)) = saved() else { return };
    let load =
        |path: &Path| command(&daemon, &["load", "--grant-all-permissions", "-i", path.to_str().unwrap()]);
    assert!(fails(&mut load(Path::new(&file))).contains("plugin team/tiny:v1 already exists"));
    let place = daemon.place();
    assert!(fails(&mut load(&place.join("none"))).contains("cannot read"));
    let whole = fs::read(&file).unwrap();
    for (what, bytes) in
        [("garbage", b"garbage".as_slice()), ("half", &whole[..whole.len() / 2]), ("empty", b"")]
    {
        fs::write(place.join(what), bytes).unwrap();
        let error = fails(&mut load(&place.join(what)));
        assert!(error.starts_with("dockplugd: "), "{what}: {error}");
        assert!(error.contains("archive"), "{what}: {error}");
    }
    let out = place.join("out.tar");
    let error = fails(&mut command(&daemon, &["save", "-o", out.to_str().unwrap(), "nobody"]));
    assert!(error.contains("plugin \"nobody\" not found"), "{error}");
    assert!(!out.exists());
    let names: Vec<Value> =
        fs::read_dir(place).unwrap().map(|e| json!(e.unwrap().file_name().to_str())).collect();
    assert!(!names.iter().any(|name| name.as_str().unwrap().contains("partial")), "{names:?}");
    let error = fails(command(&daemon, &["save", "x"]).env("DOCKER_HOST", "unix:///nowhere/x.sock"));
    assert!(error.contains("cannot connect to the daemon at unix:///nowhere/x.sock"), "{error}");
    let error = fails(command(&daemon, &["--data-root", "/x", "save", "x"]).stdin(Stdio::null()));
    assert!(error.contains("data-root is for the daemon"), "{error}");
}
