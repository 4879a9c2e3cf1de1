//! The ground that the tests of the manager stand on: a real runtime, the built program as monitor, the tiny plugin.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::{Value, json};

use super::super::*;
use crate::runtime::testing;

/// Waiting for something that happens in milliseconds, when it does not.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);

/// A daemon's plugins in a directory of their own; what runs is killed, and the directory removed, at the end.
pub(super) struct Ground {
    place: tempfile::TempDir,
    store: state::Store,
    content: content::Store,
    pub(super) drivers: Drivers,
    pub(super) events: Bus,
    pub(super) backoff: Backoff,
    live_restore: bool,
}

impl Ground {
    pub(super) fn new() -> Self {
        let place = tempfile::Builder::new().prefix("plugins").tempdir().unwrap();
        let data = DataRoot::new(place.path().join("data"));
        Self {
            store: state::Store::open(&data.state()).unwrap(),
            content: content::Store::open(&data.content()).unwrap(),
            drivers: Drivers::new(),
            events: Bus::new(),
            backoff: Backoff::default(),
            live_restore: true,
            place,
        }
    }

    pub(super) fn without_live_restore(mut self) -> Self {
        self.live_restore = false;
        self
    }

    pub(super) fn data(&self) -> DataRoot {
        DataRoot::new(self.place.path().join("data"))
    }

    pub(super) fn exec(&self) -> ExecRoot {
        ExecRoot::new(self.place.path().join("exec"))
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// What a daemon has that starts now.
    pub(super) fn open(&self) -> Plugins {
        Plugins::open(Parts {
            data: self.data(),
            exec: self.exec(),
            store: self.store.clone(),
            content: self.content.clone(),
            events: self.events.clone(),
            drivers: self.drivers.clone(),
            launcher: testing::launcher(dockplugd(), &self.exec().runtime()),
            hosts: Arc::default(),
            backoff: self.backoff,
            live_restore: self.live_restore,
            seccomp: seccomp::Profile::Builtin,
            limits: layer::Limits::default(),
            version: "0.0.0-test".to_owned(),
        })
        .unwrap()
    }

    /// Whether anything is left of plugins: directories, blobs, processes' directories.
    pub(super) fn is_empty(&self) -> bool {
        let empty =
            |path: PathBuf| std::fs::read_dir(path).map_or(true, |mut entries| entries.next().is_none());
        empty(self.data().plugins())
            && empty(self.exec().plugins())
            && self.content.digests().unwrap().is_empty()
            && empty(self.data().content().join("ingest"))
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        for id in std::fs::read_dir(self.exec().runtime()).into_iter().flatten().flatten() {
            let id = id.file_name().into_string().unwrap();
            testing::delete(dockplugd(), &self.exec().runtime(), &id, &self.exec().plugin(&id));
        }
        // What a failed test has left mounted would be emptied with the directory.
        for point in mounted_below(self.place.path()).iter().rev() {
            let _ = nix::mount::umount2(point, nix::mount::MntFlags::MNT_DETACH);
        }
    }
}

/// The mount points at and below a path that needs no escapes, in the order they were made.
pub(super) fn mounted_below(path: &Path) -> Vec<PathBuf> {
    let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4));
    points
        .map(|point| PathBuf::from(point.replace("\\040", " ")))
        .filter(|point| point.starts_with(path))
        .collect()
}

/// The context of a tiny plugin that behaves as `mode` says.
pub(super) fn tiny(mode: &str) -> Vec<u8> {
    context(&json!({"env": [{"name": "MODE", "value": mode, "settable": ["value"]}]}))
}

/// The context of a tiny plugin with these keys of config.json changed.
pub(super) fn context(changes: &Value) -> Vec<u8> {
    let mut config = json!({
        "interface": {"socket": "tiny.sock", "types": ["docker.volumedriver/1.0"]},
        "entrypoint": ["/tiny"], "network": {"type": "none"}, "propagatedMount": "/volumes",
        "env": [{"name": "MODE", "value": "", "settable": ["value"]}],
    });
    for (key, value) in changes.as_object().unwrap() {
        config[key] = value.clone();
    }
    archive(&[("config.json", &serde_json::to_vec(&config).unwrap()), ("rootfs/tiny", program())])
}

/// A tar of these files.
pub(super) fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len().try_into().unwrap());
        header.set_mode(0o755);
        tar.append_data(&mut header, name, *content).unwrap();
    }
    tar.into_inner().unwrap()
}

pub(super) async fn create(plugins: &Plugins, name: &str, context: Vec<u8>) -> Result<PluginId> {
    plugins.create(name.parse().unwrap(), std::io::Cursor::new(context)).await
}

/// Waits until what is seen of a plugin is as expected.
pub(super) async fn observed(plugins: &Plugins, name: &str, expected: impl FnMut(&State) -> bool) -> State {
    let plugin = plugins.0.shelf.find(name).unwrap();
    let mut states = plugin.observed();
    let state = tokio::time::timeout(PATIENCE, states.wait_for(expected)).await;
    let Ok(state) = state else { panic!("{:?}", plugin.view().observed) };
    state.unwrap().clone()
}

/// Whether a process is there.
pub(super) fn lives(pid: i32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

fn program() -> &'static [u8] {
    static PROGRAM: OnceLock<Vec<u8>> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let place = tempfile::tempdir().unwrap();
        let binary = place.path().join("tiny");
        let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
        rustc.args(["--edition", "2024", "-O", "-C", "target-feature=+crt-static", "-o"]).arg(&binary);
        rustc.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/compat-tests/plugins/tiny.rs"));
        assert!(rustc.status().unwrap().success());
        std::fs::read(binary).unwrap()
    })
}

fn dockplugd() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["build", "--quiet", "--bin", "dockplugd", "--message-format=json", "--manifest-path"]);
        cargo.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).stderr(Stdio::inherit());
        let build = cargo.output().unwrap();
        assert!(build.status.success());
        let messages = build.stdout.split(|byte| *byte == b'\n');
        let mut messages = messages.filter_map(|line| serde_json::from_slice::<Value>(line).ok());
        messages
            .find_map(|message| message.get("executable")?.as_str().map(PathBuf::from))
            .expect("cargo names the program")
    })
}
