//! `--driver-timeout`: how long volume drivers may take to answer, call by call. What a call does is not known here.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Error;

/// The longest timeout, in seconds: a day.
pub const DRIVER_TIMEOUT_MAX_SECONDS: u64 = 24 * 60 * 60;

/// The calls of the volume plugin protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "they are the protocol's names")]
pub enum DriverCall {
    Create,
    Get,
    List,
    Remove,
    Path,
    Mount,
    Unmount,
    Capabilities,
}

/// The timeouts that were asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DriverTimeouts(BTreeMap<DriverCall, Duration>);

impl DriverCall {
    const ALL: [(&str, Self); 8] = [
        ("create", Self::Create),
        ("get", Self::Get),
        ("list", Self::List),
        ("remove", Self::Remove),
        ("path", Self::Path),
        ("mount", Self::Mount),
        ("unmount", Self::Unmount),
        ("capabilities", Self::Capabilities),
    ];

    fn parse(word: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|(name, _)| word.eq_ignore_ascii_case(name)).map(|(_, call)| call)
    }
}

impl DriverTimeouts {
    /// From `--driver-timeout CALL=SECONDS` and the file's `driver-timeouts`; only one of them may be set.
    ///
    /// # Errors
    /// A flag that is not `CALL=SECONDS`, a call that is none or is given twice, seconds that are not a number from 1 to
    /// [`DRIVER_TIMEOUT_MAX_SECONDS`].
    pub(super) fn new(flags: &[String], file: Option<&BTreeMap<String, u64>>) -> Result<Self, Error> {
        let mut timeouts = BTreeMap::new();
        let mut add = |told: &str, call: &str, seconds: Option<u64>| {
            let seconds = seconds.filter(|seconds| (1..=DRIVER_TIMEOUT_MAX_SECONDS).contains(seconds));
            let invalid = || Error::NotADriverTimeout(told.to_owned());
            let call = DriverCall::parse(call).ok_or_else(invalid)?;
            let timeout = Duration::from_secs(seconds.ok_or_else(invalid)?);
            match timeouts.insert(call, timeout) {
                None => Ok(()),
                Some(_) => Err(Error::DriverTimeoutTwice(told.to_owned())),
            }
        };
        for flag in flags {
            let (call, seconds) = flag.split_once('=').unwrap_or((flag, ""));
            add(flag, call, seconds.parse().ok())?;
        }
        for (call, seconds) in file.into_iter().flatten() {
            add(&format!("{call}={seconds}"), call, Some(*seconds))?;
        }
        Ok(Self(timeouts))
    }

    /// What was asked for.
    pub fn each(&self) -> impl Iterator<Item = (DriverCall, Duration)> {
        self.0.iter().map(|(call, timeout)| (*call, *timeout))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_and_nonsense_is_refused() {
        let read = |flags: &[&str]| {
            let flags: Vec<_> = flags.iter().map(ToString::to_string).collect();
            DriverTimeouts::new(&flags, None).map_err(|error| error.to_string())
        };
        let both = read(&["Mount=300", "get=1"]).unwrap();
        let expected =
            [(DriverCall::Get, Duration::from_secs(1)), (DriverCall::Mount, Duration::from_mins(5))];
        assert_eq!(both.each().collect::<Vec<_>>(), expected);
        let file = BTreeMap::from([("mount".to_owned(), 300), ("GET".to_owned(), 1)]);
        assert_eq!(DriverTimeouts::new(&[], Some(&file)).unwrap(), both);
        for flag in ["", "mount", "mount=", "mount=0", "mount=-1", "mount=1.5", "mount=86401", "fly=1", "=1"]
        {
            let error = read(&[flag]).unwrap_err();
            assert!(
                error.starts_with(&format!("invalid driver timeout {flag:?}: expected CALL=SECONDS")),
                "{error}"
            );
        }
        assert!(read(&["mount=1", "Mount=2"]).unwrap_err().contains("\"Mount=2\": the call has one already"));
        assert!(DriverTimeouts::new(&[], Some(&BTreeMap::from([("fly".to_owned(), 1)]))).is_err());
    }
}
