//! The scripts: what is asked of both daemons, a line each, and which answers are known to differ.
//!
//! ```text
//! # words                        for people
//! plugin NAME [MODE…] [{JSON}]   makes the tiny plugin, behaving as MODE says, with keys of config.json replaced
//! GET /path [body]               a request; a body that begins with { or [ is JSON, `KIND: text` is of another kind
//! docker ARGUMENTS [<<words]     the docker CLI, with words on its standard input; 'one argument' in single quotes
//! tty docker ARGUMENTS           the same on a terminal: each thing it says there counts once, without its numbers
//! calls                          what has reached the tiny plugins' sockets since the last time
//! ~ ROW FACET: THEIRS -> OURS    the step before differs so, for the reason that ROW of known.txt gives; * is anything
//! ```
//! `{place}` is the daemon's directory, `{registry}` the address of a registry of its own, `{soon}` the time in seconds. It knows no daemon.

use std::path::Path;

use serde_json::Value;

/// One line of a script, with what is known to differ.
#[derive(Debug)]
pub(super) struct Step {
    /// Where it stands: `volumes.txt:12: GET /volumes`.
    pub(super) title: String,
    pub(super) action: Action,
    pub(super) known: Vec<Known>,
}

/// What is done.
#[derive(Debug)]
pub(super) enum Action {
    Plugin { name: String, mode: String, config: Value },
    Request { method: String, target: String, kind: String, body: String },
    Docker { arguments: Vec<String>, input: Option<String> },
    Terminal { arguments: Vec<String> },
    Calls,
}

/// A difference that is expected, and the row of the table that says why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) row: String,
    pub(super) pattern: String,
}

/// A row of the table.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) id: String,
    /// What may differ so in any step.
    pub(super) everywhere: Vec<String>,
}

/// Reads a script.
pub(super) fn parse(file: &Path) -> Vec<Step> {
    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    let text = std::fs::read_to_string(file).unwrap();
    let mut steps: Vec<Step> = vec![];
    for (number, line) in text.lines().enumerate() {
        let title = format!("{name}:{}: {line}", number + 1);
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(known) = line.strip_prefix("~ ") {
            let (row, pattern) = known.split_once(' ').unwrap_or_else(|| panic!("{title}: no difference"));
            let last = steps.last_mut().unwrap_or_else(|| panic!("{title}: of no step"));
            last.known.push(Known { row: row.to_owned(), pattern: pattern.to_owned() });
            continue;
        }
        let action = action(line).unwrap_or_else(|| panic!("{title}: what is that?"));
        steps.push(Step { title, action, known: vec![] });
    }
    steps
}

fn action(line: &str) -> Option<Action> {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    match word {
        "calls" => Some(Action::Calls),
        "plugin" => {
            let (words, config) = rest.find("{\"").map_or((rest, "{}"), |at| rest.split_at(at));
            let (name, mode) = words.trim().split_once(' ').unwrap_or((words.trim(), ""));
            let config = serde_json::from_str(config).ok()?;
            Some(Action::Plugin { name: name.to_owned(), mode: mode.trim().to_owned(), config })
        }
        "docker" => {
            let (words, input) = match rest.split_once("<<") {
                Some((words, input)) => (words, Some(format!("{}\n", input.trim()))),
                None => (rest, None),
            };
            Some(Action::Docker { arguments: arguments(words), input })
        }
        "tty" => Some(Action::Terminal { arguments: arguments(rest.strip_prefix("docker ")?) }),
        "GET" | "HEAD" | "POST" | "PUT" | "DELETE" | "PATCH" | "OPTIONS" => {
            let (target, body) = rest.split_once(' ').unwrap_or((rest, ""));
            let (kind, body) = match body.split_once(": ") {
                _ if body.starts_with(['{', '[']) => ("application/json", body),
                Some((kind, body)) => (kind, body),
                None => ("", body),
            };
            let own = |text: &str| text.to_owned();
            Some(Action::Request { method: own(word), target: own(target), kind: own(kind), body: own(body) })
        }
        _ => None,
    }
}

/// Words, with what stands in single quotes as one.
fn arguments(text: &str) -> Vec<String> {
    let mut found = vec![];
    for (at, part) in text.split('\'').enumerate() {
        if at % 2 == 1 {
            found.push(part.to_owned());
        } else {
            found.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    found
}

/// Reads the table: `ROW: why`, then lines `everywhere FACET: THEIRS -> OURS`.
pub(super) fn rows(file: &Path) -> Vec<Row> {
    let mut rows: Vec<Row> = vec![];
    for line in std::fs::read_to_string(file).unwrap().lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(pattern) = line.strip_prefix("everywhere ") {
            rows.last_mut().expect("a row comes first").everywhere.push(pattern.to_owned());
            continue;
        }
        let (id, why) = line.split_once(": ").unwrap_or_else(|| panic!("{line}: no reason"));
        assert!(!why.trim().is_empty(), "{id}: no reason");
        rows.push(Row { id: id.to_owned(), everywhere: vec![] });
    }
    rows
}

/// Whether a text is as a pattern has it, where `*` stands for anything.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[test]
fn stars_stand_for_anything() {
    for (pattern, text, expected) in [
        ("a", "a", true),
        ("a", "ab", false),
        ("a*", "ab", true),
        ("*b", "ab", true),
        ("a*c*e", "abcde", true),
        ("a*c*e", "abde", false),
        ("*", "", true),
        ("ab*ba", "aba", false),
    ] {
        assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
    }
}
