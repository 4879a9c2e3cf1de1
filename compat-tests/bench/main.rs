//! dockplugd and dockerd side by side: the same measurement on one, then on the other, over and over, and a table.
//!
//! `make bench` brings dockerd and runs this; it takes some minutes. What counts is the ratio: both sides ran in the
//! same minutes on the same machine. `DOCKPLUGD` names another dockplugd than the release build; arguments name the groups
//! of figures that are wanted (`memory`, `plugins`, `registry`, `volumes`, `hung`, `scale`, `engine`), all without any.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a benchmark is a test that prints: it stops at the first surprise"
)]

mod engine;
mod figures;
mod hung;
mod memory;
mod registry;
mod scale;
#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "the benchmark needs a part of what the tests share")]
mod support;

use std::fs;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use support::daemon::{Daemon, Program};
use support::patiently;

/// One line of the table.
struct Line {
    figure: &'static str,
    unit: &'static str,
    /// Samples of dockerd, then of dockplugd.
    samples: [Vec<f64>; 2],
    /// Whether more is better.
    rate: bool,
}

/// A group of figures, which are reported one by one.
type Figures = fn(&mut dyn FnMut(Line));

/// Both daemons: dockerd, dockplugd.
type Pair = [Daemon; 2];

/// How long a daemon that rests has hardly run, and how much that is.
const REST: Duration = Duration::from_millis(50);
const REST_RUN_NANOSECONDS: u64 = 2_000_000;

/// How long the threads of a process have run until now, in nanoseconds.
fn run_time(pid: i32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let of = |thread: fs::DirEntry| {
        let told = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        told.split(' ').next()?.parse::<u64>().ok()
    };
    threads.filter_map(of).sum()
}

/// Waits until a daemon has done what it does after its answers: the other's samples shall not pay for it.
fn rest(daemon: &Daemon) {
    let mut since = (Instant::now(), run_time(daemon.pid()));
    // One that never rests is measured as it is.
    let _rested = patiently(|| {
        let run = run_time(daemon.pid());
        if run.saturating_sub(since.1) > REST_RUN_NANOSECONDS {
            since = (Instant::now(), run);
        }
        (since.0.elapsed() > REST).then_some(())
    });
}

/// Takes samples on either side in turn, `rounds` times.
fn alternate(pair: &Pair, rounds: usize, mut sample: impl FnMut(&Daemon) -> Vec<f64>) -> [Vec<f64>; 2] {
    let mut samples = [vec![], vec![]];
    for round in 0..rounds {
        // Who begins changes too.
        for side in [round % 2, 1 - round % 2] {
            samples[side].extend(sample(&pair[side]));
            rest(&pair[side]);
        }
    }
    samples
}

/// The middle one; of an even number, the upper of the two.
fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

impl Line {
    fn row(&self) -> String {
        let [theirs, ours] = self.samples.each_ref().map(|s| median(s));
        let ratio = match (self.rate, ours < theirs) {
            (false, true) => format!("1/{:.1}", theirs / ours),
            (true, true) => format!("1/{:.1} (worse)", theirs / ours),
            (true, false) => format!("{:.1}x", ours / theirs),
            (false, false) => format!("{:.1}x (worse)", ours / theirs),
        };
        let [n, m] = self.samples.each_ref().map(Vec::len);
        let count = if n == m { n.to_string() } else { format!("{n}/{m}") };
        format!("| {} | {} | {} | {ratio} | {count} |", self.figure, self.show(theirs), self.show(ours))
    }

    fn show(&self, value: f64) -> String {
        let digits = match value {
            v if v >= 100.0 => 0,
            v if v >= 10.0 => 1,
            v if v >= 1.0 => 2,
            _ => 3,
        };
        format!("{value:.digits$} {}", self.unit)
    }
}

fn start() -> Pair {
    [Program::Dockerd, Program::Dockplugd].map(|program| Daemon::start_as(program, &[]))
}

fn main() {
    let mut out = io::stdout();
    let pair = start();
    let versions =
        pair.each_ref().map(|d| d.http().look("/version")["Version"].as_str().unwrap_or("?").to_owned());
    drop(pair);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    writeln!(out, "Medians on {cores} processors, measured in turn; lower is better, but for rates.\n")
        .unwrap();
    writeln!(
        out,
        "| figure | dockerd {} | dockplugd {} | ratio | n |\n|---|---|---|---|---|",
        versions[0], versions[1]
    )
    .unwrap();
    let groups: [(&str, Figures); 7] = [
        ("memory", memory::all),
        ("plugins", figures::plugins),
        ("registry", registry::all),
        ("volumes", figures::volumes),
        ("hung", hung::all),
        ("scale", scale::all),
        ("engine", engine::all),
    ];
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    for name in &wanted {
        assert!(groups.iter().any(|(group, _)| group == name), "there is no group of figures called {name}");
    }
    for (_, figures) in
        groups.iter().filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|w| w == name))
    {
        figures(&mut |line: Line| {
            writeln!(out, "{}", line.row()).unwrap();
            out.flush().unwrap();
        });
    }
}
