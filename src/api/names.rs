//! What a path below `/plugins/` means: which plugin, and what is to be done with it.
//!
//! Pure. Names contain slashes (`localhost:5000/me/p:1`), escaped or not, so a verb is what follows the last slash,
//! if the method has such a verb; the rest is the name, whatever it is. The table is moby's
//! (`daemon/server/router/plugin/plugin.go`), read as gorilla/mux reads it: `POST /plugins/pull` is a pull,
//! `POST /plugins/pull/enable` enables the plugin `pull`.

use axum::http::Method;

use super::error::{Failure, Result};
use super::form::unescape;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// `GET /plugins/{name}/json`
    Inspect(String),
    /// `DELETE /plugins/{name}`
    Remove(String),
    /// `POST /plugins/{name}/enable`
    Enable(String),
    /// `POST /plugins/{name}/disable`
    Disable(String),
    /// `POST /plugins/{name}/set`
    Set(String),
    /// `POST /plugins/{name}/push`
    Push(String),
    /// `POST /plugins/{name}/upgrade`
    Upgrade(String),
    /// `GET /plugins/privileges`
    Privileges,
    /// `POST /plugins/pull`
    Pull,
    /// `POST /plugins/create`
    Create,
    /// `POST /plugins/{name}/rename`, which dockerd does not have.
    Rename(String),
    /// `GET /plugins/{name}/get`, which dockerd does not have.
    Save(String),
    /// `GET /plugins/{name}/logs`, which dockerd does not have.
    Logs(String),
    /// `POST /plugins/load`, which dockerd does not have.
    Load,
    /// `POST /plugins/privileges`, which dockerd does not have.
    PrivilegesOf,
}

impl Action {
    /// Reads the path after `/plugins/`.
    ///
    /// # Errors
    /// Not found: dockerd has no such route. Invalid: the path is not well escaped.
    pub(super) fn parse(method: &Method, rest: &str) -> Result<Self> {
        let path = unescape(rest, false)?;
        let (name, verb) = path.rsplit_once('/').unwrap_or(("", &path));
        let whole = !path.contains('/');
        let of = |action: fn(String) -> Self| Ok(action(name.to_owned()));
        match (method.as_str(), verb) {
            ("DELETE", _) => Ok(Self::Remove(path)),
            ("GET", "privileges") if whole => Ok(Self::Privileges),
            ("POST", "pull") if whole => Ok(Self::Pull),
            ("POST", "create") if whole => Ok(Self::Create),
            ("POST", "load") if whole => Ok(Self::Load),
            ("POST", "privileges") if whole => Ok(Self::PrivilegesOf),
            _ if whole => Err(Failure::page_not_found()),
            ("GET", "json") => of(Self::Inspect),
            ("GET", "get") => of(Self::Save),
            ("GET", "logs") => of(Self::Logs),
            ("POST", "enable") => of(Self::Enable),
            ("POST", "disable") => of(Self::Disable),
            ("POST", "set") => of(Self::Set),
            ("POST", "push") => of(Self::Push),
            ("POST", "upgrade") => of(Self::Upgrade),
            ("POST", "rename") => of(Self::Rename),
            _ => Err(Failure::page_not_found()),
        }
    }

    /// The path that asks for this, without the plugin's name.
    pub(super) fn template(&self) -> &'static str {
        match self {
            Self::Inspect(_) => "/plugins/{name}/json",
            Self::Remove(_) => "/plugins/{name}",
            Self::Enable(_) => "/plugins/{name}/enable",
            Self::Disable(_) => "/plugins/{name}/disable",
            Self::Set(_) => "/plugins/{name}/set",
            Self::Push(_) => "/plugins/{name}/push",
            Self::Upgrade(_) => "/plugins/{name}/upgrade",
            Self::Rename(_) => "/plugins/{name}/rename",
            Self::Privileges | Self::PrivilegesOf => "/plugins/privileges",
            Self::Pull => "/plugins/pull",
            Self::Create => "/plugins/create",
            Self::Save(_) => "/plugins/{name}/get",
            Self::Logs(_) => "/plugins/{name}/logs",
            Self::Load => "/plugins/load",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_slash_divides_name_and_verb() {
        let name = "localhost:5000/me/p:1";
        let table = [
            ("GET", "p/json", Action::Inspect("p".into())),
            ("GET", "localhost:5000/me/p:1/json", Action::Inspect(name.into())),
            ("GET", "localhost%3A5000%2Fme%2fp:1%2Fjson", Action::Inspect(name.into())),
            ("GET", "json/json", Action::Inspect("json".into())),
            ("GET", "privileges", Action::Privileges),
            ("GET", "privileges/json", Action::Inspect("privileges".into())),
            ("POST", "pull", Action::Pull),
            ("POST", "pull/enable", Action::Enable("pull".into())),
            ("POST", "create", Action::Create),
            ("GET", "me/p/get", Action::Save("me/p".into())),
            ("GET", "me/p/logs", Action::Logs("me/p".into())),
            ("POST", "load", Action::Load),
            ("POST", "privileges", Action::PrivilegesOf),
            ("POST", "create/set", Action::Set("create".into())),
            ("POST", "me/p/disable", Action::Disable("me/p".into())),
            ("POST", "me/p/push", Action::Push("me/p".into())),
            ("POST", "me/p/upgrade", Action::Upgrade("me/p".into())),
            ("POST", "me/p/rename", Action::Rename("me/p".into())),
            ("POST", "a+b/enable", Action::Enable("a+b".into())),
            ("POST", "/enable", Action::Enable(String::new())),
            ("DELETE", "me/p", Action::Remove("me/p".into())),
            ("DELETE", "me/p/json", Action::Remove("me/p/json".into())),
            ("DELETE", "pull", Action::Remove("pull".into())),
            ("DELETE", "", Action::Remove(String::new())),
        ];
        for (method, rest, expected) in table {
            let method = method.parse().unwrap();
            assert_eq!(Action::parse(&method, rest), Ok(expected), "{method} {rest}");
        }
    }

    #[test]
    fn what_dockerd_does_not_route_is_not_found() {
        let table = [
            ("GET", "json"),
            ("GET", "p"),
            ("GET", "p/"),
            ("GET", "p/enable"),
            ("GET", "pull"),
            ("POST", "p"),
            ("POST", "p/json"),
            ("POST", "enable"),
            ("PUT", "p/set"),
            ("HEAD", "p/json"),
        ];
        for (method, rest) in table {
            let method = method.parse().unwrap();
            assert_eq!(Action::parse(&method, rest), Err(Failure::page_not_found()), "{method} {rest}");
        }
        assert_eq!(
            Action::parse(&Method::GET, "a%zz/json"),
            Err(Failure::invalid("invalid URL escape \"%zz\""))
        );
    }
}
