//! Legacy plugins of this process: found, greeted, lost, found again, and whom a TLS connection believes.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use tokio::time::Instant;

use super::super::testing::{Call, FakePlugin, Reply};
use super::super::{Drivers, Place, Registration};
use super::*;
use crate::error::chain;

/// A volume plugin that knows one volume.
fn good(call: &Call) -> Reply {
    match call.method.as_str() {
        "/Plugin.Activate" => Reply::ok(json!({"Implements": ["Other", "VolumeDriver"]})),
        "Get" => Reply::ok(json!({"Volume": {"Name": call.name(), "Mountpoint": "/srv/v"}})),
        "Mount" => Reply::ok(json!({"Mountpoint": "/srv/v"})),
        _ => Reply::ok(json!({})),
    }
}

/// A plugin whose socket a file in `legacy` of the directory names.
fn start(directory: &Path, name: &str, reply: impl Fn(&Call) -> Reply + Send + Sync + 'static) -> FakePlugin {
    let sockets = directory.join("sockets");
    fs::create_dir_all(&sockets).unwrap();
    fs::create_dir_all(directory.join("legacy")).unwrap();
    let plugin = FakePlugin::start(&sockets, reply);
    fs::rename(sockets.join("p.sock"), directory.join(format!("legacy/{name}.sock"))).unwrap();
    plugin
}

fn drivers(directory: &Path) -> Drivers {
    Drivers::with_legacy(vec![directory.join("legacy")], Deadlines::default())
}

#[tokio::test]
async fn a_legacy_plugin_is_greeted_once_and_says_paths_of_the_host() {
    let directory = tempfile::tempdir().unwrap();
    let plugin = start(directory.path(), "nfs", good);
    let drivers = drivers(directory.path());
    assert_eq!(drivers.legacy_names(), [""; 0]);
    let driver = drivers.find("nfs").await.unwrap();
    assert_eq!(driver.name(), "nfs");
    assert_eq!(driver.get("v").await.unwrap().unwrap().mountpoint, Some("/srv/v".into()));
    let mountpoint = driver.mount("v", "id").await.unwrap();
    assert_eq!(driver.place(&mountpoint).unwrap(), Place::OnHost("/srv/v".into()));
    assert!(Arc::ptr_eq(&driver, &drivers.recorded("nfs").await.unwrap()));
    assert_eq!(plugin.methods(), ["/Plugin.Activate", "Get", "Mount"]);
    let greeting = &plugin.calls()[0];
    assert_eq!((greeting.body.as_str(), greeting.headers["host"].as_str()), ("", "plugin.moby.localhost"));
    assert_eq!((drivers.legacy_names(), drivers.calls().len()), (vec!["nfs".to_owned()], 1));
    assert!(drivers.find("nfs:latest").await.is_err(), "a legacy plugin has no tag");
}

