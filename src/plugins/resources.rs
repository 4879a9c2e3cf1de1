//! How much of the machine one plugin may use: settings of ours, which any plugin has.
//!
//! They come with the plugin's own settings, as `x-dockplug.memory=256m`, and are kept apart from them: nothing of them
//! is in `Settings`, in the plugin, or in what is pushed. Pure. Values are written as for `docker run`
//! (`RAMInBytes` of docker/go-units, `ParseCPUs` of docker/cli).

use serde::{Deserialize, Serialize};

use crate::error::{Classified, Kind};

/// What their names begin with. No plugin's own setting of such a name can be set.
const PREFIX: &str = "x-dockplug.";
/// Docker's least memory limit, in bytes: with less no runtime starts anything.
const MEMORY_MIN_BYTES: u64 = 6 * 1024 * 1024;
/// A processor, in billionths.
pub(super) const CPU: u64 = 1_000_000_000;
/// A hundredth of a processor: the least quota that Linux takes.
const CPUS_MIN_NANO: u64 = CPU / 100;
/// No Linux has more processors than this.
const CPUS_MAX_NANO: u64 = 8192 * CPU;
/// No Linux has more processes and threads (`PID_MAX_LIMIT`).
const PIDS_MAX: u64 = 4 * 1024 * 1024;
/// How many digits a number may have: none that is meant has more.
const DIGITS_MAX: usize = 18;
/// How much of a value an error quotes, in characters.
const QUOTE_MAX: usize = 64;

/// What was set; `None` is the default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Resources {
    /// Memory, in bytes; no limit by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Processors, in billionths; no limit by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nano_cpus: Option<u64>,
    /// Processes and threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<Pids>,
}

/// How many processes and threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pids {
    /// As many as the machine can have.
    Unlimited,
    /// At most so many.
    AtMost(u32),
}

/// Why such a setting was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is none of this name.
    #[error("got the setting {0:?}, expected x-dockplug.memory, x-dockplug.cpus or x-dockplug.pids")]
    Unknown(String),
    /// No amount of memory, or too little.
    #[error(
        "x-dockplug.memory: got {0:?}, expected a number of bytes of at least 6m, with b, k, m, g or t as its unit, \
         like 256m; nothing for no limit"
    )]
    Memory(String),
    /// No number of processors.
    #[error(
        "x-dockplug.cpus: got {0:?}, expected a number of processors from 0.01 to 8192, like 1.5; nothing for no limit"
    )]
    Cpus(String),
    /// No number of processes.
    #[error(
        "x-dockplug.pids: got {0:?}, expected a number of processes from 1 to 4194304, or -1 for no limit; nothing for \
         the default"
    )]
    Pids(String),
}

impl Classified for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Unknown(_) | Self::Memory(_) | Self::Cpus(_) | Self::Pids(_) => Kind::Invalid,
        }
    }
}

/// The resources with everything of ours applied, in order, and the settings that are the plugin's own.
///
/// # Errors
/// [`Error`], of the first one that is refused.
pub(super) fn set(resources: Resources, texts: &[String]) -> Result<(Resources, Vec<String>), Error> {
    let (mut resources, mut others) = (resources, Vec::new());
    for text in texts {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        match name.strip_prefix(PREFIX) {
            None => others.push(text.clone()),
            Some("memory") => resources.memory = memory(value)?,
            Some("cpus") => resources.nano_cpus = cpus(value)?,
            Some("pids") => resources.pids = pids(value)?,
            Some(_) => return Err(Error::Unknown(quote(name))),
        }
    }
    Ok((resources, others))
}

/// As in Docker, 0 is no limit too.
fn memory(value: &str) -> Result<Option<u64>, Error> {
    if value.is_empty() {
        return Ok(None);
    }
    match bytes(value) {
        Some(0) => Ok(None),
        Some(bytes) if bytes >= MEMORY_MIN_BYTES => Ok(Some(bytes)),
        _ => Err(Error::Memory(quote(value))),
    }
}

fn cpus(value: &str) -> Result<Option<u64>, Error> {
    if value.is_empty() {
        return Ok(None);
    }
    let exact = |(number, scale): (u64, u64)| {
        let scaled = u128::from(number) * u128::from(CPU);
        let is_exact = scaled.is_multiple_of(scale.into());
        u64::try_from(scaled / u128::from(scale)).ok().filter(|_| is_exact)
    };
    match decimal(value).and_then(exact) {
        Some(0) => Ok(None),
        Some(nano) if (CPUS_MIN_NANO..=CPUS_MAX_NANO).contains(&nano) => Ok(Some(nano)),
        _ => Err(Error::Cpus(quote(value))),
    }
}

fn pids(value: &str) -> Result<Option<Pids>, Error> {
    match value {
        "" => Ok(None),
        "-1" | "0" => Ok(Some(Pids::Unlimited)),
        _ => {
            let number = decimal(value).filter(|(number, scale)| *scale == 1 && *number <= PIDS_MAX);
            let number =
                number.and_then(|(number, _)| u32::try_from(number).ok()).filter(|number| *number > 0);
            number.map(|number| Some(Pids::AtMost(number))).ok_or_else(|| Error::Pids(quote(value)))
        }
    }
}

