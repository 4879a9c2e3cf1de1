//! `daemon.json`: dockerd's key names, each checked against the flags that were typed.
//!
//! An unknown key is an error that names it: a setting that is silently ignored is worse than none.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::Error;

/// What the file says; `None` where it is silent.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct File {
    pub(super) hosts: Option<Vec<String>>,
    pub(super) data_root: Option<PathBuf>,
    pub(super) exec_root: Option<PathBuf>,
    pub(super) pidfile: Option<PathBuf>,
    pub(super) group: Option<String>,
    pub(super) debug: Option<bool>,
    pub(super) log_level: Option<String>,
    pub(super) log_format: Option<String>,
    pub(super) live_restore: Option<bool>,
    pub(super) shutdown_timeout: Option<i64>,
    pub(super) metrics_addr: Option<String>,
    pub(super) default_runtime: Option<String>,
    #[serde(default, deserialize_with = "programs")]
    pub(super) runtimes: Option<BTreeMap<String, PathBuf>>,
    pub(super) driver_timeouts: Option<BTreeMap<String, u64>>,
    pub(super) insecure_registries: Option<Vec<String>>,
    pub(super) redact_env: Option<Vec<String>>,
    pub(super) registry_mirrors: Option<Vec<String>>,
    pub(super) seccomp_profile: Option<String>,
    pub(super) legacy_plugins_dirs: Option<Vec<String>>,
    pub(super) publish_sockets: Option<PathBuf>,
    pub(super) engine: Option<String>,
}

/// The keys there are. A test holds this list and [`File`] together.
const KEYS: [&str; 21] = [
    "data-root",
    "debug",
    "default-runtime",
    "driver-timeouts",
    "engine",
    "exec-root",
    "group",
    "hosts",
    "insecure-registries",
    "legacy-plugins-dirs",
    "live-restore",
    "log-format",
    "log-level",
    "metrics-addr",
    "pidfile",
    "publish-sockets",
    "redact-env",
    "registry-mirrors",
    "runtimes",
    "seccomp-profile",
    "shutdown-timeout",
];

impl File {
    /// Reads the content of the file at `path`; `flags` are the keys set on the command line, with their values.
    pub(super) fn parse(path: &Path, content: &[u8], flags: &[(&str, String)]) -> Result<Self, Error> {
        let malformed = |error| Error::Malformed(path.to_owned(), error);
        // Sorted by key, so that the errors are the same each time.
        let settings: BTreeMap<String, Value> = match content.trim_ascii() {
            [] => BTreeMap::new(),
            content => serde_json::from_slice(content).map_err(malformed)?,
        };
        let unknown: Vec<&str> =
            settings.keys().map(String::as_str).filter(|key| !KEYS.contains(key)).collect();
        if !unknown.is_empty() {
            return Err(Error::UnknownKeys { file: path.to_owned(), keys: unknown.join(", ") });
        }
        let conflicts: Vec<String> = flags
            .iter()
            .filter_map(|(key, flag)| {
                let value = settings.get(*key)?;
                Some(format!("{key}: (from flag: {flag}, from file: {})", as_go_prints(value)))
            })
            .collect();
        if !conflicts.is_empty() {
            return Err(Error::Conflicts { file: path.to_owned(), conflicts: conflicts.join(", ") });
        }
        serde_json::from_value(settings.into_iter().collect()).map_err(malformed)
    }
}

/// A value as Go's `%v` prints it, for dockerd's conflict text.
fn as_go_prints(value: &Value) -> String {
    let joined = |parts: Vec<String>| parts.join(" ");
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => format!("[{}]", joined(values.iter().map(as_go_prints).collect())),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(key, value)| format!("{key}:{}", as_go_prints(value)));
            format!("map[{}]", joined(fields.collect()))
        }
        Value::Null => "<nil>".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

/// dockerd's `{"NAME": {"path": "PROGRAM"}}`.
fn programs<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<BTreeMap<String, PathBuf>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Runtime {
        path: PathBuf,
    }
    let runtimes = Option::<BTreeMap<String, Runtime>>::deserialize(deserializer)?;
    Ok(runtimes.map(|runtimes| runtimes.into_iter().map(|(name, runtime)| (name, runtime.path)).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_read() {
        // A number is right for the timeout and wrong for every other key: each must be noticed.
        for key in KEYS {
            let json = format!(r#"{{"{key}": 7}}"#);
            let read = File::parse(Path::new("f"), json.as_bytes(), &[]);
            assert_eq!(read.is_ok(), key == "shutdown-timeout", "{key}");
        }
    }

    #[test]
    fn values_print_as_in_go() {
        let value = serde_json::json!({"a": ["x", true, null, 1], "b": {}});
        assert_eq!(as_go_prints(&value), "map[a:[x true <nil> 1] b:map[]]");
    }

    #[test]
    fn an_empty_file_says_nothing() {
        assert_eq!(File::parse(Path::new("f"), b" \n", &[]).unwrap().debug, None);
    }
}
