//! Registries that want to know who asks: passwords over TLS with a private authority, and tokens.

use serde_json::{Value, json};

use crate::support::artifact::Artifact;
use crate::support::daemon::{Daemon, Program};
use crate::support::impostor::Impostor;
use crate::support::install;
use crate::support::network;
use crate::support::registry::{PASSWORD, Registry, USER};
use crate::support::tokens::{Asked, Manner, REFRESH_TOKEN, Tokens};
use crate::support::wire::Reply;

/// A daemon that says as much as it can, to see what it keeps to itself.
fn talkative() -> Daemon {
    Daemon::start_as(Program::chosen(), &["--debug"])
}

/// No secret is in the log.
fn assert_discreet(daemon: &Daemon) {
    use base64::Engine as _;
    let log = daemon.log();
    assert!(!log.is_empty());
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{PASSWORD}"));
    for secret in [PASSWORD, REFRESH_TOKEN, &basic, &basic[..20]] {
        assert!(!log.contains(secret), "the log tells {secret:?}");
    }
}

/// dockerd has a third way of saying it, for pushes.
fn wants_credentials(error: &str) -> bool {
    let ways = ["no basic auth credentials", "authentication required", "401 Unauthorized"];
    ways.iter().any(|way| error.contains(way))
}

fn login(daemon: &Daemon, address: &str, password: &str) -> (bool, String) {
    let said = daemon.docker().run(&["login", "-u", USER, "-p", password, address]);
    (said.code == Some(0), format!("{}\n{}", said.out, said.err))
}

#[test]
fn a_private_registry_is_used_with_its_authority_and_a_password() {
    network::alone(|address| {
        let registry = Registry::private(address);
        let daemon = talkative();
        let docker = daemon.docker();
        let name = registry.name("team/tiny:v1");
        daemon.install(&name, &daemon.tiny());

        let (worked, said) = login(&daemon, registry.address(), PASSWORD);
        assert!(!worked && said.contains("certificate"), "nobody vouches for it yet: {said}");
        let said = docker.fails(&["plugin", "push", &name]);
        assert!(said.contains("certificate"), "{said}");

        let trust = registry.trusted();
        let said = docker.fails(&["plugin", "push", &name]);
        assert!(wants_credentials(&said), "{said}");
        let (worked, said) = login(&daemon, registry.address(), "guess");
        assert!(!worked && said.contains("401 Unauthorized"), "{said}");
        let (worked, said) = login(&daemon, registry.address(), PASSWORD);
        assert!(worked && said.contains("Login Succeeded"), "{said}");

        docker.ok(&["plugin", "push", &name]);
        docker.ok(&["plugin", "rm", &name]);
        let stored = registry.stored("team/tiny", "v1");
        docker.ok(&["plugin", "install", "--grant-all-permissions", "--alias", "tiny", &name]);
        assert_eq!(docker.ok(&["plugin", "ls", "--format", "{{.Name}} {{.Enabled}}"]), "tiny:latest true");

        // One user's password is not the next one's.
        docker.ok(&["logout", registry.address()]);
        let error = install::pull(&daemon, &name, "x", &json!([]), &Value::Null).failed();
        assert!(wants_credentials(&error), "{error}");
        assert_eq!(registry.stored("team/tiny", "v1"), stored);
        if daemon.is_ours() {
            assert_discreet(&daemon);
        }
        drop(trust);
        let error = install::pull(&daemon, &name, "x", &json!([]), &install::password()).failed();
        assert!(error.contains("certificate"), "{error}");
    });
}

/// The scope that plugins are asked for with, whoever writes it.
fn asks_for(asked: &[Asked], by: &str, scope: &str) -> bool {
    asked.iter().any(|a| a.by == by && a.scopes.iter().any(|s| s == scope))
}

#[test]
fn tokens_are_asked_for_with_the_class_of_plugins() {
    let tokens = Tokens::start(Manner::default());
    let registry = Registry::behind(&tokens);
    let daemon = talkative();
    let docker = daemon.docker();
    let name = registry.name("team/tiny:v1");
    daemon.install(&name, &daemon.tiny());
    assert!(!login(&daemon, registry.address(), "guess").0);
    let (worked, said) = login(&daemon, registry.address(), PASSWORD);
    assert!(worked && said.contains("Login Succeeded"), "{said}");
    // The CLI keeps the refresh token, and the password nowhere.
    let kept = std::fs::read_to_string(daemon.place().join("cli/config.json")).unwrap();
    assert!(kept.contains(REFRESH_TOKEN), "{kept}");

    tokens.asked();
    docker.ok(&["plugin", "push", &name]);
    let asked = tokens.asked();
    assert!(asks_for(&asked, "refresh", "repository(plugin):team/tiny:pull,push"), "{asked:?}");
    docker.ok(&["plugin", "rm", &name]);
    docker.ok(&["plugin", "install", "--grant-all-permissions", "--disable", &name]);
    let asked = tokens.asked();
    assert!(asks_for(&asked, "refresh", "repository(plugin):team/tiny:pull"), "{asked:?}");
    if daemon.is_ours() {
        assert_discreet(&daemon);
    }
}

