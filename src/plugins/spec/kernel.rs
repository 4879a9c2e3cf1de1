//! What confinement has to know of the kernel, and of what this process may do with it.
//!
//! Facts: proc(5); `oom_score_adj` in `Documentation/filesystems/proc.rst` of Linux: lowering it below what somebody
//! with `CAP_SYS_RESOURCE` has set last is for those who have it too, and that mark is inherited and cannot be read.

use std::fs::read_to_string;
use std::path::Path;

/// The bit of `CAP_SYS_RESOURCE` in a mask of capabilities.
const SYS_RESOURCE: u64 = 1 << 24;
/// The file that a memory cgroup of version 1 has when swap is counted.
const SWAP_V1: &str = "/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes";

/// The kernel, and our place in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kernel {
    /// The first two numbers of its version; zeros when they cannot be read.
    pub version: (u32, u32),
    /// Whether it filters system calls.
    pub has_seccomp: bool,
    /// Whether a cgroup can limit the swap that is used.
    pub limits_swap: bool,
    /// The daemon's own `oom_score_adj`.
    pub oom_score_adj: i32,
    /// Whether the daemon may give any `oom_score_adj` to others.
    pub lowers_oom_score: bool,
}

impl Kernel {
    /// Asks the one we run on. What cannot be read is taken for the case in which less is done.
    pub fn ask() -> Self {
        let read = |path: &str| read_to_string(path).unwrap_or_default();
        let status = read("/proc/self/status");
        Self {
            version: version(&read("/proc/sys/kernel/osrelease")),
            has_seccomp: field(&status, "Seccomp").is_some(),
            limits_swap: Path::new(SWAP_V1).exists() || has_swap_v2(&read("/proc/self/cgroup")),
            oom_score_adj: read("/proc/self/oom_score_adj").trim().parse().unwrap_or_default(),
            lowers_oom_score: may_lower(&status, &read("/proc/self/uid_map")),
        }
    }
}

fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit());
    let mut next = || numbers.next()?.parse().ok();
    next().zip(next()).unwrap_or_default()
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// The capability counts only in the machine's own user namespace, which maps everybody to himself.
fn may_lower(status: &str, uid_map: &str) -> bool {
    let mask = field(status, "CapEff").and_then(|mask| u64::from_str_radix(mask, 16).ok());
    let is_first = uid_map.split_whitespace().eq(["0", "0", "4294967295"]);
    is_first && mask.is_some_and(|mask| mask & SYS_RESOURCE != 0)
}

/// In version 2 our own cgroup tells, unless it is the root.
fn has_swap_v2(cgroups: &str) -> bool {
    let own = cgroups.lines().find_map(|line| line.strip_prefix("0::/"));
    own.is_some_and(|own| Path::new("/sys/fs/cgroup").join(own).join("memory.swap.max").exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_two_numbers() {
        let table = [
            ("6.18.44-fc-v595\n", (6, 18)),
            ("3.12-1-amd64", (3, 12)),
            ("4.8", (4, 8)),
            ("5.10-rc5+", (5, 10)),
            ("6", (0, 0)),
            ("", (0, 0)),
            ("six.one", (0, 0)),
        ];
        for (release, expected) in table {
            assert_eq!(version(release), expected, "{release:?}");
        }
    }

    #[test]
    fn only_the_capability_in_the_first_user_namespace_lowers_scores() {
        let all = "         0          0 4294967295\n";
        let table = [
            ("CapEff:\t000001ffffffffff", all, true),
            ("CapEff:\t000001fffeffffff", all, false),
            ("CapEff:\t000001ffffffffff", "0 100000 65536\n", false),
            ("CapPrm:\t000001ffffffffff", all, false),
            ("", "", false),
        ];
        for (status, map, expected) in table {
            assert_eq!(may_lower(status, map), expected, "{status} {map}");
        }
    }

    #[test]
    fn this_kernel_answers() {
        let kernel = Kernel::ask();
        assert!(kernel.version >= (3, 17), "{kernel:?}");
        assert!((-1000..=1000).contains(&kernel.oom_score_adj), "{kernel:?}");
    }
}
