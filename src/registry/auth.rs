//! Who answers a registry's challenge, and with what: one user, one repository, one endpoint.
//!
//! Holds the secrets of one operation and gives them to nobody but the endpoint (as `Authorization`) and the token
//! server it names. The order of things is Docker's client's: a registry token as it is, then Bearer, then Basic. New
//! is the scope's class: plugins are asked for as `repository(plugin):`, and as `repository:` where that is refused.

use std::collections::HashMap;

use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use tokio::sync::Mutex;

use super::challenge::{self, Bearer, Challenge};
use super::credentials::Credentials;
use super::error::{Error, Result};
use super::hosts::{Access, host_of};
use super::refusal::{Asked, Refusal, bounded};
use super::token::{self, NoToken, Token, Wanted};
use super::transport::Transport;

/// How much of a garbled challenge is told.
const SHOWN_CHARS: usize = 256;

/// Authenticates one user's requests to one endpoint.
#[derive(Debug)]
pub(super) struct Authorizer {
    credentials: Credentials,
    /// The path of the repository and what is to be done there; `None` to log in.
    repository: Option<(String, Access)>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    scheme: Option<Scheme>,
    class: Class,
    /// By their scopes.
    tokens: HashMap<String, Token>,
    /// Token servers may replace a refresh token when it is used.
    refresh_token: Option<String>,
}

#[derive(Clone)]
enum Scheme {
    Basic,
    Bearer(Bearer),
    /// The registry token of the credentials.
    Given,
}

/// How a repository of plugins is called in a scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Class {
    /// `repository(plugin)`
    #[default]
    Plugin,
    /// `repository`
    Plain,
}

/// What was tried for one request, so that it ends.
#[derive(Debug, Default)]
pub(super) struct Round {
    /// Another repository that is read from.
    also_from: Option<String>,
    /// Set when this request tries a class on its own account.
    class: Option<Class>,
    renewed: bool,
}

impl Round {
    /// A request that also reads from the repository `also_from`.
    pub(super) fn new(also_from: Option<&str>) -> Self {
        Self { also_from: also_from.map(str::to_owned), ..Self::default() }
    }
}

impl Authorizer {
    pub(super) fn new(credentials: Credentials, repository: Option<(String, Access)>) -> Self {
        Self { credentials, repository, state: Mutex::default() }
    }

    /// The `Authorization` of the next request; `None` while the registry has not asked for any.
    ///
    /// # Errors
    /// When a token is needed and the token server gives none.
    pub(super) async fn header(
        &self,
        transport: &Transport,
        registry: &Url,
        round: &mut Round,
    ) -> Result<Option<HeaderValue>> {
        // Held while a token is fetched: layers that come at the same time share it.
        let mut state = self.state.lock().await;
        match state.scheme.clone() {
            None => Ok(None),
            Some(Scheme::Basic) => sensitive(&self.credentials.basic()).map(Some),
            Some(Scheme::Given) => {
                sensitive(&format!("Bearer {}", self.credentials.registry_token)).map(Some)
            }
            Some(Scheme::Bearer(bearer)) => {
                self.token(transport, registry, &bearer, &mut state, round).await.map(Some)
            }
        }
    }

    /// Takes in a refusal of a request that came with `used`, and says whether to send it again.
    ///
    /// # Errors
    /// [`Error::Challenge`] and [`Error::NoBasicCredentials`].
    pub(super) async fn challenged(
        &self,
        registry: &Url,
        headers: &HeaderMap,
        refusal: &Refusal,
        used: Option<&HeaderValue>,
        round: &mut Round,
    ) -> Result<bool> {
        let mut state = self.state.lock().await;
        let Some(used) = used else {
            if state.scheme.is_none() {
                state.scheme = Some(self.choose(registry, headers)?);
            }
            return Ok(true);
        };
        if !matches!(state.scheme, Some(Scheme::Bearer(_))) {
            return Ok(false);
        }
        if !refusal.is_about_scope() && !round.renewed {
            // Expired on the way, or somebody else has renewed it meanwhile.
            state.tokens.retain(|_, token| token.header != *used);
            round.renewed = true;
            return Ok(true);
        }
        Ok(self.try_plain(&state, round))
    }

    /// Takes in that a request went through.
    pub(super) async fn succeeded(&self, round: &Round) {
        if let Some(class) = round.class {
            self.state.lock().await.class = class;
        }
    }

    /// The refresh token the token server gave at the last fetch, if any.
    pub(super) async fn refresh_token(&self) -> Option<String> {
        self.state.lock().await.refresh_token.clone()
    }

    /// `text` without our secrets and without `used`.
    pub(super) fn scrub(&self, text: &str, used: Option<&HeaderValue>) -> String {
        let text = self.credentials.scrub(text);
        let token = used.and_then(|used| used.to_str().ok()).and_then(|used| used.split_once(' '));
        match token {
            Some((_, token)) if !token.is_empty() => text.replace(token, "***"),
            Some(_) | None => text,
        }
    }

