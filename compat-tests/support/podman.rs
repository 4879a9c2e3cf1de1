//! A real podman with everything of its own: storage, configuration, and plugins that it knows by their sockets.
//!
//! Containers run from an image with a static busybox and nothing else, and without a network.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::archive::{Entry, Tar};
use super::cli::Said;
use super::http::Http;
use super::{process, until};

/// The image.
pub(crate) const IMAGE: &str = "box";

/// What is in it, as a tar: a static busybox.
pub(crate) fn image() -> Vec<u8> {
    let busybox = fs::read(process::program("busybox")).unwrap();
    Tar::new().with(&Entry::directory("bin")).with(&Entry::file("bin/busybox", &busybox)).end()
}

/// A podman's service, while it runs.
#[derive(Debug)]
pub(crate) struct Service {
    child: Child,
    socket: PathBuf,
}

impl Service {
    /// Its process.
    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a process id is an i32")
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

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
             [engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\nruntime = \"runc\"\nexit_command_delay = 1\n\
             conmon_path = [{conmon:?}]\n\
             [engine.runtimes]\nrunc = [{runc:?}]\n\
             [engine.volume_plugins]\n{}",
            known.collect::<String>()
        );
        fs::write(place.join("containers.conf"), configuration).unwrap();
        let podman = Self { place: place.to_owned() };
        fs::write(place.join("box.tar"), image()).unwrap();
        podman.ok(&["import", &place.join("box.tar").display().to_string(), IMAGE]);
        podman
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(process::program("podman"));
        for (flag, directory) in [("--root", "root"), ("--runroot", "run"), ("--tmpdir", "tmp")] {
            command.arg(flag).arg(self.place.join(directory));
        }
        command.args(["--storage-driver", "vfs"]).args(arguments);
        command.env("CONTAINERS_CONF", self.place.join("containers.conf")).env("HOME", &self.place);
        command.env("PATH", process::search_path()).env_remove("NOTIFY_SOCKET").stdin(Stdio::null());
        command
    }

    /// A program `podman` in the directory `bin` of its place, which is the real one with this one's storage; and the
    /// variables that point to its configuration.
    pub(crate) fn as_program(&self) -> (PathBuf, Vec<(&'static str, OsString)>) {
        let command = self.command(&[]);
        let words: Vec<String> =
            command.get_args().map(|word| format!("'{}'", word.to_str().unwrap())).collect();
        let program = Path::new(command.get_program()).display();
        let directory = self.place.join("bin");
        fs::create_dir_all(&directory).unwrap();
        let script = format!("#!/bin/sh\nexec '{program}' {} \"$@\"\n", words.join(" "));
        fs::write(directory.join("podman"), script).unwrap();
        fs::set_permissions(directory.join("podman"), fs::Permissions::from_mode(0o755)).unwrap();
        let configuration = self.place.join("containers.conf").into_os_string();
        (directory, vec![("CONTAINERS_CONF", configuration), ("HOME", self.place.clone().into_os_string())])
    }

    /// Its service, answering on the socket `engine.sock` in its place.
    pub(crate) fn serve(&self) -> Service {
        let socket = self.place.join("engine.sock");
        let address = format!("unix://{}", socket.display());
        let mut command = self.command(&["system", "service", "--time=0", &address]);
        let log = fs::File::create(self.place.join("service.log")).unwrap();
        let child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let service = Service { child, socket };
        until("podman's service answers", || {
            let ping = b"GET /_ping HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n";
            let answer = Http::new(&service.socket).open().ok()?.exchange("GET", ping).ok()?;
            (answer.status == 200).then_some(())
        });
        service
    }

    /// Runs `podman ARGUMENTS`.
    pub(crate) fn run(&self, arguments: &[&str]) -> Said {
        let output = self.command(arguments).output().unwrap();
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