/// `1.5g`, `64 MiB`, `300kb`: what is below one byte is cut off.
fn bytes(text: &str) -> Option<u64> {
    let text = text.to_ascii_lowercase();
    let end = text.find(|character: char| !character.is_ascii_digit() && character != '.');
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    let unit = unit.strip_prefix(' ').unwrap_or(unit);
    let power = match unit {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        "p" | "pb" | "pib" => 5,
        _ => return None,
    };
    let (number, scale) = decimal(number)?;
    let bytes = u128::from(number) * 1024_u128.pow(power) / u128::from(scale);
    // What the runtime takes is signed.
    u64::try_from(bytes).ok().filter(|bytes| i64::try_from(*bytes).is_ok())
}

/// A decimal number as an integer, and the power of ten it is to be divided by.
fn decimal(text: &str) -> Option<(u64, u64)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = format!("{whole}{fraction}");
    let is_number = !whole.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number || digits.len() > DIGITS_MAX || text.ends_with('.') {
        return None;
    }
    Some((digits.parse().ok()?, 10_u64.pow(u32::try_from(fraction.len()).ok()?)))
}

fn quote(value: &str) -> String {
    value.chars().take(QUOTE_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn try_set(texts: &[&str]) -> Result<(Resources, Vec<String>), Error> {
        let texts: Vec<String> = texts.iter().map(|&text| text.to_owned()).collect();
        set(Resources::default(), &texts)
    }

    #[test]
    fn amounts_are_read_as_for_docker_run() {
        let table = [
            ("6m", Some(6 << 20)),
            ("256m", Some(256 << 20)),
            ("256M", Some(256 << 20)),
            ("1.5g", Some(3 << 29)),
            ("64 MiB", Some(64 << 20)),
            ("8192kb", Some(8 << 20)),
            ("6291456", Some(6 << 20)),
            ("6291456b", Some(6 << 20)),
            ("1t", Some(1 << 40)),
            ("0", None),
            ("0g", None),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(memory(text), Ok(expected), "{text}");
        }
        for text in
            ["6291455", "5m", "-1", "m", "1.2.3g", ".5g", "5.g", "6mm", "6 m b", "1e9", " 6m", "9999999t"]
        {
            assert_eq!(memory(text), Err(Error::Memory(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn processors_are_decimal_and_processes_whole() {
        let table = [
            ("1.5", Some(1_500_000_000)),
            ("0.01", Some(10_000_000)),
            ("8192", Some(8_192_000_000_000)),
            ("0.123456789", Some(123_456_789)),
            ("0", None),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(cpus(text), Ok(expected), "{text}");
        }
        for text in ["0.009", "8192.1", "-1", "1.5.5", "0.1234567891", "one", "1/2", "1,5"] {
            assert_eq!(cpus(text), Err(Error::Cpus(text.to_owned())), "{text}");
        }
        let table = [
            ("512", Some(Pids::AtMost(512))),
            ("1", Some(Pids::AtMost(1))),
            ("4194304", Some(Pids::AtMost(4_194_304))),
            ("-1", Some(Pids::Unlimited)),
            ("0", Some(Pids::Unlimited)),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(pids(text), Ok(expected), "{text}");
        }
        for text in ["4194305", "1.0", "-2", "many", "00"] {
            assert_eq!(pids(text), Err(Error::Pids(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn ours_are_taken_out_of_the_plugins_own() {
        let (resources, others) = try_set(&[
            "MODE=x",
            "x-dockplug.memory=1g",
            "x-dockplug=1",
            "x-dockplug.cpus=2",
            "args=x-dockplug.y",
        ])
        .unwrap();
        let expected = Resources { memory: Some(1 << 30), nano_cpus: Some(2 * CPU), pids: None };
        assert_eq!(resources, expected);
        assert_eq!(others, ["MODE=x", "x-dockplug=1", "args=x-dockplug.y"]);
        let cleared =
            set(expected, &["x-dockplug.memory=".to_owned(), "x-dockplug.cpus".to_owned()]).unwrap();
        assert_eq!(cleared.0, Resources::default());
        let error = try_set(&["x-dockplug.mem=1g"]).unwrap_err();
        assert_eq!(error, Error::Unknown("x-dockplug.mem".to_owned()));
        assert!(
            error.to_string().starts_with("got the setting \"x-dockplug.mem\", expected x-dockplug.memory,")
        );
    }

    #[test]
    fn what_an_older_daemon_wrote_has_the_defaults() {
        assert_eq!(serde_json::from_str::<Resources>("{}").unwrap(), Resources::default());
        let all = Resources { memory: Some(1), nano_cpus: Some(2), pids: Some(Pids::AtMost(3)) };
        let json = serde_json::to_string(&all).unwrap();
        assert_eq!(serde_json::from_str::<Resources>(&json).unwrap(), all);
    }
}
