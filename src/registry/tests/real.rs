//! Real registries, open and behind a password and TLS: what goes in comes out, and what dockerd says we say.

use tempfile::TempDir;

use super::process::{Authority, PASSWORD, Registry, ServerTls, Setup};
use super::*;
use crate::error::{Classified as _, Kind};

/// Hosts that trust nobody but by these files of `certs.d/<host>/`.
pub(super) fn hosts_trusting(host: &str, files: &[(&str, &str)]) -> (Hosts, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let own = directory.path().join(host);
    std::fs::create_dir(&own).unwrap();
    for (name, text) in files {
        std::fs::write(own.join(name), text).unwrap();
    }
    let directories = vec!["/nonexistent".into(), directory.path().to_owned()];
    (Hosts::default().distrustful().with_certificate_directories(directories), directory)
}

async fn session(registry: &Registry, path: &str, access: Access) -> Session {
    open(&format!("{}/{path}", registry.host), Credentials::anonymous(), access).await
}

#[tokio::test]
async fn what_goes_in_comes_out() {
    let registry = Registry::open();
    let push = session(&registry, "a/b:1.0", Access::Push).await;
    let (manifest, [(config, _), (rootfs, bytes)]) = plugin();
    assert!(!push.blob_exists(&rootfs).await.unwrap());
    let digest = push_plugin(&push).await.unwrap();
    assert!(push.blob_exists(&rootfs).await.unwrap());
    let again = push.push_blob(&rootfs, None, &|_| panic!("it is there")).await.unwrap();
    assert_eq!(again, Pushed::Existed);

    pull_plugin(&session(&registry, "a/b:1.0", Access::Pull).await).await.unwrap();
    let by_digest = session(&registry, &format!("a/b@{digest}"), Access::Pull).await;
    pull_plugin(&by_digest).await.unwrap();
    let resolved = by_digest.manifest(&descriptor(&manifest, MediaType::DockerManifest)).await.unwrap();
    assert_eq!(resolved.bytes, manifest);
    let rest = by_digest.fetch_blob(&rootfs, 299_999).await.unwrap();
    assert_eq!(read(rest).await.unwrap(), bytes[299_999..]);
    assert_eq!(read(by_digest.fetch_blob(&rootfs, 300_000).await.unwrap()).await.unwrap(), b"");
    assert_eq!(by_digest.fetch_whole(&config, 4096).await.unwrap(), plugin().1[0].1);
    assert!(matches!(by_digest.fetch_whole(&rootfs, 4096).await, Err(Error::TooLarge { .. })));
    // By stream, and let go in the middle.
    let mut stream = std::pin::pin!(by_digest.fetch_blob(&rootfs, 0).await.unwrap().into_stream());
    assert!(stream.next().await.unwrap().unwrap().len() < bytes.len());
}

#[tokio::test]
async fn what_is_not_there_is_told_in_dockerds_words() {
    let registry = Registry::open();
    let host = &registry.host;
    let none = session(&registry, "a/b", Access::Pull).await;
    let error = none.resolve(&[MediaType::DockerManifest]).await.unwrap_err();
    assert_eq!(
        told(&error),
        format!("manifest for {host}/a/b not found: manifest unknown: manifest unknown")
    );
    assert_eq!(error.kind(), Kind::NotFound);
    let error = none.fetch_blob(&layer(b"none"), 0).await.unwrap_err();
    assert!(matches!(error, Error::BlobUnknown { .. }), "{error}");

    let manifest = plugin().0;
    let error = none.put_manifest(manifest, &MediaType::DockerManifest).await.unwrap_err();
    assert!(told(&error).contains("blob unknown to registry"), "{}", told(&error));

    let nobody = open("127.0.0.1:1/a/b", Credentials::anonymous(), Access::Pull).await;
    let error = nobody.resolve(&[]).await.unwrap_err();
    assert!(
        told(&error).starts_with("Get \"https://127.0.0.1:1/v2/a/b/manifests/latest\": "),
        "{}",
        told(&error)
    );
    assert!(told(&error).contains("Connection refused"), "{}", told(&error));
}

