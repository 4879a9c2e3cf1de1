//! What a plugin asks of the host, and whether a user has consented to exactly that.
//!
//! Pure. What is a privilege, its words and its order are dockerd's (`computePrivileges` in moby's
//! `plugin/backend_linux.go`); the comparison is of exact multisets, both ways. dockerd's began at the second entry
//! until 2026 (CVE-2026-33997).

use serde::{Deserialize, Serialize};

use super::config::PluginConfig;
use crate::error::{Classified, Kind};

/// One thing that a plugin asks for, as the CLI shows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Privilege {
    /// `network`, `mount`, `capabilities`, ….
    pub name: String,
    /// For people; not compared.
    #[serde(default)]
    pub description: String,
    /// `["host"]`, `["/etc"]`, `["CAP_SYS_ADMIN"]`, ….
    #[serde(default)]
    pub value: Vec<String>,
}

/// The proof that somebody has consented to what a plugin asks for; only [`check`] makes one.
#[derive(Debug)]
#[must_use = "it is what installing demands"]
pub struct Granted(());

/// What was consented to is not what is asked for: dockerd's words, and then ours, which say in what they differ.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("incorrect privileges: {}", difference(missing, excess))]
pub struct Error {
    /// What is asked for and was not granted: names with their values.
    missing: Vec<(String, Vec<String>)>,
    /// What was granted and is not asked for.
    excess: Vec<(String, Vec<String>)>,
}

impl Classified for Error {
    fn kind(&self) -> Kind {
        Kind::Forbidden
    }
}

/// What the plugin asks for, in dockerd's order.
pub fn required(config: &PluginConfig) -> Vec<Privilege> {
    let mut privileges = Vec::new();
    let mut ask = |name: &str, description: &str, value: Vec<String>| {
        privileges.push(Privilege { name: name.to_owned(), description: description.to_owned(), value });
    };
    let yes = || vec!["true".to_owned()];
    if !["null", "bridge", ""].contains(&config.network.kind.as_str()) {
        ask("network", "permissions to access a network", vec![config.network.kind.clone()]);
    }
    if config.ipc_host {
        ask("host ipc namespace", "allow access to host ipc namespace", yes());
    }
    if config.pid_host {
        ask("host pid namespace", "allow access to host pid namespace", yes());
    }
    for source in config.mounts.iter().filter_map(|mount| mount.source.clone()) {
        ask("mount", "host path to mount", vec![source]);
    }
    for path in config.linux.devices.iter().filter_map(|device| device.path.clone()) {
        ask("device", "host device to access", vec![path]);
    }
    if config.linux.allow_all_devices {
        ask("allow-all-devices", "allow 'rwm' access to all devices", yes());
    }
    if !config.linux.capabilities.is_empty() {
        let capabilities = config.linux.capabilities.to_vec();
        ask("capabilities", "list of additional capabilities required", capabilities);
    }
    privileges
}

/// Whether exactly what the plugin asks for was consented to: the same names with the same values, each as often, in
/// any order.
///
/// # Errors
/// [`Error`] names every privilege that is missing or too much.
pub fn check(config: &PluginConfig, consented: &[Privilege]) -> Result<Granted, Error> {
    let (required, consented) = (comparable(&required(config)), comparable(consented));
    if required == consented {
        return Ok(Granted(()));
    }
    // By single values: of ten capabilities the one that is missing is what counts.
    let (asked, granted) = (single(&required), single(&consented));
    if asked != granted {
        return Err(Error { missing: beyond(&asked, &granted), excess: beyond(&granted, &asked) });
    }
    // The same values, but not in the same privileges.
    Err(Error { missing: beyond(&required, &consented), excess: beyond(&consented, &required) })
}

/// Each value by itself, under its privilege's name, sorted.
fn single(privileges: &[(String, Vec<String>)]) -> Vec<(String, Vec<String>)> {
    let each = |(name, values): &(String, Vec<String>)| {
        let of_name = |value: &String| (name.clone(), vec![value.clone()]);
        values.iter().map(of_name).collect::<Vec<_>>()
    };
    let mut all: Vec<_> = privileges.iter().flat_map(each).collect();
    all.sort_unstable();
    all
}

/// What one sorted list has more of than another, as multisets.
fn beyond(of: &[(String, Vec<String>)], over: &[(String, Vec<String>)]) -> Vec<(String, Vec<String>)> {
    let mut over = over.iter().peekable();
    let is_alone = |one: &&(String, Vec<String>)| {
        while over.next_if(|other| other < one).is_some() {}
        over.next_if_eq(one).is_none()
    };
    of.iter().filter(is_alone).cloned().collect()
}

/// The two differences in words; values of one name stand together.
fn difference(missing: &[(String, Vec<String>)], excess: &[(String, Vec<String>)]) -> String {
    let told = |list: &[(String, Vec<String>)]| {
        let of_name = |same: &[(String, Vec<String>)]| {
            let values: Vec<_> = same.iter().flat_map(|(_, values)| values).map(String::as_str).collect();
            let name = same.first().map_or("", |(name, _)| name);
            format!("{name} [{}]", values.join(" "))
        };
        list.chunk_by(|one, other| one.0 == other.0).map(of_name).collect::<Vec<_>>().join(", ")
    };
    let missing = (!missing.is_empty())
        .then(|| format!("the plugin asks for {}, which was not granted", told(missing)));
    let excess = (!excess.is_empty())
        .then(|| format!("{} was granted, which the plugin does not ask for", told(excess)));
    missing.into_iter().chain(excess).collect::<Vec<_>>().join("; ")
}

