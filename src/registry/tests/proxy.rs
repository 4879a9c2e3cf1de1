//! Proxies from the environment: a process of its own, since the environment is everybody's.

use std::process::Command;

use super::stub::{Reply, Stub};
use super::*;

/// The name of the test that the other process runs.
const INSIDE: &str = "registry::tests::proxy::inside";

#[tokio::test]
async fn a_proxy_from_the_environment_is_asked_for_other_hosts() {
    let proxy = Stub::start(|request, _| match request.line.split(' ').next() {
        Some("CONNECT") => Reply::new("403 Forbidden", &[], ""),
        _ => Reply::ok(&[], "{}"),
    })
    .await;
    let url = format!("http://ann:secret@{}", proxy.host);
    let run = tokio::task::spawn_blocking(move || {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", INSIDE, "--ignored"])
            .envs([("HTTP_PROXY", &url), ("HTTPS_PROXY", &url)])
            .env_remove("NO_PROXY")
            .env_remove("REQUEST_METHOD")
            .output()
            .unwrap()
    });
    let output = run.await.unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && out.contains("1 passed"), "{out}");
    // Loopback is not asked through it; of the other host both ways were tried.
    assert_eq!(
        proxy.lines(),
        ["CONNECT registry.invalid:443", "GET http://registry.invalid/v2/a/manifests/latest"]
    );
    // ann:secret
    for request in proxy.requests() {
        assert_eq!(request.header("proxy-authorization"), Some("Basic YW5uOnNlY3JldA=="), "{}", request.line);
        assert_eq!(request.header("authorization"), None, "{}", request.line);
    }
}

#[tokio::test]
#[ignore = "run by the test above, in an environment with a proxy"]
async fn inside() {
    let stub = Stub::start(|_, _| Reply::ok(&[], "{}")).await;
    open(&format!("{}/a", stub.host), ann(), Access::Pull).await.resolve(&MANIFEST_TYPES).await.unwrap();
    let hosts = Hosts::new(&["registry.invalid".to_owned()], &[]).unwrap();
    let session = open_on(hosts, "registry.invalid/a", ann(), Access::Pull, pace()).await;
    session.resolve(&MANIFEST_TYPES).await.unwrap();
}
