//! What holds one plugin back: the same for the runtime, which is told to do it, and for whoever inspects the plugin.
//!
//! Pure. dockerd gives its plugins the capabilities here, and nothing else of it.

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Capabilities, Capability, LinuxCapabilities, LinuxCapabilitiesBuilder, LinuxCpuBuilder,
    LinuxDeviceCgroup, LinuxMemoryBuilder, LinuxPidsBuilder, LinuxResources, LinuxResourcesBuilder,
    LinuxSeccomp,
};

use super::super::config::PluginConfig;
use super::super::resources::{CPU, Pids, Resources};
use super::defaults;
use super::kernel::Kernel;
use super::seccomp::{Profile, Subject};

/// How many processes and threads a plugin may have unless something else was set: one that forks without end harms
/// only itself.
const PIDS_DEFAULT: u32 = 4096;
/// The `oom_score_adj` of a plugin: as if it used a tenth of the machine's memory less. With it go volumes that others
/// use, so it is spared before them; the daemon and what supervises the plugin are spared before it.
const OOM_SCORE_ADJ: i32 = -100;
/// The time in which a quota of processor time is used up and renewed, in microseconds: Docker's.
const CPU_PERIOD_US: u64 = 100_000;

/// What holds a plugin back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confinement {
    /// No program gives it more than it has: set unless it may administer the system, and gains nothing from one.
    pub no_new_privileges: bool,
    /// Which system calls it may make.
    pub seccomp: Profile,
    /// All that it has.
    pub capabilities: Capabilities,
    /// Those of them that its `config.json` asks for.
    asked: Capabilities,
    /// Processes and threads.
    pub pids: Pids,
    /// Bytes; `None` for no limit.
    pub memory: Option<u64>,
    /// Billionths of a processor; `None` for no limit.
    pub nano_cpus: Option<u64>,
    /// How likely it is ended when memory is short, from -1000 (never) to 1000; `None` leaves it as the daemon has it.
    pub oom_score_adj: Option<i32>,
    kernel: (u32, u32),
    limits_swap: bool,
}

impl Confinement {
    /// Of a plugin, on a kernel.
    pub fn new(config: &PluginConfig, resources: Resources, seccomp: Profile, kernel: &Kernel) -> Self {
        // A name that the specification does not know is left out, as runc would; create refuses it.
        let asked =
            config.linux.capabilities.iter().filter_map(|name| name.strip_prefix("CAP_")?.parse().ok());
        let asked: Capabilities = asked.collect();
        let capabilities: Capabilities = defaults::capabilities().union(&asked).copied().collect();
        Self {
            no_new_privileges: !capabilities.contains(&Capability::SysAdmin),
            seccomp,
            capabilities,
            asked,
            pids: resources.pids.unwrap_or(Pids::AtMost(PIDS_DEFAULT)),
            memory: resources.memory,
            nano_cpus: resources.nano_cpus,
            oom_score_adj: oom_score_adj(kernel),
            kernel: kernel.version,
            limits_swap: kernel.limits_swap,
        }
    }

    /// The names of all capabilities, sorted.
    pub fn capability_names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.capabilities.iter().map(|name| format!("CAP_{name}")).collect();
        names.sort_unstable();
        names
    }

    pub(super) fn linux_capabilities(&self) -> Result<LinuxCapabilities, OciSpecError> {
        LinuxCapabilitiesBuilder::default()
            .bounding(self.capabilities.clone())
            .effective(self.capabilities.clone())
            .permitted(self.capabilities.clone())
            .inheritable(self.asked.clone())
            .ambient(Capabilities::new())
            .build()
    }

    /// What is filtered on a machine of this architecture.
    pub(super) fn linux_seccomp(&self, architecture: &str) -> Result<Option<LinuxSeccomp>, OciSpecError> {
        let subject = Subject { capabilities: &self.capabilities, kernel: self.kernel, architecture };
        self.seccomp.filter(&subject)
    }

    /// What its cgroup allows.
    pub(super) fn linux_resources(
        &self,
        devices: Vec<LinuxDeviceCgroup>,
    ) -> Result<LinuxResources, OciSpecError> {
        let pids = match self.pids {
            Pids::Unlimited => -1_i64,
            Pids::AtMost(number) => number.into(),
        };
        let mut resources = LinuxResourcesBuilder::default()
            .devices(devices)
            .pids(LinuxPidsBuilder::default().limit(pids).build()?);
        if let Some(bytes) = self.memory {
            let memory = LinuxMemoryBuilder::default().limit(signed(bytes));
            // As Docker: as much swap as memory.
            let memory = if self.limits_swap { memory.swap(signed(bytes.saturating_mul(2))) } else { memory };
            resources = resources.memory(memory.build()?);
        }
        if let Some(nano) = self.nano_cpus {
            let quota_us = nano.saturating_mul(CPU_PERIOD_US) / CPU;
            resources = resources
                .cpu(LinuxCpuBuilder::default().period(CPU_PERIOD_US).quota(signed(quota_us)).build()?);
        }
        resources.build()
    }
}

