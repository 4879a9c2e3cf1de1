//! Tokens: a real registry behind the token server, each way of asking for one and each way of being refused.

use super::process::PASSWORD;
use super::stub::{Reply, Stub};
use super::token_server::{Guarded, PluginClass, Policy, REFRESH};
use super::*;
use crate::error::{Classified as _, Kind};

async fn session(guarded: &Guarded, path: &str, credentials: Credentials, access: Access) -> Session {
    open(&format!("{}/{path}", guarded.registry.host), credentials, access).await
}

#[tokio::test]
async fn one_token_of_the_plugin_class_serves_an_operation() {
    let guarded = Guarded::start(Policy::default()).await;
    push_plugin(&session(&guarded, "a/b:1", ann(), Access::Push).await).await.unwrap();
    pull_plugin(&session(&guarded, "a/b:1", ann(), Access::Pull).await).await.unwrap();
    assert_eq!(
        guarded.asked(),
        ["ann: repository(plugin):a/b:pull,push", "ann: repository(plugin):a/b:pull"]
    );
}

#[tokio::test]
async fn where_the_class_is_refused_the_plain_one_is_asked_for() {
    for plugin_class in [PluginClass::Refused, PluginClass::Ignored] {
        let guarded = Guarded::start(Policy { plugin_class, ..Policy::default() }).await;
        push_plugin(&session(&guarded, "a/b", ann(), Access::Push).await).await.unwrap();
        // Tried once, then remembered.
        assert_eq!(
            guarded.asked(),
            ["ann: repository(plugin):a/b:pull,push", "ann: repository:a/b:pull,push"]
        );
    }
}

#[tokio::test]
async fn nobody_pulls_what_is_public_and_is_told_about_the_rest() {
    let guarded = Guarded::start(Policy::default()).await;
    push_plugin(&session(&guarded, "public/b", ann(), Access::Push).await).await.unwrap();
    pull_plugin(&session(&guarded, "public/b", Credentials::anonymous(), Access::Pull).await).await.unwrap();

    let hidden = session(&guarded, "a/b:1", Credentials::anonymous(), Access::Pull).await;
    let error = hidden.resolve(&[MediaType::DockerManifest]).await.unwrap_err();
    let name = format!("{}/a/b", guarded.registry.host);
    assert_eq!(
        told(&error),
        format!(
            "pull access denied for {name}, repository does not exist or may require 'docker login': \
             denied: requested access to the resource is denied"
        )
    );
    assert_eq!(error.kind(), Kind::NotFound);

    let reader = session(&guarded, "public/b", Credentials::anonymous(), Access::Push).await;
    let error = push_blob(&reader).await.unwrap_err();
    assert_eq!(told(&error), "denied: requested access to the resource is denied");
    assert_eq!(error.kind(), Kind::Forbidden);
}

async fn push_blob(session: &Session) -> Result<Pushed> {
    let bytes = content(1000);
    session.push_blob(&layer(&bytes), None, &source(&bytes)).await
}

#[tokio::test]
async fn an_identity_token_is_exchanged_for_access() {
    let guarded = Guarded::start(Policy::default()).await;
    let credentials = Credentials { identity_token: REFRESH.to_owned(), ..Credentials::default() };
    push_plugin(&session(&guarded, "a/b", credentials, Access::Push).await).await.unwrap();
    assert_eq!(guarded.asked(), ["ann: repository(plugin):a/b:pull,push"]);

    let stale = Credentials { identity_token: "of-yesterday".to_owned(), ..Credentials::default() };
    let error = push_blob(&session(&guarded, "a/b", stale, Access::Push).await).await.unwrap_err();
    assert_eq!(told(&error), "unauthorized: refresh token expired");
}

#[tokio::test]
async fn a_token_that_expired_is_renewed() {
    let guarded = Guarded::start(Policy { expired: 1, ..Policy::default() }).await;
    push_plugin(&session(&guarded, "a/b", ann(), Access::Push).await).await.unwrap();
    assert_eq!(guarded.asked().len(), 2);
    // For ever: that is a refusal, not a loop.
    let guarded = Guarded::start(Policy { expired: usize::MAX, ..Policy::default() }).await;
    let error = push_blob(&session(&guarded, "a/b", ann(), Access::Push).await).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unauthorized, "{error}");
    assert!(guarded.asked().len() <= 4, "{:?}", guarded.asked());
}

