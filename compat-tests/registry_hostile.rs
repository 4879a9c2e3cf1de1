//! Registries that lie, break off, go on for ever or send elsewhere: a clear error, nothing left, and the daemon lives.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::archive::{self, Entry, Tar};
use crate::support::artifact::{
    self, Artifact, Blob, FOREIGN_LAYER, OCI_INDEX, PLUGIN_CONFIG, SCHEMA2_LAYER,
};
use crate::support::daemon::{Daemon, Program};
use crate::support::impostor::Impostor;
use crate::support::install;
use crate::support::wire::{Body, Reply, Request};
use crate::support::{process, until};

/// The most a daemon may need, whatever a registry sends, in KiB.
const MEMORY_KIB: u64 = 96 * 1024;

/// A daemon that has installed and removed something already, and what it keeps on disk then.
struct Victim {
    daemon: Daemon,
    before: BTreeSet<PathBuf>,
}

impl Victim {
    fn start() -> Self {
        Self::of(Daemon::start())
    }

    /// For what dockerd does not survive, or only with luck.
    fn ours() -> Option<Self> {
        Daemon::ours().map(Self::of)
    }

    fn of(daemon: Daemon) -> Self {
        let honest = Impostor::start(&[("team/warm:v1", &Artifact::small("warm"))], |_| None);
        install::pull(&daemon, &honest.name("team/warm:v1"), "warm", &json!([]), &Value::Null).ok();
        assert_eq!(daemon.http().ask("DELETE", "/plugins/warm").status, 200);
        Self { before: daemon.tree(), daemon }
    }

    /// Pulls `team/x:v1` in vain; the error. In ours, it has to have one of the `words`.
    #[track_caller]
    fn refuses(&self, what: &str, impostor: &Impostor, words: &[&str]) -> String {
        let remote = impostor.name("team/x:v1");
        let error = install::pull(&self.daemon, &remote, "x", &json!([]), &Value::Null).failed();
        self.assert_untouched(what);
        if self.daemon.is_ours() {
            assert!(words.iter().any(|word| error.contains(word)), "{what}: {error}");
        }
        error
    }

    #[track_caller]
    fn assert_untouched(&self, what: &str) {
        assert_eq!(self.daemon.http().look("/plugins"), json!([]), "{what}");
        if self.daemon.is_ours() {
            let left = || self.daemon.tree().difference(&self.before).cloned().collect::<Vec<_>>();
            until(&format!("nothing is left of {what}"), || left().is_empty().then_some(()));
            let peak = process::peak_kib(self.daemon.pid());
            assert!(peak < MEMORY_KIB, "{what}: {peak} KiB");
        }
    }
}

/// An impostor that answers about one blob as `reply` says, and honestly about everything else.
fn spoiling(artifact: &Artifact, spoilt: &Blob, reply: Reply) -> Impostor {
    let digest = spoilt.digest();
    Impostor::start(&[("team/x:v1", artifact)], move |request| {
        request.path().ends_with(&format!("/blobs/{digest}")).then(|| reply.clone())
    })
}

/// An impostor that serves just this manifest, under this type.
fn claiming(media_type: &str, manifest: &[u8]) -> Impostor {
    let reply = Reply::new(200, manifest).with("Content-Type", media_type);
    Impostor::start(&[], move |request| request.path().contains("/manifests/").then(|| reply.clone()))
}

fn altered(bytes: &[u8]) -> Vec<u8> {
    let mut altered = bytes.to_vec();
    let middle = altered.len() / 2;
    altered[middle] ^= 1;
    altered
}

#[test]
fn a_blob_that_is_not_what_its_digest_says_is_refused() {
    let victim = Victim::start();
    let artifact = Artifact::small("spoilt");
    let (config, layer) = (&artifact.config, &artifact.layers[1]);
    for (what, blob) in [("config", config), ("layer", layer)] {
        let bytes = &blob.bytes;
        let longer = [bytes.as_slice(), b"x"].concat();
        let table = [
            ("altered", Reply::new(200, altered(bytes))),
            ("shorter", Reply::new(200, &bytes[..bytes.len() - 1])),
            ("longer", Reply::new(200, longer)),
            ("empty", Reply::new(200, "")),
            ("another", Reply::new(200, artifact.layers[0].bytes.clone())),
        ];
        for (how, reply) in table {
            let impostor = spoiling(&artifact, blob, reply);
            let words = ["digest", "bytes", "size"];
            victim.refuses(&format!("{what}, {how}"), &impostor, &words);
        }
    }
}

