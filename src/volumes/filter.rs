//! What a list or a prune is limited to.
//!
//! Pure. Keys, matching and texts are dockerd's (moby `daemon/internal/filters`, `volume/service/convert.go`): values of
//! `name` and `driver` are alternatives, all of `label` must be there, `name` is a regular expression or the exact
//! name. Unlike dockerd's, the driver filter knows that `rclone` is `rclone:latest`, and a prune takes it too.

use std::collections::{BTreeMap, BTreeSet};

use regex::{Regex, RegexBuilder};

use super::{ANONYMOUS_LABEL, Error, LOCAL_DRIVER, Result, Texts, Volume};
use crate::drivers::Drivers;

/// Keys and their values, out of the `filters` parameter.
pub type Terms = BTreeMap<String, BTreeSet<String>>;

/// How much memory a compiled pattern of the `name` filter may take. A larger one matches only as an exact name.
const PATTERN_MAX_BYTES: usize = 1024 * 1024;
/// How many patterns are looked at; the others match only as exact names.
const PATTERNS_MAX: usize = 64;

/// What a list is limited to. Empty: everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Names, or regular expressions that match part of them; one of them.
    pub names: Vec<String>,
    /// Drivers, in any spelling; one of them.
    pub drivers: Vec<String>,
    /// `key` or `key=value`; all of them.
    pub labels: Vec<String>,
    /// Only what nothing uses (`true`), or only what something uses (`false`).
    pub dangling: Option<bool>,
}

/// What a prune removes: of the volumes that nothing uses, these. Local ones with options are never among them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prune {
    /// Also volumes that have a name. API versions before 1.42 always mean all.
    pub all: bool,
    /// `key` or `key=value`; all of them.
    pub labels: Vec<String>,
    /// `key` or `key=value`; a volume that has all of them stays.
    pub labels_not: Option<Vec<String>>,
    /// Drivers, in any spelling; one of them. Empty: the local one alone.
    pub drivers: Vec<String>,
}

impl Filter {
    /// Reads the terms of a list.
    ///
    /// # Errors
    /// [`Error::Filter`]: a key that lists do not know, or a `dangling` that is neither true nor false.
    pub fn parse(terms: &Terms) -> Result<Self> {
        only(terms, &["dangling", "driver", "label", "name"])?;
        Ok(Self {
            names: values(terms, "name"),
            drivers: values(terms, "driver"),
            labels: values(terms, "label"),
            dangling: dangling(terms)?,
        })
    }

    /// Whether volumes of a driver can be in the list at all.
    pub(super) fn wants_driver(&self, driver: &str) -> bool {
        self.drivers.is_empty() || self.drivers.iter().any(|wanted| Drivers::same(wanted, driver))
    }

    /// The filter with its patterns compiled. The driver is not looked at, see [`Filter::wants_driver`].
    pub(super) fn matcher(&self) -> Matcher<'_> {
        let compile =
            |pattern: &String| RegexBuilder::new(pattern).size_limit(PATTERN_MAX_BYTES).build().ok();
        // As dockerd, what is no regular expression is an exact name only.
        let patterns = self.names.iter().take(PATTERNS_MAX).filter_map(compile).collect();
        Matcher { filter: self, patterns }
    }
}

/// A [`Filter`], ready for many volumes.
#[derive(Debug)]
pub(super) struct Matcher<'a> {
    filter: &'a Filter,
    patterns: Vec<Regex>,
}

impl Matcher<'_> {
    /// Whether a volume is in the list.
    pub(super) fn matches(&self, volume: &Volume, in_use: bool) -> bool {
        self.name(&volume.name)
            && has_all(&self.filter.labels, volume.labels.as_ref())
            && self.filter.dangling.is_none_or(|dangling| dangling != in_use)
    }

    fn name(&self, name: &str) -> bool {
        let names = &self.filter.names;
        names.is_empty()
            || names.iter().any(|wanted| wanted == name)
            || self.patterns.iter().any(|pattern| pattern.is_match(name))
    }
}

impl Prune {
    /// Reads the terms of a prune.
    ///
    /// # Errors
    /// [`Error::Filter`]: a key that prunes do not know, or an `all` that is not one boolean.
    pub fn parse(terms: &Terms) -> Result<Self> {
        let all = all(terms)?;
        only(terms, &["all", "driver", "label", "label!"])?;
        let labels_not = terms.contains_key("label!").then(|| values(terms, "label!"));
        Ok(Self { all, labels: values(terms, "label"), labels_not, drivers: values(terms, "driver") })
    }

