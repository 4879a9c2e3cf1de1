//! Fetching a token from the token server a registry names.
//!
//! One function and its answer; who needs which token and when is `auth.rs`'s. From the distribution project's
//! `spec/auth/token.md` and `spec/auth/oauth.md`, with the parameters and the client's name of Docker's client: GET with
//! Basic (or nobody), POST when there is a refresh token.

use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Url};
use serde_json::Value;
use tokio::time::Instant;

use super::challenge::Bearer;
use super::credentials::Credentials;
use super::error::{Error, Result};
use super::hosts::host_of;
use super::limits::{TOKEN_LIFETIME, TOKEN_LIMIT_BYTES, TOKEN_MARGIN};
use super::refusal::{Refusal, bounded};
use super::transport::{Follow, Outgoing, Transport};

/// Docker's name at token servers.
const CLIENT_ID: &str = "docker";
/// How much of a bad realm is told.
const SHOWN_CHARS: usize = 256;

/// An access token.
#[derive(Clone)]
pub(super) struct Token {
    /// `Bearer …`, marked as sensitive.
    pub(super) header: HeaderValue,
    renew_at: Instant,
    /// What the token server gave beside it to come back with.
    pub(super) refresh: Option<String>,
}

/// Which token is wanted.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    /// The registry's own URL.
    pub(super) registry: &'a Url,
    /// Its challenge.
    pub(super) bearer: &'a Bearer,
    /// `repository(plugin):a/b:pull`; none to log in.
    pub(super) scopes: &'a [String],
    /// Whose.
    pub(super) credentials: &'a Credentials,
    /// Whether to ask for a refresh token too.
    pub(super) offline: bool,
}

/// Why there is no token.
#[derive(Debug)]
pub(super) enum NoToken {
    /// The token server refused.
    Refused(Refusal),
    /// It did not come to that.
    Failed(Error),
}

impl Token {
    /// Whether enough of its life is left to use it.
    pub(super) fn is_fresh(&self) -> bool {
        Instant::now() < self.renew_at
    }
}

/// Fetches the token.
pub(super) async fn fetch(transport: &Transport, wanted: &Wanted<'_>) -> Result<Token, NoToken> {
    let realm = realm(transport, wanted).await.map_err(NoToken::Failed)?;
    let host = host_of(&realm).unwrap_or_default();
    let make = || outgoing(&realm, wanted);
    // A POST is not sent elsewhere: its body is the secret.
    let follow = if wanted.credentials.identity_token.is_empty() { Follow::Secure } else { Follow::Nothing };
    let mut answer = transport.insist(make, follow, false).await.map_err(NoToken::Failed)?;
    if !answer.status().is_success() {
        let mut refusal = answer.refusal().await;
        refusal.words = wanted.credentials.scrub(&refusal.words);
        return Err(NoToken::Refused(refusal));
    }
    let what = format!("the answer of token server {host}");
    let body = answer.body(&what, TOKEN_LIMIT_BYTES).await.map_err(NoToken::Failed)?;
    read(&body).map_err(|words| NoToken::Failed(Error::TokenServer { host, words: words.to_owned() }))
}

/// The token server's URL, if it is one and secrets may go there.
async fn realm(transport: &Transport, wanted: &Wanted<'_>) -> Result<Url> {
    let text = &wanted.bearer.realm;
    let refused = |reason| Error::Realm {
        host: host_of(wanted.registry).unwrap_or_default(),
        realm: bounded(text.split(['?', '#']).next().unwrap_or_default()).chars().take(SHOWN_CHARS).collect(),
        reason,
    };
    let realm = Url::parse(text).map_err(|_| refused("it is no URL"))?;
    if !matches!(realm.scheme(), "http" | "https") {
        return Err(refused("expected http or https"));
    }
    if !realm.username().is_empty() || realm.password().is_some() {
        return Err(Error::Realm {
            host: host_of(wanted.registry).unwrap_or_default(),
            realm: host_of(&realm).unwrap_or_default(),
            reason: "it carries a user name",
        });
    }
    if !wanted.credentials.is_anonymous()
        && transport.forbid_downgrade(wanted.registry, &realm).await.is_err()
    {
        return Err(refused("it leads from https to http, where credentials do not go"));
    }
    Ok(realm)
}