    fn choose(&self, registry: &Url, headers: &HeaderMap) -> Result<Scheme> {
        let values = || headers.get_all(WWW_AUTHENTICATE).iter();
        let challenges = challenge::parse(values().filter_map(|value| value.to_str().ok()));
        let basic = challenges.contains(&Challenge::Basic);
        let bearer = challenges.into_iter().find_map(|challenge| match challenge {
            Challenge::Bearer(bearer) => Some(bearer),
            Challenge::Basic => None,
        });
        match bearer {
            Some(_) if !self.credentials.registry_token.is_empty() => Ok(Scheme::Given),
            // Of a registry that offers both, as Docker's client: tokens.
            Some(bearer) => Ok(Scheme::Bearer(bearer)),
            None if basic && self.credentials.has_password() => Ok(Scheme::Basic),
            None if basic => Err(Error::NoBasicCredentials),
            None => {
                let got = values()
                    .map(|value| String::from_utf8_lossy(value.as_bytes()))
                    .collect::<Vec<_>>()
                    .join(", ");
                Err(Error::Challenge {
                    host: host_of(registry).unwrap_or_default(),
                    got: self.credentials.scrub(&bounded(&got)).chars().take(SHOWN_CHARS).collect(),
                })
            }
        }
    }

    async fn token(
        &self,
        transport: &Transport,
        registry: &Url,
        bearer: &Bearer,
        state: &mut State,
        round: &mut Round,
    ) -> Result<HeaderValue> {
        loop {
            let scopes = self.scopes(round.class.unwrap_or(state.class), round.also_from.as_deref());
            let key = scopes.join(" ");
            if let Some(token) = state.tokens.get(&key).filter(|token| token.is_fresh()) {
                return Ok(token.header.clone());
            }
            let mut credentials = self.credentials.clone();
            if let (Some(newer), false) = (&state.refresh_token, credentials.identity_token.is_empty()) {
                credentials.identity_token.clone_from(newer);
            }
            let offline = self.repository.is_none();
            let wanted = Wanted { registry, bearer, scopes: &scopes, credentials: &credentials, offline };
            match token::fetch(transport, &wanted).await {
                Ok(token) => {
                    if token.refresh.is_some() {
                        state.refresh_token.clone_from(&token.refresh);
                    }
                    let header = token.header.clone();
                    state.tokens.insert(key, token);
                    return Ok(header);
                }
                Err(NoToken::Failed(error)) => return Err(error),
                Err(NoToken::Refused(refusal)) => {
                    // Wrong credentials are not tried twice: some servers count.
                    let about_class = matches!(refusal.status.as_u16(), 400 | 403 | 404)
                        || (refusal.status.as_u16() == 401 && self.credentials.is_anonymous());
                    if !(about_class && self.try_plain(state, round)) {
                        return Err(self.refused(bearer, refusal));
                    }
                }
            }
        }
    }

    fn refused(&self, bearer: &Bearer, refusal: Refusal) -> Error {
        let refusal = Refusal { words: self.scrub(&refusal.words, None), ..refusal };
        match refusal.into_error(Asked::Push) {
            Error::Refused { words, .. } => {
                let host = Url::parse(&bearer.realm).ok().and_then(|realm| host_of(&realm));
                Error::TokenServer { host: host.unwrap_or_default(), words }
            }
            error => error,
        }
    }

    /// Lets this request go on with the plain class, if it has not yet.
    fn try_plain(&self, state: &State, round: &mut Round) -> bool {
        let refused = round.class.unwrap_or(state.class);
        if self.repository.is_none() || refused == Class::Plain {
            return false;
        }
        round.class = Some(Class::Plain);
        round.renewed = false;
        true
    }

    fn scopes(&self, class: Class, also_from: Option<&str>) -> Vec<String> {
        let kind = match class {
            Class::Plugin => "repository(plugin)",
            Class::Plain => "repository",
        };
        let Some((path, access)) = &self.repository else { return Vec::new() };
        let actions = match access {
            Access::Pull => "pull",
            Access::Push => "pull,push",
        };
        let other = also_from.map(|from| format!("{kind}:{from}:pull"));
        std::iter::once(format!("{kind}:{path}:{actions}")).chain(other).collect()
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("class", &self.class)
            .field("tokens", &self.tokens.len())
            .finish_non_exhaustive()
    }
}

/// Credentials with control characters fit in no header; that is said without showing them.
fn sensitive(value: &str) -> Result<HeaderValue> {
    let mut header = HeaderValue::from_str(value).map_err(|_| Error::Unauthorized {
        words: "unauthorized: the credentials fit in no header".to_owned(),
    })?;
    header.set_sensitive(true);
    Ok(header)
}
