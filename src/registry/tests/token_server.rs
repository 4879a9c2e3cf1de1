//! A small token server for a real registry: checks users and scopes, signs, hands out refresh tokens.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{CertificateParams, KeyPair, SigningKey as _};
use reqwest::Url;
use serde_json::json;

use super::process::{PASSWORD, Registry, Setup};
use super::stub::{Reply, Request, Stub};

/// What it gives for ann's password, beside a token.
pub(super) const REFRESH: &str = "refresh-token-of-ann";

/// How it behaves.
#[derive(Debug, Clone, Default)]
pub(super) struct Policy {
    /// What becomes of `repository(plugin):`.
    pub(super) plugin_class: PluginClass,
    /// So many tokens have expired when they are given.
    pub(super) expired: usize,
    /// The only repository of which anything is given; any without.
    pub(super) only: Option<&'static str>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum PluginClass {
    #[default]
    Granted,
    /// `400 Bad Request`
    Refused,
    /// A token without any access.
    Ignored,
}

/// A registry and its token server.
pub(super) struct Guarded {
    pub(super) registry: Registry,
    pub(super) server: Stub,
    /// What was asked for, request by request: `who: scope scope`.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Guarded {
    pub(super) async fn start(policy: Policy) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec!["token server".to_owned()]).unwrap().self_signed(&key).unwrap();
        let pem = certificate.pem();
        let x5c = STANDARD.encode(certificate.der());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (seen, given) = (Arc::clone(&asked), AtomicUsize::new(0));
        let server = Stub::start(move |request, _| {
            let (who, scopes) = match read(request) {
                Ok(read) => read,
                Err(words) => {
                    return Reply::new("401 Unauthorized", &[], json!({ "details": words }).to_string());
                }
            };
            seen.lock().unwrap().push(format!("{who}: {}", scopes.join(" ")));
            if policy.plugin_class == PluginClass::Refused
                && scopes.iter().any(|scope| scope.contains("(plugin)"))
            {
                return Reply::new("400 Bad Request", &[], "unknown resource class");
            }
            let access: Vec<_> = scopes.iter().filter_map(|scope| grant(scope, &who, &policy)).collect();
            let late = given.fetch_add(1, Ordering::SeqCst) < policy.expired;
            let token = sign(&key, &x5c, &who, &access, late);
            let mut answer = json!({ "token": token, "expires_in": 300 });
            if request.line.contains("offline_token=true") && who == "ann" {
                answer["refresh_token"] = json!(REFRESH);
            }
            Reply::ok(&["Content-Type: application/json"], answer.to_string())
        })
        .await;
        let realm = format!("http://{}/token?tenant=1", server.host);
        let registry = Registry::start(&Setup { tokens: Some((realm, pem)), ..Setup::default() });
        Self { registry, server, asked }
    }

    /// What was asked for so far.
    pub(super) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// Who asks, and for what.
fn read(request: &Request) -> Result<(String, Vec<String>), &'static str> {
    let (method, path) = request.line.split_once(' ').unwrap();
    let query = if method == "POST" {
        String::from_utf8(request.body.clone()).unwrap()
    } else {
        path.split_once('?').unwrap().1.to_owned()
    };
    let url = Url::parse(&format!("http://x/?{query}")).unwrap();
    let all = |name: &str| {
        url.query_pairs()
            .filter(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(all("service"), ["test-registry"]);
    let scopes: Vec<_> =
        all("scope").iter().flat_map(|scopes| scopes.split(' ')).map(str::to_owned).collect();
    if method == "POST" {
        assert_eq!(
            (all("grant_type"), all("client_id")),
            (vec!["refresh_token".to_owned()], vec!["docker".to_owned()])
        );
        return if all("refresh_token") == [REFRESH] {
            Ok(("ann".to_owned(), scopes))
        } else {
            Err("refresh token expired")
        };
    }
    assert_eq!(all("tenant"), ["1"]);
    match request.header("authorization") {
        None => Ok(("nobody".to_owned(), scopes)),
        Some(basic) if basic == format!("Basic {}", STANDARD.encode(format!("ann:{PASSWORD}"))) => {
            assert_eq!(all("account"), ["ann"]);
            Ok(("ann".to_owned(), scopes))
        }
        // Rudely echoes what it was sent.
        Some(_) => Err("incorrect username or password wrong-password"),
    }
}

/// Ann may do everything, nobody may pull from `public/`.
fn grant(scope: &str, who: &str, policy: &Policy) -> Option<serde_json::Value> {
    let (kind, rest) = scope.split_once(':')?;
    let (name, actions) = rest.rsplit_once(':')?;
    if (kind.contains("(plugin)") && policy.plugin_class == PluginClass::Ignored)
        || policy.only.is_some_and(|only| only != name)
    {
        return None;
    }
    let allowed = |action: &&str| who == "ann" || (*action == "pull" && name.starts_with("public/"));
    let actions: Vec<_> = actions.split(',').filter(allowed).collect();
    Some(json!({ "type": "repository", "name": name, "actions": actions }))
}

fn sign(key: &KeyPair, x5c: &str, who: &str, access: &[serde_json::Value], late: bool) -> String {
    let now = jiff::Timestamp::now().as_second();
    // The registry forgives a minute.
    let expires = if late { now - 120 } else { now + 300 };
    let header = json!({ "typ": "JWT", "alg": "ES256", "x5c": [x5c] });
    let claims = json!({
        "iss": "test-issuer", "sub": who, "aud": "test-registry", "exp": expires, "nbf": now - 300, "iat": now - 300,
        "jti": "1", "access": access,
    });
    let signed = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
    let signature = fixed(&key.sign(signed.as_bytes()).unwrap());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// The two numbers of a DER signature as JWT wants them: 32 bytes each.
fn fixed(der: &[u8]) -> Vec<u8> {
    let mut rest = &der[2..];
    let mut fixed = Vec::new();
    for _ in 0..2 {
        let (number, after) = rest[2..].split_at(rest[1].into());
        let digits = &number[number.len().saturating_sub(32)..];
        fixed.extend(std::iter::repeat_n(0, 32 - digits.len()));
        fixed.extend_from_slice(digits);
        rest = after;
    }
    fixed
}
