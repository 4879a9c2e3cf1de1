//! A script, done to one daemon: what it answered, taken apart into facets that can be compared.
//!
//! A facet is `status`, `header NAME`, `body PATH` (each leaf of a JSON document has a path), `exit`, `out LINE` or
//! `err LINE`. What must differ between two daemons (ids, times, directories) is made the same. It does not know what
//! the other daemon answers.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::SystemTime;

use regex::Regex;
use serde_json::Value;

use super::script::{Action, Step};
use crate::support::daemon::Daemon;
use crate::support::http::Answer;
use crate::support::registry::Registry;

/// What was seen of one step.
pub(super) type Facets = BTreeMap<String, String>;

/// The headers of an answer that a client may read.
const HEADERS: [&str; 6] =
    ["api-version", "content-type", "docker-experimental", "docker-plugin-name", "ostype", "server"];

/// The calls of the protocol that change nothing.
const READS: [&str; 4] =
    ["VolumeDriver.Get ", "VolumeDriver.List ", "VolumeDriver.Path ", "VolumeDriver.Capabilities "];

/// A target with what may not stand in it as it is, as clients write it.
fn escaped(target: &str) -> String {
    target.replace('"', "%22").replace('{', "%7B").replace('}', "%7D").replace(' ', "%20")
}

/// A daemon, and the docker CLI it is asked with.
#[derive(Debug)]
pub(super) struct Performer {
    daemon: Daemon,
    /// Started when a script first names it.
    registry: OnceCell<Registry>,
    cli: PathBuf,
    /// How much of the plugins' calls has been looked at.
    calls_seen: usize,
}

impl Performer {
    pub(super) fn new(daemon: Daemon, cli: PathBuf) -> Self {
        Self { daemon, registry: OnceCell::new(), cli, calls_seen: 0 }
    }

    /// Does one step.
    pub(super) fn perform(&mut self, step: &Step) -> Facets {
        match &step.action {
            Action::Plugin { name, mode, config } => {
                let mut context = self.daemon.tiny().mode(mode);
                for (key, value) in config.as_object().into_iter().flatten() {
                    context = context.with(key, self.filled_json(value));
                }
                self.facets_of(&self.daemon.create(&self.filled(name), &context.tar()))
            }
            Action::Request { method, target, kind, body } => {
                let (target, body) = (escaped(&self.filled(target)), self.filled(body));
                self.facets_of(&self.daemon.http().send(method, &target, kind, body.as_bytes()))
            }
            Action::Terminal { arguments } => self.terminal(arguments),
            Action::Docker { arguments, input } => self.docker(arguments, input.as_deref()),
            Action::Calls => self.calls(),
        }
    }

    fn filled(&self, text: &str) -> String {
        // Late enough for what has just happened.
        let soon = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() + 1;
        let text = if text.contains("{registry}") {
            text.replace("{registry}", self.registry.get_or_init(Registry::open).address())
        } else {
            text.to_owned()
        };
        text.replace("{place}", &self.place()).replace("{soon}", &soon.to_string())
    }

    fn filled_json(&self, value: &Value) -> Value {
        serde_json::from_str(&self.filled(&value.to_string())).unwrap()
    }

    fn place(&self) -> String {
        self.daemon.place().display().to_string()
    }

    fn facets_of(&self, answer: &Answer) -> Facets {
        let mut facets = Facets::from([("status".to_owned(), answer.status.to_string())]);
        for name in HEADERS {
            if let Some(value) = answer.header(name) {
                facets.insert(format!("header {name}"), self.same(value));
            }
        }
        let documents: Result<Vec<Value>, _> =
            serde_json::Deserializer::from_slice(&answer.body).into_iter().collect();
        match documents {
            Ok(documents) if documents.is_empty() => {}
            Ok(documents) if documents.iter().all(|event| event["Action"].is_string()) => {
                for mut event in documents {
                    // In the order of their texts: what happens by itself may come a moment earlier or later.
                    for made_up in ["time", "timeNano"] {
                        event[made_up] = 0.into();
                    }
                    facets.insert(format!("event {}", self.same(&event.to_string())), "seen".to_owned());
                }
            }
            Ok(mut documents) if documents.len() == 1 => {
                self.flatten("body", "$", &mut documents.remove(0), &mut facets);
            }
            Ok(documents) => self.flatten("body", "$", &mut Value::Array(documents), &mut facets),
            Err(_) => {
                facets.insert("body".to_owned(), self.same(answer.text().trim_end()));
            }
        }
        facets
    }

    fn flatten(&self, part: &str, path: &str, value: &mut Value, facets: &mut Facets) {
        let leaf = match value {
            Value::Object(map) if !map.is_empty() => {
                for (key, value) in map {
                    // A dot in a key is no step of the path.
                    let key = key.replace('.', "·");
                    if matches!(key.as_str(), "time" | "timeNano" | "CreatedAt")
                        && value != "0001-01-01T00:00:00Z"
                    {
                        *value = "<time>".into();
                    }
                    self.flatten(part, &format!("{path}.{key}"), value, facets);
                }
                return;
            }
            Value::Array(items) if !items.is_empty() => {
                // What has a name has no order.
                if items.iter().all(|item| item["Name"].is_string()) {
                    items.sort_by_key(|item| self.same(&item["Name"].to_string()));
                } else if path.ends_with("Deleted") {
                    items.sort_by_key(|item| self.same(&item.to_string()));
                }
                for (at, item) in items.iter_mut().enumerate() {
                    self.flatten(part, &format!("{path}[{at}]"), item, facets);
                }
                return;
            }
            leaf => leaf.to_string(),
        };
        facets.insert(format!("{part} {path}"), self.same(&leaf));
    }

