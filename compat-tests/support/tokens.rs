//! A token server for a real registry: it knows one user, checks scopes, and can be told to be difficult.
//!
//! Facts: distribution's `docs/spec/auth/` (token, oauth, scope, jwt).

use std::fmt::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::certificates::Signer;
use super::registry::{PASSWORD, USER};
use super::wire::{Reply, Request, Server};

/// The refresh token that the user gets for name and password.
pub(crate) const REFRESH_TOKEN: &str = "refresh-me-7f2a";

/// How it behaves.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Manner {
    /// Scopes with a class, `repository(plugin):`, are a bad request.
    pub(crate) refuses_classes: bool,
    /// So many tokens are past their time already when they are given.
    pub(crate) stale_first: usize,
}

/// Who asked for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    /// `anonymous`, `password`, `refresh`, or `wrong`.
    pub(crate) by: &'static str,
    pub(crate) scopes: Vec<String>,
}

/// A running token server.
pub(crate) struct Tokens {
    server: Server,
    signer: Arc<Signer>,
    asked: Arc<Mutex<Vec<Asked>>>,
    _place: TempDir,
}

impl Tokens {
    pub(crate) const SERVICE: &str = "compat-registry";
    pub(crate) const ISSUER: &str = "compat-tokens";

    /// Everybody may pull from `open/...`; the user may do everything everywhere.
    pub(crate) fn start(manner: Manner) -> Self {
        let place = tempfile::Builder::new().prefix("compat-tokens").tempdir().unwrap();
        let signer = Arc::new(Signer::new(place.path()));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let server = Server::start({
            let (signer, asked, stale) =
                (Arc::clone(&signer), Arc::clone(&asked), Mutex::new(manner.stale_first));
            move |request| {
                let by = who(request);
                let scopes: Vec<String> = request.parameters("scope").iter().flat_map(|s| words(s)).collect();
                asked.lock().unwrap().push(Asked { by, scopes: scopes.clone() });
                if by == "wrong" {
                    return Reply::new(401, r#"{"details":"incorrect username or password"}"#);
                }
                if manner.refuses_classes && scopes.iter().any(|s| s.contains('(')) {
                    return Reply::new(400, r#"{"details":"unknown resource type"}"#);
                }
                let stale = {
                    let mut left = stale.lock().unwrap();
                    let stale = *left > 0;
                    *left = left.saturating_sub(1);
                    stale
                };
                let access: Vec<Value> = scopes.iter().filter_map(|scope| granted(scope, by)).collect();
                let token = signed(&signer, by, &access, stale);
                let mut answer = json!({"token": token, "access_token": token, "expires_in": 300});
                let wants_refresh = request.parameters("offline_token") == ["true"]
                    || request.parameters("access_type") == ["offline"]
                    || request.method == "POST";
                if by != "anonymous" && wants_refresh {
                    answer["refresh_token"] = REFRESH_TOKEN.into();
                }
                Reply::new(200, answer.to_string()).with("Content-Type", "application/json")
            }
        });
        Self { server, signer, asked, _place: place }
    }

    /// Where tokens are to be had.
    pub(crate) fn realm(&self) -> String {
        format!("http://{}/token", self.server.address())
    }

    /// What a registry has to believe (PEM).
    pub(crate) fn certificate(&self) -> PathBuf {
        self.signer.certificate()
    }

    /// What was asked so far; it is forgotten then.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

fn who(request: &Request) -> &'static str {
    let is = |name: &str, value: &str| request.parameters(name) == [value];
    if let Some(given) = request.header("authorization") {
        let expected = format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}")));
        return if given == expected { "password" } else { "wrong" };
    }
    if request.method != "POST" {
        return "anonymous";
    }
    match request.parameters("grant_type").first().map(String::as_str) {
        Some("refresh_token") if is("refresh_token", REFRESH_TOKEN) => "refresh",
        Some("password") if is("username", USER) && is("password", PASSWORD) => "password",
        _ => "wrong",
    }
}

fn words(scopes: &str) -> Vec<String> {
    scopes.split(' ').filter(|s| !s.is_empty()).map(String::from).collect()
}

/// `repository(plugin):team/x:pull,push` as a claim, as far as it is granted.
fn granted(scope: &str, by: &str) -> Option<Value> {
    let (kind, rest) = scope.split_once(':')?;
    let (name, actions) = rest.rsplit_once(':')?;
    let (kind, class) = kind.split_once('(').unwrap_or((kind, ""));
    let class = class.trim_end_matches(')');
    let may = |action: &&str| by != "anonymous" || (*action == "pull" && name.starts_with("open/"));
    let actions: Vec<&str> = actions.split(',').filter(may).collect();
    (kind == "repository").then(|| json!({"type": kind, "class": class, "name": name, "actions": actions}))
}

fn signed(signer: &Signer, subject: &str, access: &[Value], stale: bool) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    // Registries forgive a minute.
    let (from, to) = if stale { (now - 600, now - 300) } else { (now - 10, now + 300) };
    let header = json!({"typ": "JWT", "alg": "RS256", "x5c": [signer.certificate_base64()]});
    let claims = json!({"iss": Tokens::ISSUER, "sub": subject, "aud": Tokens::SERVICE, "exp": to, "nbf": from,
        "iat": from, "jti": format!("{from}"), "access": access});
    let mut token = URL_SAFE_NO_PAD.encode(header.to_string());
    write!(token, ".{}", URL_SAFE_NO_PAD.encode(claims.to_string())).unwrap();
    let signature = URL_SAFE_NO_PAD.encode(signer.sign(token.as_bytes()));
    format!("{token}.{signature}")
}
