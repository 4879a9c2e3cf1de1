//! How fast: plugins made, switched on and off; volumes created, inspected, listed.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::json;

use crate::support::archive::{self, Entry, Tar};
use crate::support::daemon::Daemon;
use crate::support::http::Connection;
use crate::{Line, Pair, alternate, start};

/// The size of the large context in bytes.
const CONTEXT_BYTES: usize = 128 << 20;
/// How many clients create at once, and how many volumes each.
const CLIENTS: usize = 16;
const VOLUMES_EACH: usize = 50;
/// How many volumes the long list has.
const LONG_LIST: usize = 1_000;

/// Seconds an action takes.
pub(crate) fn seconds(action: impl FnOnce()) -> f64 {
    let start = Instant::now();
    action();
    start.elapsed().as_secs_f64()
}

/// Milliseconds an action takes.
pub(crate) fn milliseconds(action: impl FnOnce()) -> f64 {
    seconds(action) * 1_000.0
}

/// A request on a connection that stays open, with an answer that is a success.
pub(crate) fn expect(connection: &mut Connection, request: &str, status: u16) {
    let answer = connection.exchange("GET", request.as_bytes()).unwrap();
    assert_eq!(answer.status, status, "{request}: {}", answer.text());
}

/// The bytes of a GET.
pub(crate) fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: d\r\n\r\n")
}

