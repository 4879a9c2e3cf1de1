//! What `docker plugin set` means: `<name>[.<field>][=<value>]`, applied to the settings of a plugin.
//!
//! Pure. Grammar, order and words are dockerd's (`Set` and `settable.go` in moby's `plugin/v2`), with one difference:
//! when one of several is refused, none is applied.

use super::config::PluginConfig;
use super::settings::Settings;
use crate::error::{Classified, Kind};

/// The longest `<name>=<value>`: Linux passes no longer string to a program (`MAX_ARG_STRLEN`).
pub const SETTING_MAX_BYTES: usize = 128 * 1024 - 1;
/// How many may be set at once.
pub const SETTINGS_MAX: usize = 1024;

/// Why a setting was refused. No variant repeats a value: values may be secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is nothing before the equals sign.
    #[error("invalid format, must be <name>[.<field>][=<value>]")]
    Format,
    /// Several fields could be meant.
    #[error("multiple fields are settable, one must be specified")]
    MultipleFields,
    /// The configuration does not allow it.
    #[error("{0:?} is not settable")]
    NotSettable(String),
    /// The configuration knows nothing of this name.
    #[error("setting {0:?} not found in the plugin configuration")]
    Unknown(String),
    /// A mount that has no source in the configuration.
    #[error("plugin config has no mount source")]
    NoMountSource,
    /// A device that has no path in the configuration.
    #[error("plugin config has no device path")]
    NoDevicePath,
    /// A NUL cannot be passed to a program.
    #[error("the value of setting {0:?} contains a NUL")]
    Nul(String),
    /// Longer than can be passed to a program.
    #[error("setting {name:?} has {bytes} bytes, at most {SETTING_MAX_BYTES} are allowed")]
    TooLong {
        /// Its name.
        name: String,
        /// Its length, name and value together.
        bytes: usize,
    },
    /// More settings than any configuration has.
    #[error("got {0} settings, at most {SETTINGS_MAX} are allowed")]
    TooMany(usize),
}

impl Classified for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Format
            | Self::MultipleFields
            | Self::NotSettable(_)
            | Self::Unknown(_)
            | Self::NoMountSource
            | Self::NoDevicePath
            | Self::Nul(_)
            | Self::TooLong { .. }
            | Self::TooMany(_) => Kind::Invalid,
        }
    }
}

/// The settings with everything applied, in order.
///
/// # Errors
/// [`Error`], of the first one that is refused.
pub fn set(config: &PluginConfig, settings: &Settings, texts: &[String]) -> Result<Settings, Error> {
    if texts.len() > SETTINGS_MAX {
        return Err(Error::TooMany(texts.len()));
    }
    let changes = texts.iter().map(|text| Change::parse(text)).collect::<Result<Vec<_>, _>>()?;
    let mut settings = settings.clone();
    changes.iter().try_for_each(|change| change.apply(config, &mut settings))?;
    Ok(settings)
}

/// One change, as it was typed.
#[derive(Debug, PartialEq, Eq)]
struct Change<'a> {
    name: &'a str,
    /// Empty when none was given.
    field: &'a str,
    value: &'a str,
}

impl<'a> Change<'a> {
    fn parse(text: &'a str) -> Result<Self, Error> {
        let (left, value) = text.split_once('=').unwrap_or((text, ""));
        if left.is_empty() && left.len() < text.len() {
            return Err(Error::Format);
        }
        let (name, field) = match left.rfind('.') {
            Some(dot) if dot > 0 => (&left[..dot], &left[dot + 1..]),
            _ => (left, ""),
        };
        if text.len() > SETTING_MAX_BYTES {
            let name = name.chars().take(64).collect();
            return Err(Error::TooLong { name, bytes: text.len() });
        }
        if value.contains('\0') {
            return Err(Error::Nul(name.to_owned()));
        }
        Ok(Self { name, field, value })
    }

    /// The first thing of this name is meant: variables go before mounts, mounts before devices, those before args.
    fn apply(&self, config: &PluginConfig, settings: &mut Settings) -> Result<(), Error> {
        if let Some(env) = config.env.iter().find(|env| env.name == self.name) {
            self.check("value", &env.settable)?;
            let variable = format!("{}={}", self.name, self.value);
            let named = |set: &&mut String| set.split('=').next() == Some(self.name);
            match settings.env.iter_mut().find(named) {
                Some(set) => *set = variable,
                None => settings.env.push(variable),
            }
            return Ok(());
        }
        if let Some(at) = config.mounts.iter().position(|mount| mount.name == self.name) {
            self.check("source", &config.mounts[at].settable)?;
            let source = settings.mounts.get_mut(at).and_then(|mount| mount.source.as_mut());
            self.value.clone_into(source.ok_or(Error::NoMountSource)?);
            return Ok(());
        }
        if let Some(at) = config.linux.devices.iter().position(|device| device.name == self.name) {
            self.check("path", &config.linux.devices[at].settable)?;
            let path = settings.devices.get_mut(at).and_then(|device| device.path.as_mut());
            self.value.clone_into(path.ok_or(Error::NoDevicePath)?);
            return Ok(());
        }
        if config.args.name == self.name {
            self.check("value", &config.args.settable)?;
            settings.args = self.value.split(' ').map(str::to_owned).collect();
            return Ok(());
        }
        Err(Error::Unknown(self.name.to_owned()))
    }

