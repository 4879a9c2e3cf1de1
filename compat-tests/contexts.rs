//! What `docker plugin create` takes: contexts of every good shape, and the words for those of a bad one.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;

use crate::support::archive::{Entry, Tar};
use crate::support::daemon::Daemon;
use crate::support::http::Answer;
use crate::support::until;

/// Sends a context that must be refused, and sees that nothing of it stays.
fn refused(daemon: &Daemon, context: &[u8]) -> Answer {
    let before = daemon.tree();
    let answer = daemon.create("bad", context);
    assert!(answer.status >= 400, "{answer:?}");
    assert_eq!(daemon.http().look("/plugins"), json!([]));
    if daemon.is_ours() {
        assert!(answer.status < 500, "{}: {}", answer.status, answer.text());
        assert_eq!(daemon.tree(), before, "a refused context leaves something behind: {}", answer.text());
    }
    answer
}

#[test]
fn bytes_that_are_no_context_are_refused_in_dockers_words() {
    let daemon = Daemon::start();
    let good = daemon.tiny().tar();
    let no_header = "failed to read from tar: archive/tar: invalid tar header";
    let mut checksum = good.clone();
    checksum[148..154].copy_from_slice(b"000000");
    let table: [(&str, Vec<u8>, &str); 8] = [
        ("nothing", vec![], "no rootfs found: EOF"),
        ("no tar", b"hello, this is not what you look for. ".repeat(40), no_header),
        ("an empty tar", Tar::new().end(), "no rootfs found: EOF"),
        ("half an end", vec![0; 512], "no rootfs found: EOF"),
        ("no config.json", daemon.tiny().rootfs(Tar::new()).end(), "config not found"),
        ("no rootfs", Tar::new().with(&Entry::file("config.json", b"{}")).end(), "no rootfs found: EOF"),
        ("a wrong checksum", checksum, no_header),
        ("cut within config.json", good[..700].to_vec(), "failed to read config.json: unexpected EOF"),
    ];
    for (what, context, message) in table {
        let answer = refused(&daemon, &context);
        if daemon.is_ours() {
            // dockerd's words, and then which header it was and what was wrong with it.
            assert!(answer.message().starts_with(message), "{what}: {}", answer.message());
        } else {
            assert_eq!(answer.message(), message, "{what}");
        }
    }
}

#[test]
fn a_context_that_is_cut_anywhere_is_refused() {
    let daemon = Daemon::start();
    let good = daemon.tiny().tar();
    let end = good.len() - 1024;
    // Not within the padding of the last file: nothing is missing there.
    for at in [1, 511, 513, 700, 2_000, 4_000, good.len() / 2 + 1, end - 700, end - 2_300] {
        let answer = refused(&daemon, &good[..at]);
        assert!(!answer.message().is_empty());
    }
}

#[test]
fn a_config_that_is_none_is_refused_in_dockers_words() {
    let daemon = Daemon::start();
    let parse = |why: &str| format!("failed to parse config: {why}");
    let field = "cannot unmarshal";
    let deep = [b"{\"x\":".as_slice(), &b"[".repeat(20_000), &b"]".repeat(20_000), b"}"].concat();
    let table: [(&[u8], String); 7] = [
        (b"", parse("unexpected end of JSON input")),
        (b"{nope", parse("invalid character 'n' looking for beginning of object key string")),
        (b"[]", parse(&format!("json: {field} array into Go value of type types.PluginConfig"))),
        (
            b"{\"entrypoint\":\"x\"}",
            parse(&format!(
                "json: {field} string into Go struct field PluginConfig.Entrypoint of type []string"
            )),
        ),
        (
            b"{\"linux\":[]}",
            parse(&format!(
                "json: {field} array into Go struct field PluginConfig.Linux of type types.PluginConfigLinux"
            )),
        ),
        (b"{} x", parse("invalid character 'x' after top-level value")),
        (&deep, parse("invalid character '[' exceeded max depth")),
    ];
    for (config, message) in table {
        let shown = String::from_utf8_lossy(&config[..config.len().min(40)]).into_owned();
        let answer = refused(&daemon, &daemon.tiny().tar_with_config(config));
        assert_eq!(answer.message(), message, "{shown}");
    }
}

