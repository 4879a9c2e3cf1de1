//! What the daemons weigh: the proportional memory (PSS) of everything they start, plugins' own processes left out.

use std::collections::BTreeSet;

use crate::support::daemon::Daemon;
use crate::support::process;
use crate::{Line, Pair, start};

/// How many fresh pairs are weighed.
const PAIRS: usize = 3;
/// How many plugins are enabled to see what one costs.
const PLUGINS: u32 = 4;

/// Measures and reports every figure of this file.
pub(crate) fn all(report: &mut dyn FnMut(Line)) {
    let mut idle = [vec![], vec![]];
    let mut each = [vec![], vec![]];
    for _ in 0..PAIRS {
        let pair: Pair = start();
        for (side, daemon) in pair.iter().enumerate() {
            let empty = mebibytes(daemon);
            idle[side].push(empty);
            // The first plugin wakes what all of them share.
            daemon.run("first", &daemon.tiny());
            let one = mebibytes(daemon);
            for number in 0..PLUGINS {
                daemon.run(&format!("p{number}"), &daemon.tiny());
            }
            each[side].push((mebibytes(daemon) - one) / f64::from(PLUGINS));
        }
    }
    report(Line { figure: "memory, idle (PSS, whole tree)", unit: "MiB", samples: idle, rate: false });
    report(Line {
        figure: "memory per enabled plugin, the daemon's part",
        unit: "MiB",
        samples: each.map(|side| side.into_iter().map(|m: f64| m.max(0.001)).collect()),
        rate: false,
    });
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