/// The bytes of a `POST /volumes/create`.
pub(crate) fn create_volume(body: &str) -> String {
    let length = body.len();
    format!(
        "POST /volumes/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

/// Measures and reports what plugins take.
pub(crate) fn plugins(report: &mut dyn FnMut(Line)) {
    let pair = start();
    for daemon in &pair {
        daemon.install("tiny", &daemon.tiny());
    }
    let samples = alternate(&pair, 9, |daemon| {
        let taken = milliseconds(|| assert_eq!(daemon.enable("tiny").status, 200));
        assert_eq!(daemon.http().ask("POST", "/plugins/tiny/disable").status, 200);
        vec![taken]
    });
    report(Line { figure: "enable, to a socket that answers", unit: "ms", samples, rate: false });

    for daemon in &pair {
        daemon.install("deaf", &daemon.tiny().mode("deaf"));
    }
    let samples = alternate(&pair, 3, |daemon| {
        assert_eq!(daemon.enable("deaf").status, 200);
        vec![milliseconds(|| assert_eq!(daemon.http().ask("POST", "/plugins/deaf/disable").status, 200))]
    });
    report(Line { figure: "disable, a plugin that cannot hear SIGTERM", unit: "ms", samples, rate: false });

    let (mut context, mark) = large_context();
    let mut count = 0_u64;
    let samples = alternate(&pair, 5, |daemon| {
        // dockerd refuses content that it has seen.
        count += 1;
        context[mark..mark + 8].copy_from_slice(&count.to_le_bytes());
        let taken = seconds(|| assert_eq!(daemon.create("large", &context).status, 204));
        assert_eq!(daemon.http().ask("DELETE", "/plugins/large").status, 200);
        vec![taken]
    });
    report(Line { figure: "create from a 128 MiB context", unit: "s", samples, rate: false });
}

/// A context of words drawn at random, which compresses to about a third; and where eight bytes may be changed.
pub(crate) fn large_context() -> (Vec<u8>, usize) {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut draw = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let words: Vec<[u8; 8]> = (0..4_096).map(|_| draw().to_le_bytes()).collect();
    let mut data = Vec::with_capacity(CONTEXT_BYTES);
    while data.len() < CONTEXT_BYTES {
        let number = draw();
        let word = words[usize::try_from(number % 4_096).unwrap()];
        data.extend_from_slice(&word[..3 + usize::try_from(number >> 32 & 3).unwrap()]);
    }
    data.truncate(CONTEXT_BYTES);
    let config =
        br#"{"entrypoint":["/x"],"interface":{"socket":"x.sock","types":["docker.volumedriver/1.0"]}}"#;
    let mut tar =
        Tar::new().with(&Entry::file("config.json", config)).with(&Entry::directory("rootfs")).open_end();
    let file = Entry::file("rootfs/data", &data);
    tar.extend_from_slice(&archive::header(&file));
    let mark = tar.len();
    tar.append(&mut data);
    tar.resize(tar.len() + 1_024, 0);
    (tar, mark)
}

/// Measures and reports what volumes take.
pub(crate) fn volumes(report: &mut dyn FnMut(Line)) {
    let pair = start();
    let mut count = 0_usize;
    let samples = alternate(&pair, 10, |daemon| {
        let mut connection = daemon.http().open().unwrap();
        let one = |_| {
            count += 1;
            let request = create_volume(&format!("{{\"Name\":\"v{count}\"}}"));
            milliseconds(|| expect(&mut connection, &request, 201))
        };
        (0..20).map(one).collect()
    });
    report(Line { figure: "create a local volume", unit: "ms", samples, rate: false });

    let samples = alternate(&pair, 3, |daemon| {
        count += 1;
        vec![rate_of_many(daemon, count)]
    });
    report(Line { figure: "16 clients creating", unit: "/s", samples, rate: true });

    let samples = alternate(&pair, 10, |daemon| times_of(daemon, &get("/_ping")));
    report(Line { figure: "GET /_ping (the floor of what follows)", unit: "ms", samples, rate: false });
    for daemon in &pair {
        assert_eq!(daemon.volume(&json!({"Name": "known"})).status, 201);
    }
    let samples = alternate(&pair, 10, |daemon| times_of(daemon, &get("/volumes/known")));
    report(Line { figure: "inspect a local volume", unit: "ms", samples, rate: false });

    through_a_plugin(&pair, report);
    long_list(report);
}

fn times_of(daemon: &Daemon, request: &str) -> Vec<f64> {
    let mut connection = daemon.http().open().unwrap();
    (0..100).map(|_| milliseconds(|| expect(&mut connection, request, 200))).collect()
}

fn rate_of_many(daemon: &Daemon, round: usize) -> f64 {
    let taken = seconds(|| {
        std::thread::scope(|scope| {
            for client in 0..CLIENTS {
                scope.spawn(move || {
                    let mut connection = daemon.http().open().unwrap();
                    for volume in 0..VOLUMES_EACH {
                        let body = format!("{{\"Name\":\"m{round}-{client}-{volume}\"}}");
                        expect(&mut connection, &create_volume(&body), 201);
                    }
                });
            }
        });
    });
    f64::from(u32::try_from(CLIENTS * VOLUMES_EACH).unwrap()) / taken
}

fn through_a_plugin(pair: &Pair, report: &mut dyn FnMut(Line)) {
    for daemon in pair {
        // What is written down for each call would be measured too.
        daemon.run("tiny", &daemon.tiny().mode("forgetful"));
        assert_eq!(daemon.volume(&json!({"Name": "far", "Driver": "tiny"})).status, 201);
    }
    let samples = alternate(pair, 10, |daemon| times_of(daemon, &get("/volumes/far")));
    report(Line { figure: "inspect through a plugin", unit: "ms", samples, rate: false });

    let body = "{\"Name\":\"far\"}\n";
    let request =
        format!("POST /VolumeDriver.Get HTTP/1.1\r\nHost: d\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let samples = alternate(pair, 10, |daemon| {
        // The path is longer than a socket's address may be.
        let directory = File::open(sockets(daemon)).unwrap();
        let socket = format!("/proc/self/fd/{}/tiny.sock", directory.as_raw_fd());
        let mut connection = Connection::open(Path::new(&socket)).unwrap();
        (0..100).map(|_| milliseconds(|| expect(&mut connection, &request, 200))).collect()
    });
    report(Line {
        figure: "the same, asking the plugin's socket directly",
        unit: "ms",
        samples,
        rate: false,
    });
}

/// The directory on the host where the plugin `tiny` has its socket.
fn sockets(daemon: &Daemon) -> PathBuf {
    let id = daemon.http().look("/plugins/tiny/json")["Id"].as_str().unwrap().to_owned();
    if daemon.is_ours() {
        daemon.exec_root().join("plugins").join(id).join("sockets")
    } else {
        Path::new("/run/docker/plugins").join(id)
    }
}

fn long_list(report: &mut dyn FnMut(Line)) {
    let pair = start();
    for daemon in &pair {
        let mut connection = daemon.http().open().unwrap();
        for number in 0..LONG_LIST {
            expect(&mut connection, &create_volume(&format!("{{\"Name\":\"l{number}\"}}")), 201);
        }
    }
    let samples = alternate(&pair, 5, |daemon| times_of(daemon, &get("/volumes"))[..20].to_vec());
    report(Line { figure: "list 1,000 volumes", unit: "ms", samples, rate: false });
}
