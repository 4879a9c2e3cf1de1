//! Transfers that break, with a real registry at the other end of the wire.

use std::sync::Mutex;

use super::cutter::{Cutter, Way};
use super::process::Registry;
use super::stub::{Reply, Stub};
use super::*;

const SIZE: usize = 3_000_000;

/// A registry that has a blob, and the blob.
async fn with_blob() -> (Registry, Bytes) {
    let (registry, bytes) = (Registry::open(), content(SIZE));
    let push = open(&format!("{}/a", registry.host), Credentials::anonymous(), Access::Push).await;
    push.upload(&layer(&bytes), None, &source(&bytes)).await.unwrap();
    (registry, bytes)
}

#[tokio::test]
async fn a_download_goes_on_where_it_broke() {
    let (registry, bytes) = with_blob().await;
    let cutter = Cutter::start(&registry.host, Way::Down, 700_000, 4).await;
    let session = open(&format!("{}/a", cutter.host), Credentials::anonymous(), Access::Pull).await;
    let mut download = session.fetch_blob(&layer(&bytes), 0).await.unwrap();
    let mut got = Vec::new();
    while let Some(chunk) = download.chunk().await.unwrap() {
        got.extend_from_slice(&chunk);
        assert_eq!(download.offset(), u64::try_from(got.len()).unwrap());
    }
    assert_eq!(Digest::of(&got), layer(&bytes).digest);
    assert_eq!(cutter.left(), 0);
}

#[tokio::test]
async fn a_download_that_breaks_for_ever_ends() {
    let (registry, bytes) = with_blob().await;
    let cutter = Cutter::start(&registry.host, Way::Down, 20_000, usize::MAX).await;
    let session = open(&format!("{}/a", cutter.host), Credentials::anonymous(), Access::Pull).await;
    let error = read(session.fetch_blob(&layer(&bytes), 0).await.unwrap()).await.unwrap_err();
    assert!(matches!(error, Error::Broken { size_bytes: 3_000_000, .. }), "{}", told(&error));
}

/// Sources that write down from where they were opened.
fn counted(bytes: &Bytes) -> (impl Source, Arc<Mutex<Vec<u64>>>) {
    let offsets = Arc::new(Mutex::new(Vec::new()));
    let (opened, seen) = (source(bytes), Arc::clone(&offsets));
    let counted = move |offset| {
        seen.lock().unwrap().push(offset);
        opened(offset)
    };
    (counted, offsets)
}

#[tokio::test]
async fn an_upload_that_broke_begins_again_where_it_cannot_go_on() {
    // docker-registry forgets an upload that broke within a request.
    let registry = Registry::open();
    let bytes = content(SIZE);
    let cutter = Cutter::start(&registry.host, Way::Up, 900_000, 2).await;
    let session = open(&format!("{}/a", cutter.host), Credentials::anonymous(), Access::Push).await;
    let (source, offsets) = counted(&bytes);
    assert_eq!(session.push_blob(&layer(&bytes), None, &source).await.unwrap(), Pushed::Uploaded);
    assert_eq!(cutter.left(), 0);
    assert_eq!(*offsets.lock().unwrap(), [0, 0, 0]);
    let pull = open(&format!("{}/a", registry.host), Credentials::anonymous(), Access::Pull).await;
    assert_eq!(read(pull.fetch_blob(&layer(&bytes), 0).await.unwrap()).await.unwrap(), bytes);
}

#[tokio::test]
async fn an_upload_goes_on_where_the_registry_says_it_is() {
    let bytes = content(400_000);
    let (wanted, whole) = (layer(&bytes), bytes.clone());
    let got = Mutex::new(Vec::new());
    let server = Stub::start_reading(200_000, move |request, n| {
        let mut got = got.lock().unwrap();
        match (request.line.split(' ').next().unwrap(), n) {
            ("POST", _) => Reply::new("202 Accepted", &["Location: /v2/a/blobs/uploads/1?state=1"], ""),
            ("PUT", 1) => {
                got.extend_from_slice(&request.body);
                Reply::hang_up()
            }
            ("GET", 2) => {
                assert_eq!(request.line, "GET /v2/a/blobs/uploads/1?state=1");
                let range = format!("Range: 0-{}", got.len() - 1);
                Reply::new("204 No Content", &["Location: /v2/a/blobs/uploads/1?state=2", &range], "")
            }
            ("PUT", 3) => {
                assert_eq!(
                    request.line,
                    format!("PUT /v2/a/blobs/uploads/1?state=2&digest={}", wanted.digest)
                        .replace("256:", "256%3A")
                );
                assert_eq!(request.header("content-range").unwrap(), format!("{}-399999", got.len()));
                got.extend_from_slice(&request.body);
                assert_eq!(*got, whole);
                Reply::new("201 Created", &[], "")
            }
            _ => panic!("{}", request.line),
        }
    })
    .await;
    let session = open(&format!("{}/a", server.host), Credentials::anonymous(), Access::Push).await;
    let (source, offsets) = counted(&bytes);
    session.upload(&layer(&bytes), None, &source).await.unwrap();
    let offsets = offsets.lock().unwrap().clone();
    assert!(offsets.len() == 2 && offsets[0] == 0 && offsets[1] >= 200_000, "{offsets:?}");
}

#[tokio::test]
async fn an_upload_that_breaks_for_ever_ends() {
    let bytes = content(400_000);
    let server = Stub::start_reading(1000, |request, _| {
        let begun = Reply::new("202 Accepted", &["Location: 1"], "");
        if request.line.starts_with("POST") { begun } else { Reply::hang_up() }
    })
    .await;
    let session = open(&format!("{}/a", server.host), Credentials::anonymous(), Access::Push).await;
    let error = session.upload(&layer(&bytes), None, &source(&bytes)).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{}", told(&error));
    assert!(told(&error).starts_with("Put \"http://127.0.0.1:"), "{}", told(&error));
}
