//! The house rules that a test can prove: who may import whom, how a file begins, how long it may be, what it is not
//! called.
//!
//! It reads the source text and knows no room but by its rank.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The rooms by rank, lowest first: `use crate::x` goes to a lower rank only, so siblings never meet. Finer than the
/// ranks in words in two places: `config` speaks in errors and paths, and `app` names every layer, so `server` too.
const RANKS: [&[&str]; 10] = [
    &["error", "paths"],
    &["config"],
    &["oci", "confine", "state", "events", "watch", "metrics", "trust", "escape", "fields", "finish"],
    &["content", "layer", "registry", "runtime", "drivers", "engine"],
    &["plugins", "volumes"],
    &["containers"],
    &["api", "scrape", "publish"],
    &["server", "commands"],
    &["app"],
    &["main"],
];
/// Files that are not rooms: the list of rooms, and this one.
const ROOMLESS: [&str; 2] = ["lib", "tidy"];
/// How long a file may be.
const MAX_LINES: usize = 400;
/// Names that say nothing.
const EMPTY_NAMES: [&str; 6] = ["utils", "util", "helpers", "helper", "common", "misc"];

/// One source file: its path below the crate, and its text.
struct Source {
    path: PathBuf,
    text: String,
}

/// All Rust files below a directory of the crate.
fn sources(directory: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut directories = vec![root.join(directory)];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push(Source { path: path.strip_prefix(root).unwrap().to_owned(), text });
            }
        }
    }
    assert!(!found.is_empty(), "no source in {directory}");
    found
}

/// The room of a file below `src`: its first folder, or its own name.
fn room(path: &Path) -> String {
    let mut parts = path.iter().skip(1).map(|part| part.to_str().unwrap());
    parts.next().unwrap().trim_end_matches(".rs").to_owned()
}

fn rank(room: &str) -> Option<usize> {
    RANKS.iter().position(|rooms| rooms.contains(&room))
}

/// The rooms a text names, as `crate::room` or, in `main`, `dockplug::room`, alone or in braces; comments do not count.
fn rooms_named(text: &str) -> BTreeSet<String> {
    let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = code.join("\n");
    let mut rooms = BTreeSet::new();
    for prefix in ["crate::", "dockplug::"] {
        for (at, _) in code.match_indices(prefix) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|before| before.is_alphanumeric() || "_:\"/".contains(before)) {
                continue;
            }
            let after = &code[at + prefix.len()..];
            match after.strip_prefix('{') {
                Some(list) => rooms.extend(first_names(list)),
                None => rooms.extend(name(after)),
            }
        }
    }
    rooms
}

/// The first name of each part of `a::b, c::{d, e}}`.
fn first_names(list: &str) -> Vec<String> {
    let (mut names, mut depth, mut begins) = (Vec::new(), 0, true);
    for (at, character) in list.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => begins = true,
            _ if begins && !character.is_whitespace() => {
                names.extend(name(&list[at..]));
                begins = false;
            }
            _ => {}
        }
    }
    names
}

/// The identifier a text begins with, if it can be a room's.
fn name(text: &str) -> Option<String> {
    let name: String = text.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect();
    name.chars().next().filter(char::is_ascii_lowercase)?;
    Some(name)
}

/// Why a file of this room may not have this text; nothing if it may.
fn trespasses(room: &str, text: &str) -> Vec<String> {
    let own = rank(room).unwrap_or_else(|| panic!("src/{room} has no rank: give it one in src/tidy.rs"));
    let named = rooms_named(text).into_iter().filter(|named| named != room);
    named
        .filter(|named| rank(named).is_none_or(|rank| rank >= own))
        .map(|named| format!("{room} (rank {own}) names {named} (rank {:?})", rank(&named)))
        .collect()
}

#[test]
fn imports_go_to_a_lower_rank_only() {
    let mut trespassing = Vec::new();
    for source in sources("src") {
        let room = room(&source.path);
        if !ROOMLESS.contains(&room.as_str()) {
            let here = source.path.display();
            trespassing
                .extend(trespasses(&room, &source.text).into_iter().map(|why| format!("{here}: {why}")));
        }
    }
    assert!(trespassing.is_empty(), "{trespassing:#?}");
}

#[test]
fn a_trespass_is_seen() {
    for (room, text) in [
        ("content", "use crate::plugins::Plugins;"),
        ("plugins", "use crate::volumes;"),
        ("oci", "fn f() -> crate::state::Store {}"),
        ("error", "use crate::{paths::DataRoot, other};"),
        ("api", "use crate::{\n    events::Bus,\n    server::{self, Server},\n};"),
        ("app", "pub(crate) use crate::main::x;"),
    ] {
        assert!(!trespasses(room, text).is_empty(), "{room}: {text}");
    }
    for (room, text) in [
        ("content", "use crate::oci::Digest; use crate::error::{Classified, Kind};"),
        ("plugins", "use crate::plugins::config::X;\n// not crate::volumes\n/// [`crate::api`]"),
        ("api", "use crate::{events::{Bus, volumes}, plugins};"),
        ("main", "use dockplug::{app::App, config};"),
        ("runtime", "let name = \"dockplug::server\"; some_crate::api();"),
    ] {
        assert_eq!(trespasses(room, text), Vec::<String>::new(), "{room}: {text}");
    }
}

#[test]
fn every_file_says_what_it_is_and_is_short() {
    let mut untidy = Vec::new();
    for source in sources("src") {
        let here = source.path.display();
        if !source.text.starts_with("//!") {
            untidy.push(format!("{here}: does not open with `//!`"));
        }
        let lines = source.text.lines().count();
        if lines > MAX_LINES {
            untidy.push(format!("{here}: has {lines} lines, expected at most {MAX_LINES}"));
        }
        let names = source.path.iter().map(|part| part.to_str().unwrap().trim_end_matches(".rs"));
        for name in names.filter(|name| EMPTY_NAMES.contains(name)) {
            untidy.push(format!("{here}: {name:?} says nothing about what is inside"));
        }
    }
    assert!(untidy.is_empty(), "{untidy:#?}");
}
