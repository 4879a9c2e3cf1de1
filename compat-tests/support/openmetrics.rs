//! A reader of OpenMetrics text that accepts nothing else: what a scrape has said, checked against the grammar.
//!
//! It knows of the specification (1.0.0) what counters, gauges, infos and histograms need, and no metric of ours.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use super::PATIENCE;
use super::http::Answer;

/// One line with a value.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    /// A number, as it is written.
    pub(crate) value: String,
}

/// A whole exposition.
#[derive(Debug)]
pub(crate) struct Exposition(Vec<Sample>);

impl Exposition {
    /// Reads a text.
    ///
    /// # Panics
    /// When it is no OpenMetrics; the line is in the message.
    pub(crate) fn parse(text: &str) -> Self {
        let body = text.strip_suffix("# EOF\n").unwrap_or_else(|| panic!("no end in {text:?}"));
        let mut reader = Reader::default();
        for line in body.split_terminator('\n') {
            reader.line(line).unwrap_or_else(|why| panic!("{why}: {line:?}"));
        }
        let exposition = Self(reader.samples);
        exposition.check_histograms();
        exposition
    }

    /// The whole number that is the value of the one sample of this name that has these labels, among others.
    #[track_caller]
    pub(crate) fn count(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        self.one(name, labels).value.parse().unwrap()
    }

    /// The value of that sample, whatever it is.
    #[track_caller]
    pub(crate) fn number(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.one(name, labels).value.parse().unwrap()
    }

    #[track_caller]
    fn one(&self, name: &str, labels: &[(&str, &str)]) -> &Sample {
        let found = self.find(name, labels);
        assert_eq!(found.len(), 1, "{name} {labels:?}: {found:?}");
        found[0]
    }

    /// All samples of this name that have these labels, among others.
    pub(crate) fn find(&self, name: &str, labels: &[(&str, &str)]) -> Vec<&Sample> {
        let has = |sample: &Sample| {
            labels.iter().all(|(key, value)| sample.labels.get(*key).is_some_and(|own| own == value))
        };
        self.0.iter().filter(|sample| sample.name == name && has(sample)).collect()
    }

    /// All samples.
    pub(crate) fn samples(&self) -> &[Sample] {
        &self.0
    }

    /// Buckets ascend, their counts do not descend, and the last one is infinite and has the count.
    fn check_histograms(&self) {
        let of = |suffix| {
            self.0.iter().filter_map(move |sample| Some((sample.name.strip_suffix(suffix)?, sample)))
        };
        for (base, count) in of("_count") {
            let labels: Vec<_> =
                count.labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
            let bucket = |sample: &&Sample| -> (f64, u64) {
                (sample.labels["le"].replace("+Inf", "inf").parse().unwrap(), sample.value.parse().unwrap())
            };
            let buckets = self.find(&format!("{base}_bucket"), &labels);
            let buckets: Vec<_> = buckets.iter().map(bucket).collect();
            assert!(buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{base} {labels:?}: {buckets:?}");
            let (bound, all) = buckets.last().unwrap();
            assert!(bound.is_infinite(), "{base} {labels:?}: {buckets:?}");
            assert_eq!(all.to_string(), count.value, "{base} {labels:?}");
            assert!(self.number(&format!("{base}_sum"), &labels) >= 0.0);
        }
    }
}

/// What was read so far.
#[derive(Debug, Default)]
struct Reader {
    /// The family whose lines are read, and its type.
    family: String,
    kind: String,
    seen: BTreeSet<String>,
    samples: Vec<Sample>,
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<(), String> {
        let Some(comment) = line.strip_prefix("# ") else { return self.sample(line) };
        let mut words = comment.splitn(3, ' ');
        let mut word = || words.next().ok_or("too few words".to_owned());
        let (what, family, rest) = (word()?, word()?, word()?);
        if what == "HELP" {
            family.clone_into(&mut self.family);
            self.kind = String::new();
            return self.seen.insert(family.to_owned()).then_some(()).ok_or("a family twice".to_owned());
        }
        match (family == self.family, what) {
            (false, _) => Err("metadata of another family".to_owned()),
            (true, "TYPE") => {
                rest.clone_into(&mut self.kind);
                Ok(())
            }
            (true, "UNIT") if family.ends_with(&format!("_{rest}")) => Ok(()),
            (true, _) => Err("unknown metadata, or a unit that is not in the name".to_owned()),
        }
    }