#[test]
fn a_config_that_is_strange_is_refused_or_harmless() {
    let daemon = Daemon::start();
    let config = daemon.tiny().config().to_string();
    let large = format!("{{\"description\":\"{}\"}}", "a".repeat(5 << 20));
    let table: [(&str, Vec<u8>); 8] = [
        ("null", daemon.tiny().tar_with_config(b"null")),
        ("empty", daemon.tiny().tar_with_config(b"{}")),
        ("bad UTF-8", daemon.tiny().tar_with_config(b"{\"description\":\"\xff\xfe\"}")),
        ("5 MiB", daemon.tiny().tar_with_config(large.as_bytes())),
        ("twice", daemon.tiny().entry(Entry::file("config.json", config.as_bytes())).tar()),
        ("a directory", daemon.tiny().rootfs(Tar::new().with(&Entry::directory("config.json"))).end()),
        (
            "a link",
            daemon.tiny().rootfs(Tar::new().with(&Entry::symlink("config.json", "/etc/passwd"))).end(),
        ),
        (
            "NUL in a name",
            daemon.tiny().tar_with_config(br#"{"entrypoint":["/tiny\u0000x"],"workdir":"\u0000"}"#),
        ),
    ];
    for (what, context) in table {
        let answer = daemon.create("odd", &context);
        assert!(answer.status == 204 || !answer.message().is_empty(), "{what}: {answer:?}");
        assert!(answer.status < 500 || !daemon.is_ours(), "{what}: {answer:?}");
        if answer.status == 204 {
            assert_eq!(daemon.http().look("/plugins/odd/json")["Enabled"], false, "{what}");
            assert_eq!(daemon.http().ask("DELETE", "/plugins/odd").status, 200, "{what}");
        }
        assert_eq!(daemon.http().look("/plugins"), json!([]), "{what}");
    }
}

#[test]
fn good_contexts_come_in_many_shapes() {
    let daemon = Daemon::start();
    let config = daemon.tiny().config().to_string();
    let rootfs_first = {
        let tar = daemon.tiny().rootfs(Tar::new());
        tar.with(&Entry::file("config.json", config.as_bytes())).end()
    };
    let dotted = Tar::new()
        .with(&Entry::directory("./"))
        .with(&Entry::file("./config.json", config.as_bytes()))
        .with(&Entry::directory("./rootfs/"))
        .with(&Entry::file("./rootfs/tiny", b"dotted"))
        .end();
    let beside = daemon.tiny().entry(Entry::file("README", b"read me")).tar();
    let linked = daemon.tiny().entry(Entry::hardlink("rootfs/twin", "rootfs/tiny")).tar();
    let long = daemon.tiny().entry(Entry::file(&format!("rootfs/{}/f", "d/".repeat(80)), b"deep")).tar();
    let open_ended =
        daemon.tiny().rootfs(Tar::new().with(&Entry::file("config.json", config.as_bytes()))).open_end();
    let shapes = [
        ("rootfs first", rootfs_first),
        ("with ./", dotted),
        ("something beside", beside),
        ("a hard link", linked),
        ("a long name", long),
        ("no end", open_ended),
    ];
    for (what, context) in shapes {
        let answer = daemon.create("good", &context);
        assert_eq!(answer.status, 204, "{what}: {}", answer.text());
        assert_eq!(daemon.http().look("/plugins/good/json")["Config"]["Description"], "tiny", "{what}");
        assert_eq!(daemon.http().ask("DELETE", "/plugins/good").status, 200);
    }
}

#[test]
fn a_context_may_be_compressed() {
    let Some(daemon) = Daemon::ours() else { return };
    let tar = daemon.tiny().tar();
    let mut gzip = GzEncoder::new(vec![], Compression::fast());
    gzip.write_all(&tar).unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = zstd::encode_all(tar.as_slice(), 1).unwrap();
    for (what, context) in [("gzip", &gzip), ("zstd", &zstd)] {
        assert_eq!(daemon.create(what, context).status, 204, "{what}");
        assert_eq!(daemon.enable(what).status, 200, "{what}");
        assert_eq!(daemon.http().ask("DELETE", &format!("/plugins/{what}?force=1")).status, 200);
        refused(&daemon, &context[..context.len() / 2]);
    }
}

#[test]
fn the_content_type_of_a_context_does_not_matter() {
    let daemon = Daemon::start();
    for (name, content_type) in [("one", "text/plain"), ("two", "")] {
        let target = format!("/plugins/create?name={name}");
        assert_eq!(daemon.http().send("POST", &target, content_type, &daemon.tiny().tar()).status, 204);
    }
}

#[test]
fn a_context_may_come_in_chunks() {
    let daemon = Daemon::start();
    let tar = daemon.tiny().tar();
    let answer = daemon.http().send_from(
        "POST",
        "/plugins/create?name=tiny",
        "application/x-tar",
        &mut &tar[..],
        None,
    );
    assert_eq!(answer.status, 204, "{}", answer.text());
}

#[test]
fn a_body_that_stops_half_way_is_refused_and_leaves_nothing() {
    let daemon = Daemon::start();
    let tar = daemon.tiny().tar();
    let before = daemon.tree();
    let head = "POST /plugins/create?name=half HTTP/1.1\r\nHost: d\r\nContent-Type: application/x-tar\r\n";
    let length = format!("Content-Length: {}\r\n\r\n", tar.len());
    let sized = [head.as_bytes(), length.as_bytes(), &tar[..tar.len() / 2]].concat();
    let chunked =
        [head.as_bytes(), b"Transfer-Encoding: chunked\r\n\r\n100000\r\n", &tar[..tar.len() / 2]].concat();
    for bytes in [&sized, &chunked] {
        if let Some(answer) = daemon.http().raw(bytes, true) {
            assert!(answer.status >= 400, "{answer:?}");
        }
        // And a client that is simply gone.
        let mut connection = daemon.http().open().unwrap();
        let _ = connection.write(bytes);
        drop(connection);
    }
    assert_eq!(daemon.http().look("/plugins"), json!([]));
    if daemon.is_ours() {
        until("nothing is left of the halves", || (daemon.tree() == before).then_some(()));
    }
}