#[tokio::test]
async fn a_token_that_expires_during_a_transfer_is_renewed() {
    let bytes = content(100_000);
    let (wanted, whole) = (layer(&bytes), bytes.clone());
    let server = Stub::start(move |request, n| {
        let host = request.header("host").unwrap();
        let token = request.header("authorization").unwrap_or_default().to_owned();
        let challenge = |error: &str| {
            format!("WWW-Authenticate: Bearer realm=\"http://{host}/token\",service=\"s\"{error}")
        };
        if request.line.contains("/token") {
            return Reply::ok(&[], format!("{{\"token\":\"t{n}\"}}"));
        }
        match (token.as_str(), request.header("range")) {
            ("Bearer t1", None) => Reply::head("200 OK", &["Content-Length: 100000"]).and(&whole[..60_000]),
            ("Bearer t4", Some("bytes=60000-")) => Reply::new(
                "206 Partial Content",
                &["Content-Range: bytes 60000-99999/100000"],
                &whole[60_000..],
            ),
            ("", _) => Reply::new("401 Unauthorized", &[&challenge("")], ""),
            _ => Reply::new("401 Unauthorized", &[&challenge(",error=\"invalid_token\"")], ""),
        }
    })
    .await;
    let session = open(&format!("{}/a", server.host), Credentials::anonymous(), Access::Pull).await;
    let download = session.fetch_blob(&wanted, 0).await.unwrap();
    assert_eq!(read(download).await.unwrap(), bytes);
}

#[tokio::test]
async fn an_upload_whose_token_expired_is_sent_again() {
    let bytes = content(200_000);
    let whole = bytes.clone();
    let server = Stub::start(move |request, n| {
        let host = request.header("host").unwrap();
        let challenge =
            format!("WWW-Authenticate: Bearer realm=\"http://{host}/token\",error=\"invalid_token\"");
        match (request.line.split(' ').next().unwrap(), request.header("authorization")) {
            ("GET", _) => Reply::ok(&[], format!("{{\"token\":\"t{n}\"}}")),
            ("POST", Some("Bearer t1")) => Reply::new("202 Accepted", &["Location: 1"], ""),
            ("PUT", Some("Bearer t4")) if request.body == whole => Reply::new("201 Created", &[], ""),
            _ => Reply::new("401 Unauthorized", &[&challenge], ""),
        }
    })
    .await;
    let session = open(&format!("{}/a", server.host), ann(), Access::Push).await;
    session.upload(&layer(&bytes), None, &source(&bytes)).await.unwrap();
    assert_eq!(server.requests().len(), 6, "{:?}", server.lines());
}

#[tokio::test]
async fn layers_fetched_side_by_side_share_a_token() {
    let guarded = Guarded::start(Policy::default()).await;
    push_plugin(&session(&guarded, "a/b", ann(), Access::Push).await).await.unwrap();
    let pull = session(&guarded, "a/b", ann(), Access::Pull).await;
    let (_, [(descriptor, bytes), _]) = plugin();
    let tasks: Vec<_> = (0..3)
        .map(|_| {
            let (session, descriptor) = (pull.clone(), descriptor.clone());
            tokio::spawn(async move { read(session.fetch_blob(&descriptor, 0).await?).await })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap().unwrap(), bytes);
    }
    assert_eq!(guarded.asked()[1..], ["ann: repository(plugin):a/b:pull"]);
}

#[tokio::test]
async fn users_do_not_share() {
    let guarded = Guarded::start(Policy::default()).await;
    push_plugin(&session(&guarded, "a/b", ann(), Access::Push).await).await.unwrap();
    let nobody = session(&guarded, "a/b", Credentials::anonymous(), Access::Pull).await;
    assert!(nobody.resolve(&[MediaType::DockerManifest]).await.is_err());
    let asked = guarded.asked();
    assert!(asked[1..].iter().all(|asked| asked.starts_with("nobody: ")), "{asked:?}");
}

