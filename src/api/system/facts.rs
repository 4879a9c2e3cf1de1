//! What does not change while the daemon runs: who it is, how it was started, and on what machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What does not change while the daemon runs.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Who this daemon is, over all restarts.
    pub id: String,
    /// Whether it logs at debug level.
    pub debug: bool,
    /// Whether plugins outlive it.
    pub live_restore: bool,
    /// What must survive a reboot lies here.
    pub data_root: PathBuf,
    /// All runtimes: program by name.
    pub runtimes: BTreeMap<String, PathBuf>,
    /// Names of variables of plugins whose values are not shown; `*` is anything.
    pub redact_env: Vec<String>,
    /// Where it listens, as `scheme://address`.
    pub addresses: Vec<String>,
    /// The machine.
    pub machine: Machine,
}

/// The machine, asked once.
#[derive(Debug, Clone, Default)]
pub struct Machine {
    /// What `uname -n` says.
    pub name: String,
    /// What `uname -r` says.
    pub kernel: String,
    /// What `uname -m` says, as in `x86_64`.
    pub architecture: String,
    /// `PRETTY_NAME` of os-release.
    pub system: String,
    /// `VERSION_ID` of os-release.
    pub system_version: String,
    /// Processors this process may use.
    pub processors: usize,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// `1` or `2`.
    pub cgroup_version: &'static str,
    /// Whether packets are forwarded.
    pub forwards_ipv4: bool,
}

impl Machine {
    /// Asks the machine; what it does not tell stays empty.
    pub fn ask() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let names = nix::sys::utsname::uname().ok();
        let name = |of: fn(&nix::sys::utsname::UtsName) -> &std::ffi::OsStr| {
            names.as_ref().map_or_else(String::new, |names| of(names).to_string_lossy().into_owned())
        };
        let release = read("/etc/os-release");
        let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        Self {
            name: name(|names| names.nodename()),
            kernel: name(|names| names.release()),
            architecture: name(|names| names.machine()),
            system: os_release(&release, "PRETTY_NAME").unwrap_or_else(|| "Linux".to_owned()),
            system_version: os_release(&release, "VERSION_ID").unwrap_or_default(),
            processors: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            memory_bytes: memory_bytes(&read("/proc/meminfo")).unwrap_or_default(),
            cgroup_version: if unified { "2" } else { "1" },
            forwards_ipv4: read("/proc/sys/net/ipv4/ip_forward").trim() == "1",
        }
    }

    /// The architecture in Go's words, as `/version` tells it.
    pub fn go_architecture(&self) -> &str {
        match self.architecture.as_str() {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "i386" | "i486" | "i586" | "i686" => "386",
            "loongarch64" => "loong64",
            arm if arm.starts_with("armv") => "arm",
            // ppc64le, riscv64, s390x and the rest are the same in both.
            same => same,
        }
    }
}

/// A value of os-release(5), without its quotes.
fn os_release(content: &str, key: &str) -> Option<String> {
    let value = content.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
    Some(value.trim().trim_matches(['"', '\'']).to_owned())
}

/// `MemTotal` of /proc/meminfo.
fn memory_bytes(content: &str) -> Option<u64> {
    let line = content.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_machine_are_read() {
        let release = "NAME=Debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID='12'\n";
        assert_eq!(os_release(release, "PRETTY_NAME").unwrap(), "Debian GNU/Linux 12 (bookworm)");
        assert_eq!(os_release(release, "VERSION_ID").unwrap(), "12");
        assert_eq!(os_release(release, "NO"), None);
        assert_eq!(memory_bytes("MemFree: 1 kB\nMemTotal:       24 kB\n"), Some(24 * 1024));
        assert_eq!(memory_bytes("MemTotal: many\n"), None);
        let machine = Machine::ask();
        assert!(!machine.kernel.is_empty() && machine.memory_bytes > 0 && machine.processors > 0);
    }

    #[test]
    fn architectures_have_go_names() {
        for (uname, go) in [("x86_64", "amd64"), ("armv7l", "arm"), ("riscv64", "riscv64")] {
            let machine = Machine { architecture: uname.into(), ..Machine::default() };
            assert_eq!(machine.go_architecture(), go);
        }
    }
}
