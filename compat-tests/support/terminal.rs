//! A program on a terminal: what it shows, what is typed, and how large the window is.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use nix::pty::{Winsize, openpty};
use nix::unistd::ttyname;

use super::{process, until};

/// A program that runs on a terminal of its own; it is ended when this is dropped.
#[derive(Debug)]
pub(crate) struct Terminal {
    child: Child,
    keyboard: File,
    screen: Arc<Mutex<String>>,
    path: PathBuf,
}

impl Terminal {
    /// Runs a command in a window of this many columns and rows.
    pub(crate) fn open(command: &Command, columns: u16, rows: u16) -> Self {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = openpty(Some(&size), None).unwrap();
        let path = ttyname(&pair.slave).unwrap();
        // It must be the terminal of the program's session: a change of the size is told to nobody else.
        let mut session = Command::new(process::program("setsid"));
        session.args(["--ctty", "--wait"]).arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => session.env(key, value),
                None => session.env_remove(key),
            };
        }
        let end = || Stdio::from(pair.slave.try_clone().unwrap());
        let child = session.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let keyboard = File::from(pair.master);
        let (mut output, screen) = (keyboard.try_clone().unwrap(), Arc::new(Mutex::new(String::new())));
        let shown = Arc::clone(&screen);
        thread::spawn(move || {
            let mut piece = [0; 4096];
            // An error is the end: nobody holds the other side any more.
            while let Ok(length @ 1..) = output.read(&mut piece) {
                shown.lock().unwrap().push_str(&String::from_utf8_lossy(&piece[..length]));
            }
        });
        Self { child, keyboard, screen, path }
    }

    /// Everything it has shown.
    pub(crate) fn screen(&self) -> String {
        self.screen.lock().unwrap().clone()
    }

    /// Waits until it has shown this.
    pub(crate) fn shows(&self, text: &str) {
        until(&format!("{text:?} is shown"), || self.screen().contains(text).then_some(()));
    }

    /// Types this.
    pub(crate) fn type_in(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Makes the window another size.
    pub(crate) fn resize(&self, columns: u16, rows: u16) {
        let mut stty = Command::new(process::program("stty"));
        stty.arg("-F").arg(&self.path);
        let done = stty.args(["cols", &columns.to_string(), "rows", &rows.to_string()]).status().unwrap();
        assert!(done.success());
    }

    /// Waits for the end; the exit code.
    pub(crate) fn end(&mut self) -> Option<i32> {
        until("the program on the terminal has ended", || self.child.try_wait().unwrap()).code()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the terminal shows:\n{}", self.screen());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