    fn cli(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_remove("DOCKER_CONTEXT").env_remove("DOCKER_API_VERSION");
        command.env("DOCKER_HOST", format!("unix://{}", self.daemon.socket().display()));
        command.env("DOCKER_CONFIG", self.daemon.place().join("cli")).current_dir(self.daemon.place());
        command
    }

    /// On a terminal lines are written over; what was said is what counts, not how often.
    fn terminal(&self, arguments: &[String]) -> Facets {
        static NUMBERS: LazyLock<Regex> = LazyLock::new(|| {
            Regex::new(r"\x1b\[[0-9;?]*[A-Za-z]|\s*\[[=> ]+\].*|\s*\d+(\.\d+)?\s?[kMG]?B(/.*)?$").unwrap()
        });
        let quoted = |word: &String| format!("'{}'", self.filled(word));
        let words: Vec<String> = arguments.iter().map(quoted).collect();
        let line = format!("stty cols 200; '{}' {}", self.cli.display(), words.join(" "));
        let output =
            self.cli(Path::new("script")).args(["-qec", &line, "/dev/null"]).stdin(Stdio::null()).output();
        let output = output.unwrap();
        let mut facets = Facets::from([("exit".to_owned(), format!("{:?}", output.status.code()))]);
        for line in String::from_utf8_lossy(&output.stdout).split(['\r', '\n']) {
            let said = self.same(NUMBERS.replace_all(line, "").trim());
            if !said.is_empty() {
                facets.insert(format!("said {said}"), "yes".to_owned());
            }
        }
        facets
    }

    fn docker(&self, arguments: &[String], input: Option<&str>) -> Facets {
        let arguments = arguments.iter().map(|argument| self.filled(argument));
        let mut command = self.cli(&self.cli);
        command.args(arguments);
        command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        if let (Some(input), Some(mut pipe)) = (input, child.stdin.take()) {
            // The CLI may not want to read it.
            let _ = pipe.write_all(input.as_bytes());
        }
        let output = child.wait_with_output().unwrap();
        let mut facets = Facets::from([("exit".to_owned(), format!("{:?}", output.status.code()))]);
        for (stream, bytes) in [("out", output.stdout), ("err", output.stderr)] {
            let text = String::from_utf8_lossy(&bytes);
            if let (true, Ok(mut json)) = (text.starts_with(['{', '[']), serde_json::from_str(&text)) {
                self.flatten(stream, "$", &mut json, &mut facets);
                continue;
            }
            // Columns are as wide as ids and directories are long.
            let lines =
                text.lines().map(|line| self.same(line).split_whitespace().collect::<Vec<_>>().join(" "));
            // Layers are told of in any order.
            let (layers, lines): (Vec<_>, Vec<_>) = lines.partition(|line| line.starts_with("<short>: "));
            facets.extend(layers.into_iter().map(|line| (format!("said {line}"), "yes".to_owned())));
            facets.extend(
                lines.into_iter().enumerate().map(|(at, line)| (format!("{stream} {}", at + 1), line)),
            );
        }
        facets
    }

    /// The calls that change something, in their order; those that only read, each once, for dockerd asks for the same
    /// again and again; and the headers that were seen.
    fn calls(&mut self) -> Facets {
        let text = fs::read_to_string(self.daemon.record().join("calls")).unwrap_or_default();
        let new = text[self.calls_seen..].to_owned();
        self.calls_seen = text.len();
        let (mut facets, mut changes) = (Facets::new(), 0);
        for call in new.split("\n\n").filter(|call| !call.trim().is_empty()) {
            let mut lines: Vec<&str> =
                call.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
            let body = self.same(lines.pop_if(|line| line.starts_with('{')).unwrap_or_default());
            let mut lines = lines.into_iter();
            let line = lines.next().unwrap_or_default();
            if READS.iter().any(|read| line.contains(read)) {
                facets.insert(format!("read {line} {body}"), "seen".to_owned());
            } else {
                changes += 1;
                facets.insert(format!("change {changes:02}"), format!("{line} {body}"));
            }
            for header in lines.filter(|header| !header.to_ascii_lowercase().starts_with("content-length:")) {
                facets.insert(format!("call header {}", header.to_ascii_lowercase()), "seen".to_owned());
            }
        }
        facets
    }

    /// The text without what two daemons cannot have in common.
    fn same(&self, text: &str) -> String {
        static MADE_UP: LazyLock<[(Regex, &str); 7]> = LazyLock::new(|| {
            [
                (r"sha256:[0-9a-f]{64}", "<digest>"),
                (r"\b[0-9a-f]{64}\b", "<id>"),
                (r"\b[0-9a-f]{12}\b", "<short>"),
                (
                    r"\b(?:[1-9]\d{3}|0[1-9]\d\d)-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)",
                    "<time>",
                ),
                (r"Docker/[^ ]+ \(linux\)", "Docker/<version> (linux)"),
                (r#""pid":"\d+""#, "\"pid\":<pid>"),
                (r"\b\d+ (?:milli)?seconds? ago|Less than a second ago|About a minute ago", "<ago>"),
            ]
            .map(|(pattern, word)| (Regex::new(pattern).unwrap(), word))
        });
        let place = self.place();
        let real = Path::new(&place).canonicalize().unwrap().display().to_string();
        let text = text.replace(&real, "<place>").replace(&place, "<place>");
        let text = match self.registry.get() {
            Some(registry) => text.replace(registry.address(), "<registry>"),
            None => text,
        };
        MADE_UP.iter().fold(text, |text, (pattern, word)| pattern.replace_all(&text, *word).into_owned())
    }
}
