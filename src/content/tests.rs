//! The promises of the content store, on real files.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::error::{Classified, Kind, chain};
use crate::oci::{Descriptor, MediaType};

fn temporary() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("content")).unwrap();
    (directory, store)
}

fn files(directory: &tempfile::TempDir, below: &str) -> Vec<String> {
    let entries = std::fs::read_dir(directory.path().join("content").join(below)).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn expected(digest: Digest, size: u64) -> Descriptor {
    Descriptor { media_type: MediaType::PluginConfig, digest, size }
}

fn nothing() -> HashSet<Digest> {
    HashSet::new()
}

#[test]
fn a_blob_is_where_its_digest_says() {
    let (directory, store) = temporary();
    let blob = store.put(b"{}").unwrap();
    assert_eq!((blob.digest, blob.size_bytes), (Digest::of(b"{}"), 2));
    assert_eq!(files(&directory, "blobs/sha256"), [blob.digest.hex()]);
    assert_eq!(files(&directory, "ingest"), [""; 0]);
    let path = directory.path().join("content/blobs/sha256").join(blob.digest.hex());
    assert_eq!(std::fs::read(&path).unwrap(), b"{}");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let content = std::fs::metadata(directory.path().join("content")).unwrap();
    assert_eq!(content.permissions().mode() & 0o777, 0o700);
    assert_eq!(store.read(&blob.digest, 2).unwrap(), b"{}");
    assert_eq!(store.open_blob(&blob.digest).unwrap().1, 2);
    assert!(store.contains(&blob.digest));
}

#[test]
fn the_same_content_may_come_twice() {
    let (directory, store) = temporary();
    let first = store.put(b"x").unwrap();
    let (mut opened, _) = store.open_blob(&first.digest).unwrap();
    let second = store.put(b"x").unwrap();
    assert_eq!(first.digest, second.digest);
    assert_eq!(files(&directory, "blobs/sha256").len(), 1);
    let mut bytes = Vec::new();
    opened.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"x");
}

#[test]
fn many_small_and_some_large_writes_give_the_whole() {
    let (_directory, store) = temporary();
    let mut writer = store.writer().unwrap();
    let mut all = Vec::new();
    for length in [1, 3, 70_000, 0, 300_000, 2, 1_000_000] {
        let piece: Vec<u8> = (0..=u8::MAX).cycle().take(length).collect();
        writer.write_all(&piece).unwrap();
        all.extend(piece);
    }
    let size = u64::try_from(all.len()).unwrap();
    assert_eq!(writer.size_bytes(), size);
    let blob = writer.commit(Some(&expected(Digest::of(&all), size))).unwrap();
    assert_eq!(store.read(&blob.digest, size).unwrap(), all);
}

#[test]
fn what_is_not_expected_gets_no_name_and_both_values_are_told() {
    let (directory, store) = temporary();
    let write = || {
        let mut writer = store.writer().unwrap();
        writer.write_all(b"abc").unwrap();
        writer
    };
    let (got, other) = (Digest::of(b"abc"), Digest::of(b"abd"));
    let error = write().commit(Some(&expected(other, 3))).unwrap_err();
    assert_eq!(error.to_string(), format!("the content has the digest {got}, expected {other}"));
    assert_eq!(error.kind(), Kind::Invalid);
    let error = write().commit(Some(&expected(got, 4))).unwrap_err();
    assert_eq!(error.to_string(), "the content has 3 bytes, expected 4");
    assert!(!store.contains(&got));
    assert_eq!(files(&directory, "ingest"), [""; 0]);
    assert_eq!(files(&directory, "blobs/sha256"), [""; 0]);
}

#[test]
fn nobody_writes_more_than_was_promised() {
    let (directory, store) = temporary();
    let mut writer = store.writer().unwrap().limited(4);
    writer.write_all(b"abcd").unwrap();
    let error = writer.write_all(b"e").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    assert_eq!(error.to_string(), "the content has more than the 4 bytes that are allowed");
    drop(writer);
    assert_eq!(files(&directory, "ingest"), [""; 0]);
}