#[test]
fn whoever_says_nothing_gets_what_everybody_may_have() {
    let tokens = Tokens::start(Manner::default());
    let registry = Registry::behind(&tokens);
    let daemon = Daemon::start();
    for repository in ["open/x", "closed/x"] {
        let name = registry.name(&format!("{repository}:v1"));
        daemon.install(&name, &daemon.tiny());
        install::push(&daemon, &name, &install::password()).ok();
        assert_eq!(daemon.http().ask("DELETE", &format!("/plugins/{name}")).status, 200);
    }
    install::consenting(&daemon, &registry.name("open/x:v1"), "x", &Value::Null).ok();
    let closed = registry.name("closed/x:v1");
    let error = install::pull(&daemon, &closed, "y", &json!([]), &Value::Null).failed();
    assert_eq!(daemon.http().look("/plugins").as_array().map(Vec::len), Some(1));
    if daemon.is_ours() {
        assert!(error.contains("denied") || error.contains("authentication required"), "{error}");
        let answer = install::privileges(&daemon, &closed, &Value::Null);
        assert!((400..500).contains(&answer.status), "{}", answer.text());
    }
    // And may not write: pulling does not open the door for the push.
    let alias = registry.name("open/mine:v1");
    install::consenting(&daemon, &registry.name("open/x:v1"), &alias, &Value::Null).ok();
    install::push(&daemon, &alias, &Value::Null).failed();
    assert_eq!(registry.tagged("open/mine", "v1"), None);
}

#[test]
fn a_wrong_password_is_not_taken_for_no_password() {
    let tokens = Tokens::start(Manner::default());
    let registry = Registry::behind(&tokens);
    let daemon = talkative();
    let name = registry.name("open/x:v1");
    daemon.install(&name, &daemon.tiny());
    let wrong = json!({"username": USER, "password": "wr0ng guess"});
    let error = install::push(&daemon, &name, &wrong).failed();
    assert!(!error.contains("wr0ng guess"), "{error}");
    if daemon.is_ours() {
        assert!(error.contains("incorrect username or password") || error.contains("401"), "{error}");
        assert!(!daemon.log().contains("wr0ng guess"));
    }
    assert_eq!(registry.tagged("open/x", "v1"), None);
}

#[test]
fn credentials_come_in_many_spellings() {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
    let tokens = Tokens::start(Manner::default());
    let registry = Registry::behind(&tokens);
    let Some(daemon) = Daemon::ours() else { return };
    let name = registry.name("closed/x:v1");
    daemon.install(&name, &daemon.tiny());
    install::push(&daemon, &name, &install::password()).ok();
    // The bytes that differ between the alphabets are in there.
    let text = json!({"username": USER, "password": PASSWORD, "email": "~~~???>>>ÿÿ"}).to_string();
    let (refresh, address) = (json!({"identitytoken": REFRESH_TOKEN}).to_string(), registry.address());
    let addressed = json!({"username": USER, "password": PASSWORD, "serveraddress": address}).to_string();
    let spellings = [
        URL_SAFE.encode(&text),
        URL_SAFE_NO_PAD.encode(&text),
        STANDARD.encode(&text),
        STANDARD_NO_PAD.encode(&text),
        URL_SAFE.encode(&refresh),
        URL_SAFE.encode(&addressed),
    ];
    for spelling in spellings {
        let mut connection = daemon.http().open().unwrap();
        let request = format!(
            "GET /plugins/privileges?remote={name} HTTP/1.1\r\nHost: d\r\nConnection: close\r\nX-Registry-Auth: {spelling}\r\n\r\n"
        );
        let answer = connection.exchange("GET", request.as_bytes()).unwrap();
        assert_eq!(answer.status, 200, "{spelling}: {}", answer.text());
    }
}

#[test]
fn a_registry_that_knows_no_classes_is_asked_without() {
    let Some(daemon) = Daemon::ours() else { return };
    let tokens = Tokens::start(Manner { refuses_classes: true, ..Manner::default() });
    let registry = Registry::behind(&tokens);
    let name = registry.name("closed/x:v1");
    daemon.install(&name, &daemon.tiny());
    install::push(&daemon, &name, &install::password()).ok();
    let asked = tokens.asked();
    assert!(asks_for(&asked, "password", "repository:closed/x:pull,push"), "{asked:?}");
    install::consenting(&daemon, &name, "x", &install::password()).ok();
}

