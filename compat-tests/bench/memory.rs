//! What the daemons weigh: the proportional memory (PSS) of everything they start, plugins' own processes left out.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::support::daemon::Daemon;
use crate::support::process;
use crate::{Line, Pair, start};

/// How many fresh pairs are weighed.
const PAIRS: usize = 3;
/// How many plugins are enabled after the first, to see what a further one costs.
const FURTHER: u32 = 4;
/// A weight has settled when it has not changed by more than this part of it between so many looks, this far apart.
const STEADY_PART: f64 = 0.01;
const STEADY_LOOKS: usize = 4;
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Measures and reports every figure of this file.
pub(crate) fn all(report: &mut dyn FnMut(Line)) {
    let (mut idle, mut first, mut further) = ([vec![], vec![]], [vec![], vec![]], [vec![], vec![]]);
    for _ in 0..PAIRS {
        let pair: Pair = start();
        for (side, daemon) in pair.iter().enumerate() {
            let empty = settled(daemon);
            idle[side].push(empty);
            daemon.run("first", &daemon.tiny());
            let one = settled(daemon);
            first[side].push(at_least_a_trace(one - empty));
            for number in 0..FURTHER {
                daemon.run(&format!("p{number}"), &daemon.tiny());
            }
            further[side].push(at_least_a_trace((settled(daemon) - one) / f64::from(FURTHER)));
        }
    }
    let mut tell = |figure, samples| report(Line { figure, unit: "MiB", samples, rate: false });
    tell("memory, idle (PSS, whole tree)", idle);
    tell("the first enabled plugin costs the daemon", first);
    tell("each further plugin costs the daemon", further);
}

/// Less than nothing is noise, and a ratio needs something.
fn at_least_a_trace(mebibytes: f64) -> f64 {
    mebibytes.max(0.01)
}

/// The weight once it has come to rest: a daemon that has just done something collects its garbage for a while.
fn settled(daemon: &Daemon) -> f64 {
    let mut last = mebibytes(daemon);
    let mut steady = 0;
    // Nothing tells when a heap is at rest, so this looks now and then, for two minutes at most.
    for _ in 0..240 {
        std::thread::sleep(LOOK_EVERY);
        let now = mebibytes(daemon);
        steady = if (now - last).abs() <= STEADY_PART * last { steady + 1 } else { 0 };
        last = now;
        if steady == STEADY_LOOKS {
            break;
        }
    }
    last
}

/// PSS in MiB of the daemon and of everything that was started for it, but for the plugins themselves.
fn mebibytes(daemon: &Daemon) -> f64 {
    let place = daemon.place().display().to_string();
    let plugins: BTreeSet<i32> = process::in_root_below(daemon.place()).into_iter().collect();
    let roots = process::mentioning(&place).into_iter().chain([daemon.pid()]);
    let all: BTreeSet<i32> = roots.flat_map(process::family).filter(|pid| !plugins.contains(pid)).collect();
    let kib: u64 =
        all.iter().map(|pid| process::field_kib(&format!("/proc/{pid}/smaps_rollup"), "Pss:")).sum();
    f64::from(u32::try_from(kib).unwrap()) / 1024.0
}
