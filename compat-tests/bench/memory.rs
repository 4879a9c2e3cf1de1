//! What the daemons weigh: the proportional memory (PSS) of everything they start, plugins' own processes left out.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::support::daemon::Daemon;
use crate::support::{patiently, process};
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
            idle[side].push(settled(daemon));
            // Made first, since it is running plugins that are weighed.
            let names: Vec<String> = (0..=FURTHER).map(|number| format!("p{number}")).collect();
            for name in &names {
                daemon.install(name, &daemon.tiny());
            }
            let none = settled(daemon);
            assert_eq!(daemon.enable(&names[0]).status, 200);
            let one = settled(daemon);
            first[side].push(at_least_a_trace(one - none));
            for name in &names[1..] {
                assert_eq!(daemon.enable(name).status, 200);
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

/// The weight once it has come to rest, or after a while: a daemon that has just done something collects its garbage.
pub(crate) fn settled(daemon: &Daemon) -> f64 {
    let (mut last, mut looked, mut steady) = (mebibytes(daemon), Instant::now(), 0);
    let _ = patiently(|| {
        if looked.elapsed() < LOOK_EVERY {
            return None;
        }
        looked = Instant::now();
        let now = mebibytes(daemon);
        steady = if (now - last).abs() <= STEADY_PART * last { steady + 1 } else { 0 };
        last = now;
        (steady == STEADY_LOOKS).then_some(())
    });
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
