//! Plugins to test with: the tiny one, built here from its source, and rclone, a real one.
//!
//! A context is what `docker plugin create` takes: config.json and rootfs/, as a tar or as a directory.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use super::archive::{Entry, Tar};
use super::daemon::Daemon;

/// The directories a plugin finds in its root file system before anything is mounted there.
const DIRECTORIES: [&str; 11] =
    ["", "dev", "etc", "proc", "record", "run", "run/docker", "run/docker/plugins", "sys", "tmp", "volumes"];

/// A context of the tiny plugin, to be changed before it is used.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    config: Value,
    extra: Vec<Entry>,
    mark: String,
}

impl Context {
    /// A well-behaved plugin with a settable MODE, settable arguments, and `record` bound at `/record`.
    ///
    /// No two are the same: dockerd refuses content that it has already.
    pub(crate) fn tiny(record: &Path) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let mark = format!("{}.{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let config = json!({
            "description": "tiny",
            "documentation": "none",
            "interface": {"socket": "tiny.sock", "types": ["docker.volumedriver/1.0"]},
            "entrypoint": ["/tiny"],
            "workdir": "/",
            "args": {"name": "args", "value": [], "settable": ["value"]},
            "env": [{"name": "MODE", "value": "", "settable": ["value"]}, {"name": "FIXED", "value": "1"}],
            "mounts": [{"name": "record", "type": "bind", "source": record, "destination": "/record",
                "options": ["rbind"], "settable": ["source"]}],
            "network": {"type": "none"},
            "linux": {"capabilities": [], "devices": []},
            "propagatedMount": "/volumes",
        });
        Self { config, extra: vec![], mark }
    }

    /// Replaces one key of config.json.
    pub(crate) fn with(mut self, key: &str, value: Value) -> Self {
        self.config[key] = value;
        self
    }

    /// How it behaves: words of `plugins/tiny.rs`.
    pub(crate) fn mode(mut self, words: &str) -> Self {
        self.config["env"][0]["value"] = words.into();
        self
    }

    /// Adds an entry to the archive, below no directory of its own.
    pub(crate) fn entry(mut self, entry: Entry) -> Self {
        self.extra.push(entry);
        self
    }

    /// config.json as it goes into the archive.
    pub(crate) fn config(&self) -> &Value {
        &self.config
    }

    /// The whole archive.
    pub(crate) fn tar(&self) -> Vec<u8> {
        self.tar_with_config(self.config.to_string().as_bytes())
    }

    /// The archive with any bytes as config.json.
    pub(crate) fn tar_with_config(&self, config: &[u8]) -> Vec<u8> {
        self.rootfs(Tar::new().with(&Entry::file("config.json", config))).end()
    }

    /// Adds rootfs/ and the extra entries to an archive.
    pub(crate) fn rootfs(&self, mut tar: Tar) -> Tar {
        for directory in DIRECTORIES {
            tar.push(&Entry::directory(&format!("rootfs/{directory}")));
        }
        tar.push(&Entry::file("rootfs/tiny", program()));
        tar.push(&Entry::file("rootfs/etc/mark", self.mark.as_bytes()));
        for entry in &self.extra {
            tar.push(entry);
        }
        tar
    }

    /// Writes the context as a directory, for the CLI.
    pub(crate) fn write(&self, to: &Path) {
        for directory in DIRECTORIES {
            fs::create_dir_all(to.join("rootfs").join(directory)).unwrap();
        }
        fs::write(to.join("config.json"), self.config.to_string()).unwrap();
        fs::write(to.join("rootfs/tiny"), program()).unwrap();
        fs::set_permissions(to.join("rootfs/tiny"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(to.join("rootfs/etc/mark"), &self.mark).unwrap();
    }
}

/// Writes a context of the real rclone plugin.
pub(crate) fn write_rclone(to: &Path) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("compat-tests/plugins/rclone");
    let output = Command::new(script).arg(to).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Creates and enables a real rclone plugin; says which directory of the host it has at `/data/cache`.
pub(crate) fn run_rclone(daemon: &Daemon, name: &str) -> PathBuf {
    let docker = daemon.docker();
    let context = daemon.place().join("rclone");
    write_rclone(&context);
    let (config, cache) = (daemon.place().join("rclone-config"), daemon.place().join("rclone-cache"));
    for directory in [&config, &cache] {
        fs::create_dir(directory).unwrap();
    }
    docker.ok(&["plugin", "create", name, context.to_str().unwrap()]);
    let settings =
        [format!("config.source={}", config.display()), format!("cache.source={}", cache.display())];
    docker.ok(&["plugin", "set", name, &settings[0], &settings[1]]);
    docker.ok(&["plugin", "enable", name]);
    cache
}

/// The tiny plugin's program, compiled once: static, so that its root file system needs nothing else.
fn program() -> &'static [u8] {
    static PROGRAM: OnceLock<Vec<u8>> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let source = root.join("compat-tests/plugins/tiny.rs");
        let out = tempfile::tempdir().unwrap();
        let binary: PathBuf = out.path().join("tiny");
        let mut rustc = Command::new(option_env!("RUSTC").unwrap_or("rustc"));
        rustc.args([
            "--edition",
            "2024",
            "-O",
            "-C",
            "strip=symbols",
            "-C",
            "target-feature=+crt-static",
            "-o",
        ]);
        let output = rustc.arg(&binary).arg(&source).output().unwrap();
        assert!(output.status.success(), "compiling tiny.rs: {}", String::from_utf8_lossy(&output.stderr));
        fs::read(binary).unwrap()
    })
}