#[tokio::test]
async fn a_blob_is_taken_from_another_repository_or_uploaded() {
    let registry = Registry::open();
    let bytes = content(70_000);
    let (wanted, source) = (layer(&bytes), source(&bytes));
    let named = |path: &str| reference(&format!("{}/{path}", registry.host));
    let first = session(&registry, "a/first", Access::Push).await;
    // There is nothing to be taken yet: the upload that the registry began instead is used.
    assert_eq!(first.push_blob(&wanted, Some(&named("a/none")), &source).await.unwrap(), Pushed::Uploaded);
    assert!(!registry.has_uploads("a/first"));
    let second = session(&registry, "a/second", Access::Push).await;
    assert_eq!(second.push_blob(&wanted, Some(&named("a/first")), &source).await.unwrap(), Pushed::Mounted);
    assert!(second.blob_exists(&wanted).await.unwrap());
    // Of another registry nothing can be mounted; it is not even asked.
    let fourth = session(&registry, "a/fourth", Access::Push).await;
    let strange = reference("elsewhere.example/a/first");
    assert_eq!(fourth.push_blob(&wanted, Some(&strange), &source).await.unwrap(), Pushed::Uploaded);
    let empty = Bytes::new();
    let third = session(&registry, "a/third", Access::Push).await;
    assert_eq!(
        third.push_blob(&layer(&empty), None, &super::source(&empty)).await.unwrap(),
        Pushed::Uploaded
    );
}

#[tokio::test]
async fn content_that_is_not_what_it_is_called_is_refused() {
    let registry = Registry::open();
    let session = session(&registry, "a/b", Access::Push).await;
    let (bytes, other) = (content(5000), Bytes::from(vec![0; 5000]));
    let error = session.upload(&layer(&bytes), None, &source(&other)).await.unwrap_err();
    assert!(told(&error).contains("digest invalid"), "{}", told(&error));
    for wrong in [content(4999), content(5001)] {
        let error = session.upload(&layer(&bytes), None, &source(&wrong)).await.unwrap_err();
        assert!(matches!(error, Error::Source { .. }), "{}", told(&error));
        assert!(told(&error).contains("5000"), "{}", told(&error));
    }
    let unreadable = |_| futures_util::stream::iter([Err(io::Error::other("bad sector"))]).boxed();
    let error = session.upload(&layer(&bytes), None, &unreadable).await.unwrap_err();
    assert!(told(&error).ends_with("to upload it: bad sector"), "{}", told(&error));
}

#[tokio::test]
async fn an_index_leads_to_this_machines_manifest() {
    let registry = Registry::open();
    push_plugin(&session(&registry, "a/b:amd64", Access::Push).await).await.unwrap();
    let manifest = descriptor(&plugin().0, MediaType::DockerManifest);
    let here = Platform::here();
    let index = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": MediaType::OciIndex,
        "manifests": [{
            "mediaType": manifest.media_type, "digest": manifest.digest, "size": manifest.size,
            "platform": { "os": here.os, "architecture": here.architecture },
        }],
    });
    let index = Bytes::from(index.to_string());
    let session = session(&registry, "a/b:all", Access::Push).await;
    session.put_manifest(index.clone(), &MediaType::OciIndex).await.unwrap();
    let accept = [MediaType::DockerManifest, MediaType::OciManifest, MediaType::OciIndex];
    let resolved = session.resolve(&accept).await.unwrap();
    assert_eq!(resolved.descriptor, descriptor(&index, MediaType::OciIndex));
    let chosen = choose(&resolved.bytes, &here, "a/b:all").unwrap();
    assert_eq!(session.manifest(&chosen).await.unwrap().bytes, plugin().0);
    let lying = Descriptor { size: 1, ..chosen };
    assert!(matches!(session.manifest(&lying).await, Err(Error::Size { .. })));
}