    /// Whether the prune is after this volume.
    pub(super) fn matches(&self, volume: &Volume, in_use: bool) -> bool {
        let stays = self.labels_not.as_ref().is_some_and(|wanted| has_all(wanted, volume.labels.as_ref()));
        self.wants_driver(&volume.driver)
            && !in_use
            && !(volume.is_local() && volume.has_options())
            && (self.all || has_all(&[ANONYMOUS_LABEL.to_owned()], volume.labels.as_ref()))
            && has_all(&self.labels, volume.labels.as_ref())
            && !stays
    }

    fn wants_driver(&self, driver: &str) -> bool {
        match self.drivers.as_slice() {
            [] => driver == LOCAL_DRIVER,
            wanted => wanted.iter().any(|wanted| Drivers::same(wanted, driver)),
        }
    }
}

fn values(terms: &Terms, key: &str) -> Vec<String> {
    terms.get(key).into_iter().flatten().cloned().collect()
}

fn only(terms: &Terms, known: &[&str]) -> Result<()> {
    match terms.keys().find(|key| !known.contains(&key.as_str())) {
        Some(unknown) => Err(Error::Filter { filter: unknown.clone(), reason: None }),
        None => Ok(()),
    }
}

/// Whether all of the wanted `key` or `key=value` are there.
fn has_all(wanted: &[String], labels: Option<&Texts>) -> bool {
    wanted.iter().all(|wanted| {
        let (key, value) = match wanted.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (wanted.as_str(), None),
        };
        let found = labels.and_then(|labels| labels.get(key));
        found.is_some_and(|found| value.is_none_or(|value| value == found))
    })
}

fn dangling(terms: &Terms) -> Result<Option<bool>> {
    let Some(values) = terms.get("dangling") else { return Ok(None) };
    let says = |words: [&str; 2]| words.iter().any(|word| values.contains(*word));
    match (says(["1", "true"]), says(["0", "false"])) {
        (true, false) => Ok(Some(true)),
        (false, true) => Ok(Some(false)),
        _ if values.is_empty() => Err(Error::Filter { filter: "dangling".to_owned(), reason: None }),
        _ => Err(Error::Filter { filter: format!("dangling={}", as_go(values)), reason: None }),
    }
}

fn all(terms: &Terms) -> Result<bool> {
    let none = BTreeSet::new();
    let values = terms.get("all").unwrap_or(&none);
    let mut each = values.iter();
    let Some(value) = each.next() else { return Ok(false) };
    if each.next().is_some() {
        let reason = Some("only one value is expected".to_owned());
        return Err(Error::Filter { filter: format!("all={}", as_go(values)), reason });
    }
    // What Go's strconv.ParseBool takes.
    match value.as_str() {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        other => {
            let reason = Some(format!("strconv.ParseBool: parsing {other:?}: invalid syntax"));
            Err(Error::Filter { filter: "all".to_owned(), reason })
        }
    }
}

