//! What the kernel says about a container's first process: whether it can hear SIGTERM, where its memory is counted.
//!
//! Facts: proc(5) for `status`, `cgroup` and `mountinfo`; `pid_namespaces(7)`: pid 1 of a pid namespace gets a signal
//! from outside only when it catches (or blocks) it, but for SIGKILL and SIGSTOP.

use std::fs::{File, read_to_string};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

/// Whether SIGTERM does anything to this process; true when that cannot be found out.
pub(super) fn hears_terminate(pid: i32) -> bool {
    read_to_string(format!("/proc/{pid}/status")).map_or(true, |status| !is_deaf(&status))
}

/// From the text of `/proc/PID/status`: pid 1 of its own pid namespace, neither catching SIGTERM nor blocking it
/// (a blocked signal waits for signalfd or sigwait).
fn is_deaf(status: &str) -> bool {
    let field = |name: &str| {
        status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    };
    let bit = 1_u64 << (nix::libc::SIGTERM - 1);
    let has = |name: &str| {
        field(name).and_then(|mask| u64::from_str_radix(mask, 16).ok()).is_none_or(|mask| mask & bit != 0)
    };
    let mut pids = field("NSpid").unwrap_or_default().split_whitespace().rev();
    let first_of_its_own = pids.next() == Some("1") && pids.next().is_some();
    first_of_its_own && !has("SigCgt") && !has("SigBlk")
}

/// The file that counts the OOM kills in the memory cgroup of this process, if there is one.
pub(super) fn oom_counter(pid: i32) -> Option<PathBuf> {
    let cgroups = read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    // Line by line: a machine with thousands of mounts must not cost the monitor their text.
    let mounts = BufReader::new(File::open("/proc/self/mountinfo").ok()?);
    mounts.lines().map_while(Result::ok).find_map(|mount| counter_below(&mount, &cgroups))
}

/// From one line of `mountinfo` and the text of `/proc/PID/cgroup`.
fn counter_below(mount: &str, cgroups: &str) -> Option<PathBuf> {
    let (fields, kind) = mount.split_once(" - ")?;
    let mut fields = fields.split(' ').skip(3);
    let (root, place) = (fields.next()?, fields.next()?);
    let mut kind = kind.split(' ');
    let (controller, file) = match (kind.next()?, kind.nth(1)?) {
        ("cgroup2", _) => ("", "memory.events"),
        ("cgroup", options) if options.split(',').any(|option| option == "memory") => {
            ("memory", "memory.oom_control")
        }
        _ => return None,
    };
    // A hybrid machine mounts cgroup2 too, without the memory controller, which has a line of its own then.
    let mut own = cgroups.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let has_memory = |controllers: &str| controllers.split(',').any(|one| one == "memory");
    if controller.is_empty() && own.clone().any(|(controllers, _)| has_memory(controllers)) {
        return None;
    }
    let (_, path) =
        own.find(
            |(controllers, _)| {
                if controller.is_empty() { controllers.is_empty() } else { has_memory(controllers) }
            },
        )?;
    let below = Path::new(path).strip_prefix(root).ok()?;
    Some(Path::new(place).join(below).join(file))
}

/// Whether the counter file says that something was killed.
pub(super) fn was_oom(counter: &Path) -> bool {
    read_to_string(counter).is_ok_and(|text| counts_kills(&text))
}

fn counts_kills(text: &str) -> bool {
    let count = text.lines().find_map(|line| line.strip_prefix("oom_kill ")).map(str::trim);
    count.is_some_and(|count| count != "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(pids: &str, caught: &str, blocked: &str) -> String {
        format!(
            "Name:\tx\nNSpid:\t{pids}\nSigBlk:\t{blocked}\nSigIgn:\t0000000000000000\nSigCgt:\t{caught}\n"
        )
    }

    #[test]
    fn only_pid_one_of_its_own_namespace_without_a_way_to_hear_is_deaf() {
        let (none, term) = ("0000000000000000", "0000000000004000");
        assert!(is_deaf(&status("4711 1", none, none)));
        assert!(is_deaf(&status("4711 33 1", "00000001ffffbfff", none)));
        assert!(!is_deaf(&status("4711 1", term, none)), "it catches");
        assert!(!is_deaf(&status("4711 1", none, term)), "it waits with signalfd or sigwait");
        assert!(!is_deaf(&status("4711", none, none)), "the machine's pid namespace");
        assert!(!is_deaf(&status("1", none, none)), "not a namespace of its own");
        assert!(!is_deaf(&status("4711 7", none, none)), "not pid 1");
        assert!(!is_deaf(""), "unknown");
        assert!(!is_deaf("NSpid:\t5 1\n"), "unknown masks");
    }

    #[test]
    fn the_counter_is_found_in_both_cgroup_versions() {
        let v1 = "41 30 0:36 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory";
        let cpu = "42 30 0:37 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct";
        let v2 = "43 30 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate";
        let inside = "44 30 0:38 /outer /sys/fs/cgroup rw - cgroup2 cgroup2 rw";
        let hybrid = "4:memory:/plugins/ab\n2:cpuacct,cpu:/x\n0::/\n";
        let unified = "0::/outer/ab\n";
        let found = |mount, cgroups| counter_below(mount, cgroups).map(|path| path.display().to_string());
        assert_eq!(found(v1, hybrid).unwrap(), "/sys/fs/cgroup/memory/plugins/ab/memory.oom_control");
        assert_eq!(found(cpu, hybrid), None);
        assert_eq!(found(v2, hybrid), None);
        assert_eq!(found(v2, unified).unwrap(), "/sys/fs/cgroup/outer/ab/memory.events");
        assert_eq!(found(inside, unified).unwrap(), "/sys/fs/cgroup/ab/memory.events");
        assert_eq!(found("garbage", unified), None);
        assert!(
            counts_kills("low 0\noom 1\noom_kill 2\n") && !counts_kills("oom_kill_disable 0\noom_kill 0\n")
        );
    }
}
