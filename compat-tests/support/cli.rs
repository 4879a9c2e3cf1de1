//! The stock docker CLI, pointed at one socket, with a configuration directory of its own.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;

use super::process;

/// A docker CLI for one daemon.
#[derive(Debug, Clone)]
pub(crate) struct Docker {
    program: PathBuf,
    host: String,
    config: PathBuf,
}

/// How a command ended, and what it said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    pub(crate) fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        Self { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }
}

impl Docker {
    /// `config` is where the CLI may keep its configuration; it need not exist.
    pub(crate) fn new(socket: &Path, config: &Path) -> Self {
        let host = format!("unix://{}", socket.display());
        Self { program: process::program("docker"), host, config: config.to_owned() }
    }

    /// `docker ARGUMENTS`, to be run.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.another(&self.program);
        command.args(arguments);
        command
    }

    /// Another program that asks the same daemon.
    pub(crate) fn another(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_remove("DOCKER_CONTEXT").env_remove("DOCKER_API_VERSION");
        command.env("DOCKER_HOST", &self.host).env("DOCKER_CONFIG", &self.config);
        command
    }

    /// Runs `docker ARGUMENTS`.
    pub(crate) fn run(&self, arguments: &[&str]) -> Said {
        let output = self.command(arguments).output();
        Said::of(&output.unwrap_or_else(|e| panic!("running {}: {e}", self.program.display())))
    }

    /// The same with a standard input that holds this and ends.
    pub(crate) fn feed(&self, arguments: &[&str], input: &[u8]) -> Said {
        let mut command = self.command(arguments);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut pipe = child.stdin.take().unwrap();
        thread::scope(|scope| {
            // Beside the output, which would fill its pipe. The CLI may not want to read it all.
            scope.spawn(move || drop(pipe.write_all(input)));
            Said::of(&child.wait_with_output().unwrap())
        })
    }

    /// Runs a command that must succeed; its output without the final newline.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let said = self.run(arguments);
        assert_eq!(said.code, Some(0), "docker {}: {said:?}", arguments.join(" "));
        said.out
    }

    /// Runs a command that must fail; what it said on stderr, without the CLI's own preface.
    pub(crate) fn fails(&self, arguments: &[&str]) -> String {
        let said = self.run(arguments);
        assert_ne!(said.code, Some(0), "docker {} did not fail: {said:?}", arguments.join(" "));
        said.err.trim_start_matches("Error response from daemon: ").to_owned()
    }
}
