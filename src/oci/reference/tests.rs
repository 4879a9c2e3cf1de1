//! Docker's grammar in tables, and what must hold for every text.

use super::*;
use proptest::prelude::*;

const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn parse(text: &str) -> Result<Reference> {
    text.parse()
}

#[test]
fn a_short_name_is_completed_and_shown_short_again() {
    let digest = format!("@sha256:{HEX}");
    let cases = [
        ("rclone", "docker.io/library/rclone", "rclone"),
        ("library/rclone", "docker.io/library/rclone", "rclone"),
        ("docker.io/rclone:1", "docker.io/library/rclone:1", "rclone:1"),
        ("index.docker.io/rclone", "docker.io/library/rclone", "rclone"),
        ("index.docker.io/a/b", "docker.io/a/b", "a/b"),
        ("docker.io/library/a/b", "docker.io/library/a/b", "library/a/b"),
        ("vieux/sshfs:latest", "docker.io/vieux/sshfs:latest", "vieux/sshfs:latest"),
        ("localhost/a", "localhost/a", "localhost/a"),
        ("localhost:5000", "docker.io/library/localhost:5000", "localhost:5000"),
        ("localhost:5000/a/b:t", "localhost:5000/a/b:t", "localhost:5000/a/b:t"),
        ("host:5000/a", "host:5000/a", "host:5000/a"),
        ("127.0.0.1:5000/a", "127.0.0.1:5000/a", "127.0.0.1:5000/a"),
        ("[::1]:5000/a:t", "[::1]:5000/a:t", "[::1]:5000/a:t"),
        ("[2001:DB8::1]/a", "[2001:DB8::1]/a", "[2001:DB8::1]/a"),
        ("Registry.Example/a", "Registry.Example/a", "Registry.Example/a"),
        ("Host/a", "Host/a", "Host/a"),
        ("LOCALHOST/a", "LOCALHOST/a", "LOCALHOST/a"),
        ("a-b.c-d:1/e", "a-b.c-d:1/e", "a-b.c-d:1/e"),
        ("a_b/c__d/e---f.g", "docker.io/a_b/c__d/e---f.g", "a_b/c__d/e---f.g"),
        ("a:B_.-9", "docker.io/library/a:B_.-9", "a:B_.-9"),
        ("a:_", "docker.io/library/a:_", "a:_"),
        // A short form that would mean another registry, or nothing, is not short.
        ("docker.io/a.b/c", "docker.io/a.b/c", "docker.io/a.b/c"),
        ("docker.io/localhost/c", "docker.io/localhost/c", "docker.io/localhost/c"),
    ];
    for (typed, canonical, familiar) in cases {
        for suffix in ["", &digest] {
            let reference = parse(&format!("{typed}{suffix}")).unwrap();
            assert_eq!(reference.to_string(), format!("{canonical}{suffix}"));
            assert_eq!(reference.familiar(), format!("{familiar}{suffix}"));
        }
    }
}

#[test]
fn the_parts_are_what_was_typed() {
    let reference = parse(&format!("[::1]:5000/a/b:t@sha256:{HEX}")).unwrap();
    assert_eq!((reference.domain(), reference.path()), ("[::1]:5000", "a/b"));
    assert_eq!((reference.tag(), reference.digest()), (Some("t"), Some(&Digest::of(b""))));
    assert_eq!(reference.name(), "[::1]:5000/a/b");
    let reference = parse("rclone").unwrap();
    assert_eq!((reference.tag(), reference.digest()), (None, None));
    assert_eq!(parse("rclone:1").unwrap().familiar_name(), "rclone");
    assert_eq!(parse(&format!("{HEX}:1")).unwrap().familiar_name(), format!("docker.io/library/{HEX}"));
    assert_eq!(parse(&format!("{HEX}:1")).unwrap().familiar(), format!("{HEX}:1"));
}

#[test]
fn latest_is_meant_when_neither_tag_nor_digest_is_given() {
    let completed = |text: &str| parse(text).unwrap().with_default_tag().familiar();
    assert_eq!(completed("rclone"), "rclone:latest");
    assert_eq!(completed("rclone:1"), "rclone:1");
    assert_eq!(completed(&format!("rclone@sha256:{HEX}")), format!("rclone@sha256:{HEX}"));
    let pinned = parse("rclone:1").unwrap().with_digest(Digest::of(b""));
    assert_eq!(pinned.familiar(), format!("rclone:1@sha256:{HEX}"));
}