#[tokio::test]
async fn a_plugin_that_comes_back_is_greeted_anew() {
    let directory = tempfile::tempdir().unwrap();
    let plugin = start(directory.path(), "nfs", good);
    let drivers = drivers(directory.path());
    let arrivals = drivers.arrivals();
    drivers.find("nfs").await.unwrap().get("v").await.unwrap();
    drop(plugin);
    fs::remove_file(directory.path().join("legacy/nfs.sock")).unwrap();
    let error = drivers.find("nfs").await.unwrap_err();
    assert_eq!(error.to_string(), r#"error looking up volume plugin nfs: plugin "nfs" not found"#);
    assert_eq!(drivers.legacy_names(), [""; 0]);
    let plugin = start(directory.path(), "nfs", good);
    drivers.find("nfs").await.unwrap();
    assert_eq!(plugin.methods(), ["/Plugin.Activate"]);
    assert_eq!(*arrivals.borrow(), 2);
    let calls: Vec<_> = drivers.calls()[0].1.each().map(|(_, tally)| tally.durations().count).collect();
    assert_eq!(calls.iter().sum::<u64>(), 1, "its numbers go on");
}

#[tokio::test]
async fn a_plugin_that_was_out_of_reach_is_greeted_anew_behind_the_same_address() {
    let directory = tempfile::tempdir().unwrap();
    let (legacy, sockets) = (directory.path().join("legacy"), directory.path().join("sockets"));
    fs::create_dir(&legacy).unwrap();
    fs::create_dir(&sockets).unwrap();
    fs::write(legacy.join("nfs.spec"), format!("unix://{}", sockets.join("p.sock").display())).unwrap();
    let first = FakePlugin::start(&sockets, good);
    let drivers = drivers(directory.path());
    let arrivals = drivers.arrivals();
    let driver = drivers.find("nfs").await.unwrap();
    drop(first);
    assert!(driver.create("v", None).await.is_err());
    let error = chain(&drivers.find("nfs").await.unwrap_err());
    assert!(error.contains("legacy plugin: Plugin.Activate: connecting to plugin nfs"), "{error}");
    assert_eq!(drivers.legacy_names(), [""; 0]);
    let second = FakePlugin::start(&sockets, good);
    drivers.find("nfs").await.unwrap().create("v", None).await.unwrap();
    drivers.find("nfs").await.unwrap();
    assert_eq!(second.methods(), ["/Plugin.Activate", "Create"]);
    assert_eq!(*arrivals.borrow(), 2, "so that what it had mounted is mounted again");
}

#[tokio::test]
async fn what_is_no_volume_driver_is_an_error_and_in_no_list() {
    let directory = tempfile::tempdir().unwrap();
    let _network = start(directory.path(), "net", |_| Reply::ok(json!({"Implements": ["NetworkDriver"]})));
    let _sick = start(directory.path(), "sick", |_| Reply::Json(500, json!({"Err": "not today"})));
    let _empty = start(directory.path(), "empty", |_| Reply::Raw(200, b""));
    let _good = start(directory.path(), "good", good);
    let drivers = drivers(directory.path());
    for (name, words) in [
        ("net", "legacy plugin: Plugin does not implement the requested driver"),
        ("sick", "legacy plugin: Plugin.Activate: not today"),
        (
            "empty",
            "legacy plugin: Plugin.Activate: plugin empty gave an answer that makes no sense: the body is empty",
        ),
    ] {
        let error = chain(&drivers.find(name).await.unwrap_err());
        assert!(error.starts_with(&format!("error looking up volume plugin {name}: {words}")), "{error}");
    }
    let all = drivers.all(|name| name != "empty", Instant::now() + std::time::Duration::from_mins(1)).await;
    let told: Vec<_> = all.iter().map(|(name, driver)| (name.as_str(), driver.is_ok())).collect();
    assert_eq!(told, [("good", true), ("sick", false)]);
}

#[tokio::test]
async fn a_plugin_that_does_not_answer_the_greeting_holds_up_no_list() {
    let directory = tempfile::tempdir().unwrap();
    let _hanging = start(directory.path(), "hanging", |_| Reply::Hang);
    let _good = start(directory.path(), "good", good);
    let drivers = drivers(directory.path());
    let all = drivers.all(|_| true, Instant::now() + std::time::Duration::from_millis(100)).await;
    let told: Vec<_> = all.iter().map(|(name, driver)| (name.as_str(), driver.is_ok())).collect();
    assert_eq!(told, [("good", true), ("hanging", false)]);
    assert!(chain(all[1].1.as_ref().unwrap_err()).contains("did not answer within"));
}

#[tokio::test]
async fn a_managed_plugin_goes_before_a_legacy_one_unless_it_was_written_down() {
    let directory = tempfile::tempdir().unwrap();
    let _legacy = start(directory.path(), "nfs", good);
    let managed_sockets = directory.path().join("managed");
    fs::create_dir(&managed_sockets).unwrap();
    let managed = FakePlugin::start(&managed_sockets, good);
    let drivers = drivers(directory.path());
    let registration = || -> Registration { managed.registration("nfs:latest") };
    assert_eq!(drivers.find("nfs").await.unwrap().name(), "nfs");
    drivers.register(registration());
    assert_eq!(drivers.find("nfs").await.unwrap().name(), "nfs:latest");
    assert_eq!(drivers.recorded("nfs").await.unwrap().name(), "nfs", "a volume stays its plugin's");
    assert_eq!(drivers.recorded("nfs:latest").await.unwrap().name(), "nfs:latest");
    let names = |all: Vec<(String, _)>| all.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    let soon = || Instant::now() + std::time::Duration::from_mins(1);
    assert_eq!(names(drivers.all(|_| true, soon()).await), ["nfs:latest"]);
    drivers.disable("nfs");
    let error = drivers.find("nfs").await.unwrap_err().to_string();
    assert!(error.ends_with("plugin nfs found but disabled"), "{error}");
    drivers.unregister("nfs");
    assert_eq!(drivers.find("nfs").await.unwrap().name(), "nfs");
    assert_eq!(names(drivers.all(|_| true, soon()).await), ["nfs"]);
}

/// Answers every request on a TLS connection as [`good`] would answer the greeting; counts those who showed a certificate.
fn serve_tls(config: rustls::ServerConfig, shown: Arc<AtomicUsize>) -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            if stream.get_ref().1.peer_certificates().is_some() {
                shown.fetch_add(1, Ordering::SeqCst);
            }
            let answer = hyper::service::service_fn(|_| async {
                let body = json!({"Implements": ["VolumeDriver"]}).to_string();
                Ok::<_, std::convert::Infallible>(hyper::Response::new(body))
            });
            let http = hyper::server::conn::http1::Builder::new();
            let _ = http.serve_connection(hyper_util::rt::TokioIo::new(stream), answer).await;
        }
    });
    address
}