    /// Whether the field that is meant is the one that can be set, and may be.
    fn check(&self, can: &str, may: &[String]) -> Result<(), Error> {
        let field = match (self.field, may) {
            ("", [only]) => only,
            ("", [_, _, ..]) => return Err(Error::MultipleFields),
            (field, _) => field,
        };
        if field == can && may.iter().any(|may| may == field) {
            return Ok(());
        }
        let dot = if field.is_empty() { "" } else { "." };
        Err(Error::NotSettable(format!("{}{dot}{field}", self.name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> PluginConfig {
        PluginConfig::decode(
            br#"{"args":{"name":"args","value":[],"settable":["value"]},
                "env":[{"name":"MODE","value":"","settable":["value"]},{"name":"FIXED","value":"1"},
                       {"name":"LATER","settable":["value"]},{"name":"ODD","settable":["name"]},
                       {"name":"MANY","settable":["name","value"]},{"name":"a.b","settable":["value"]}],
                "mounts":[{"name":"record","source":"/r","destination":"/record","settable":["source"]},
                          {"name":"none","settable":["source"]}],
                "linux":{"devices":[{"name":"fuse","path":"/dev/fuse","settable":["path"]},
                                    {"name":"nopath","settable":["path"]}]}}"#,
        )
        .unwrap()
    }

    fn try_set(texts: &[&str]) -> Result<Settings, Error> {
        let config = config();
        let texts: Vec<String> = texts.iter().map(|&text| text.to_owned()).collect();
        set(&config, &Settings::initial(&config), &texts)
    }

    #[test]
    fn what_can_be_set_is_set_as_dockerd_sets_it() {
        let env =
            |text: &str, expected: &[&str]| assert_eq!(try_set(&[text]).unwrap().env, expected, "{text}");
        env("MODE=x y", &["MODE=x y", "FIXED=1"]);
        env("MODE=", &["MODE=", "FIXED=1"]);
        env("MODE", &["MODE=", "FIXED=1"]);
        env("MODE.value=a=b", &["MODE=a=b", "FIXED=1"]);
        env("MODE=a.b", &["MODE=a.b", "FIXED=1"]);
        env("LATER=1", &["MODE=", "FIXED=1", "LATER=1"]);
        env("a.b.value=1", &["MODE=", "FIXED=1", "a.b=1"]);
        env("MANY.value=1", &["MODE=", "FIXED=1", "MANY=1"]);
        assert_eq!(try_set(&["MODE=a", "MODE=b"]).unwrap().env, ["MODE=b", "FIXED=1"]);
        let args =
            |text: &str, expected: &[&str]| assert_eq!(try_set(&[text]).unwrap().args, expected, "{text}");
        args("args=a b", &["a", "b"]);
        args("args=a  b", &["a", "", "b"]);
        args("args=", &[""]);
        args("args.value=z", &["z"]);
        for text in ["record.source=/s", "record=/s"] {
            assert_eq!(try_set(&[text]).unwrap().mounts[0].source.as_deref(), Some("/s"), "{text}");
        }
        for text in ["fuse.path=/dev/null", "fuse=/dev/null"] {
            assert_eq!(try_set(&[text]).unwrap().devices[0].path.as_deref(), Some("/dev/null"), "{text}");
        }
        assert_eq!(try_set(&[]).unwrap(), Settings::initial(&config()));
    }

    #[test]
    fn what_cannot_be_set_is_refused_in_the_words_of_dockerd() {
        let cases = [
            ("FIXED=2", r#""FIXED" is not settable"#),
            ("FIXED.value=2", r#""FIXED.value" is not settable"#),
            ("NOPE=1", r#"setting "NOPE" not found in the plugin configuration"#),
            ("record.destination=/x", r#""record.destination" is not settable"#),
            ("record.nope=/x", r#""record.nope" is not settable"#),
            ("=x", "invalid format, must be <name>[.<field>][=<value>]"),
            ("=", "invalid format, must be <name>[.<field>][=<value>]"),
            ("", r#"setting "" not found in the plugin configuration"#),
            ("MODE.settable=q", r#""MODE.settable" is not settable"#),
            ("ODD=1", r#""ODD.name" is not settable"#),
            ("MANY=1", "multiple fields are settable, one must be specified"),
            ("network=host", r#"setting "network" not found in the plugin configuration"#),
            (".x=1", r#"setting ".x" not found in the plugin configuration"#),
            ("none=/x", "plugin config has no mount source"),
            ("nopath=/x", "plugin config has no device path"),
            ("MODE=\0", r#"the value of setting "MODE" contains a NUL"#),
        ];
        for (text, expected) in cases {
            assert_eq!(try_set(&[text]).unwrap_err().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn one_that_is_refused_takes_the_others_with_it() {
        assert_eq!(try_set(&["MODE=a", "NOPE=1"]), Err(Error::Unknown("NOPE".to_owned())));
        assert_eq!(try_set(&["NOPE=1", "=x"]), Err(Error::Format));
    }

    #[test]
    fn length_and_number_are_limited() {
        let longest = format!("MODE={}", "x".repeat(SETTING_MAX_BYTES - 5));
        assert!(try_set(&[&longest]).is_ok());
        let error = try_set(&[&format!("{longest}x")]).unwrap_err();
        assert_eq!(error, Error::TooLong { name: "MODE".to_owned(), bytes: SETTING_MAX_BYTES + 1 });
        assert!(try_set(&vec!["MODE=1"; SETTINGS_MAX]).is_ok());
        assert_eq!(try_set(&vec!["MODE=1"; SETTINGS_MAX + 1]), Err(Error::TooMany(SETTINGS_MAX + 1)));
    }
}
