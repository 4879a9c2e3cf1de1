//! Who somebody is to a registry, and the spellings in which clients say so.
//!
//! The document is Docker's `AuthConfig`; SDKs send it in `X-Registry-Auth` as base64, standard or URL-safe, padded
//! or not, and what cannot be decoded counts as nobody, as in dockerd. Nothing of it is ever shown: `Debug` tells
//! only which parts there are, and [`Credentials::scrub`] takes them out of texts that others wrote.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::Deserialize;

use super::limits::ACCOUNT_LIMIT_BYTES;

/// Secrets of one user for one registry; every part may be empty, and all empty is nobody.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// The name for Basic and for token servers.
    pub username: String,
    /// The password that belongs to it.
    pub password: String,
    /// A refresh token, exchanged for access tokens by OAuth 2.
    pub identity_token: String,
    /// An access token, sent to the registry as it is.
    pub registry_token: String,
}

/// A user's credentials and the registry they say they are for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    /// As the client wrote it: `https://index.docker.io/v1/`, `localhost:5000`, or empty.
    pub server_address: String,
    /// The secrets.
    pub credentials: Credentials,
}

impl Credentials {
    /// Nobody.
    pub fn anonymous() -> Self {
        Self::default()
    }

    /// Whether there is nothing here to authenticate with.
    pub fn is_anonymous(&self) -> bool {
        self.parts().iter().all(|part| part.is_empty())
    }

    /// The credentials of an `X-Registry-Auth` header in any spelling; nobody when it cannot be decoded.
    pub fn from_header(value: &str) -> Self {
        Account::from_header(value).map(|account| account.credentials).unwrap_or_default()
    }

    /// Whether user name and password can be sent.
    pub(super) fn has_password(&self) -> bool {
        !self.username.is_empty() && !self.password.is_empty()
    }

    /// `Basic <base64>`, the value of the `Authorization` header.
    pub(super) fn basic(&self) -> String {
        format!("Basic {}", STANDARD.encode(format!("{}:{}", self.username, self.password)))
    }

    /// `text` without any secret of ours, should somebody have echoed one.
    pub(super) fn scrub(&self, text: &str) -> String {
        let basic =
            if self.password.is_empty() { String::new() } else { self.basic().split_off("Basic ".len()) };
        let secrets = [&self.password, &self.identity_token, &self.registry_token, &basic];
        secrets
            .into_iter()
            .filter(|secret| secret.len() >= SECRET_SHORTEST_BYTES)
            .fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "***"))
    }

    fn parts(&self) -> [&str; 4] {
        [&self.username, &self.password, &self.identity_token, &self.registry_token]
    }
}

/// A password shorter than this is not looked for in texts: taking out every `a` would tell it.
const SECRET_SHORTEST_BYTES: usize = 4;

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [username, password, identity, registry] = self.parts().map(|part| !part.is_empty());
        f.debug_struct("Credentials")
            .field("username", &username)
            .field("password", &password)
            .field("identity_token", &identity)
            .field("registry_token", &registry)
            .finish()
    }
}

impl Account {
    /// The account in an `X-Registry-Auth` header: base64 in any of its spellings around the JSON document.
    ///
    /// `None` when it cannot be decoded; what that means is the caller's to decide.
    pub fn from_header(value: &str) -> Option<Self> {
        if value.len() > ACCOUNT_LIMIT_BYTES {
            return None;
        }
        let one_spelling: String = value
            .chars()
            .filter(|c| !c.is_ascii_whitespace() && *c != '=')
            .map(|c| match c {
                '+' => '-',
                '/' => '_',
                other => other,
            })
            .collect();
        Self::from_json(&URL_SAFE_NO_PAD.decode(one_spelling).ok()?)
    }

