//! `docker login`: whether a registry takes these credentials, and the refresh token it may give for them.
//!
//! The order of things and the texts are dockerd's (`registry/auth.go`, `registry/service.go` of 20.10); mirrors are never
//! asked. A refresh token is asked for as dockerd does, so that the client need not keep the password.

use std::sync::Arc;

use reqwest::{Method, Url};

use super::auth::Authorizer;
use super::credentials::Credentials;
use super::error::{Error, Result};
use super::hosts::{Access, DOCKER_IO, Hosts, host_of};
use super::limits::Pace;
use super::location;
use super::refusal::Asked;
use super::session::{Ask, Peer, Place};
use super::transport::{Follow, Transport};

/// How many characters of a bad address are told.
const SHOWN_CHARS: usize = 256;

/// A login that succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// For people, in dockerd's words.
    pub status: &'static str,
    /// A refresh token to use instead of the password from now on; empty when the registry gives none.
    pub identity_token: String,
}

/// Tries the credentials at `server_address` (a URL or a host; empty for Docker's own registry).
///
/// # Errors
/// [`Error::ServerAddress`]; [`Error::Login`], [`Error::Unauthorized`] and [`Error::NoBasicCredentials`] when the registry
/// does not take them; whatever keeps the registry from being asked.
pub async fn login(hosts: Arc<Hosts>, server_address: &str, credentials: &Credentials) -> Result<Login> {
    let host = host(server_address)?;
    let transport = Transport::new(hosts, Pace::default());
    let insecure = transport.is_insecure(&host).await;
    let mut first: Option<Error> = None;
    for endpoint in transport.hosts().endpoints(&host, Access::Push, insecure) {
        let peer = Peer::new(&endpoint, "", Authorizer::new(credentials.clone(), None))?;
        let url = location::shown(peer.base());
        let mut ask = Ask::new(Method::GET, Place::Below(""), Asked::Login { url: &url });
        ask.follow = Follow::Secure;
        match peer.ask(&transport, &ask).await {
            Ok(_) => {
                let newer = peer.authorizer().refresh_token().await;
                let identity_token = newer.unwrap_or_else(|| credentials.identity_token.clone());
                return Ok(Login { status: "Login Succeeded", identity_token });
            }
            Err(error) if error.is_unreachable() && !peer.was_reached() => {
                tracing::info!(url, error = crate::error::chain(&error), "trying the next endpoint");
                first.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    Err(first.unwrap_or(Error::ServerAddress { address: host }))
}

/// The host of an address as clients send it.
fn host(server_address: &str) -> Result<String> {
    let address = server_address.trim();
    if address.is_empty() {
        return Ok(DOCKER_IO.to_owned());
    }
    let refused = || {
        // What stands before an @ may be a password.
        let shown = address.rsplit('@').next().unwrap_or_default();
        Error::ServerAddress { address: shown.chars().take(SHOWN_CHARS).collect() }
    };
    let has_scheme = address.starts_with("https://") || address.starts_with("http://");
    let text = if has_scheme { address.to_owned() } else { format!("https://{address}") };
    let url = Url::parse(&text).map_err(|_| refused())?;
    host_of(&url).ok_or_else(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_as_clients_send_them() {
        let table = [
            ("", Some("docker.io")),
            ("https://index.docker.io/v1/", Some("index.docker.io")),
            ("localhost:5000", Some("localhost:5000")),
            ("http://reg.lan/v2/", Some("reg.lan")),
            ("[::1]:5000", Some("[::1]:5000")),
            ("https://", None),
            ("a b", None),
        ];
        for (address, expected) in table {
            assert_eq!(host(address).ok().as_deref(), expected, "{address}");
        }
        assert!(!host("https://u:secret@a:b").unwrap_err().to_string().contains("secret"));
    }
}
