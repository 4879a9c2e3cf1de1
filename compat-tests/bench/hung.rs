//! How long everybody else waits while one call of a plugin hangs.

use std::fs::File;
use std::sync::Barrier;
use std::thread;

use nix::sys::stat::Mode;
use serde_json::json;

use crate::figures::{expect, get, milliseconds};
use crate::support::daemon::Daemon;
use crate::support::until;
use crate::{Line, alternate, start};

/// How many ask at a time.
const CLIENTS: usize = 100;
/// How often, for one sample.
const REQUESTS: [&str; 2] = ["/volumes", "/plugins"];

/// Measures and reports the figure of this file.
pub(crate) fn all(report: &mut dyn FnMut(Line)) {
    let pair = start();
    let record = |daemon: &Daemon| daemon.record().join("go");
    thread::scope(|scope| {
        for daemon in &pair {
            nix::unistd::mkfifo(&record(daemon), Mode::S_IRWXU).unwrap();
            // dockerd mounts for containers only, which it is not given here.
            let call = if daemon.is_ours() { "Mount" } else { "Create" };
            daemon.run("tiny", &daemon.tiny().mode(&format!("hold={call}")));
            scope.spawn(move || {
                let create = daemon.volume(&json!({"Name": "far", "Driver": "tiny"}));
                assert_eq!(create.status, 201, "{}", create.text());
                if daemon.is_ours() {
                    let body = json!({"Reference": "bench"});
                    assert_eq!(daemon.http().json("POST", "/volumes/far/mount", &body).status, 200);
                }
            });
            let calls = daemon.record().join("calls");
            until("the call hangs", || {
                let calls = std::fs::read_to_string(&calls).unwrap_or_default();
                calls.contains(&format!("VolumeDriver.{call} ")).then_some(())
            });
        }
        let samples = alternate(&pair, 9, |daemon| vec![p99(daemon)]);
        report(Line {
            figure: "p99 of 100 clients' /volumes and /plugins, a Mount hangs (dockerd: a Create)",
            unit: "ms",
            samples,
            rate: false,
        });
        for daemon in &pair {
            drop(File::options().write(true).open(record(daemon)).unwrap());
        }
    });
}

/// The milliseconds that 99 of 100 requests take at most, when all clients begin at once.
fn p99(daemon: &Daemon) -> f64 {
    let begin = Barrier::new(CLIENTS);
    let mut taken: Vec<f64> = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| {
                    let mut connection = daemon.http().open().unwrap();
                    begin.wait();
                    REQUESTS.map(|target| milliseconds(|| expect(&mut connection, &get(target), 200)))
                })
            })
            .collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    taken.sort_by(f64::total_cmp);
    taken[taken.len() * 99 / 100 - 1]
}