/// A list as Go prints it.
fn as_go(values: &BTreeSet<String>) -> String {
    format!("[{}]", values.iter().map(String::as_str).collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drivers::Reach;

    fn terms(pairs: &[(&str, &[&str])]) -> Terms {
        pairs
            .iter()
            .map(|(key, values)| {
                ((*key).to_owned(), values.iter().map(|value| (*value).to_owned()).collect())
            })
            .collect()
    }

    fn volume(name: &str, labels: &[(&str, &str)]) -> Volume {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Volume {
            name: name.to_owned(),
            driver: "local".to_owned(),
            mountpoint: None,
            created_at: None,
            reach: Reach::Local,
            labels: Some(labels),
            options: None,
            status: None,
        }
    }

    #[test]
    fn lists_match_as_dockerd() {
        let volume = volume("web-data", &[("env", "prod"), ("empty", "")]);
        for (pairs, expected) in [
            (&[][..], true),
            (&[("name", &["web-data"][..])][..], true),
            (&[("name", &["data"])], true),
            (&[("name", &["^data"])], false),
            (&[("name", &["^web.*a$"])], true),
            (&[("name", &["nope", "web"])], true),
            (&[("name", &["WEB"])], false),
            (&[("name", &["(?i)WEB"])], true),
            (&[("name", &["web("])], false),
            (&[("name", &[])], true),
            (&[("label", &["env"])], true),
            (&[("label", &["env=prod"])], true),
            (&[("label", &["env=test"])], false),
            (&[("label", &["env", "nope"])], false),
            (&[("label", &["empty="])], true),
            (&[("label", &["env="])], false),
            (&[("dangling", &["true"])], true),
            (&[("dangling", &["0"])], false),
            (&[("name", &["web"]), ("label", &["nope"])], false),
        ] {
            let filter = Filter::parse(&terms(pairs)).unwrap();
            assert_eq!(filter.matcher().matches(&volume, false), expected, "{pairs:?}");
        }
    }

    #[test]
    fn an_exact_name_that_is_no_pattern_matches_itself() {
        let filter = Filter { names: vec!["a(".to_owned()], ..Filter::default() };
        assert!(filter.matcher().matches(&volume("a(", &[]), false));
    }

    #[test]
    fn a_pattern_that_would_eat_the_memory_is_only_a_name() {
        let filter = Filter { names: vec!["(a{1000}){1000}".to_owned()], ..Filter::default() };
        assert!(!filter.matcher().matches(&volume(&"a".repeat(10), &[]), false));
    }

    #[test]
    fn drivers_are_the_same_in_any_spelling() {
        let filter = Filter { drivers: vec!["rclone".to_owned()], ..Filter::default() };
        assert!(filter.wants_driver("rclone:latest") && !filter.wants_driver("local"));
        assert!(Filter::default().wants_driver("local"));
    }

    #[test]
    fn what_makes_no_sense_is_told_in_dockerds_words() {
        let list = |pairs: &[(&str, &[&str])]| Filter::parse(&terms(pairs)).unwrap_err().to_string();
        assert_eq!(list(&[("color", &["red"])]), "Invalid filter 'color'");
        assert_eq!(list(&[("label!", &["a"])]), "Invalid filter 'label!'");
        assert_eq!(list(&[("dangling", &["maybe"])]), "Invalid filter 'dangling=[maybe]'");
        assert_eq!(list(&[("dangling", &["1", "0"])]), "Invalid filter 'dangling=[0 1]'");
        assert_eq!(list(&[("dangling", &[])]), "Invalid filter 'dangling'");
        let prune = |pairs: &[(&str, &[&str])]| Prune::parse(&terms(pairs)).unwrap_err().to_string();
        assert_eq!(prune(&[("name", &["a"])]), "Invalid filter 'name'");
        assert_eq!(prune(&[("all", &["1", "0"])]), "Invalid filter 'all=[0 1]': only one value is expected");
        assert_eq!(
            prune(&[("all", &["maybe"])]),
            r#"Invalid filter 'all': strconv.ParseBool: parsing "maybe": invalid syntax"#
        );
    }

    #[test]
    fn a_prune_is_after_unused_anonymous_local_volumes() {
        let named = volume("named", &[("env", "prod")]);
        let anonymous = volume("anonymous", &[(ANONYMOUS_LABEL, ""), ("env", "prod")]);
        let remote = Volume { driver: "rclone:latest".to_owned(), ..anonymous.clone() };
        let options = Some(Texts::from([("type".to_owned(), "nfs".to_owned())]));
        let mounted = Volume { options: options.clone(), ..anonymous.clone() };
        let remote_named = Volume { driver: "rclone:latest".to_owned(), options, ..named.clone() };
        for (pairs, volume, in_use, expected) in [
            (&[][..], &anonymous, false, true),
            (&[], &anonymous, true, false),
            (&[], &named, false, false),
            (&[], &remote, false, false),
            (&[], &mounted, false, false),
            (&[("all", &["1"][..])][..], &named, false, true),
            (&[("all", &["true"])], &named, true, false),
            (&[("all", &["true"])], &remote, false, false),
            (&[("all", &["false"])], &named, false, false),
            (&[("driver", &["rclone"][..])], &remote, false, true),
            (&[("driver", &["rclone"])], &remote, true, false),
            (&[("driver", &["rclone"])], &remote_named, false, false),
            (&[("driver", &["rclone"])], &anonymous, false, false),
            (
                &[("driver", &["other", "docker.io/library/rclone:latest"]), ("all", &["1"])],
                &remote_named,
                false,
                true,
            ),
            (&[("driver", &["rclone"]), ("all", &["1"])], &remote_named, true, false),
            (&[("driver", &["rclone:v2"]), ("all", &["1"])], &remote_named, false, false),
            (&[("driver", &["rclone"]), ("all", &["1"]), ("label!", &["env"])], &remote_named, false, false),
            (&[("driver", &["local", "rclone"])], &anonymous, false, true),
            (&[("driver", &["local"])], &mounted, false, false),
            (&[("driver", &[])], &anonymous, false, true),
            (&[("label", &["env=prod"])], &anonymous, false, true),
            (&[("label", &["env=test"])], &anonymous, false, false),
            (&[("label!", &["env"])], &anonymous, false, false),
            (&[("label!", &["env=test"])], &anonymous, false, true),
            (&[("label!", &["env", "other"])], &anonymous, false, true),
            (&[("label!", &[])], &anonymous, false, false),
        ] {
            let prune = Prune::parse(&terms(pairs)).unwrap();
            assert_eq!(prune.matches(volume, in_use), expected, "{pairs:?} {volume:?} {in_use}");
        }
    }
}
