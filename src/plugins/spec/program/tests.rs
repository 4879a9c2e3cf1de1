//! Programs that can run and those that cannot, in a root file system of a few lines.

use std::collections::BTreeMap;
use std::io;

use super::super::host::DeviceNode;
use super::*;

const X86: &[u8] = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0";
const ARM: &[u8] = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\xb7\0";
const S390: &[u8] = b"\x7fELF\x02\x02\x01\0\0\0\0\0\0\0\0\0\0\x02\0\x16";

#[derive(Default)]
struct Files(BTreeMap<&'static str, (Option<Entry>, &'static [u8])>);

impl Files {
    fn file(mut self, path: &'static str, mode: u32, head: &'static [u8]) -> Self {
        self.0.insert(path, (Some(Entry::File(mode)), head));
        self
    }

    fn link(mut self, path: &'static str, target: &str) -> Self {
        self.0.insert(path, (Some(Entry::Link(target.into())), b""));
        self
    }

    fn entry(mut self, path: &'static str, entry: Entry) -> Self {
        self.0.insert(path, (Some(entry), b""));
        self
    }
}

impl Tree for Files {
    fn look(&self, path: &Path) -> Option<Entry> {
        let path = path.to_str().unwrap();
        let is_above = self.0.keys().any(|known| known.starts_with(&format!("{path}/")));
        self.0.get(path).map_or(is_above.then_some(Entry::Directory), |found| found.0.clone())
    }

    fn head(&self, path: &Path) -> Option<Vec<u8>> {
        self.0.get(path.to_str()?).map(|found| found.1.to_vec())
    }
}

/// A host that runs what begins with `emu` too.
struct Fake;

impl Host for Fake {
    fn exists(&self, _path: &Path) -> bool {
        true
    }

    fn devices(&self, _path: &Path) -> io::Result<Vec<DeviceNode>> {
        Ok(Vec::new())
    }

    fn architecture(&self) -> &'static str {
        "x86_64"
    }

    fn interprets(&self, head: &[u8]) -> bool {
        head.starts_with(b"emu")
    }
}

fn files() -> Files {
    Files::default()
        .file("/p", 0o755, X86)
        .file("/plain", 0o644, X86)
        .file("/arm", 0o755, ARM)
        .file("/s390", 0o755, S390)
        .file("/text", 0o755, b"echo hello\n")
        .file("/empty", 0o755, b"")
        .file("/emulated", 0o755, b"emu")
        .file("/usr/bin/tool", 0o755, X86)
        .file("/usr/local/bin/tool", 0o644, X86)
        .file("/usr/bin/sh", 0o755, X86)
        .file("/work/run", 0o755, b"#! ../p -x\nyes\n")
        .file("/good.sh", 0o755, b"#!/bin/sh\necho\n")
        .file("/bash.sh", 0o755, b"#!/bin/bash -e\n")
        .file("/dos.sh", 0o755, b"#!/bin/sh\r\n")
        .file("/arm.sh", 0o755, b"#!/arm\n")
        .file("/twice.sh", 0o755, b"#!/good.sh\n")
        .file("/thrice.sh", 0o755, b"#!/bash.sh\n")
        .file("/itself.sh", 0o755, b"#!/itself.sh\n")
        .link("/bin", "usr/bin")
        .link("/climbs", "../../../p")
        .link("/nowhere", "/gone/p")
        .link("/circle", "circle")
        .link("/through", "/host/p")
        .link("/var", "/data")
        .entry("/data/p", Entry::Directory)
        .entry("/pipe", Entry::Other("named pipe"))
        .entry("/secret", Entry::Unknown)
}

fn judge(name: &str, cwd: &str, mounts: &[&str]) -> Result<(), String> {
    let env = ["PATH=/usr/local/bin:/bin".to_owned()];
    let mounts: Vec<PathBuf> = mounts.iter().map(PathBuf::from).collect();
    let program = Program { name, cwd, env: &env, mounts: &mounts };
    check(&program, &Fake, &files()).map_err(|error| error.to_string())
}

#[test]
fn what_can_run_or_cannot_be_judged_is_let_through() {
    for name in [
        "/p",
        "//./p",
        "/../p",
        "/climbs",
        "/bin/sh",
        "tool",
        "/emulated",
        "/good.sh",
        "/twice.sh",
        "./p",
        "/secret",
    ] {
        assert_eq!(judge(name, "", &[]), Ok(()), "{name}");
    }
    assert_eq!(judge("./run", "/work", &[]), Ok(()));
    assert_eq!(judge("/itself.sh", "", &[]), Ok(()), "the kernel will say it");
    for (name, mount) in [
        ("/host/p", "/host"),
        ("/through", "/host"),
        ("/data/x", "/var"),
        ("/var/x", "/data"),
        ("/no", "/no"),
    ] {
        assert_eq!(judge(name, "", &[mount]), Ok(()), "{name} {mount}");
    }
}

#[test]
fn what_cannot_run_is_named_with_what_is_wrong() {
    let cases = [
        ("/nope", "\"/nope\": no such file in the plugin's rootfs: put it there"),
        ("/p/below", "\"/p/below\": no such file"),
        ("/nowhere", "\"/nowhere\": no such file"),
        ("/circle", "\"/circle\": no such file"),
        ("nope", "\"nope\": no such file in the plugin's rootfs in the directories of PATH: "),
        ("/usr", "\"/usr\": is a directory, expected an executable file"),
        ("/pipe", "\"/pipe\": is a named pipe, expected"),
        ("/plain", "\"/plain\": has the mode 0644, expected an executable file: chmod +x"),
        (
            "/arm",
            "\"/arm\": is a program for aarch64, this host is x86_64: install the plugin's version for x86_64",
        ),
        ("/s390", "\"/s390\": is a program for s390x, this host is x86_64"),
        ("/text", "\"/text\": is neither an ELF program nor a script"),
        ("/empty", "\"/empty\": is neither"),
        ("/bash.sh", "\"/bash.sh\": its interpreter \"/bin/bash\": no such file"),
        ("/dos.sh", "\"/dos.sh\": its interpreter \"/bin/sh\\r\": no such file"),
        ("/arm.sh", "\"/arm.sh\": its interpreter \"/arm\": is a program for aarch64"),
        (
            "/thrice.sh",
            "\"/thrice.sh\": its interpreter \"/bash.sh\": its interpreter \"/bin/bash\": no such file",
        ),
    ];
    for (name, expected) in cases {
        let error = judge(name, "", &[]).unwrap_err();
        assert!(error.starts_with(&format!("entrypoint {expected}")), "{name}: {error}");
    }
}

#[test]
fn machines_are_known_by_their_codes() {
    for (architecture, code, expected) in [
        ("x86_64", 62, true),
        ("x86_64", 3, true),
        ("x86_64", 183, false),
        ("aarch64", 183, true),
        ("aarch64", 40, true),
        ("aarch64", 62, false),
        ("sparc64", 62, true),
    ] {
        assert_eq!(runs(architecture, code), expected, "{architecture} {code}");
    }
    assert_eq!(machine(b"\x7fELF"), None);
    assert_eq!(called(9999), "another machine (ELF machine 9999)");
}