#[tokio::test]
async fn tls_believes_whom_the_json_says_and_shows_its_own_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let legacy = directory.path().join("legacy");
    fs::create_dir(&legacy).unwrap();
    let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let file = |name: &str, text: String| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (own_file, other_file) = (file("own.pem", own.cert.pem()), file("other.pem", other.cert.pem()));
    let key_file = file("own.key", own.signing_key.serialize_pem());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut clients = rustls::RootCertStore::empty();
    clients.add(own.cert.der().clone()).unwrap();
    let verifier =
        rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(clients), Arc::clone(&provider));
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.allow_unauthenticated().build().unwrap())
        .with_single_cert(vec![own.cert.der().clone()], own.signing_key.serialize_der().try_into().unwrap())
        .unwrap();
    let shown = Arc::new(AtomicUsize::new(0));
    let port = serve_tls(config, Arc::clone(&shown)).port();
    let address = format!("https://localhost:{port}");
    for (tls, is_believed, certificates_shown) in [
        (json!({"CAFile": own_file}), true, 0),
        (json!({"CAFile": other_file}), false, 0),
        (json!({"CAFile": other_file, "InsecureSkipVerify": true}), true, 0),
        (json!({}), true, 0),
        (json!(null), false, 0),
        (json!({"CAFile": own_file, "CertFile": own_file, "KeyFile": key_file}), true, 1),
    ] {
        fs::write(legacy.join("p.json"), json!({"Addr": address, "TLSConfig": tls}).to_string()).unwrap();
        let found = drivers(directory.path()).find("p").await;
        assert_eq!(found.is_ok(), is_believed, "{tls}: {found:?}");
        assert_eq!(shown.swap(0, Ordering::SeqCst), certificates_shown, "{tls}");
    }
    fs::remove_file(legacy.join("p.json")).unwrap();
    fs::write(legacy.join("p.spec"), format!("{address}\n")).unwrap();
    drivers(directory.path()).find("p").await.unwrap();
}