fn comparable(privileges: &[Privilege]) -> Vec<(String, Vec<String>)> {
    let sorted = |mut value: Vec<String>| {
        value.sort_unstable();
        value
    };
    let mut all: Vec<_> = privileges.iter().map(|p| (p.name.clone(), sorted(p.value.clone()))).collect();
    all.sort_unstable();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: &str) -> PluginConfig {
        PluginConfig::decode(json.as_bytes()).unwrap()
    }

    const GREEDY: &str = r#"{"network":{"type":"host"},"ipchost":true,"pidhost":true,
        "mounts":[{"source":"/b"},{"source":""},{"source":null},{"source":"/b"}],
        "linux":{"allowAllDevices":true,"capabilities":["CAP_SYS_ADMIN","CAP_NET_ADMIN"],
                 "devices":[{"path":"/dev/fuse"},{"path":null}]}}"#;

    #[test]
    fn what_is_asked_for_is_told_as_dockerd_tells_it() {
        let json = serde_json::to_string(&required(&config(GREEDY))).unwrap();
        let expected = concat!(
            r#"[{"Name":"network","Description":"permissions to access a network","Value":["host"]},"#,
            r#"{"Name":"host ipc namespace","Description":"allow access to host ipc namespace","Value":["true"]},"#,
            r#"{"Name":"host pid namespace","Description":"allow access to host pid namespace","Value":["true"]},"#,
            r#"{"Name":"mount","Description":"host path to mount","Value":["/b"]},"#,
            r#"{"Name":"mount","Description":"host path to mount","Value":[""]},"#,
            r#"{"Name":"mount","Description":"host path to mount","Value":["/b"]},"#,
            r#"{"Name":"device","Description":"host device to access","Value":["/dev/fuse"]},"#,
            r#"{"Name":"allow-all-devices","Description":"allow 'rwm' access to all devices","Value":["true"]},"#,
            r#"{"Name":"capabilities","Description":"list of additional capabilities required","#,
            r#""Value":["CAP_SYS_ADMIN","CAP_NET_ADMIN"]}]"#,
        );
        assert_eq!(json, expected);
    }

    #[test]
    fn networks_without_a_way_out_are_no_privilege() {
        for (kind, asks) in [("", false), ("null", false), ("bridge", false), ("none", true), ("mynet", true)]
        {
            let config = config(&format!(r#"{{"network":{{"type":"{kind}"}}}}"#));
            assert_eq!(!required(&config).is_empty(), asks, "{kind}");
        }
    }

    #[test]
    fn consent_is_for_exactly_what_is_asked() {
        let config = config(GREEDY);
        let all = required(&config);
        assert!(check(&config, &all).is_ok());
        let mut turned: Vec<_> = all.iter().rev().cloned().collect();
        for privilege in &mut turned {
            privilege.value.reverse();
            privilege.description.clear();
        }
        assert!(check(&config, &turned).is_ok());
        for left_out in 0..all.len() {
            let mut fewer = all.clone();
            let gone = fewer.remove(left_out);
            let error = check(&config, &fewer).unwrap_err().to_string();
            assert!(error.contains(&format!("asks for {}", gone.name)), "{error}");
        }
        let mut more = all.clone();
        more.push(all[3].clone());
        let error = check(&config, &more).unwrap_err().to_string();
        assert_eq!(error, "incorrect privileges: mount [/b] was granted, which the plugin does not ask for");
    }

    #[test]
    fn the_whole_difference_is_told() {
        let config = config(GREEDY);
        let all = required(&config);
        let changed = |change: &dyn Fn(&mut Vec<Privilege>)| {
            let mut consented = all.clone();
            change(&mut consented);
            check(&config, &consented).unwrap_err().to_string()
        };
        let table: [(String, &str); 4] = [
            (
                changed(&|all| all[0].value = vec!["none".to_owned()]),
                "the plugin asks for network [host], which was not granted; network [none] was granted, which the \
                 plugin does not ask for",
            ),
            (
                changed(&|all| {
                    all[8].value = vec!["CAP_CHOWN".to_owned(), "CAP_SYS_ADMIN".to_owned()];
                    all.drain(5..7);
                }),
                "the plugin asks for capabilities [CAP_NET_ADMIN], device [/dev/fuse], mount [/b], which was not \
                 granted; capabilities [CAP_CHOWN] was granted, which the plugin does not ask for",
            ),
            (
                changed(&|all| all.truncate(3)),
                "the plugin asks for allow-all-devices [true], capabilities [CAP_NET_ADMIN CAP_SYS_ADMIN], device \
                 [/dev/fuse], mount [ /b /b], which was not granted",
            ),
            // The same values in one privilege fewer.
            (
                changed(&|all| {
                    all.remove(5);
                    all[3].value = vec!["/b".to_owned(), "/b".to_owned()];
                }),
                "the plugin asks for mount [/b /b], which was not granted; mount [/b /b] was granted, which the \
                 plugin does not ask for",
            ),
        ];
        for (got, expected) in table {
            assert_eq!(got, format!("incorrect privileges: {expected}"));
        }
    }

    #[test]
    fn nothing_asked_for_needs_no_consent_and_permits_none() {
        let modest = config("{}");
        assert!(check(&modest, &[]).is_ok());
        assert!(check(&modest, &required(&config(GREEDY))).is_err());
    }
}