#[tokio::test]
async fn a_mirror_goes_first_and_the_origin_behind_it() {
    let (mirror, origin) = (Registry::open(), Registry::open());
    let url = format!("http://{}/", mirror.host);
    let hosts = || Hosts::new(&[], std::slice::from_ref(&url)).unwrap().with_docker_io(origin.host.clone());
    let session = async |name: &str, access| open_on(hosts(), name, ann(), access, pace()).await;
    // Pushing passes the mirror by.
    push_plugin(&session("a/origin", Access::Push).await).await.unwrap();
    pull_plugin(&open(&format!("{}/a/origin", origin.host), ann(), Access::Pull).await).await.unwrap();
    pull_plugin(&session("a/origin", Access::Pull).await).await.unwrap();
    push_plugin(&open(&format!("{}/a/mirror", mirror.host), ann(), Access::Push).await).await.unwrap();
    pull_plugin(&session("a/mirror", Access::Pull).await).await.unwrap();
    let error = session("a/none", Access::Pull).await.resolve(&[]).await.unwrap_err();
    assert_eq!(told(&error), "manifest for a/none not found: manifest unknown: manifest unknown");
    drop(mirror);
    pull_plugin(&session("a/origin", Access::Pull).await).await.unwrap();
}

#[tokio::test]
async fn a_push_can_run_anywhere() {
    let registry = Registry::open();
    let session = session(&registry, "a/b", Access::Push).await;
    let pushed = tokio::spawn(async move { push_plugin(&session).await });
    pushed.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_password_is_demanded_and_taken() {
    let registry = Registry::start(&Setup { htpasswd: true, ..Setup::default() });
    let name = format!("{}/a/b", registry.host);
    push_plugin(&open(&name, ann(), Access::Push).await).await.unwrap();
    pull_plugin(&open(&name, ann(), Access::Pull).await).await.unwrap();

    let error = open(&name, Credentials::anonymous(), Access::Pull).await.resolve(&[]).await.unwrap_err();
    assert_eq!(told(&error), "no basic auth credentials");
    assert_eq!(error.kind(), Kind::Unauthorized);
    let wrong = Credentials { password: "not-it-at-all".to_owned(), ..ann() };
    let error = open(&name, wrong.clone(), Access::Pull).await.resolve(&[]).await.unwrap_err();
    assert_eq!(told(&error), "unauthorized: authentication required");

    let hosts = Arc::new(Hosts::default());
    let done = login(Arc::clone(&hosts), &registry.host, &ann()).await.unwrap();
    assert_eq!(done, Login { status: "Login Succeeded", identity_token: String::new() });
    let error = login(hosts, &format!("http://{}/v1/", registry.host), &wrong).await.unwrap_err();
    let url = format!("http://{}/v2/", registry.host);
    assert_eq!(told(&error), format!("login attempt to {url} failed with status: 401 Unauthorized"));
    assert_eq!(error.kind(), Kind::Unauthorized);
}

#[tokio::test]
async fn a_private_authority_is_believed_where_certs_d_says_so() {
    let authority = Authority::new();
    let (certificate, key) = authority.sign(&["127.0.0.1"]);
    let registry = Registry::start(&Setup {
        htpasswd: true,
        tls: Some(ServerTls { certificate, key, clients: None }),
        tokens: None,
    });
    let name = format!("{}/a/b", registry.host);
    let (hosts, _directory) = hosts_trusting(&registry.host, &[("ca.crt", &authority.certificate())]);
    push_plugin(&open_on(hosts.clone(), &name, ann(), Access::Push, pace()).await).await.unwrap();
    pull_plugin(&open_on(hosts.clone(), &name, ann(), Access::Pull, pace()).await).await.unwrap();
    assert_eq!(login(Arc::new(hosts), &registry.host, &ann()).await.unwrap().status, "Login Succeeded");

    let (strangers, _directory) =
        hosts_trusting(&registry.host, &[("ca.crt", &Authority::new().certificate())]);
    let session = open_on(strangers.clone(), &name, ann(), Access::Pull, pace()).await;
    let error = session.resolve(&[]).await.unwrap_err();
    assert!(told(&error).contains("certificate"), "{}", told(&error));
    assert!(!told(&error).contains(PASSWORD));
    let error = login(Arc::new(strangers), &registry.host, &ann()).await.unwrap_err();
    assert!(told(&error).contains("certificate"), "{}", told(&error));
    // Loopback is insecure by default: any certificate will do, and it is not downgraded.
    pull_plugin(&open(&name, ann(), Access::Pull).await).await.unwrap();

    let (half, _directory) = hosts_trusting(&registry.host, &[("client.key", "")]);
    let error = open_on(half, &name, ann(), Access::Pull, pace()).await.resolve(&[]).await.unwrap_err();
    assert_eq!(told(&error), "missing client certificate client.cert for key client.key");
}

#[tokio::test]
async fn a_certificate_for_another_name_is_not_believed() {
    let authority = Authority::new();
    let (certificate, key) = authority.sign(&["registry.example"]);
    let registry = Registry::start(&Setup {
        tls: Some(ServerTls { certificate, key, clients: None }),
        ..Setup::default()
    });
    let (hosts, _directory) = hosts_trusting(&registry.host, &[("ca.crt", &authority.certificate())]);
    let session = open_on(hosts, &format!("{}/a", registry.host), ann(), Access::Pull, pace()).await;
    let error = session.resolve(&[]).await.unwrap_err();
    assert!(told(&error).contains("not valid for name"), "{}", told(&error));
}

/// A certificate for `name` that is its own authority, and its key (PEM).
fn self_signed(name: &str, common: &str) -> (String, String) {
    let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, common);
    let key = rcgen::KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

#[tokio::test]
async fn one_self_signed_certificate_for_everything_is_believed() {
    let (own, key) = self_signed("127.0.0.1", "own");
    let (misnamed, misnamed_key) = self_signed("registry.example", "misnamed");
    let (other, _) = self_signed("127.0.0.1", "other");
    for (certificate, key, trusted, believed) in
        [(&own, &key, &own, true), (&own, &key, &other, false), (&misnamed, &misnamed_key, &misnamed, false)]
    {
        let tls = ServerTls { certificate: certificate.clone(), key: key.clone(), clients: None };
        let registry = Registry::start(&Setup { tls: Some(tls), ..Setup::default() });
        let (hosts, _directory) = hosts_trusting(&registry.host, &[("ca.crt", trusted)]);
        let name = format!("{}/a", registry.host);
        let error = open_on(hosts, &name, ann(), Access::Push, pace()).await.resolve(&[]).await.unwrap_err();
        assert_eq!(matches!(error, Error::ManifestUnknown { .. }), believed, "{}", told(&error));
        assert_eq!(matches!(error, Error::Unreachable { .. }), !believed, "{}", told(&error));
    }
}

#[tokio::test]
async fn a_client_certificate_is_shown_where_certs_d_has_one() {
    let authority = Authority::new();
    let (certificate, key) = authority.sign(&["127.0.0.1"]);
    let (client, client_key) = authority.sign(&["a client"]);
    let clients = Some(authority.certificate());
    let registry =
        Registry::start(&Setup { tls: Some(ServerTls { certificate, key, clients }), ..Setup::default() });
    let name = format!("{}/a", registry.host);
    let ca = authority.certificate();
    let files = [("ca.crt", ca.as_str()), ("client.cert", &client), ("client.key", &client_key)];
    let (hosts, _directory) = hosts_trusting(&registry.host, &files);
    push_plugin(&open_on(hosts, &name, ann(), Access::Push, pace()).await).await.unwrap();
    let (hosts, _directory) = hosts_trusting(&registry.host, &files[..1]);
    let error = open_on(hosts, &name, ann(), Access::Push, pace()).await.resolve(&[]).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{}", told(&error));
}
