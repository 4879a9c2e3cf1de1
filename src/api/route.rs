//! Which route a request was for, as a template without the client's words: what it is counted under.
//!
//! Pure. The router says which of its routes matched; below its wildcards the path is read as their handlers read it.

use axum::http::Method;

use super::elsewhere;
use super::form::unescape;
use super::names::Action;
use crate::metrics::UNMATCHED;

/// The router's wildcards.
pub(super) const PLUGINS_REST: &str = "/plugins/{*rest}";
pub(super) const VOLUMES_REST: &str = "/volumes/{*name}";
/// How the router's wildcards of other engines' routes end.
pub(super) const ELSEWHERE_REST: &str = "/{*rest}";

/// The templates of our own routes.
const OWN: [&str; 27] = [
    "/_ping",
    "/auth",
    "/events",
    "/info",
    "/plugins",
    "/plugins/create",
    "/plugins/load",
    "/plugins/privileges",
    "/plugins/pull",
    "/plugins/{name}",
    "/plugins/{name}/disable",
    "/plugins/{name}/enable",
    "/plugins/{name}/get",
    "/plugins/{name}/json",
    "/plugins/{name}/logs",
    "/plugins/{name}/push",
    "/plugins/{name}/rename",
    "/plugins/{name}/set",
    "/plugins/{name}/upgrade",
    "/system/df",
    "/version",
    "/volumes",
    "/volumes/create",
    "/volumes/prune",
    "/volumes/{name}",
    "/volumes/{name}/mount",
    "/volumes/{name}/unmount",
];

/// All templates there are.
pub(super) fn templates() -> impl Iterator<Item = &'static str> {
    OWN.into_iter().chain(elsewhere::ROUTES)
}

/// The template of a request: `matched` is the router's route, `path` is without its version.
pub(super) fn template<'a>(matched: &'a str, method: &Method, path: &str) -> &'a str {
    let below = |prefix| path.strip_prefix(prefix).unwrap_or_default();
    match matched {
        "/plugins/" | PLUGINS_REST => {
            Action::parse(method, below("/plugins/")).map_or(UNMATCHED, |action| action.template())
        }
        "/volumes/" | VOLUMES_REST if *method == Method::POST => {
            let rest = unescape(below("/volumes/"), false).unwrap_or_default();
            match rest.rsplit_once('/') {
                Some((_, "mount")) => "/volumes/{name}/mount",
                Some((_, "unmount")) => "/volumes/{name}/unmount",
                _ => UNMATCHED,
            }
        }
        "/volumes/" | VOLUMES_REST => "/volumes/{name}",
        other => other.strip_suffix(ELSEWHERE_REST).unwrap_or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_has_none_of_the_clients_words() {
        let table = [
            ("/_ping", "GET", "/_ping", "/_ping"),
            (PLUGINS_REST, "GET", "/plugins/me/p:1/json", "/plugins/{name}/json"),
            (PLUGINS_REST, "POST", "/plugins/me%2Fp%2Fenable", "/plugins/{name}/enable"),
            (PLUGINS_REST, "POST", "/plugins/pull", "/plugins/pull"),
            (PLUGINS_REST, "GET", "/plugins/privileges", "/plugins/privileges"),
            (PLUGINS_REST, "POST", "/plugins/privileges", "/plugins/privileges"),
            (PLUGINS_REST, "DELETE", "/plugins/me/p", "/plugins/{name}"),
            (PLUGINS_REST, "GET", "/plugins/p/nonsense", UNMATCHED),
            (PLUGINS_REST, "GET", "/plugins/%zz/json", UNMATCHED),
            ("/plugins/", "GET", "/plugins/", UNMATCHED),
            (VOLUMES_REST, "GET", "/volumes/a", "/volumes/{name}"),
            (VOLUMES_REST, "DELETE", "/volumes/a/mount", "/volumes/{name}"),
            (VOLUMES_REST, "POST", "/volumes/a/mount", "/volumes/{name}/mount"),
            (VOLUMES_REST, "POST", "/volumes/a%2Funmount", "/volumes/{name}/unmount"),
            (VOLUMES_REST, "POST", "/volumes/a", UNMATCHED),
            ("/volumes/create", "POST", "/volumes/create", "/volumes/create"),
            ("/containers", "GET", "/containers", "/containers"),
            ("/containers/{*rest}", "GET", "/containers/json", "/containers"),
        ];
        for (matched, method, path, expected) in table {
            let method = method.parse().unwrap();
            let template = template(matched, &method, path);
            assert_eq!(template, expected, "{method} {path}");
            assert!(template == UNMATCHED || templates().any(|known| known == template), "{template}");
        }
    }
}
