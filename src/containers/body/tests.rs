//! What is read out of a request, and what is left of it.

use super::*;

fn body(value: &Value) -> Body {
    Body::parse(value.to_string().as_bytes()).unwrap()
}

fn want(name: Option<&str>, destination: &str, read_only: bool) -> Want {
    let name = name.map(str::to_owned);
    let destination = destination.into();
    Want {
        name,
        driver: None,
        options: None,
        labels: None,
        destination,
        read_only,
        copies: true,
        subpath: None,
    }
}

/// What the engine would be sent, after everything about volumes was taken.
fn left(value: &Value) -> (Asked, Value) {
    let mut body = body(value);
    let asked = body.take().unwrap();
    (asked, serde_json::from_slice(&body.bytes()).unwrap())
}

#[test]
fn no_spelling_of_a_volume_is_left_in_a_request() {
    for host in [
        json!({"Binds": ["vol:/data"]}),
        json!({"binds": ["vol:/data:ro"]}),
        json!({"bind\u{17f}": ["vol:/data/"]}),
        json!({"Mounts": [{"Type": "volume", "Source": "vol", "Target": "/data"}]}),
        json!({"mounts": [{"type": "volume", "source": "vol", "target": "/./data", "VolumeOptions": null}]}),
    ] {
        let (asked, left) = left(&json!({"Image": "i", "HostConfig": host}));
        assert_eq!(asked.wants.len(), 1, "{host}");
        let wanted = &asked.wants[0];
        assert_eq!((wanted.name.as_deref(), wanted.destination.as_str()), (Some("vol"), "/data"), "{host}");
        assert!(!left.to_string().contains("vol"), "{left}");
    }
    let (asked, left) =
        left(&json!({"volumes": {"/a": {}}, "hostconfig": {"volumedriver": "d", "volumesfrom": ["c:ro"]}}));
    assert_eq!((asked.anonymous, asked.driver.as_deref()), (vec!["/a".to_owned()], Some("d")));
    assert_eq!(asked.from, [("c".to_owned(), true)]);
    assert_eq!(left, json!({"HostConfig": {"Binds": [], "Mounts": []}}));
}

#[test]
fn binds_of_the_host_stay_as_they_are() {
    let binds = json!(["/srv:/data:ro,rslave", "vol:/other:ro", "/x"]);
    let (asked, left) = left(&json!({"HostConfig": {"Binds": binds, "Tmpfs": {"/tmp/": ""}}}));
    assert_eq!(left["HostConfig"]["Binds"], json!(["/srv:/data:ro,rslave"]));
    assert_eq!(asked.wants, [want(Some("vol"), "/other", true), want(None, "/x", false)]);
    let taken: Vec<_> = asked.taken.iter().map(String::as_str).collect();
    assert_eq!(taken, ["/data", "/other", "/tmp", "/x"]);
}

#[test]
fn a_mount_of_a_volume_is_read_whole() {
    let (asked, _) = left(&json!({"HostConfig": {"VolumeDriver": "other", "Mounts": [
        {"Type": "volume", "Source": "v", "Target": "/v", "ReadOnly": true, "VolumeOptions": {
            "NoCopy": true, "Subpath": "s", "Labels": {"a": "b"}, "DriverConfig": {"Name": "d", "Options": {"k": "v"}}}},
        {"Type": "bind", "Source": "/srv", "Target": "/srv"},
    ]}}));
    let texts = |key: &str, value: &str| Some(Texts::from([(key.to_owned(), value.to_owned())]));
    let expected = Want {
        driver: Some("d".into()),
        options: texts("k", "v"),
        labels: texts("a", "b"),
        copies: false,
        subpath: Some("s".into()),
        ..want(Some("v"), "/v", true)
    };
    assert_eq!(asked.wants, [expected]);
}

#[test]
fn what_makes_no_sense_is_refused() {
    for (host, expected) in [
        (json!({"Binds": ["a:/x", "b:/x/"]}), "Duplicate mount point: /x"),
        (json!({"Binds": ["a:b:c:d"]}), "invalid volume specification: 'a:b:c:d'"),
        (json!({"Binds": ["a:x"]}), "invalid volume specification: 'a:x'"),
        (json!({"Binds": [":/x"]}), "invalid volume specification: ':/x'"),
        (json!({"Binds": ["a:/x:no"]}), "invalid volume specification: 'a:/x:no'"),
        (json!({"Binds": ["a:/"]}), "invalid mount path: '/' must be absolute and not the root"),
        (
            json!({"Mounts": [{"Type": "volume", "Target": "x"}]}),
            "invalid mount path: 'x' must be absolute and not the root",
        ),
        (
            json!({"Mounts": [{"Type": "magic", "Target": "/x"}]}),
            "mount type \"magic\" is unknown: expected bind, tmpfs, image or volume",
        ),
        (
            json!({"Mounts": [{"Target": "/x"}]}),
            "mount type \"\" is unknown: expected bind, tmpfs, image or volume",
        ),
        (
            json!({"VolumesFrom": ["a:b:c"]}),
            "invalid volumes-from \"a:b:c\": expected CONTAINER, CONTAINER:ro or CONTAINER:rw",
        ),
        (json!({"Binds": "a:/x"}), "\"Binds\" is not what it must be: expected a list"),
    ] {
        let error = body(&json!({"HostConfig": host})).take().unwrap_err();
        assert_eq!(error.to_string(), expected, "{host}");
    }
    assert!(Body::parse(b"[]").is_err() && Body::parse(b"").is_err());
}

#[test]
fn a_bind_and_a_label_are_put_in() {
    let mut body = body(&json!({"Labels": null}));
    body.take().unwrap();
    body.bind("/srv/x", "/data", true);
    body.label("t");
    let sent: Value = serde_json::from_slice(&body.bytes()).unwrap();
    let mount = json!({"Type": "bind", "Source": "/srv/x", "Target": "/data", "ReadOnly": true});
    assert_eq!(sent["HostConfig"]["Mounts"], json!([mount]));
    assert_eq!(sent["Labels"], json!({LABEL: "t"}));
}
