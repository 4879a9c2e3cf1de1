//! A real podman with everything of its own: storage, configuration, and plugins that it knows by their sockets.
//!
//! Containers run from an image with a static busybox and nothing else, and without a network.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::archive::{Entry, Tar};
use super::cli::Said;
use super::process;

/// The image.
const IMAGE: &str = "box";

/// A podman.
#[derive(Debug)]
pub(crate) struct Podman {
    place: PathBuf,
}

impl Podman {
    /// Sets one up below `place`, which knows these volume plugins: name and socket.
    pub(crate) fn new(place: &Path, plugins: &[(&str, &Path)]) -> Self {
        // Where it looks for whom to believe; without it, it imports nothing.
        fs::create_dir_all(place.join(".config/containers")).unwrap();
        let policy = r#"{"default": [{"type": "insecureAcceptAnything"}]}"#;
        fs::write(place.join(".config/containers/policy.json"), policy).unwrap();
        let known =
            plugins.iter().map(|(name, socket)| format!("{name:?} = {:?}\n", socket.display().to_string()));
        let [conmon, runc] = ["conmon", "runc"].map(|name| process::program(name).display().to_string());
        let configuration = format!(
            "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n\
             [engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\nruntime = \"runc\"\n\
             conmon_path = [{conmon:?}]\n\
             [engine.runtimes]\nrunc = [{runc:?}]\n\
             [engine.volume_plugins]\n{}",
            known.collect::<String>()
        );
        fs::write(place.join("containers.conf"), configuration).unwrap();
        let podman = Self { place: place.to_owned() };
        let busybox = fs::read(process::program("busybox")).unwrap();
        let image =
            Tar::new().with(&Entry::directory("bin")).with(&Entry::file("bin/busybox", &busybox)).end();
        fs::write(place.join("box.tar"), image).unwrap();
        podman.ok(&["import", &place.join("box.tar").display().to_string(), IMAGE]);
        podman
    }

    /// Runs `podman ARGUMENTS`.
    pub(crate) fn run(&self, arguments: &[&str]) -> Said {
        let mut command = Command::new(process::program("podman"));
        for (flag, directory) in [("--root", "root"), ("--runroot", "run"), ("--tmpdir", "tmp")] {
            command.arg(flag).arg(self.place.join(directory));
        }
        command.args(["--storage-driver", "vfs"]).args(arguments);
        command.env("CONTAINERS_CONF", self.place.join("containers.conf")).env("HOME", &self.place);
        command.env("PATH", process::search_path()).env_remove("NOTIFY_SOCKET").stdin(Stdio::null());
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        Said { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// Runs a command that must succeed; its output without the final newline.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let said = self.run(arguments);
        assert_eq!(said.code, Some(0), "podman {}: {said:?}", arguments.join(" "));
        said.out
    }

    /// Runs a shell command in a new container, with further flags; its output.
    pub(crate) fn shell(&self, flags: &[&str], script: &str) -> String {
        let mut arguments = vec!["run", "--network", "none", "--security-opt", "seccomp=unconfined"];
        arguments.extend(flags);
        arguments.extend([IMAGE, "/bin/busybox", "sh", "-c", script]);
        self.ok(&arguments)
    }
}
