//! The routes of plugins, in memory; nothing is started.

use axum::body::Body;
use axum::extract::Request;
use serde_json::json;

use super::Stage;

/// A context for `POST /plugins/create`: a plugin that would run `/bin/p`.
fn context() -> Vec<u8> {
    let config = r#"{"description": "a test", "documentation": "none", "entrypoint": ["/bin/p"], "interface":
        {"types": ["docker.volumedriver/1.0"], "socket": "p.sock"}, "network": {"type": "none"},
        "args": {"name": "args", "settable": ["value"], "value": []},
        "env": [{"name": "SECRET", "settable": ["value"], "value": "a"}]}"#;
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    for (path, content) in [("config.json", config), ("rootfs/bin/p", "#!")] {
        header.set_size(content.len().try_into().unwrap());
        tar.append_data(&mut header, path, content.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap()
}

#[tokio::test]
async fn a_plugin_is_made_shown_set_and_removed() {
    let stage = Stage::new();
    let create = |name: &str| {
        let request = Request::builder().method("POST").uri(format!("/plugins/create?name={name}"));
        request.header("Content-Type", "application/x-tar").body(Body::from(context())).unwrap()
    };
    let created = stage.send(create("me%2Fplug")).await;
    assert_eq!((created.status, created.body.as_str()), (204, ""));
    let again = stage.send(create("me/plug:latest")).await;
    assert_eq!(again.status, 409, "{}", again.body);

    let listed = stage.ask("GET", "/plugins", "").await.json();
    let shown = stage.ask("GET", "/v1.41/plugins/me/plug/json", "").await.json();
    assert_eq!(listed, json!([shown]));
    assert_eq!((&shown["Name"], &shown["Enabled"]), (&json!("me/plug:latest"), &json!(false)));
    assert_eq!(shown["Config"]["Interface"]["Types"], json!(["docker.volumedriver/1.0"]));
    assert_eq!(shown["Settings"]["Env"], json!(["SECRET=a"]));
    assert_eq!(shown["State"]["Status"], "stopped");
    let id = shown["Id"].as_str().unwrap();
    let by_id = stage.ask("GET", &format!("/plugins/{}/json", &id[..12]), "").await.json();
    assert_eq!(by_id, shown);
    for (filter, count) in [
        ("%7B%22enabled%22%3A%5B%22true%22%5D%7D", 0),
        ("%7B%22enabled%22%3A%7B%22false%22%3Atrue%7D%7D", 1),
        ("%7B%22capability%22%3A%5B%22volumedriver%22%5D%7D", 1),
        ("%7B%22capability%22%3A%5B%22authz%22%5D%7D", 0),
    ] {
        let found = stage.ask("GET", &format!("/plugins?filters={filter}"), "").await.json();
        assert_eq!(found.as_array().unwrap().len(), count, "{filter}");
    }

    let set = stage.ask("POST", "/plugins/me%2Fplug/set", r#"["SECRET=b"]"#).await;
    assert_eq!((set.status, set.body.as_str()), (204, ""));
    let shown = stage.ask("GET", "/plugins/me/plug:latest/json", "").await.json();
    assert_eq!(shown["Settings"]["Env"], json!(["SECRET=b"]));

    let removed = stage.ask("DELETE", "/plugins/me/plug", "").await;
    assert_eq!((removed.status, removed.body.as_str()), (200, ""));
    assert_eq!(stage.ask("GET", "/plugins", "").await.body, "[]\n");
}

#[tokio::test]
async fn what_is_wrong_with_a_plugin_is_told_as_dockerd_tells_it() {
    let stage = Stage::new();
    for (method, path, body, status, message) in [
        ("GET", "/plugins/nope/json", "", 404, "plugin \"nope\" not found"),
        ("DELETE", "/plugins/nope", "", 404, "plugin \"nope\" not found"),
        ("POST", "/plugins/nope/enable?timeout=0", "", 404, "plugin \"nope\" not found"),
        ("POST", "/plugins/nope/enable", "", 400, "strconv.Atoi: parsing \"\": invalid syntax"),
        ("POST", "/plugins/nope/disable?force=1", "", 404, "plugin \"nope\" not found"),
        ("POST", "/plugins/nope/set", "[]", 404, "plugin \"nope\" not found"),
        ("POST", "/plugins/nope/set", "{}", 400, "json: cannot unmarshal object"),
        (
            "POST",
            "/plugins/create?name=UPPER",
            "",
            400,
            "failed to parse reference UPPER: invalid reference format: repository",
        ),
        ("GET", "/plugins/privileges?remote=", "", 400, "invalid reference format"),
        ("POST", "/plugins/pull?remote=x", "", 400, "failed to parse privileges: EOF"),
        ("POST", "/plugins/pull?remote=x&name=A", "[]", 400, "invalid reference format"),
        ("POST", "/plugins/nope/push", "", 404, "plugin \"nope\" not found"),
        ("POST", "/plugins/nope/upgrade?remote=x", "[]", 404, "plugin \"nope:latest\" not found"),
        ("POST", "/plugins/nope/rename?name=x", "", 404, "plugin \"nope\" not found"),
        ("POST", "/plugins/nope/rename", "", 400, "failed to parse reference : invalid reference format"),
        (
            "POST",
            "/plugins/nope/rename?name=A",
            "",
            400,
            "failed to parse reference A: invalid reference format",
        ),
        ("GET", "/plugins/nope/get", "", 404, "plugin \"nope\" not found"),
        (
            "POST",
            "/plugins/load",
            "",
            400,
            "the archive is no OCI image layout of a plugin: it has no index.json",
        ),
        (
            "POST",
            "/v1.25/plugins/x/upgrade",
            "",
            400,
            "POST /plugins/{name:.*}/upgrade requires minimum API version 1.26",
        ),
        ("GET", "/plugins/nope", "", 404, "page not found"),
        ("POST", "/plugins", "", 404, "page not found"),
        ("GET", "/plugins?filters=%7B%22name%22%3A%5B%22x%22%5D%7D", "", 400, "Invalid filter 'name'"),
    ] {
        stage.refuses((method, path, body), status, message).await;
    }
}
