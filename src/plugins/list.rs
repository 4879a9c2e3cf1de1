//! Which plugins pass a filter.

use super::Inner;
use super::config::PluginConfig;
use super::plugin::View;

/// Which plugins are asked for. Everything in it must match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only enabled, or only disabled ones.
    pub enabled: Option<bool>,
    /// Only those that can do one of these, like `volumedriver`; any when empty. As in dockerd a part of the word will
    /// do (there it is a regular expression).
    pub capabilities: Vec<String>,
}

/// The plugins that pass, the oldest first.
pub(super) fn list(inner: &Inner, filter: &Filter) -> Vec<View> {
    let mut found: Vec<_> = inner
        .shelf
        .all()
        .into_iter()
        .map(|plugin| (plugin.record().created, plugin.view()))
        .filter(|(_, view)| filter.passes(view.enabled, &view.config))
        .collect();
    found.sort_by_key(|(created, _)| *created);
    found.into_iter().map(|(_, view)| view).collect()
}

impl Filter {
    fn passes(&self, enabled: bool, config: &PluginConfig) -> bool {
        let can = |asked: &String| {
            let word = !asked.is_empty() && asked.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            config
                .interface
                .types
                .iter()
                .map(super::config::InterfaceType::capability)
                .any(|capability| capability == asked || word && capability.contains(asked.as_str()))
        };
        self.enabled.is_none_or(|asked| asked == enabled)
            && (self.capabilities.is_empty() || self.capabilities.iter().any(can))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_type_and_one_asked_for_capability_are_enough() {
        let config = |types: &str| {
            let json = format!(r#"{{"interface":{{"types":[{types}]}}}}"#);
            PluginConfig::decode(json.as_bytes()).unwrap()
        };
        let volume = config(r#""docker.volumedriver/1.0""#);
        let both = config(r#""docker.logdriver/1.0","docker.volumedriver/1.0""#);
        let nothing = config("");
        let cases: [(&[&str], bool, bool, bool); 8] = [
            (&[], true, true, true),
            (&["volumedriver"], true, true, false),
            (&["logdriver"], false, true, false),
            (&["volumedriver", "logdriver"], true, true, false),
            (&["nope"], false, false, false),
            (&["docker.volumedriver/1.0"], false, false, false),
            (&["volumedriver/1.0"], false, false, false),
            (&["driver"], true, true, false),
        ];
        for (asked, one, two, none) in cases {
            let capabilities = asked.iter().map(|&asked| asked.to_owned()).collect();
            let filter = Filter { enabled: None, capabilities };
            let passes = [&volume, &both, &nothing].map(|config| filter.passes(true, config));
            assert_eq!(passes, [one, two, none], "{asked:?}");
        }
    }

    #[test]
    fn enabled_and_disabled_ones_are_told_apart() {
        let config = PluginConfig::default();
        for (asked, enabled, disabled) in
            [(None, true, true), (Some(true), true, false), (Some(false), false, true)]
        {
            let filter = Filter { enabled: asked, capabilities: Vec::new() };
            assert_eq!((filter.passes(true, &config), filter.passes(false, &config)), (enabled, disabled));
        }
    }
}