#[test]
fn a_body_that_breaks_off_is_refused() {
    let Some(victim) = Victim::ours() else { return };
    let artifact = Artifact::small("cut");
    let bytes = &artifact.layers[1].bytes;
    let half = bytes[..bytes.len() / 2].to_vec();
    let impostor = spoiling(&artifact, &artifact.layers[1], Reply::bad(Body::Cut(bytes.len(), half)));
    let name = impostor.name("team/x:v1");
    let error = install::pull(&victim.daemon, &name, "x", &json!([]), &Value::Null).failed();
    let digest = artifact.layers[1].digest();
    assert!(error.contains("broke") && error.contains(&digest), "{error}");
    // What came is kept for the next attempt, and nothing else.
    let hex = digest.trim_start_matches("sha256:");
    let tree = victim.daemon.tree();
    let left: Vec<&PathBuf> = tree.difference(&victim.before).collect();
    assert!(left.iter().all(|path| path.display().to_string().contains(hex)), "{left:?}");
    let honest = Impostor::start(&[("team/x:v1", &artifact)], |_| None);
    install::pull(&victim.daemon, &honest.name("team/x:v1"), "x", &json!([]), &Value::Null).ok();
    assert_eq!(victim.daemon.http().ask("DELETE", "/plugins/x").status, 200);
    victim.assert_untouched("a layer that broke off");
}

#[test]
fn a_body_that_never_ends_is_not_read_for_ever() {
    let Some(victim) = Victim::ours() else { return };
    let artifact = Artifact::small("endless");
    let endless = || Reply::bad(Body::Endless(vec![b' '; 64 * 1024]));
    for (what, blob) in [("config", &artifact.config), ("layer", &artifact.layers[0])] {
        victim.refuses(what, &spoiling(&artifact, blob, endless()), &["bytes"]);
    }
    let manifest = endless().with("Content-Type", artifact::SCHEMA2);
    let impostor =
        Impostor::start(&[], move |request| request.path().contains("/manifests/").then(|| manifest.clone()));
    victim.refuses("a manifest", &impostor, &["larger than 4194304 bytes"]);
    // What only says so is not read at all.
    let claims = Reply::bad(Body::Cut(5 << 20, vec![])).with("Content-Type", artifact::SCHEMA2);
    let impostor = Impostor::start(&[], move |_| Some(claims.clone()));
    victim.refuses("a large manifest", &impostor, &["larger than 4194304 bytes"]);
}

#[test]
fn a_config_that_is_too_large_is_not_fetched() {
    let Some(victim) = Victim::ours() else { return };
    let mut artifact = Artifact::small("large");
    artifact.config.bytes.extend(vec![b' '; 5 << 20]);
    let impostor = Impostor::start(&[("team/x:v1", &artifact)], |_| None);
    victim.refuses("a large config", &impostor, &["4194304", "4 MiB"]);
    let fetched = format!("/blobs/{}", artifact.config.digest());
    assert!(impostor.seen().iter().all(|r| !r.path().ends_with(&fetched)));
}

#[test]
fn a_manifest_that_is_none_is_refused() {
    // dockerd believes several of these.
    let Some(victim) = Victim::ours() else { return };
    let good = Artifact::small("manifest");
    let lying = |lie: fn(&mut Value)| good.clone().lying(lie).manifest();
    let table = [
        ("no JSON", b"nope".to_vec()),
        ("empty", vec![]),
        ("a list", b"[]".to_vec()),
        ("no config", lying(|m| drop(m.as_object_mut().unwrap().remove("config")))),
        ("a digest of another kind", lying(|m| m["layers"][0]["digest"] = "md5:0123".into())),
        (
            "a digest that climbs",
            lying(|m| m["layers"][0]["digest"] = "sha256:../../../../etc/passwd".into()),
        ),
        ("a negative size", lying(|m| m["layers"][0]["size"] = (-1).into())),
        ("a wrong size", lying(|m| m["layers"][0]["size"] = 7.into())),
        ("a huge size", lying(|m| m["layers"][0]["size"] = i64::MAX.into())),
        ("a layer that is not there", lying(|m| m["layers"][0]["digest"] = artifact::digest(b"?").into())),
    ];
    for (what, manifest) in table {
        let mut artifact = good.clone();
        artifact.lie = Some(manifest);
        let impostor = Impostor::start(&[("team/x:v1", &artifact)], |_| None);
        let error = victim.refuses(what, &impostor, &[""]);
        assert!(!error.is_empty() && !error.contains("panicked"), "{what}: {error}");
    }
}