#[test]
fn everything_else_is_refused_in_dockers_words() {
    let plain = [
        "",
        "/",
        "a/",
        "/a",
        "a//b",
        ":a",
        "a:",
        "@",
        "a@",
        "a@b",
        "a b",
        "a:b:c",
        "a:b/c",
        "-a",
        "a-",
        "_a",
        "a_",
        ".a",
        "a.",
        "a..b",
        "a___b",
        "a._b",
        "a_-b",
        "é",
        "ａ",
        "a:é",
        "a:.b",
        "a:-b",
        "host:x/a",
        "host:/a",
        "a_b.c/d",
        "-a.b/c",
        "a-.b/c",
        "a..b/c",
        ".a/b",
        "[]/a",
        "[::1/a",
        "::1/a",
        "[::1]5000/a",
        "[::1]:/a",
        "[::g]/a",
        "[fe80::1%eth0]/a",
        "docker.io/",
        "localhost/",
        "http://host/a",
        "a@sha256:12",
        "a/../b",
        "a\n",
        "a\0",
        "é.com/a",
        "A_b/c",
    ];
    for text in plain {
        assert_eq!(parse(text).unwrap_err().to_string(), "invalid reference format", "{text:?}");
    }
    let told = [
        ("Foo", "invalid reference format: repository name (library/Foo) must be lowercase"),
        ("a/Foo:t", "invalid reference format: repository name (a/Foo) must be lowercase"),
        ("host:1/Foo", "invalid reference format: repository name (Foo) must be lowercase"),
        ("É", "invalid reference format: repository name (library/É) must be lowercase"),
        ("a@SHA256:0", "invalid reference format: repository name (library/a@SHA256) must be lowercase"),
    ];
    for (text, expected) in told {
        assert_eq!(parse(text).unwrap_err().to_string(), expected);
    }
    let expected = format!("invalid repository name ({HEX}), cannot specify 64-byte hexadecimal strings");
    assert_eq!(parse(HEX).unwrap_err().to_string(), expected);
}

#[test]
fn a_digest_is_a_sha256() {
    let cases = [
        (format!("a@sha512:{HEX}{HEX}"), "unsupported digest algorithm"),
        (format!("a@md5:{}", &HEX[..32]), "unsupported digest algorithm"),
        (format!("a@sha256:{}", &HEX[..63]), "invalid checksum digest length"),
        (format!("a@sha256:{}", HEX.to_uppercase()), "invalid checksum digest format"),
    ];
    for (text, expected) in cases {
        let error = parse(&text).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{text}: {error}");
    }
}

#[test]
fn lengths_are_limited() {
    let a = |count: usize| "a".repeat(count);
    assert!(parse(&a(PATH_MAX_BYTES - OFFICIAL.len())).is_ok());
    assert!(parse(&format!("host.example/{}", a(PATH_MAX_BYTES))).is_ok());
    for too_long in [a(PATH_MAX_BYTES - OFFICIAL.len() + 1), format!("h.example/{}", a(PATH_MAX_BYTES + 1))] {
        let error = parse(&too_long).unwrap_err().to_string();
        assert_eq!(error, "repository name must not be more than 255 characters");
    }
    assert!(parse(&format!("a:{}", a(TAG_MAX_BYTES))).is_ok());
    assert_eq!(parse(&format!("a:{}", a(TAG_MAX_BYTES + 1))), Err(Error::ReferenceFormat));
    assert_eq!(parse(&"A".repeat(REFERENCE_MAX_BYTES + 1)), Err(Error::ReferenceFormat));
}

#[test]
fn json_is_the_canonical_text_and_is_checked() {
    let reference = parse("rclone:1").unwrap();
    let json = serde_json::to_string(&reference).unwrap();
    assert_eq!(json, "\"docker.io/library/rclone:1\"");
    assert_eq!(serde_json::from_str::<Reference>(&json).unwrap(), reference);
    assert!(serde_json::from_str::<Reference>("\"a/../b\"").is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn canonical_and_familiar_mean_the_same(
        text in "((docker\\.io|localhost|Host|a\\.b(:1)?|\\[::1\\]:5)/)?((library|localhost|c\\.d|e)/){0,2}[a-f0-9]{1,3}(__|\\.|-{1,3})?[a-z0-9]{1,2}(:[A-Za-z0-9_][a-z.-]{0,3})?(@sha256:[0-9a-f]{64})?",
    ) {
        let reference = parse(&text).unwrap();
        prop_assert_eq!(parse(&reference.to_string()), Ok(reference.clone()));
        prop_assert_eq!(parse(&reference.familiar()), Ok(reference.clone()));
        let name = parse(&reference.familiar_name()).unwrap();
        prop_assert_eq!(name.to_string(), reference.name());
    }

    #[test]
    fn parsing_never_panics_and_what_it_takes_is_plain(text in "([a-bA\\[\\]:/@._é-]|\\PC|sha256:|[0-9a-f]{32}){0,20}") {
        if let Ok(reference) = parse(&text) {
            prop_assert!(reference.to_string().is_ascii());
            prop_assert!(!reference.path().split('/').any(|part| part == ".." || part == "." || part.is_empty()));
            prop_assert_eq!(parse(&reference.to_string()), Ok(reference.clone()));
            prop_assert_eq!(parse(&reference.familiar()), Ok(reference.clone()));
        }
    }
}
