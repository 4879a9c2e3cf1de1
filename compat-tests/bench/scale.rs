//! What 100,000 local volumes cost: memory, the start, a list, one more.

use std::thread;

use crate::figures::{create_volume, expect, get, milliseconds, seconds};
use crate::memory::settled;
use crate::support::daemon::Daemon;
use crate::{Line, alternate, start};

/// How many volumes there are.
const VOLUMES: usize = 100_000;
/// How many clients make them.
const CLIENTS: usize = 16;

/// Measures and reports every figure of this file.
pub(crate) fn all(report: &mut dyn FnMut(Line)) {
    let mut pair = start();
    pair.iter().for_each(fill);
    let mut starts = [vec![], vec![]];
    for _ in 0..3 {
        for (side, daemon) in pair.iter_mut().enumerate() {
            daemon.stop();
            starts[side].push(seconds(|| daemon.launch()));
        }
    }
    let mut tell = |figure, unit, samples| report(Line { figure, unit, samples, rate: false });
    tell("start with 100,000 local volumes, until it answers", "s", starts);
    tell("memory after that (PSS, whole tree)", "MiB", pair.each_ref().map(|daemon| vec![settled(daemon)]));
    let samples = alternate(&pair, 5, |daemon| {
        let mut connection = daemon.http().open().unwrap();
        vec![milliseconds(|| expect(&mut connection, &get("/volumes"), 200))]
    });
    tell("list 100,000 volumes", "ms", samples);
    tell("memory after that (PSS, whole tree) ", "MiB", pair.each_ref().map(|daemon| vec![settled(daemon)]));
    let samples = pair.each_ref().map(|daemon| {
        let mut connection = daemon.http().open().unwrap();
        vec![seconds(|| expect(&mut connection, &get("/system/df"), 200))]
    });
    tell("df of 100,000 volumes", "s", samples);
    tell("memory after that (PSS, whole tree)  ", "MiB", pair.each_ref().map(|daemon| vec![settled(daemon)]));
    let mut count = 0;
    let samples = alternate(&pair, 10, |daemon| {
        let mut connection = daemon.http().open().unwrap();
        let one = |_| {
            count += 1;
            let request = create_volume(&format!("{{\"Name\":\"more{count}\"}}"));
            milliseconds(|| expect(&mut connection, &request, 201))
        };
        (0..20).map(one).collect()
    });
    tell("create one more", "ms", samples);
}

fn fill(daemon: &Daemon) {
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            scope.spawn(move || {
                let mut connection = daemon.http().open().unwrap();
                for number in (client..VOLUMES).step_by(CLIENTS) {
                    expect(
                        &mut connection,
                        &create_volume(&format!("{{\"Name\":\"volume-{number}\"}}")),
                        201,
                    );
                }
            });
        }
    });
}