#[tokio::test]
async fn a_mount_asks_to_read_the_other_repository_and_falls_through() {
    let bytes = content(50_000);
    for (only, expected) in [(None, Pushed::Mounted), (Some("a/new"), Pushed::Uploaded)] {
        let guarded = Guarded::start(Policy { only, ..Policy::default() }).await;
        if only.is_none() {
            let from = session(&guarded, "a/old", ann(), Access::Push).await;
            from.push_blob(&layer(&bytes), None, &source(&bytes)).await.unwrap();
        }
        let old = reference(&format!("{}/a/old", guarded.registry.host));
        let to = session(&guarded, "a/new", ann(), Access::Push).await;
        assert_eq!(to.push_blob(&layer(&bytes), Some(&old), &source(&bytes)).await.unwrap(), expected);
        let both = "ann: repository(plugin):a/new:pull,push repository(plugin):a/old:pull".to_owned();
        assert!(guarded.asked().contains(&both), "{:?}", guarded.asked());
    }
}

#[tokio::test]
async fn logging_in_gives_a_refresh_token() {
    let guarded = Guarded::start(Policy::default()).await;
    let hosts = Arc::new(Hosts::default());
    let done = login(Arc::clone(&hosts), &guarded.registry.host, &ann()).await.unwrap();
    assert_eq!((done.status, done.identity_token.as_str()), ("Login Succeeded", REFRESH));
    assert!(guarded.server.lines()[0].contains("offline_token=true&client_id=docker&account=ann"));

    let identity = Credentials { identity_token: done.identity_token, ..Credentials::default() };
    assert_eq!(
        login(Arc::clone(&hosts), &guarded.registry.host, &identity).await.unwrap().identity_token,
        REFRESH
    );

    let wrong = Credentials { password: "wrong-password".to_owned(), ..ann() };
    let error = login(hosts, &guarded.registry.host, &wrong).await.unwrap_err();
    // The server echoed the password; we do not.
    assert_eq!(told(&error), "unauthorized: incorrect username or password ***");
    assert_eq!(error.kind(), Kind::Unauthorized);
}

#[tokio::test]
async fn a_registry_token_goes_as_it_is() {
    let server = Stub::start(|request, _| match request.header("authorization") {
        Some("Bearer given") => Reply::ok(&[], "{}"),
        Some(_) => Reply::new("403 Forbidden", &[], ""),
        None => {
            Reply::new("401 Unauthorized", &["WWW-Authenticate: Bearer realm=\"http://127.0.0.1:1/t\""], "")
        }
    })
    .await;
    let given = Credentials { registry_token: "given".to_owned(), ..Credentials::default() };
    let session = open(&format!("{}/a", server.host), given, Access::Pull).await;
    session.resolve(&[]).await.unwrap();
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn the_password_goes_to_no_token_server_in_the_clear_from_tls() {
    // Loopback is insecure by default; where it is not, the way from TLS into the clear is closed.
    let authority = process::Authority::new();
    let (certificate, key) = authority.sign(&["127.0.0.1"]);
    let server = Stub::start(|_, _| Reply::ok(&[], "{\"token\":\"t\"}")).await;
    let setup = process::Setup {
        tls: Some(process::ServerTls { certificate, key, clients: None }),
        tokens: Some((format!("http://{}/token", server.host), authority.certificate())),
        ..process::Setup::default()
    };
    let registry = process::Registry::start(&setup);
    let hosts = real::hosts_trusting(&registry.host, &[("ca.crt", &authority.certificate())]);
    let session = open_on(hosts.0, &format!("{}/a", registry.host), ann(), Access::Pull, pace()).await;
    let error = session.resolve(&[]).await.unwrap_err();
    assert!(
        told(&error).contains("it leads from https to http, where credentials do not go"),
        "{}",
        told(&error)
    );
    assert!(!told(&error).contains(PASSWORD));
    assert_eq!(server.lines(), Vec::<String>::new());
}