#[test]
fn a_half_written_blob_is_gone_when_dropped_and_swept_after_a_crash() {
    let (directory, store) = temporary();
    let mut writer = store.writer().unwrap();
    writer.write_all(&vec![0; 1_000_000]).unwrap();
    assert_eq!(files(&directory, "ingest").len(), 1);
    drop(writer);
    assert_eq!(files(&directory, "ingest").len(), 0);

    let left = store.put(b"whole").unwrap().digest;
    std::fs::write(directory.path().join("content/ingest/crashed"), b"half").unwrap();
    drop(store);
    let store = Store::open(&directory.path().join("content")).unwrap();
    assert_eq!(files(&directory, "ingest").len(), 0);
    assert!(store.contains(&left));
}

#[test]
fn reading_is_limited_and_checked() {
    let (directory, store) = temporary();
    let blob = store.put(b"four").unwrap();
    assert!(matches!(store.read(&blob.digest, 3), Err(Error::TooLarge { size_bytes: 4, limit_bytes: 3 })));
    let missing = Digest::of(b"missing");
    for error in [store.read(&missing, 9).unwrap_err(), store.open_blob(&missing).unwrap_err()] {
        assert_eq!(error.kind(), Kind::NotFound);
    }
    let path = directory.path().join("content/blobs/sha256").join(blob.digest.hex());
    std::fs::write(&path, b"five").unwrap();
    let error = store.read(&blob.digest, 4).unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    // Storing the content again repairs it.
    let again = store.put(b"four").unwrap();
    assert_eq!(store.read(&again.digest, 4).unwrap(), b"four");
}

#[test]
fn a_link_in_the_place_of_a_blob_is_not_followed() {
    let (directory, store) = temporary();
    let digest = Digest::of(b"secret");
    let path = directory.path().join("content/blobs/sha256").join(digest.hex());
    let secret = directory.path().join("secret");
    std::fs::write(&secret, b"secret").unwrap();
    std::os::unix::fs::symlink(&secret, &path).unwrap();
    let error = store.open_blob(&digest).unwrap_err();
    assert!(chain(&error).starts_with("opening the blob"), "{error}");
}

#[test]
fn only_what_nobody_needs_is_collected() {
    let (_directory, store) = temporary();
    let named = store.put(b"named").unwrap().digest;
    let pinned = store.put(b"pinned").unwrap();
    let garbage = store.put(b"garbage").unwrap().digest;
    let mut half = store.writer().unwrap();
    half.write_all(b"half").unwrap();

    assert_eq!(store.collect(|| HashSet::from([named])).unwrap(), 7);
    assert!(store.contains(&named) && store.contains(&pinned.digest) && !store.contains(&garbage));
    assert_eq!(store.pin(&garbage).unwrap_err().kind(), Kind::NotFound);

    let again = pinned.pin.clone();
    drop(pinned);
    assert_eq!(store.collect(|| HashSet::from([named])).unwrap(), 0);
    drop(again);
    assert_eq!(store.collect(nothing).unwrap(), 11);
    let half = half.commit(None).unwrap();
    assert_eq!(store.digests().unwrap(), [half.digest]);
}

#[test]
fn a_blob_that_is_unpinned_while_records_are_looked_at_is_kept() {
    let (_directory, store) = temporary();
    let pinned = store.put(b"old").unwrap();
    let old = pinned.digest;
    let mut new = None;
    let freed = store.collect(|| {
        // The collector has looked at the records, and then two plugins get theirs.
        let seen = nothing();
        drop(pinned);
        new = Some(store.put(b"new").unwrap().digest);
        seen
    });
    assert_eq!(freed.unwrap(), 0);
    assert!(store.contains(&old) && store.contains(&new.unwrap()));
    assert_eq!(store.collect(nothing).unwrap(), 6);
}

#[test]
fn a_committed_blob_survives_collections_from_all_sides() {
    const BLOBS: u32 = 200;
    let (_directory, store) = temporary();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for number in 0..BLOBS {
                // The same few blobs again and again, so that commits meet removals of the same name.
                let bytes = (number % 3).to_be_bytes();
                let blob = store.put(&bytes).unwrap();
                assert_eq!(store.read(&blob.digest, 4).unwrap(), bytes);
            }
        });
        while !writer.is_finished() {
            store.collect(nothing).unwrap();
        }
    });
}

#[test]
fn a_foreign_file_among_the_blobs_is_left_alone() {
    let (directory, store) = temporary();
    std::fs::write(directory.path().join("content/blobs/sha256/README"), b"").unwrap();
    assert_eq!(store.collect(nothing).unwrap(), 0);
    assert_eq!(files(&directory, "blobs/sha256"), ["README"]);
}