    fn sample(&mut self, line: &str) -> Result<(), String> {
        let name_ends = line.find(['{', ' ']).ok_or("no value")?;
        let (name, rest) = line.split_at(name_ends);
        let suffixes: &[&str] = match self.kind.as_str() {
            "counter" => &["_total"],
            "gauge" => &[""],
            "info" => &["_info"],
            "histogram" => &["_bucket", "_count", "_sum"],
            other => return Err(format!("a sample of type {other:?}")),
        };
        let suffix = name.strip_prefix(self.family.as_str()).ok_or("a sample of another family")?;
        if !suffixes.contains(&suffix) {
            return Err(format!("a {} may not end in {suffix:?}", self.kind));
        }
        let (labels, rest) = match rest.strip_prefix('{') {
            Some(rest) => labels(rest)?,
            None => (BTreeMap::new(), rest),
        };
        let value = rest.strip_prefix(' ').ok_or("no space before the value")?;
        value.parse::<f64>().map_err(|error| format!("{value:?} is no number: {error}"))?;
        let sample = Sample { name: name.to_owned(), labels, value: value.to_owned() };
        if self.samples.iter().any(|other| other.name == name && other.labels == sample.labels) {
            return Err("a sample twice".to_owned());
        }
        self.samples.push(sample);
        Ok(())
    }
}

/// Labels after their opening brace, and what follows the closing one.
fn labels(mut rest: &str) -> Result<(BTreeMap<String, String>, &str), String> {
    let mut labels = BTreeMap::new();
    loop {
        let (key, quoted) = rest.split_once("=\"").ok_or("a label without a value")?;
        let is_key = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if key.is_empty() || !key.bytes().all(is_key) {
            return Err(format!("{key:?} is no name of a label"));
        }
        let mut value = String::new();
        let mut characters = quoted.char_indices();
        let end = loop {
            match characters.next().ok_or("a value without an end")? {
                (at, '"') => break at,
                (_, '\\') => match characters.next() {
                    Some((_, 'n')) => value.push('\n'),
                    Some((_, plain @ ('"' | '\\'))) => value.push(plain),
                    other => return Err(format!("{other:?} is not escaped so")),
                },
                (_, plain) => value.push(plain),
            }
        };
        if labels.insert(key.to_owned(), value).is_some() {
            return Err(format!("the label {key} twice"));
        }
        rest = &quoted[end + 1..];
        if let Some(after) = rest.strip_prefix('}') {
            return Ok((labels, after));
        }
        rest = rest.strip_prefix(',').ok_or("neither a comma nor a brace after a label")?;
    }
}

/// One request over TCP, and its answer.
pub(crate) fn ask(address: &str, method: &str, target: &str) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap_or_else(|e| panic!("connecting to {address}: {e}"));
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "{method} {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap().parse().unwrap();
    let headers = lines.filter_map(|line| line.split_once(": "));
    Answer {
        status,
        headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        body: body.as_bytes().to_vec(),
    }
}

#[test]
fn what_is_no_openmetrics_is_refused() {
    let good = "# HELP a Words.\n# TYPE a counter\na_total{b=\"c\\\"\\n\",d=\"\"} 1\n# EOF\n";
    let read = Exposition::parse(good);
    assert_eq!((read.samples().len(), read.count("a_total", &[("b", "c\"\n")])), (1, 1));
    for (good_part, bad_part) in [
        ("# EOF\n", ""),
        ("# EOF\n", "# EOF\n\n"),
        ("a_total{", "a{"),
        ("a_total{", "b_total{"),
        (" 1\n", " one\n"),
        (" 1\n", " 1\n\n"),
        ("\\n", "\\t"),
        ("\\\"", "\""),
        (",d", ",b"),
        ("TYPE a counter", "TYPE b counter"),
        ("# TYPE a counter\n", ""),
        ("# TYPE a counter\n", "# UNIT a seconds\n"),
    ] {
        let bad = good.replacen(good_part, bad_part, 1);
        assert!(std::panic::catch_unwind(|| Exposition::parse(&bad)).is_err(), "{bad:?}");
    }
    let twice = good.replacen("# EOF\n", "# HELP a Words.\n# EOF\n", 1);
    assert!(std::panic::catch_unwind(|| Exposition::parse(&twice)).is_err(), "{twice:?}");
}
