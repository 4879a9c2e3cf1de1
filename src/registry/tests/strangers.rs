//! What a host that is not the registry never gets: credentials, by redirect, challenge, mirror or Location.

use super::bad_input::{TEN, pull, push};
use super::stub::{Reply, Stub};
use super::*;

#[tokio::test]
async fn a_redirect_takes_no_credentials_elsewhere() {
    let storage = Stub::start(|_, _| Reply::ok(&[], TEN)).await;
    let elsewhere = format!("Location: http://{}/blob?signature=x", storage.host);
    let stub =
        Stub::start(move |request, _| match (request.header("authorization"), request.line.as_str()) {
            (None, _) => Reply::new("401 Unauthorized", &["WWW-Authenticate: Basic realm=x"], ""),
            (Some(_), "GET /here" | "HEAD /here") => Reply::new("302 Found", &[&elsewhere], ""),
            (Some(_), _) => Reply::new("307 Temporary Redirect", &["Location: /here"], ""),
        })
        .await;
    let session = pull(&stub, ann()).await;
    assert_eq!(read(session.fetch_blob(&layer(TEN), 0).await.unwrap()).await.unwrap(), TEN);
    // To the same registry they go, to the storage they do not.
    assert!(stub.requests()[2].line == "GET /here" && stub.requests()[2].header("authorization").is_some());
    let [request] = &storage.requests()[..] else { panic!("{:?}", storage.lines()) };
    assert_eq!((request.line.as_str(), request.header("authorization")), ("GET /blob?signature=x", None));
    assert!(session.blob_exists(&layer(TEN)).await.unwrap());
}

#[tokio::test]
async fn a_stranger_cannot_ask_for_credentials() {
    let stranger = Stub::start(|_, _| {
        let words = r#"{"errors":[{"code":"DENIED","message":"call 555-1234 for access"}]}"#;
        Reply::new("401 Unauthorized", &["WWW-Authenticate: Basic realm=x"], words)
    })
    .await;
    let elsewhere = format!("Location: http://{}/x?signature=TOP-SECRET", stranger.host);
    let stub = Stub::start(move |request, _| match request.header("authorization") {
        None => Reply::new("401 Unauthorized", &["WWW-Authenticate: Basic realm=x"], ""),
        Some(_) => Reply::new("307 Temporary Redirect", &[&elsewhere], ""),
    })
    .await;
    let error = pull(&stub, ann()).await.fetch_blob(&layer(TEN), 0).await.unwrap_err();
    assert_eq!(told(&error), "unauthorized: authentication required");
    assert_eq!(stranger.requests().len(), 1);
    assert!(!push(&stub).await.blob_exists(&layer(TEN)).await.unwrap());
    assert!(stranger.requests().iter().all(|request| request.header("authorization").is_none()));
}

#[tokio::test]
async fn a_stranger_cannot_send_us_to_its_token_server() {
    let stranger = Stub::start(|request, _| {
        let challenge =
            format!("WWW-Authenticate: Bearer realm=\"http://{}/token\"", request.header("host").unwrap());
        Reply::new("401 Unauthorized", &[&challenge], "")
    })
    .await;
    let elsewhere = format!("Location: http://{}/x", stranger.host);
    let stub = Stub::start(move |_, _| Reply::new("307 Temporary Redirect", &[&elsewhere], "")).await;
    pull(&stub, ann()).await.fetch_blob(&layer(TEN), 0).await.unwrap_err();
    let begun = format!("Location: http://{}/y", stranger.host);
    let stub = Stub::start(move |_, _| Reply::new("202 Accepted", &[&begun], "")).await;
    push(&stub).await.upload(&layer(TEN), None, &source(&Bytes::from_static(TEN))).await.unwrap_err();
    let digest = layer(TEN).digest.to_string().replace(':', "%3A");
    assert_eq!(stranger.lines(), ["GET /x".to_owned(), format!("PUT /y?digest={digest}")]);
}

#[tokio::test]
async fn a_mirror_does_not_get_to_see_who_asks() {
    let mirror = Stub::start(|request, _| match request.header("authorization") {
        None => Reply::new("401 Unauthorized", &["WWW-Authenticate: Basic realm=x"], ""),
        Some(_) => Reply::ok(&[], "{}"),
    })
    .await;
    let origin = Stub::start(|_, _| Reply::ok(&[], "{\"of\":\"the origin\"}")).await;
    let hosts =
        Hosts::new(&[], &[format!("http://{}", mirror.host)]).unwrap().with_docker_io(origin.host.clone());
    let session = open_on(hosts, "a/b:1", ann(), Access::Pull, pace()).await;
    assert_eq!(session.resolve(&MANIFEST_TYPES).await.unwrap().bytes, b"{\"of\":\"the origin\"}");
    assert_eq!(mirror.lines(), ["GET /v2/a/b/manifests/1"]);
    assert_eq!(mirror.requests()[0].header("authorization"), None);
}

#[tokio::test]
async fn an_upload_goes_where_the_location_says_without_credentials() {
    let storage = Stub::start(|_, _| Reply::new("201 Created", &[], "")).await;
    let elsewhere = format!("Location: http://{}/put?a=b%2Fc", storage.host);
    let stub = Stub::start(move |request, _| match request.header("authorization") {
        None => Reply::new("401 Unauthorized", &["WWW-Authenticate: Basic realm=x"], ""),
        Some(_) => Reply::new("202 Accepted", &[&elsewhere], ""),
    })
    .await;
    let bytes = content(100_000);
    let wanted = layer(&bytes);
    push(&stub).await.upload(&wanted, None, &source(&bytes)).await.unwrap();
    let [request] = &storage.requests()[..] else { panic!("{:?}", storage.lines()) };
    let digest = wanted.digest.to_string().replace(':', "%3A");
    assert_eq!(request.line, format!("PUT /put?a=b%2Fc&digest={digest}"));
    assert_eq!((request.header("authorization"), &request.body[..]), (None, &bytes[..]));
    assert_eq!(request.header("content-length"), Some("100000"));

    for location in
        ["Location: ", "Location: http://[", "Location: two words", "X-Nothing: 1", "Location: file:///x"]
    {
        let stub = Stub::start(move |_, _| Reply::new("202 Accepted", &[location], "")).await;
        let error = push(&stub).await.upload(&wanted, None, &source(&bytes)).await.unwrap_err();
        assert!(matches!(error, Error::Location { .. }), "{}", told(&error));
        assert!(matches!(
            push(&stub).await.mount(&wanted.digest, &reference("b")).await,
            Err(Error::Location { .. })
        ));
    }
}