fn outgoing(realm: &Url, wanted: &Wanted<'_>) -> Outgoing {
    let Wanted { bearer, scopes, credentials, offline, .. } = wanted;
    let mut headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/json"))]);
    let mut url = realm.clone();
    if credentials.identity_token.is_empty() {
        {
            let mut query = url.query_pairs_mut();
            if let Some(service) = &bearer.service {
                query.append_pair("service", service);
            }
            for scope in *scopes {
                query.append_pair("scope", scope);
            }
            if *offline {
                query.append_pair("offline_token", "true").append_pair("client_id", CLIENT_ID);
            }
            if !credentials.username.is_empty() {
                query.append_pair("account", &credentials.username);
            }
        }
        if credentials.has_password()
            && let Ok(mut basic) = HeaderValue::from_str(&credentials.basic())
        {
            basic.set_sensitive(true);
            headers.insert(AUTHORIZATION, basic);
        }
        return Outgoing { method: Method::GET, url, headers, body: None };
    }
    let mut form = realm.clone();
    {
        let mut fields = form.query_pairs_mut();
        fields.clear();
        fields.append_pair("grant_type", "refresh_token").append_pair("client_id", CLIENT_ID);
        fields.append_pair("service", bearer.service.as_deref().unwrap_or_default());
        fields.append_pair("refresh_token", &credentials.identity_token);
        if !scopes.is_empty() {
            fields.append_pair("scope", &scopes.join(" "));
        }
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    let body = form.query().unwrap_or_default().to_owned();
    Outgoing { method: Method::POST, url, headers, body: Some(body.into()) }
}

/// Reads the answer; an error says what is wrong without showing any of it.
fn read(body: &[u8]) -> Result<Token, &'static str> {
    let answer: Value = serde_json::from_slice(body).map_err(|_| "its answer is no JSON")?;
    let text = |key: &str| answer.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let token = text("token").or_else(|| text("access_token")).ok_or("its answer did not include a token")?;
    let mut header =
        HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| "its token fits in no header")?;
    header.set_sensitive(true);
    let seconds = answer.get("expires_in").and_then(Value::as_u64).filter(|seconds| *seconds > 0);
    let lifetime = seconds.map_or(TOKEN_LIFETIME, Duration::from_secs);
    // Of a very short life at most a quarter is given away.
    let usable = lifetime.saturating_sub(TOKEN_MARGIN.min(lifetime / 4));
    let now = Instant::now();
    Ok(Token {
        header,
        renew_at: now.checked_add(usable).unwrap_or(now + TOKEN_LIFETIME),
        refresh: text("refresh_token").map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_token_servers() {
        let table = [
            (r#"{"token":"a","expires_in":300,"issued_at":"2026-01-01T00:00:00Z"}"#, Ok("Bearer a")),
            (r#"{"access_token":"b","refresh_token":"r"}"#, Ok("Bearer b")),
            (r#"{"token":"","access_token":"c","expires_in":"300"}"#, Ok("Bearer c")),
            (r#"{"token":"d","expires_in":18446744073709551615}"#, Ok("Bearer d")),
            (r#"{"token":null}"#, Err("its answer did not include a token")),
            (r#"{"token":"a\nb"}"#, Err("its token fits in no header")),
            ("[]", Err("its answer did not include a token")),
            ("<html>", Err("its answer is no JSON")),
        ];
        for (body, expected) in table {
            match (read(body.as_bytes()), expected) {
                (Ok(token), Ok(header)) => {
                    assert_eq!(token.header.to_str().unwrap(), header);
                    assert!(token.header.is_sensitive() && token.is_fresh(), "{body}");
                }
                (Err(got), Err(expected)) => assert_eq!(got, expected),
                (got, _) => panic!("{body}: {}", got.is_ok()),
            }
        }
    }

    #[test]
    fn what_is_sent() {
        let realm = Url::parse("https://auth.example/token?x=1").unwrap();
        let bearer = Bearer { service: Some("reg & co".to_owned()), ..Bearer::default() };
        let ask = |credentials: &Credentials, offline| {
            let scopes = ["repository(plugin):a/b:pull".to_owned(), "repository(plugin):c:pull".to_owned()];
            let wanted = Wanted { registry: &realm, bearer: &bearer, scopes: &scopes, credentials, offline };
            outgoing(&realm, &wanted)
        };
        let nobody = ask(&Credentials::anonymous(), false);
        assert_eq!(
            nobody.url.as_str(),
            "https://auth.example/token?x=1&service=reg+%26+co\
             &scope=repository%28plugin%29%3Aa%2Fb%3Apull&scope=repository%28plugin%29%3Ac%3Apull"
        );
        assert!(!nobody.headers.contains_key(AUTHORIZATION));
        let ann = Credentials { username: "ann".into(), password: "pw".into(), ..Credentials::default() };
        let login = ask(&ann, true);
        assert!(
            login.url.as_str().ends_with("&offline_token=true&client_id=docker&account=ann"),
            "{}",
            login.url
        );
        assert_eq!(login.headers[AUTHORIZATION], "Basic YW5uOnB3");
        assert!(login.headers[AUTHORIZATION].is_sensitive());
        let refresh = Credentials { identity_token: "r/t".into(), ..ann };
        let post = ask(&refresh, false);
        assert_eq!((post.method, post.url.as_str()), (Method::POST, realm.as_str()));
        assert!(!post.headers.contains_key(AUTHORIZATION));
        let body = post.body.as_ref().and_then(reqwest::Body::as_bytes).unwrap();
        assert_eq!(
            std::str::from_utf8(body).unwrap(),
            "grant_type=refresh_token&client_id=docker&service=reg+%26+co&refresh_token=r%2Ft\
             &scope=repository%28plugin%29%3Aa%2Fb%3Apull+repository%28plugin%29%3Ac%3Apull"
        );
    }
}