#[test]
fn a_manifest_that_is_not_what_was_asked_for_is_refused() {
    let Some(victim) = Victim::ours() else { return };
    let (artifact, other) = (Artifact::small("asked"), Artifact::small("answered"));
    let reply = Reply::new(200, other.manifest()).with("Content-Type", &other.media_type);
    let digest = artifact::digest(&artifact.manifest());
    let impostor = Impostor::start(&[("team/x:v1", &artifact), ("team/x:v2", &other)], move |request| {
        request.path().ends_with(&digest).then(|| reply.clone())
    });
    let remote = impostor.name(&format!("team/x@{}", artifact::digest(&artifact.manifest())));
    let error = install::pull(&victim.daemon, &remote, "x", &json!([]), &Value::Null).failed();
    assert!(error.contains("digest"), "{error}");
    victim.assert_untouched("another manifest");

    for header in [artifact::digest(b"another"), "nonsense".to_owned()] {
        let reply = Reply::new(200, artifact.manifest())
            .with("Content-Type", &artifact.media_type)
            .with("Docker-Content-Digest", &header);
        let impostor = Impostor::start(&[("team/x:v1", &artifact)], move |request| {
            request.path().contains("/manifests/").then(|| reply.clone())
        });
        victim.refuses(&format!("Docker-Content-Digest: {header}"), &impostor, &["digest"]);
    }
}

#[test]
fn layers_from_elsewhere_are_not_fetched() {
    let Some(victim) = Victim::ours() else { return };
    let elsewhere = Impostor::start(&[], |_| None);
    let url = format!("http://{}/layer", elsewhere.address());
    let mut artifact = Artifact::small("foreign");
    FOREIGN_LAYER.clone_into(&mut artifact.layers[0].media_type);
    let artifact = artifact.lying(|manifest| manifest["layers"][0]["urls"] = json!([url]));
    let impostor = Impostor::start(&[("team/x:v1", &artifact)], |_| None);
    victim.refuses("a foreign layer", &impostor, &["foreign"]);
    assert_eq!(elsewhere.seen().len(), 0);
}

/// A plugin with this one layer.
fn with_layer(tar: &[u8], layer: Vec<u8>) -> Artifact {
    let mut artifact = Artifact::small("one layer");
    let mut config: Value = serde_json::from_slice(&artifact.config.bytes).unwrap();
    config["rootfs"]["diff_ids"] = json!([artifact::digest(tar)]);
    artifact.config = Blob::new(PLUGIN_CONFIG, config.to_string());
    artifact.layers = vec![Blob::new(SCHEMA2_LAYER, layer)];
    artifact
}

#[test]
fn a_layer_that_is_none_is_refused() {
    let Some(victim) = Victim::ours() else { return };
    let tar = Tar::new().with(&Entry::file("f", b"content")).end();
    let garbage = [&tar[..512], &[0xff; 2048]].concat();
    let packed = artifact::gzip(&tar);
    let table = [
        ("no archive", with_layer(b"nope", b"nope".to_vec()), ["layer"; 2]),
        ("garbage", with_layer(&garbage, artifact::gzip(&garbage)), ["layer"; 2]),
        ("half a gzip", with_layer(&tar, packed[..packed.len() / 2].to_vec()), ["layer"; 2]),
        ("another diff_id", with_layer(b"another", packed), ["diff", "layer"]),
    ];
    for (what, artifact, words) in table {
        let impostor = Impostor::start(&[("team/x:v1", &artifact)], |_| None);
        victim.refuses(what, &impostor, &words);
    }
    let mut fewer = Artifact::small("fewer");
    fewer.layers.pop();
    let impostor = Impostor::start(&[("team/x:v1", &fewer)], |_| None);
    victim.refuses("fewer layers than diff_ids", &impostor, &["layer", "diff"]);
}

