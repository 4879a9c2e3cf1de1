//! What every plugin gets, whatever it asks for: the numbers and names of dockerd's default specification
//! (`oci/defaults.go` and `oci/caps/defaults.go` in moby 20.10).

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Capabilities, Capability, LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType, LinuxNamespace,
    LinuxNamespaceBuilder, LinuxNamespaceType, Mount, MountBuilder,
};

type Result<T> = std::result::Result<T, OciSpecError>;

/// Destination, type, source, options. `/dev` is always fresh: without that, crun 1.8 could be led astray.
const MOUNTS: [(&str, &str, &str, &str); 7] = [
    ("/proc", "proc", "proc", "nosuid,noexec,nodev"),
    ("/dev", "tmpfs", "tmpfs", "nosuid,strictatime,mode=755,size=65536k"),
    ("/dev/pts", "devpts", "devpts", "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5"),
    ("/sys", "sysfs", "sysfs", "nosuid,noexec,nodev,ro"),
    ("/sys/fs/cgroup", "cgroup", "cgroup", "ro,nosuid,noexec,nodev"),
    ("/dev/mqueue", "mqueue", "mqueue", "nosuid,noexec,nodev"),
    ("/dev/shm", "tmpfs", "shm", "nosuid,noexec,nodev,mode=1777"),
];

/// Where the outermost of them are.
pub(super) const DESTINATIONS: [&str; 3] = ["/proc", "/dev", "/sys"];

/// Character devices that may be used: zero, null, urandom, random, tty, console.
const DEVICES: [(i64, i64); 6] = [(1, 5), (1, 3), (1, 9), (1, 8), (5, 0), (5, 1)];
/// `/dev/fuse`, forbidden unless asked for.
const FUSE: (i64, i64) = (10, 229);

const CAPABILITIES: [Capability; 14] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fsetid,
    Capability::Fowner,
    Capability::Mknod,
    Capability::NetRaw,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setfcap,
    Capability::Setpcap,
    Capability::NetBindService,
    Capability::SysChroot,
    Capability::Kill,
    Capability::AuditWrite,
];

const MASKED_PATHS: [&str; 11] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

const READONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The mounts, in the order they are made.
pub(super) fn mounts() -> Result<Vec<Mount>> {
    MOUNTS
        .iter()
        .map(|(destination, kind, source, options)| mount(destination, kind, source, options))
        .collect()
}

/// One mount; the options are separated by commas.
pub(super) fn mount(destination: &str, kind: &str, source: &str, options: &str) -> Result<Mount> {
    MountBuilder::default()
        .destination(destination)
        .typ(kind)
        .source(source)
        .options(options.split(',').map(str::to_owned).collect::<Vec<_>>())
        .build()
}

/// The rules of the device cgroup: nothing but the harmless ones.
pub(super) fn devices() -> Result<Vec<LinuxDeviceCgroup>> {
    let mut rules = vec![any_device(false)?];
    for (node, allow) in DEVICES.iter().map(|node| (node, true)).chain([(&FUSE, false)]) {
        rules.push(
            LinuxDeviceCgroupBuilder::default()
                .allow(allow)
                .typ(LinuxDeviceType::C)
                .major(node.0)
                .minor(node.1)
                .access("rwm")
                .build()?,
        );
    }
    Ok(rules)
}

/// The rule for all devices.
pub(super) fn any_device(allow: bool) -> Result<LinuxDeviceCgroup> {
    LinuxDeviceCgroupBuilder::default().allow(allow).access("rwm").build()
}

/// New namespaces of these types.
pub(super) fn namespaces(kinds: &[LinuxNamespaceType]) -> Result<Vec<LinuxNamespace>> {
    kinds.iter().map(|kind| LinuxNamespaceBuilder::default().typ(*kind).build()).collect()
}

/// The capabilities.
pub(super) fn capabilities() -> Capabilities {
    CAPABILITIES.into_iter().collect()
}

/// What cannot be seen.
pub(super) fn masked_paths() -> Vec<String> {
    MASKED_PATHS.map(str::to_owned).to_vec()
}

/// What cannot be written.
pub(super) fn readonly_paths() -> Vec<String> {
    READONLY_PATHS.map(str::to_owned).to_vec()
}