/// Raising is always allowed. What the daemon has below zero it was given, and may give on; what it has above zero may be
/// the least it can give, or not, and nobody can tell.
fn oom_score_adj(kernel: &Kernel) -> Option<i32> {
    match kernel.oom_score_adj {
        _ if kernel.lowers_oom_score => Some(OOM_SCORE_ADJ),
        own @ ..=0 => Some(own.max(OOM_SCORE_ADJ)),
        _ => None,
    }
}

/// As the specification has numbers.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const KERNEL: Kernel = Kernel {
        version: (6, 1),
        has_seccomp: true,
        limits_swap: false,
        oom_score_adj: 0,
        lowers_oom_score: false,
    };

    fn confinement(capabilities: &str, resources: Resources, kernel: &Kernel) -> Confinement {
        let config = format!(r#"{{"linux":{{"capabilities":{capabilities}}}}}"#);
        let config = PluginConfig::decode(config.as_bytes()).unwrap();
        Confinement::new(&config, resources, Profile::Builtin, kernel)
    }

    fn cgroup(resources: Resources, kernel: &Kernel) -> Value {
        let resources = confinement("[]", resources, kernel).linux_resources(vec![]).unwrap();
        serde_json::to_value(resources).unwrap()
    }

    #[test]
    fn a_score_is_never_lower_than_the_daemon_may_give() {
        let table = [
            (0, false, Some(0)),
            (-1, false, Some(-1)),
            (-500, false, Some(-100)),
            (300, false, None),
            (0, true, Some(-100)),
            (-999, true, Some(-100)),
            (1000, true, Some(-100)),
        ];
        for (oom_score_adj, lowers_oom_score, expected) in table {
            let kernel = Kernel { oom_score_adj, lowers_oom_score, ..KERNEL };
            let confinement = confinement("[]", Resources::default(), &kernel);
            assert_eq!(confinement.oom_score_adj, expected, "{oom_score_adj} {lowers_oom_score}");
        }
    }

    #[test]
    fn what_was_set_is_what_the_cgroup_allows() {
        let kernel = Kernel { limits_swap: true, ..KERNEL };
        let none = Resources::default();
        assert_eq!(cgroup(none, &kernel), json!({"devices": [], "pids": {"limit": 4096}}));
        let unlimited = Resources { pids: Some(Pids::Unlimited), ..none };
        assert_eq!(cgroup(unlimited, &kernel)["pids"], json!({"limit": -1}));
        let all =
            Resources { memory: Some(1 << 20), nano_cpus: Some(1_500_000_000), pids: Some(Pids::AtMost(7)) };
        let expected = json!({"devices": [], "pids": {"limit": 7}, "cpu": {"quota": 150_000, "period": 100_000},
                              "memory": {"limit": 1 << 20, "swap": 1 << 21}});
        assert_eq!(cgroup(all, &kernel), expected);
        assert_eq!(cgroup(all, &KERNEL)["memory"], json!({"limit": 1 << 20}));
        let least = Resources { nano_cpus: Some(10_000_000), ..none };
        assert_eq!(cgroup(least, &KERNEL)["cpu"]["quota"], 1000);
    }

    #[test]
    fn capabilities_are_shown_sorted_and_decide_on_new_privileges() {
        let plain = confinement("[]", Resources::default(), &KERNEL);
        let names = plain.capability_names();
        assert!(plain.no_new_privileges && names.is_sorted() && names.len() == 14, "{names:?}");
        assert!(names.contains(&"CAP_NET_BIND_SERVICE".to_owned()), "{names:?}");
        let admin = confinement(r#"["CAP_SYS_ADMIN", "CAP_NONSENSE"]"#, Resources::default(), &KERNEL);
        assert!(!admin.no_new_privileges);
        assert!(admin.capability_names().contains(&"CAP_SYS_ADMIN".to_owned()));
        assert_eq!(admin.capability_names().len(), 15);
    }
}
