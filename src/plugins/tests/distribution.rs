//! Upgrades that a crash interrupts, and plugins that are saved and loaded.

use super::super::*;
use super::ground::{Ground, archive, create, tiny};
use crate::state::Change;

async fn bytes(mut saved: Saved) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(piece) = saved.recv().await {
        all.extend_from_slice(&piece.unwrap());
    }
    all
}

async fn load(plugins: &Plugins, alias: &str, tar: Vec<u8>, privileges: Vec<Privilege>) -> Result<PluginId> {
    let (report, _reports) = report::queue();
    plugins.load(alias.to_owned(), privileges, std::io::Cursor::new(tar), report).await
}

#[tokio::test]
async fn an_upgrade_that_a_crash_interrupts_is_undone_before_its_commit_and_finished_after_it() {
    let ground = Ground::new();
    let plugins = ground.open();
    let id = create(&plugins, "tiny", tiny("")).await.unwrap();
    let store = plugins.0.parts.store.clone();
    drop(plugins);
    let own = ground.data().plugin(&id);
    let old = own.path().join("rootfs-old");
    for is_begun in [true, false] {
        let change = if is_begun {
            std::fs::rename(own.rootfs(), &old).unwrap();
            std::fs::create_dir(own.rootfs()).unwrap();
            std::fs::write(own.rootfs().join("new"), "").unwrap();
            Change::new().put(upgrade::UPGRADES, id.as_str(), &true).unwrap()
        } else {
            std::fs::create_dir(&old).unwrap();
            Change::new().delete(upgrade::UPGRADES, id.as_str())
        };
        store.commit(change).await.unwrap();
        let plugins = ground.open();
        assert!(own.rootfs().join("tiny").is_file(), "{is_begun}");
        assert!(!own.rootfs().join("new").exists(), "{is_begun}");
        assert!(!old.exists(), "{is_begun}");
        assert_eq!(plugins.inspect("tiny").unwrap().id, id);
    }
}

#[tokio::test]
async fn what_was_saved_is_loaded_byte_for_byte_with_consent() {
    let ground = Ground::new();
    let plugins = ground.open();
    create(&plugins, "one", super::context(&serde_json::json!({"network": {"type": "host"}}))).await.unwrap();
    let record = plugins.0.shelf.find("one").unwrap().record();
    let tar = bytes(plugins.save("one").await.unwrap()).await;
    plugins.remove("one", false).await.unwrap();
    assert!(ground.is_empty());

    let host = vec![Privilege {
        name: "network".to_owned(),
        description: String::new(),
        value: vec!["host".to_owned()],
    }];
    let error = load(&plugins, "", tar.clone(), Vec::new()).await.unwrap_err();
    assert!(matches!(error, Error::Privileges(_)), "{error:?}");
    assert!(ground.is_empty());
    load(&plugins, "", tar.clone(), host.clone()).await.unwrap();
    load(&plugins, "two:v2", tar.clone(), host.clone()).await.unwrap();
    let error = load(&plugins, "two:v2", tar, host).await.unwrap_err();
    assert_eq!(error.to_string(), "plugin two:v2 already exists");
    for name in ["one", "two:v2"] {
        let loaded = plugins.0.shelf.find(name).unwrap().record();
        assert!(loaded.blobs().eq(record.blobs()), "{name}");
        plugins.remove(name, false).await.unwrap();
    }
    assert!(ground.is_empty());
}

#[tokio::test]
async fn what_is_no_saved_plugin_is_refused_and_leaves_nothing() {
    let ground = Ground::new();
    let plugins = ground.open();
    let digest = crate::oci::Digest::of(b"x");
    let blob = format!("blobs/sha256/{}", digest.hex());
    let index = |size: u64| {
        let manifest = "application/vnd.oci.image.manifest.v1+json";
        let entry = serde_json::json!({ "mediaType": manifest, "digest": digest, "size": size });
        serde_json::json!({ "schemaVersion": 2, "manifests": [entry] }).to_string().into_bytes()
    };
    let cases: [(Vec<u8>, &str); 6] = [
        (Vec::new(), "it has no index.json"),
        (archive(&[("index.json", b"{")]), "index.json: "),
        (archive(&[("index.json", &index(1))]), "is missing"),
        (archive(&[(&blob, b"y")]), "has the digest"),
        (archive(&[("blobs/sha256/zz", b"y")]), "invalid checksum digest length"),
        (archive(&[(&blob, b"x"), ("index.json", &index(1))]), "invalid manifest"),
    ];
    for (tar, expected) in cases {
        let error = crate::error::chain(&load(&plugins, "a", tar, Vec::new()).await.unwrap_err());
        assert!(error.contains(expected), "{error}, expected {expected}");
        assert!(ground.is_empty(), "{expected}");
    }
}