    /// The account in the body of `POST /auth`; `None` when it is no JSON object of strings.
    pub fn from_json(json: &[u8]) -> Option<Self> {
        let wire = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(json).ok()?;
        // Go takes keys in any case and null for nothing.
        let lower = wire.into_iter().filter(|(_, value)| !value.is_null());
        let lower: serde_json::Map<_, _> =
            lower.map(|(key, value)| (key.to_ascii_lowercase(), value)).collect();
        let wire: Wire = serde_json::from_value(lower.into()).ok()?;
        let (mut username, mut password) = (wire.username, wire.password);
        if username.is_empty()
            && let Some((name, secret)) = decode_pair(&wire.auth)
        {
            (username, password) = (name, secret);
        }
        Some(Self {
            server_address: wire.serveraddress,
            credentials: Credentials {
                username,
                password,
                identity_token: wire.identitytoken,
                registry_token: wire.registrytoken,
            },
        })
    }
}

/// Docker's `AuthConfig` with its keys in lower case.
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Wire {
    username: String,
    password: String,
    /// base64 of `username:password`, as in the CLI's configuration file.
    auth: String,
    serveraddress: String,
    identitytoken: String,
    registrytoken: String,
}

fn decode_pair(auth: &str) -> Option<(String, String)> {
    let text = String::from_utf8(STANDARD.decode(auth).ok()?).ok()?;
    let (name, secret) = text.split_once(':')?;
    Some((name.to_owned(), secret.trim_end_matches('\0').to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE};
    use proptest::prelude::*;

    #[test]
    fn every_spelling_of_the_header_is_understood() {
        // Chosen so that the two alphabets differ and padding is needed.
        let json = r#"{"username":"ö?>?>","password":"pass>>??","serveraddress":"localhost:5000"}"#;
        let spellings = [STANDARD.encode(json), STANDARD_NO_PAD.encode(json), URL_SAFE.encode(json)];
        assert!(spellings[0].contains('=') && spellings[0].contains(['+', '/']), "{}", spellings[0]);
        for header in spellings.iter().chain([&URL_SAFE_NO_PAD.encode(json)]) {
            let account = Account::from_header(header).unwrap();
            assert_eq!(account.server_address, "localhost:5000");
            assert_eq!(
                (account.credentials.username.as_str(), account.credentials.password.as_str()),
                ("ö?>?>", "pass>>??")
            );
        }
    }

    #[test]
    fn what_cannot_be_decoded_is_nobody() {
        let json_array = URL_SAFE.encode("[1]");
        let number = URL_SAFE.encode(r#"{"username":1}"#);
        let huge = "A".repeat(ACCOUNT_LIMIT_BYTES + 1);
        for header in ["", "e30", "!!!", "bm90IGpzb24", &json_array, &number, &huge, "é"] {
            assert!(Credentials::from_header(header).is_anonymous(), "{header:.20}");
        }
    }

    #[test]
    fn keys_in_any_case_nulls_and_the_combined_field() {
        let account =
            Account::from_json(br#"{"Username":null,"Auth":"YW5uOmJvYjpj","IdentityToken":"t","email":"x"}"#);
        let credentials = account.unwrap().credentials;
        assert_eq!(credentials.username, "ann");
        assert_eq!(credentials.password, "bob:c");
        assert_eq!(credentials.identity_token, "t");
    }

    #[test]
    fn secrets_are_not_shown() {
        let credentials = Credentials {
            username: "ann".to_owned(),
            password: "hunter22".to_owned(),
            identity_token: "refresh-me".to_owned(),
            registry_token: String::new(),
        };
        let debug = format!("{credentials:?}");
        assert!(
            !debug.contains("ann") && !debug.contains("hunter22") && !debug.contains("refresh"),
            "{debug}"
        );
        let echoed = format!("bad password hunter22 or {} or refresh-me for ann", credentials.basic());
        assert_eq!(credentials.scrub(&echoed), "bad password *** or Basic *** or *** for ann");
    }

    proptest! {
        #[test]
        fn no_header_panics(header in "\\PC{0,80}") {
            let _ = Account::from_header(&header);
        }
    }
}