#[test]
fn a_layer_reaches_nothing_outside() {
    let victim = Victim::start();
    let canary = victim.daemon.place().join("canary");
    std::fs::create_dir(&canary).unwrap();
    std::fs::write(canary.join("bird"), "tweet").unwrap();
    let bare = canary.to_str().unwrap().trim_start_matches('/');
    let up = "../".repeat(20);
    let table = [
        ("climbing", Tar::new().with(&Entry::file(&format!("{up}{bare}/bird"), b"dead"))),
        ("absolute", Tar::new().with(&Entry::file(&format!("/{bare}/bird"), b"dead"))),
        (
            "through a link",
            Tar::new()
                .with(&Entry::symlink("door", canary.to_str().unwrap()))
                .with(&Entry::file("door/bird", b"dead")),
        ),
        ("a whiteout", Tar::new().with(&Entry::file(&format!("{up}{bare}/.wh.bird"), b""))),
        (
            "a whiteout through a link",
            Tar::new()
                .with(&Entry::symlink("door", canary.to_str().unwrap()))
                .with(&Entry::file("door/.wh.bird", b"")),
        ),
    ];
    for (what, tar) in table {
        let tar = tar.end();
        let artifact = with_layer(&tar, artifact::gzip(&tar));
        let impostor = Impostor::start(&[("team/x:v1", &artifact)], |_| None);
        let remote = impostor.name("team/x:v1");
        let outcome = install::pull(&victim.daemon, &remote, "x", &json!([]), &Value::Null);
        if outcome.error.is_none() {
            assert_eq!(victim.daemon.http().ask("DELETE", "/plugins/x").status, 200);
        }
        assert_eq!(std::fs::read_to_string(canary.join("bird")).unwrap(), "tweet", "{what}");
        assert_eq!(std::fs::read_dir(&canary).unwrap().count(), 1, "{what}");
    }
}

#[test]
fn a_layer_that_is_a_bomb_is_refused_with_its_name() {
    let Some(victim) = Victim::ours() else { return };
    // More entries than any plugin has, in very little gzip: one member, again and again.
    let member = artifact::gzip(&archive::header(&Entry::directory("d")).repeat(2_048));
    let layer = member.repeat(500);
    let artifact = with_layer(b"never reached", layer);
    let impostor = Impostor::start(&[("team/x:v1", &artifact)], |_| None);
    let digest = artifact.layers[0].digest();
    let name = &digest["sha256:".len()..][..12];
    let error = victim.refuses("a bomb", &impostor, &[name]);
    assert!(error.contains("more than 1000000 entries"), "{error}");

    // One entry that says it has 20 GiB: refused for what it says, nothing of it has come.
    let header = archive::header(&Entry::file("bomb", b"").claiming(20 << 30));
    let artifact = with_layer(b"never reached", artifact::gzip(&header));
    let impostor = Impostor::start(&[("team/x:v1", &artifact)], |_| None);
    let digest = artifact.layers[0].digest();
    let error = victim.refuses("a bomb", &impostor, &[&digest["sha256:".len()..][..12], "bomb"]);
    assert!(error.contains("21474836480 bytes"), "{error}");
    assert!(error.contains("that an archive may unpack to"), "{error}");
}

#[test]
fn an_index_that_leads_nowhere_is_refused() {
    let Some(victim) = Victim::ours() else { return };
    let here = artifact::here();
    let entry = |media_type: &str, digest: String, size: usize| {
        json!({"mediaType": media_type, "digest": digest, "size": size,
            "platform": {"os": "linux", "architecture": here}})
    };
    let index = |entries: Vec<Value>| {
        json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).to_string().into_bytes()
    };
    let inner = index(vec![]);
    let table = [
        ("empty", index(vec![])),
        ("an index of an index", index(vec![entry(OCI_INDEX, artifact::digest(&inner), inner.len())])),
        ("missing", index(vec![entry(artifact::OCI, artifact::digest(b"?"), 1)])),
        ("too many", index(vec![entry("x/y", artifact::digest(b"?"), 1); 30_000])),
    ];
    for (what, bytes) in table {
        victim.refuses(what, &claiming(OCI_INDEX, &bytes), &[""]);
    }
}

#[test]
fn a_challenge_that_is_garbage_is_refused() {
    let victim = Victim::start();
    let long = format!("Bearer realm=\"{}\"", "x".repeat(20_000));
    let challenges = [
        "",
        "Nonsense",
        "Bearer",
        "Bearer realm",
        "Bearer realm=",
        "Bearer realm=\"",
        "Bearer realm=\"::not a url::\",service=\"s\"",
        "Bearer realm=\"file:///etc/passwd\",service=\"s\"",
        "Bearer service=\"s\",scope=\"repository:team/x:pull\"",
        "Basic realm",
        "Bearer realm=\"http://127.0.0.1:1/token\",service=\"s\"",
        &long,
    ];
    for challenge in challenges {
        let reply = Reply::new(401, "{}").with("WWW-Authenticate", challenge);
        let impostor = Impostor::start(&[], move |_| Some(reply.clone()));
        let shown = &challenge[..challenge.len().min(60)];
        let error = victim.refuses(shown, &impostor, &[""]);
        assert!(error.len() < 4096 || !victim.daemon.is_ours(), "{shown}: {} bytes", error.len());
    }
}

