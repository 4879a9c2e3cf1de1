//! Registries that lie, garble, stall, never end, or send us elsewhere.

use super::stub::{Reply, Stub};
use super::*;
use crate::error::{Classified as _, Kind};

pub(super) async fn pull(stub: &Stub, credentials: Credentials) -> Session {
    open(&format!("{}/a", stub.host), credentials, Access::Pull).await
}

pub(super) async fn push(stub: &Stub) -> Session {
    open(&format!("{}/a", stub.host), ann(), Access::Push).await
}

/// What resolving makes of this answer.
async fn resolve(reply: Reply) -> Result<Resolved> {
    let stub = Stub::start(move |_, _| reply.clone()).await;
    pull(&stub, Credentials::anonymous()).await.resolve(&[MediaType::DockerManifest]).await
}

/// What fetching ten known bytes makes of these answers, of which the last is repeated.
async fn fetch(replies: &[Reply], pace: Pace) -> (Result<Vec<u8>>, Stub) {
    let replies = replies.to_vec();
    let stub = Stub::start(move |_, n| replies[n.min(replies.len() - 1)].clone()).await;
    let name = format!("{}/a", stub.host);
    let session = open_on(Hosts::default(), &name, ann(), Access::Pull, pace).await;
    let fetched = async { read(session.fetch_blob(&layer(TEN), 0).await?).await }.await;
    (fetched, stub)
}

pub(super) const TEN: &[u8] = b"0123456789";

#[tokio::test]
async fn a_manifest_is_what_it_is_called_or_refused() {
    let body = br#"{"schemaVersion":2}"#;
    let (right, wrong) = (Digest::of(body), Digest::of(b"else"));
    let announce = |digest: &str| Reply::ok(&[&format!("Docker-Content-Digest: {digest}")], body);
    assert_eq!(resolve(announce(&right.to_string())).await.unwrap().bytes, body);
    assert_eq!(resolve(announce("sha512:00")).await.unwrap().bytes, body);
    let error = resolve(announce(&wrong.to_string())).await.unwrap_err();
    assert!(
        matches!(error, Error::DigestMismatch { got, expected, .. } if got == right && expected == wrong)
    );
    let error = resolve(announce("sha256:../../etc/passwd")).await.unwrap_err();
    assert!(
        told(&error).starts_with("\"sha256:../../etc/passwd\" in header not a valid digest"),
        "{}",
        told(&error)
    );

    let stub = Stub::start(move |_, _| Reply::ok(&[], body)).await;
    let by_digest = open(&format!("{}/a@{wrong}", stub.host), ann(), Access::Pull).await;
    let error = by_digest.resolve(&[]).await.unwrap_err();
    assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
    assert_eq!(stub.lines(), [format!("GET /v2/a/manifests/{wrong}")]);
}

#[tokio::test]
async fn a_manifest_over_the_limit_is_not_read() {
    let announced = Reply::head("200 OK", &["Content-Length: 4194305"]).and_hang();
    let endless =
        Reply::head("200 OK", &["Transfer-Encoding: chunked"]).and_forever(&chunk(&vec![b' '; 65536]));
    for reply in [announced, endless] {
        let error = resolve(reply).await.unwrap_err();
        assert!(matches!(error, Error::TooLarge { limit_bytes: 4_194_304, .. }), "{}", told(&error));
    }
    assert_eq!(resolve(Reply::ok(&[], vec![b' '; 4_194_304])).await.unwrap().bytes.len(), 4_194_304);
}

/// One chunk of the chunked encoding.
fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

#[tokio::test]
async fn a_blob_never_exceeds_its_descriptor() {
    let announced = Reply::ok(&[], b"0123456789-");
    let short = Reply::ok(&[], b"012345678");
    let endless = Reply::head("200 OK", &["Transfer-Encoding: chunked"]).and_forever(&chunk(b"0123456"));
    for reply in [announced, short, endless] {
        let error = fetch(&[reply], pace()).await.0.unwrap_err();
        assert!(matches!(error, Error::Size { expected_bytes: 10, .. }), "{}", told(&error));
    }
    let in_pieces =
        Reply::head("200 OK", &["Transfer-Encoding: chunked"]).and(&chunk(b"01234")).and(&chunk(b"56789"));
    assert_eq!(fetch(&[in_pieces.and(b"0\r\n\r\n")], pace()).await.0.unwrap(), TEN);
}