#[test]
fn a_token_that_has_expired_is_replaced() {
    let Some(daemon) = Daemon::ours() else { return };
    let tokens = Tokens::start(Manner { stale_first: 1, ..Manner::default() });
    let registry = Registry::behind(&tokens);
    let name = registry.name("closed/x:v1");
    daemon.install(&name, &daemon.tiny());
    install::push(&daemon, &name, &install::password()).ok();
    assert!(tokens.asked().len() >= 2);
    assert!(registry.tagged("closed/x", "v1").is_some());
}

#[test]
fn a_token_may_expire_at_any_request() {
    let Some(daemon) = Daemon::ours() else { return };
    // Each token is good for one request; the second answers with another challenge.
    let artifact = Artifact::small("expiring");
    let issuer = Impostor::start(&[], {
        let count = std::sync::atomic::AtomicU32::new(0);
        move |_| {
            let number = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            Some(Reply::new(200, json!({"token": format!("t{number}"), "expires_in": 300}).to_string()))
        }
    });
    let challenge = format!(
        "Bearer realm=\"http://{}/token\",service=\"s\",scope=\"repository:team/x:pull\"",
        issuer.address()
    );
    let used = std::sync::Mutex::new(std::collections::BTreeSet::new());
    let impostor = Impostor::start(&[("team/x:v1", &artifact)], move |request| {
        let fresh = request.header("authorization").is_some_and(|token| {
            token.starts_with("Bearer t") && used.lock().unwrap().insert(token.to_owned())
        });
        (!fresh).then(|| Reply::new(401, "{}").with("WWW-Authenticate", &challenge))
    });
    install::pull(&daemon, &impostor.name("team/x:v1"), "x", &json!([]), &Value::Null).ok();
    assert!(issuer.seen().len() >= 4, "manifest, config and two layers");
}

#[test]
fn credentials_do_not_follow_to_another_host() {
    let artifact = Artifact::small("redirected");
    let elsewhere = Impostor::start(&[("team/x:v1", &artifact)], |_| None);
    // Another name for the same machine: another host.
    let other = elsewhere.address().replace("127.0.0.1", "localhost");
    let impostor = Impostor::start(&[("team/x:v1", &artifact)], move |request| {
        if request.header("authorization").is_none() {
            return Some(Reply::new(401, "{}").with("WWW-Authenticate", "Basic realm=\"compat\""));
        }
        let moved = request.path().contains("/blobs/");
        moved.then(|| Reply::new(307, "").with("Location", &format!("http://{other}{}", request.path())))
    });
    let daemon = Daemon::start();
    let remote = impostor.name("team/x:v1");
    install::pull(&daemon, &remote, "x", &json!([]), &install::password()).ok();
    let followed = elsewhere.seen();
    assert!(followed.len() >= 2, "{followed:?}");
    for request in followed {
        assert_eq!(request.header("authorization"), None, "{}", request.line());
    }
}

#[test]
fn a_login_says_what_the_registry_says() {
    let tokens = Tokens::start(Manner::default());
    let (behind, open) = (Registry::behind(&tokens), Registry::open());
    let daemon = Daemon::start();
    let body = |address: &str, password: &str| json!({"username": USER, "password": password, "serveraddress": address});
    let answer = daemon.http().json("POST", "/auth", &body(behind.address(), PASSWORD));
    assert_eq!(
        (answer.status, answer.json()),
        (200, json!({"IdentityToken": REFRESH_TOKEN, "Status": "Login Succeeded"}))
    );
    let answer = daemon.http().json("POST", "/auth", &body(behind.address(), "guess"));
    daemon.assert_refused(&answer, 401, &answer.message());
    assert!(answer.message().contains("incorrect username or password"), "{}", answer.message());
    // Who asks nobody lets everybody in.
    let answer = daemon.http().json("POST", "/auth", &body(open.address(), "whatever"));
    assert_eq!(
        (answer.status, answer.json()),
        (200, json!({"IdentityToken": "", "Status": "Login Succeeded"}))
    );
    let gone = { Registry::open().address().to_owned() };
    let answer = daemon.http().json("POST", "/auth", &body(&gone, "whatever"));
    assert!(answer.status >= 500, "{}", answer.status);
    assert!(answer.message().to_lowercase().contains("connection refused"), "{}", answer.message());
}
