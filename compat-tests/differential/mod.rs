//! The same requests and commands, sent to dockplugd and to a real dockerd: whatever differs is in `known.txt`, with
//! its reason, or fails here; and what is there and does not differ any more fails too.
//!
//! Each script (`*.txt`, see `script.rs`) has two fresh daemons. It knows nothing of what an answer should be.

mod perform;
mod script;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use crate::support::daemon::{Daemon, Program};
use crate::support::process;
use perform::{Facets, Performer};
use script::{Action, Row, Step, matches, parse, rows};

const ABSENT: &str = "-";
const WHATEVER: &str = "…";

/// What was found in one script.
#[derive(Debug, Default)]
struct Findings {
    /// Differences that no row explains, ready to be looked at.
    unknown: Vec<String>,
    /// The rows that explained one.
    used: BTreeSet<String>,
}

#[test]
fn whatever_differs_from_dockerd_is_known() {
    if Program::chosen() == Program::Dockerd {
        return;
    }
    let version = Command::new(process::program("dockerd")).arg("--version").output().unwrap();
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    if !version.contains(" 20.10.") {
        println!("skipped: known.txt is about dockerd 20.10, and here is {version}");
        return;
    }
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("compat-tests/differential");
    let rows = rows(&directory.join("known.txt"));
    let mut scripts: Vec<PathBuf> =
        std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    scripts.retain(|path| path.extension().is_some_and(|kind| kind == "txt") && !path.ends_with("known.txt"));
    // For whoever works on one of them.
    if let Ok(only) = std::env::var("COMPAT_SCRIPT") {
        scripts.retain(|path| path.file_stem().is_some_and(|stem| *stem == *only));
    }
    scripts.sort();
    let findings: Vec<Findings> = thread::scope(|scope| {
        let running: Vec<_> =
            scripts.iter().map(|path| scope.spawn(|| compare(&parse(path), &rows))).collect();
        running.into_iter().map(|script| script.join().unwrap()).collect()
    });
    let unknown: Vec<String> = findings.iter().flat_map(|found| found.unknown.clone()).collect();
    assert!(unknown.is_empty(), "{} unexplained:\n{}", unknown.len(), unknown.join("\n"));
    if std::env::var("COMPAT_SCRIPT").is_err() {
        let used: BTreeSet<_> = findings.into_iter().flat_map(|found| found.used).collect();
        let idle: Vec<_> = rows.iter().filter(|row| !used.contains(&row.id)).map(|row| &row.id).collect();
        assert!(idle.is_empty(), "rows of known.txt that explain nothing any more: {idle:?}");
    }
}

/// The docker CLIs to ask with: the newest at hand, and the one that came with dockerd 20.10.
fn clis() -> [PathBuf; 2] {
    let old = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers/usr/bin/docker");
    [process::program("docker"), old]
}

/// Does a script to both, at the same time; with each CLI, if it uses any.
fn compare(steps: &[Step], rows: &[Row]) -> Findings {
    let uses_cli = steps.iter().any(|step| matches!(step.action, Action::Docker { .. }));
    let clis = if uses_cli { clis().to_vec() } else { vec![PathBuf::new()] };
    let perform = |program, cli: &Path| {
        let mut performer = Performer::new(Daemon::start_as(program, &[]), cli.to_owned());
        steps.iter().map(|step| performer.perform(step)).collect::<Vec<_>>()
    };
    let mut differing: Vec<BTreeSet<String>> = vec![BTreeSet::new(); steps.len()];
    for cli in clis {
        let (ours, theirs) = thread::scope(|scope| {
            let theirs = scope.spawn(|| perform(Program::Dockerd, &cli));
            (perform(Program::Dockplugd, &cli), theirs.join().unwrap())
        });
        for ((ours, theirs), found) in ours.iter().zip(&theirs).zip(&mut differing) {
            found.extend(differences(theirs, ours));
        }
    }
    let mut findings = Findings::default();
    for (step, differing) in steps.iter().zip(&differing) {
        look(step, differing, rows, &mut findings);
    }
    findings
}

/// `FACET: THEIRS -> OURS` for each facet that is not the same. What only one of them has is told once, for all that is
/// below it.
fn differences(theirs: &Facets, ours: &Facets) -> Vec<String> {
    let all: BTreeSet<&String> = theirs.keys().chain(ours.keys()).collect();
    let mut found = vec![];
    for name in all {
        let told = match (theirs.get(name), ours.get(name)) {
            (Some(theirs), Some(ours)) if theirs == ours => continue,
            (Some(theirs), Some(ours)) => format!("{name}: {theirs} -> {ours}"),
            (Some(value), None) => {
                let (top, value) = top(name, value, ours);
                format!("{top}: {value} -> {ABSENT}")
            }
            (None, Some(value)) => {
                let (top, value) = top(name, value, theirs);
                format!("{top}: {ABSENT} -> {value}")
            }
            (None, None) => continue,
        };
        if found.last() != Some(&told) {
            found.push(told);
        }
    }
    found
}

/// The highest place on the way to a leaf that `others` have nothing of, and its value if that is the leaf itself.
fn top<'a>(name: &'a str, value: &'a str, others: &Facets) -> (&'a str, &'a str) {
    let ends = name.char_indices().filter(|(_, c)| matches!(c, '.' | '[')).map(|(at, _)| at).skip(1);
    for end in ends {
        let place = &name[..end];
        let below = |other: &String| {
            other.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        if name.contains(" $") && !others.keys().any(below) {
            return (place, WHATEVER);
        }
    }
    (name, value)
}

fn look(step: &Step, differences: &BTreeSet<String>, rows: &[Row], findings: &mut Findings) {
    for known in &step.known {
        if !rows.iter().any(|row| row.id == known.row) {
            findings.unknown.push(format!("{}\n  names no row of known.txt: {}", step.title, known.row));
        }
        if differences.iter().any(|difference| matches(&known.pattern, difference)) {
            findings.used.insert(known.row.clone());
        } else {
            findings.unknown.push(format!("{}\n  differs no more: {}", step.title, known.pattern));
        }
    }
    for difference in differences {
        let here = step.known.iter().any(|known| matches(&known.pattern, difference));
        let anywhere =
            rows.iter().find(|row| row.everywhere.iter().any(|pattern| matches(pattern, difference)));
        if let Some(row) = anywhere {
            findings.used.insert(row.id.clone());
        } else if !here {
            findings.unknown.push(format!("{}\n  ~ ROW {difference}", step.title));
        }
    }
}