#[tokio::test]
async fn a_blob_that_broke_goes_on_as_the_registry_can() {
    let cut = Reply::head("200 OK", &["Content-Length: 10"]).and(b"0123");
    let partial =
        |range: &str| Reply::new("206 Partial Content", &[&format!("Content-Range: {range}")], b"456789");
    let whole = Reply::ok(&[], TEN);
    let not_satisfiable = Reply::new("416 Range Not Satisfiable", &["Content-Range: bytes */10"], "");
    let table = [
        vec![cut.clone(), partial("bytes 4-9/10")],
        vec![cut.clone(), partial("bytes 4-9/*")],
        // Range is ignored: the start is passed over.
        vec![cut.clone(), whole.clone()],
        vec![cut.clone(), Reply::hang_up(), cut.clone(), whole.clone()],
        vec![cut.clone(), not_satisfiable, whole.clone()],
        vec![Reply::hang_up(), whole.clone()],
        vec![Reply::new("503 Service Unavailable", &["Retry-After: 0"], ""), whole.clone()],
    ];
    for replies in table {
        let (fetched, stub) = fetch(&replies, pace()).await;
        assert_eq!(fetched.unwrap(), TEN, "{replies:?}");
        assert!(
            stub.requests().iter().all(|request| matches!(request.header("range"), None | Some("bytes=4-")))
        );
    }
    for range in ["bytes 3-9/10", "bytes 5-9/10", "bytes */10", "4-9", "", "bytes 4-9/11"] {
        let error = fetch(&[cut.clone(), partial(range)], pace()).await.0.unwrap_err();
        assert!(
            matches!(error, Error::Range { offset: 4, .. } | Error::Size { got_bytes: 11, .. }),
            "{}",
            told(&error)
        );
    }
    let (fetched, stub) = fetch(&[cut], pace()).await;
    assert!(matches!(fetched.unwrap_err(), Error::Broken { offset: 4, .. } | Error::Size { .. }));
    assert!(stub.requests().len() < 10, "{:?}", stub.lines());
}

#[tokio::test]
async fn a_registry_that_goes_silent_is_given_up() {
    let stub = Stub::start(|_, _| Reply::silence()).await;
    let session =
        open_on(Hosts::default(), &format!("{}/a", stub.host), ann(), Access::Pull, impatient()).await;
    let error = session.resolve(&[]).await.unwrap_err();
    assert!(matches!(error, Error::Stalled { phase: "it was to answer", .. }), "{}", told(&error));

    let midway = Reply::head("200 OK", &["Content-Length: 10"]).and(b"0123").and_hang();
    let error = fetch(&[midway], impatient()).await.0.unwrap_err();
    assert!(matches!(error, Error::Stalled { phase: "its answer was on the way", .. }), "{}", told(&error));
}

#[tokio::test]
async fn a_registry_that_takes_nothing_is_given_up() {
    let bytes = content(20_000_000);
    let stub = Stub::start_reading(0, |request, _| match request.line.split(' ').next() {
        Some("POST") => Reply::new("202 Accepted", &["Location: 1"], ""),
        Some("GET") => Reply::new("404 Not Found", &[], ""),
        _ => Reply::silence(),
    })
    .await;
    let name = format!("{}/a", stub.host);
    let session = open_on(Hosts::default(), &name, ann(), Access::Push, impatient()).await;
    for bytes in [bytes, content(10)] {
        let error = session.upload(&layer(&bytes), None, &source(&bytes)).await.unwrap_err();
        assert!(matches!(error, Error::Stalled { .. }), "{}", told(&error));
    }
}