#[test]
fn a_token_server_that_talks_nonsense_is_refused() {
    let Some(victim) = Victim::ours() else { return };
    let table = [
        ("no JSON", Reply::new(200, "nope")),
        ("no token", Reply::new(200, "{}")),
        ("an empty token", Reply::new(200, r#"{"token":""}"#)),
        ("two lines", Reply::new(200, r#"{"token":"a\r\nX-Evil: 1"}"#)),
        ("a number", Reply::new(200, r#"{"token":1}"#)),
        ("endless", Reply::bad(Body::Endless(vec![b' '; 64 * 1024]))),
        ("refused", Reply::new(403, r#"{"details":"go away"}"#)),
    ];
    for (what, reply) in table {
        let issuer = Impostor::start(&[], move |_| Some(reply.clone()));
        let challenge = format!("Bearer realm=\"http://{}/token\",service=\"s\"", issuer.address());
        let reply = Reply::new(401, "{}").with("WWW-Authenticate", &challenge);
        let impostor = Impostor::start(&[], move |_| Some(reply.clone()));
        victim.refuses(what, &impostor, &["token", "go away", "403"]);
        assert!(impostor.seen().iter().all(|r| r.header("x-evil").is_none()));
    }
}

#[test]
fn a_location_that_is_no_url_is_refused() {
    let Some(victim) = Victim::ours() else { return };
    let artifact = Artifact::small("moved");
    for location in ["", "http://", "::::", "http://[::1", "ftp://127.0.0.1/x", "file:///etc/passwd", "//"] {
        let reply = Reply::new(307, "").with("Location", location);
        victim.refuses(location, &spoiling(&artifact, &artifact.layers[0], reply), &[""]);
    }
    let without = spoiling(&artifact, &artifact.layers[0], Reply::new(307, ""));
    victim.refuses("no Location at all", &without, &[""]);
    let round = Impostor::start(&[("team/x:v1", &artifact)], |request| {
        let moved = request.path().contains("/blobs/");
        moved.then(|| Reply::new(307, "").with("Location", request.path()))
    });
    victim.refuses("round and round", &round, &["redirect"]);
    assert!(round.seen().len() < 50, "{} requests", round.seen().len());
}

/// A daemon with a plugin to push, whose uploads an impostor answers as `reply` says.
#[track_caller]
fn fails_to_push(what: &str, reply: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static) -> String {
    let daemon = Daemon::start();
    let impostor = Impostor::start(&[], reply);
    let name = impostor.name("team/tiny:v1");
    daemon.install(&name, &daemon.tiny());
    let before = daemon.tree();
    let error = install::push(&daemon, &name, &Value::Null).failed();
    assert_eq!(daemon.http().look("/plugins").as_array().map(Vec::len), Some(1), "{what}");
    if daemon.is_ours() {
        assert_eq!(daemon.tree(), before, "{what}");
    }
    error
}

#[test]
fn an_upload_that_is_sent_nowhere_fails() {
    if Program::chosen() == Program::Dockerd {
        return;
    }
    for location in ["", "http://", "::::", "http://[::1", "file:///tmp/x"] {
        let error = fails_to_push(location, move |request| {
            (request.method == "POST").then(|| Reply::new(202, "").with("Location", location))
        });
        assert!(!error.is_empty());
    }
}

#[test]
fn an_upload_that_is_refused_fails_with_the_registrys_words() {
    let error = fails_to_push("refused", |request| {
        let words = r#"{"errors":[{"code":"DENIED","message":"no room for you here"}]}"#;
        (request.method == "POST").then(|| Reply::new(403, words).with("Content-Type", "application/json"))
    });
    // dockerd tells what became of its first attempt, over https.
    let dockerd = error.contains("server gave HTTP response to HTTPS client");
    assert!(
        error.contains("no room for you here") || (dockerd && Program::chosen() == Program::Dockerd),
        "{error}"
    );
}

#[test]
fn a_registry_that_refuses_everything_is_believed_with_its_words() {
    let Some(victim) = Victim::ours() else { return };
    for (status, word) in
        [(403, "no room for you here"), (404, "no room for you here"), (410, "no room for you here")]
    {
        let words = r#"{"errors":[{"code":"DENIED","message":"no room for you here"}]}"#;
        let reply = Reply::new(status, words).with("Content-Type", "application/json");
        let impostor = Impostor::start(&[], move |_| Some(reply.clone()));
        victim.refuses(&status.to_string(), &impostor, &[word]);
        let answer = install::privileges(&victim.daemon, &impostor.name("team/x:v1"), &Value::Null);
        assert!(answer.status >= 400 && answer.message().contains(word), "{}", answer.text());
    }
}

#[test]
fn a_registry_that_was_busy_for_a_moment_is_asked_again() {
    let Some(victim) = Victim::ours() else { return };
    let artifact = Artifact::small("busy");
    let seen = std::sync::Mutex::new(BTreeSet::new());
    // Every first answer is a refusal that will pass.
    let impostor = Impostor::start(&[("team/x:v1", &artifact)], move |request| {
        let first = seen.lock().unwrap().insert(request.line());
        let status = if request.path().contains("/blobs/") { 503 } else { 429 };
        first.then(|| Reply::new(status, "busy").with("Retry-After", "0"))
    });
    install::pull(&victim.daemon, &impostor.name("team/x:v1"), "x", &json!([]), &Value::Null).ok();
}

#[test]
fn a_download_that_breaks_goes_on_where_it_was() {
    let Some(victim) = Victim::ours() else { return };
    let noise: Vec<u8> = (0..200_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()).collect();
    let tar = Tar::new().with(&Entry::file("noise", &noise)).end();
    let artifact = with_layer(&tar, artifact::gzip(&tar));
    let (digest, bytes) = (artifact.layers[0].digest(), artifact.layers[0].bytes.clone());
    let impostor = Impostor::start(&[("team/x:v1", &artifact)], move |request| {
        if !request.path().ends_with(&digest) {
            return None;
        }
        let Some(range) = request.header("range") else {
            return Some(Reply::bad(Body::Cut(bytes.len(), bytes[..bytes.len() / 2].to_vec())));
        };
        let from: usize = range.strip_prefix("bytes=")?.split('-').next()?.parse().ok()?;
        let there = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
        Some(Reply::new(206, &bytes[from..]).with("Content-Range", &there))
    });
    install::pull(&victim.daemon, &impostor.name("team/x:v1"), "x", &json!([]), &Value::Null).ok();
    assert!(impostor.seen().iter().any(|r| r.header("range").is_some_and(|range| range != "bytes=0-")));
}

#[test]
fn a_registry_that_stalls_holds_nobody_else_up() {
    let Some(victim) = Victim::ours() else { return };
    let artifact = Artifact::small("stalled");
    let layer = &artifact.layers[0];
    let reply = Reply::bad(Body::Stalled(layer.bytes.len(), layer.bytes[..10].to_vec()));
    let impostor = spoiling(&artifact, layer, reply);
    let remote = impostor.name("team/x:v1");
    let target = format!("/plugins/pull?remote={remote}&name=x");
    let mut waiting = victim.daemon.http().open().unwrap();
    waiting.write(install::request("POST", &target, &Value::Null, Some(&json!([]))).as_bytes()).unwrap();
    let stalled = format!("/blobs/{}", layer.digest());
    let asked = || impostor.seen().iter().any(|r| r.path().ends_with(&stalled)).then_some(());
    until("the layer is asked for", asked);

    // Others are served meanwhile.
    let honest = Impostor::start(&[("team/y:v1", &Artifact::small("honest"))], |_| None);
    install::pull(&victim.daemon, &honest.name("team/y:v1"), "y", &json!([]), &Value::Null).ok();
    assert_eq!(victim.daemon.http().ask("DELETE", "/plugins/y").status, 200);

    // Whoever asked for it gives up: the name is free again, for somebody who is served.
    drop(waiting);
    let good = Impostor::start(&[("team/x:v1", &artifact)], |_| None);
    until("the name is free again", || {
        let outcome = install::pull(&victim.daemon, &good.name("team/x:v1"), "x", &json!([]), &Value::Null);
        outcome.error.is_none().then_some(())
    });
    assert_eq!(victim.daemon.http().ask("DELETE", "/plugins/x").status, 200);
    victim.assert_untouched("a stalled pull");
}
