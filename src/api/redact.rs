//! Which settings of plugins are shown as stars: those whose names match `--redact-env`. Pure.
//!
//! Off unless it is asked for, since tools compare what they set with what they read. Nothing is hidden from the plugin.

use std::borrow::Cow;

use crate::plugins::Settings;

/// What is shown in the place of a value.
const STARS: &str = "********";

/// The settings as they are shown.
pub(super) fn shown<'a>(settings: &'a Settings, patterns: &[String]) -> Cow<'a, Settings> {
    let is_hidden = |name: &str| patterns.iter().any(|pattern| matches(pattern, name));
    let name = |variable: &str| variable.split_once('=').map_or(variable, |(name, _)| name).to_owned();
    if !settings.env.iter().any(|variable| is_hidden(&name(variable))) {
        return Cow::Borrowed(settings);
    }
    let mut shown = settings.clone();
    for variable in &mut shown.env {
        let name = name(variable);
        if is_hidden(&name) {
            *variable = format!("{name}={STARS}");
        }
    }
    Cow::Owned(shown)
}

/// Whether a name is what a pattern says, in which `*` is any run of characters, also none.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut left) = name.strip_prefix(head) else { return false };
    let Some((middle, tail)) = rest.rsplit_once('*') else { return left.ends_with(rest) };
    // The earliest place for each piece leaves the most for those after it.
    for piece in middle.split('*') {
        match left.split_once(piece) {
            Some((_, after)) => left = after,
            None => return false,
        }
    }
    left.ends_with(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_any_run_of_characters() {
        let table = [
            ("TOKEN", "TOKEN", true),
            ("TOKEN", "TOKENS", false),
            ("TOKEN", "token", false),
            ("*_KEY", "A_KEY", true),
            ("*_KEY", "_KEY", true),
            ("*_KEY", "A_KEYS", false),
            ("AWS_*", "AWS_", true),
            ("A*B", "AB", true),
            ("A*B", "A", false),
            ("AB*BA", "ABA", false),
            ("*SECRET*", "MY_SECRET_X", true),
            ("*A*B*C", "xAxBxAxC", true),
            ("*A*B*C", "xBxAxC", false),
            ("*", "", true),
            ("**", "x", true),
            ("", "x", false),
        ];
        for (pattern, name, expected) in table {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn only_values_of_matching_names_become_stars() {
        let env = ["TOKEN=a=b", "MODE=c", "PLAIN"].map(str::to_owned).to_vec();
        let settings = Settings { args: vec![], devices: vec![], env, mounts: vec![] };
        let env = |patterns: &[&str]| {
            let patterns: Vec<_> = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
            shown(&settings, &patterns).env.clone()
        };
        assert_eq!(env(&[]), settings.env);
        assert_eq!(env(&["NONE"]), settings.env);
        assert_eq!(env(&["NONE", "TO*"]), ["TOKEN=********", "MODE=c", "PLAIN"]);
    }
}