#[tokio::test]
async fn a_registry_that_cannot_mount_gets_an_upload() {
    for status in ["400 Bad Request", "404 Not Found", "405 Method Not Allowed", "401 Unauthorized"] {
        let stub = Stub::start(move |request, _| match request.line.split(['?', ' ']).nth(1) {
            _ if request.line.starts_with("HEAD") => Reply::head("404 Not Found", &[]),
            _ if request.line.contains("mount=") => {
                Reply::new(status, &["WWW-Authenticate: Basic realm=x"], "")
            }
            Some("/v2/a/blobs/uploads/") => Reply::new("202 Accepted", &["Location: 1"], ""),
            _ => Reply::new("201 Created", &[], ""),
        })
        .await;
        let from = reference(&format!("{}/b", stub.host));
        let bytes = Bytes::from_static(TEN);
        let pushed = push(&stub).await.push_blob(&layer(TEN), Some(&from), &source(&bytes)).await.unwrap();
        assert_eq!(pushed, Pushed::Uploaded, "{status}");
    }
}

#[tokio::test]
async fn redirects_end() {
    for location in ["Location: /again", "Location: ftp://a/b", "Location: http://{}", "X-Nothing: 1"] {
        let stub = Stub::start(move |_, _| Reply::new("302 Found", &[location], "")).await;
        let error = pull(&stub, ann()).await.fetch_blob(&layer(TEN), 0).await.unwrap_err();
        assert!(matches!(error, Error::Location { .. }), "{}", told(&error));
        assert!(stub.requests().len() <= 6, "{:?}", stub.lines());
    }
}

#[tokio::test]
async fn a_garbled_challenge_is_told() {
    for challenge in ["Bearer", "Negotiate abc", "=\"{", "Bearer realm=\"never closed", "Digest realm=x"] {
        let header = format!("WWW-Authenticate: {challenge}");
        let error = resolve(Reply::new("401 Unauthorized", &[&header], "")).await.unwrap_err();
        assert!(told(&error).contains("with a challenge that is not understood"), "{}", told(&error));
    }
    for (realm, reason) in
        [("nowhere", "it is no URL"), ("ftp://a/t", "expected http or https"), ("http://u:p@a/", "user name")]
    {
        let header = format!("WWW-Authenticate: Bearer realm=\"{realm}\"");
        let error = resolve(Reply::new("401 Unauthorized", &[&header], "")).await.unwrap_err();
        assert!(told(&error).contains(reason) && !told(&error).contains("u:p"), "{}", told(&error));
    }
}

#[tokio::test]
async fn token_servers_may_be_bad_too() {
    let huge = format!("{{\"token\":\"{}\"}}", "x".repeat(300_000));
    let table = [
        (Reply::ok(&[], "<html>"), "its answer is no JSON"),
        (Reply::ok(&[], "{}"), "its answer did not include a token"),
        (Reply::ok(&[], huge), "is larger than 262144 bytes"),
        (
            Reply::new("500 Internal Server Error", &["Retry-After: 3600"], "boom"),
            ": received unexpected HTTP status: 500",
        ),
        (Reply::new("403 Forbidden", &[], ""), "denied: requested access to the resource is denied"),
    ];
    for (reply, words) in table {
        let stub = Stub::start(move |request, _| {
            let challenge = format!(
                "WWW-Authenticate: Bearer realm=\"http://{}/token\"",
                request.header("host").unwrap()
            );
            if request.line.contains("/token") {
                reply.clone()
            } else {
                Reply::new("401 Unauthorized", &[&challenge], "")
            }
        })
        .await;
        let error = pull(&stub, ann()).await.resolve(&[]).await.unwrap_err();
        assert!(told(&error).contains(words), "{}", told(&error));
    }
}

