//! Options by table: what is refused, what is mounted, and in which words it fails.

use super::*;

fn texts(pairs: &[(&str, &str)]) -> Texts {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn wanted(kind: &str, device: &str, o: &str) -> Option<Wanted> {
    Wanted::of(Some(&texts(&[("type", kind), ("device", device), ("o", o)])))
}

fn lookup(host: &str) -> Result<IpAddr, String> {
    match host {
        "nas" => Ok([192, 0, 2, 7].into()),
        "six" | "2001:db8::7" => Ok("2001:db8::7".parse().unwrap()),
        other => Err(format!("lookup {other}: no such host")),
    }
}

#[test]
fn options_are_checked_by_dockers_rules() {
    let check =
        |pairs: &[(&str, &str)]| check(Some(&texts(pairs))).map(drop).map_err(|problem| problem.to_string());
    assert!(super::check(None).is_ok());
    let good: [&[(&str, &str)]; 9] = [
        &[],
        &[("type", "tmpfs"), ("device", "tmpfs")],
        &[("type", ""), ("device", ":/x"), ("o", "addr=nope.invalid")],
        &[("type", "cifs"), ("device", "//some.example.com/thepath"), ("o", "foo")],
        &[("size", "0")],
        &[("size", "0.5b")],
        &[("size", "1.5 KiB")],
        &[("size", "0"), ("type", "tmpfs"), ("device", "tmpfs")],
        &[("size", "1m"), ("type", "none"), ("device", "none")],
    ];
    for options in good {
        assert_eq!(check(options), Ok(()), "{options:?}");
    }
    let of_mount = "\"size\" limits a volume's own directory, not what \"type\" and \"device\" mount there: leave it out; a \
        tmpfs takes its size in \"o\", as in \"o=size=100m\"";
    let bad: [(&[(&str, &str)], &str); 14] = [
        (&[("color", "red"), ("type", "nfs")], r#"invalid option: "color""#),
        (&[("TYPE", "tmpfs"), ("device", "x")], r#"invalid option: "TYPE""#),
        (&[("type", "nfs")], r#"missing required option: "device""#),
        (&[("device", "/x")], r#"missing required option: "type""#),
        (&[("o", "password=hunter2"), ("type", "cifs")], r#"missing required option: "device""#),
        (&[("o", "password=hunter2"), ("device", "x")], r#"missing required option: "type""#),
        (&[("size", "1m"), ("type", "nfs")], r#"missing required option: "device""#),
        (&[("size", "x"), ("type", "tmpfs"), ("device", "tmpfs")], "invalid size: 'x'"),
        (&[("size", "1m"), ("type", "tmpfs"), ("device", "tmpfs")], of_mount),
        (&[("size", "hello")], "invalid size: 'hello'"),
        (&[("size", "")], "invalid size: ''"),
        (&[("size", "-1k")], "invalid size: '-1k'"),
        (
            &[("type", "cifs"), ("device", "//host:445/x")],
            "port not allowed in CIFS device URL, include 'port' in 'o='",
        ),
        (
            &[("type", "ext4"), ("device", "/dev/loop0\0")],
            "the option \"device\" holds a zero byte, which no mount can have",
        ),
    ];
    for (options, expected) in bad {
        assert_eq!(check(options), Err(expected.to_owned()), "{options:?}");
    }
    let long = "x".repeat(DATA_MAX_BYTES + 1);
    let options = [("type", "overlay"), ("device", "overlay"), ("o", long.as_str())];
    let text = "\"o\" has 4096 bytes of options for the file system, expected at most 4095";
    assert_eq!(check(&options), Err(text.to_owned()));
    assert_eq!(check(&[("type", "overlay"), ("device", "overlay"), ("o", &long[1..])]), Ok(()));
}

#[test]
fn what_needs_no_mount_is_a_plain_directory() {
    assert!(Wanted::of(None).is_none());
    for (kind, device, o, is_mounted) in [
        ("", "", "", false),
        ("", "", "size=1m", false),
        ("none", "none", "", false),
        ("none", "none", "bind", true),
        ("tmpfs", "none", "", true),
        ("tmpfs", "", "", true),
        ("", "/x", "bind", true),
    ] {
        assert_eq!(wanted(kind, device, o).is_some(), is_mounted, "{kind} {device} {o}");
    }
    let text = wanted("tmpfs", "", "").unwrap().resolved(lookup).err().unwrap().to_string();
    assert_eq!(text, "missing device in volume options");
}

#[test]
fn names_of_hosts_become_addresses() {
    for (kind, device, o, expected) in [
        ("nfs", ":/path", "addr=nas,rw,nfsvers=4", ":/path addr=192.0.2.7,nfsvers=4"),
        ("nfs", ":/path", "addr=192.0.2.9", ":/path addr=192.0.2.9"),
        ("nfs", ":/path", "addr=six", ":/path addr=2001:db8::7"),
        ("nfs", ":/path", "addr=2001:db8::7", ":/path addr=2001:db8::7"),
        ("nfs", ":/path", "clientaddr=nas,addr=nas", ":/path clientaddr=nas,addr=192.0.2.7"),
        ("nfs", "nas:/path", "soft", "nas:/path soft"),
        ("nfs", ":/path", "addr=", ":/path addr="),
        ("cifs", "//nas/share", "username=me", "//192.0.2.7/share username=me"),
        ("cifs", "//other/share", "addr=nas", "//other/share addr=192.0.2.7"),
        ("cifs", "//nas/share", "addr=192.0.2.9", "//192.0.2.7/share addr=192.0.2.9"),
        ("ext4", "//nas/share", "addr=nas", "//nas/share addr=nas"),
    ] {
        let mount = wanted(kind, device, o).unwrap().resolved(lookup).ok().unwrap();
        assert_eq!(format!("{} {}", mount.device, mount.data), expected, "{kind} {device} {o}");
    }
    let unknown = wanted("nfs", ":/path", "addr=nope").unwrap().resolved(lookup).err().unwrap();
    let text = "error resolving passed in network volume address: lookup nope: no such host";
    assert_eq!(unknown.to_string(), text);
}

#[test]
fn attempts_are_told_in_dockers_words_without_secrets() {
    for (kind, device, o, expected) in [
        ("tmpfs", "tmpfs", "", &["mount tmpfs:/v/_data"][..]),
        ("tmpfs", "tmpfs", "size=1m,noexec,nosuid", &["mount tmpfs:/v/_data, flags: 0xa, data: size=1m"]),
        ("none", "/dir", "bind", &["mount /dir:/v/_data, flags: 0x1000"]),
        (
            "none",
            "/dir",
            "rbind,ro,rslave",
            &[
                "mount /dir:/v/_data, flags: 0x5001",
                "remount /v/_data, flags: 0x84000",
                "remount-ro /v/_data, flags: 0x5021",
            ],
        ),
        ("ext4", "/dev/loop0", "ro", &["mount /dev/loop0:/v/_data, flags: 0x1"]),
        (
            "cifs",
            "//me:hunter2@192.0.2.1/s",
            "username=me,password=hunter2",
            &["mount //me:********@192.0.2.1/s:/v/_data, data: username=me,password=********"],
        ),
    ] {
        let mount = wanted(kind, device, o).unwrap().resolved(lookup).ok().unwrap();
        let told: Vec<_> = mount.steps().into_iter().map(|step| mount.attempt(step, "/v/_data")).collect();
        assert_eq!(told, expected, "{kind} {device} {o}");
    }
}