#[tokio::test]
async fn a_registry_that_never_agrees_is_not_asked_for_ever() {
    for challenge in [
        "Basic realm=x",
        "Bearer realm=\"http://HOST/token\"",
        "Bearer realm=\"http://HOST/token\",error=\"invalid_token\"",
    ] {
        let stub = Stub::start(move |request, _| {
            let challenge = challenge.replace("HOST", request.header("host").unwrap());
            if request.line.contains("/token") {
                return Reply::ok(&[], "{\"token\":\"always-the-same\"}");
            }
            let echo = format!(
                "{{\"errors\":[{{\"code\":\"UNAUTHORIZED\",\"message\":\"no: {}\"}}]}}",
                request.header("authorization").unwrap_or("-")
            );
            Reply::new("401 Unauthorized", &[&format!("WWW-Authenticate: {challenge}")], echo)
        })
        .await;
        let error = pull(&stub, ann()).await.resolve(&[]).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Unauthorized);
        assert!(!told(&error).contains("always-the-same"), "{}", told(&error));
        assert!(!told(&error).contains(ann().basic().trim_start_matches("Basic ")), "{}", told(&error));
        assert!(stub.requests().len() <= 10, "{:?}", stub.lines());
    }
}

#[tokio::test]
async fn a_busy_registry_is_asked_again_within_reason() {
    let ok = Reply::ok(&[], "{}");
    let busy = |after: &str| Reply::new("429 Too Many Requests", &[after], "");
    let broken = Reply::new("502 Bad Gateway", &[], "");
    for replies in [
        vec![busy("Retry-After: 0"), ok.clone()],
        vec![broken.clone(), busy("X: 1"), broken.clone(), ok.clone()],
    ] {
        let expected = replies.len();
        let stub = Stub::start(move |_, n| replies[n].clone()).await;
        pull(&stub, ann()).await.resolve(&[]).await.unwrap();
        assert_eq!(stub.requests().len(), expected);
    }
    for (reply, requests, words) in [
        (busy("Retry-After: 3600"), 1, "toomanyrequests: too many requests"),
        (busy("Retry-After: 0"), 5, "toomanyrequests: too many requests"),
        (broken, 5, "received unexpected HTTP status: 502 Bad Gateway"),
        (
            Reply::new("501 Not Implemented", &[], ""),
            1,
            "received unexpected HTTP status: 501 Not Implemented",
        ),
    ] {
        let stub = Stub::start(move |_, _| reply.clone()).await;
        let error = pull(&stub, ann()).await.resolve(&[]).await.unwrap_err();
        assert_eq!(told(&error), words);
        assert_eq!(stub.requests().len(), requests);
    }
}

#[tokio::test]
async fn a_manifest_that_arrives_as_another_is_told() {
    let wrong = format!("Docker-Content-Digest: {}", Digest::of(b"else"));
    let stub = Stub::start(move |_, _| Reply::new("201 Created", &[&wrong], "")).await;
    let error = push(&stub).await.put_manifest(plugin().0, &MediaType::DockerManifest).await.unwrap_err();
    assert!(matches!(error, Error::DigestMismatch { .. }), "{}", told(&error));
    let [request] = &stub.requests()[..] else { panic!("{:?}", stub.lines()) };
    assert_eq!(request.line, "PUT /v2/a/manifests/latest");
    assert_eq!(request.header("content-type"), Some(MediaType::DockerManifest.as_str()));
    assert_eq!(request.body, plugin().0);
}

#[tokio::test]
async fn letting_go_of_a_download_closes_it() {
    let (closed, told) = tokio::sync::oneshot::channel::<()>();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut first = [0; 1];
            stream.read_exact(&mut first).await.unwrap();
            if first != *b"G" {
                continue;
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123").await.unwrap();
            // Ends when the other side does.
            let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
            closed.send(()).unwrap();
            return;
        }
    });
    let session = open(&format!("{host}/a"), Credentials::anonymous(), Access::Pull).await;
    let mut download = session.fetch_blob(&layer(TEN), 0).await.unwrap();
    assert_eq!(download.chunk().await.unwrap().unwrap(), &TEN[..4]);
    drop(download);
    told.await.unwrap();
    server.await.unwrap();
}
