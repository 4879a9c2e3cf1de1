//! A profile of the administrator's, in the form that dockerd takes with `--seccomp-profile`.
//!
//! Docker's form is the runtime's, with conditions for each rule (`seccomp.go` in moby's profiles). Stricter than dockerd
//! in one thing: a key that nobody knows is an error, for a condition with a slip of the pen in its name would hold always.

use std::path::PathBuf;

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Arch, Capability, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArgBuilder, LinuxSeccompFilterFlag,
    LinuxSeccompOperator, LinuxSyscall,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Subject;

/// A profile, read and found good.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Profile {
    /// Everything but the rules and what `archMap` says.
    base: LinuxSeccomp,
    /// A machine's architecture, and those it runs besides.
    machines: Vec<(Arch, Vec<Arch>)>,
    rules: Vec<Rule>,
}

#[derive(Debug, PartialEq, Eq)]
struct Rule {
    call: LinuxSyscall,
    includes: Conditions,
    excludes: Conditions,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Conditions {
    capabilities: Vec<Capability>,
    architectures: Vec<String>,
    kernel: Option<(u32, u32)>,
}

/// What is wrong with a profile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No JSON, or not of this form.
    #[error("{at}{problem}")]
    Form {
        /// Where, with a colon and a space, or nothing.
        at: String,
        /// What serde says.
        problem: String,
    },
    /// A value that means nothing.
    #[error("{field}: got {got:?}, expected {expected}")]
    Value {
        /// Where.
        field: String,
        /// What is there.
        got: String,
        /// What could be there.
        expected: &'static str,
    },
    /// Two ways to say one thing.
    #[error("both {one} and {other} are given, expected one of them")]
    Both {
        /// A key.
        one: String,
        /// Another one.
        other: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    default_action: String,
    default_errno_ret: Option<u32>,
    // The same as a name, in profiles that podman reads too.
    #[serde(rename = "defaultErrno")]
    _default_errno: Option<String>,
    architectures: Option<Vec<String>>,
    arch_map: Option<Vec<Machine>>,
    flags: Option<Vec<String>>,
    listener_path: Option<PathBuf>,
    listener_metadata: Option<String>,
    // One by one, so that an error can say which.
    syscalls: Option<Vec<Value>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Machine {
    architecture: String,
    sub_architectures: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Call {
    names: Option<Vec<String>>,
    name: Option<String>,
    action: String,
    errno_ret: Option<u32>,
    #[serde(rename = "errno")]
    _errno: Option<String>,
    args: Option<Vec<Compared>>,
    #[serde(rename = "comment")]
    _comment: Option<String>,
    includes: Option<Asked>,
    excludes: Option<Asked>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Compared {
    index: usize,
    value: u64,
    value_two: Option<u64>,
    op: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Asked {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

impl Profile {
    /// Reads a profile.
    ///
    /// # Errors
    /// [`Fault`] says what is wrong, and where.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        let form = |error: serde_json::Error| Fault::Form { at: String::new(), problem: error.to_string() };
        let file: File = serde_json::from_slice(bytes).map_err(form)?;
        let mut base = LinuxSeccomp::default();
        base.set_default_action(action("defaultAction", &file.default_action)?);
        base.set_default_errno_ret(file.default_errno_ret);
        base.set_listener_path(file.listener_path);
        base.set_listener_metadata(file.listener_metadata);
        let flags = words("flags", &file.flags.unwrap_or_default(), flag)?;
        base.set_flags((!flags.is_empty()).then_some(flags));
        let architectures = words("architectures", &file.architectures.unwrap_or_default(), architecture)?;
        let mut machines = Vec::new();
        for (at, machine) in file.arch_map.unwrap_or_default().iter().enumerate() {
            let field = format!("archMap[{at}]");
            let sub = machine.sub_architectures.as_deref().unwrap_or_default();
            machines.push((
                architecture(&format!("{field}.architecture"), &machine.architecture)?,
                words(&format!("{field}.subArchitectures"), sub, architecture)?,
            ));
        }
        if !architectures.is_empty() && !machines.is_empty() {
            return Err(Fault::Both { one: "architectures".to_owned(), other: "archMap".to_owned() });
        }
        base.set_architectures((!architectures.is_empty()).then_some(architectures));
        let mut rules = Vec::new();
        for (at, call) in file.syscalls.unwrap_or_default().into_iter().enumerate() {
            let field = format!("syscalls[{at}]");
            let call = serde_json::from_value::<Call>(call)
                .map_err(|error| Fault::Form { at: format!("{field}: "), problem: error.to_string() })?;
            rules.push(Rule::read(&field, call)?);
        }
        Ok(Self { base, machines, rules })
    }

    /// What the runtime is told.
    pub(super) fn filter(&self, subject: &Subject<'_>) -> LinuxSeccomp {
        let mut filter = self.base.clone();
        let machine = names(subject.architecture).map(|(_, libseccomp)| libseccomp);
        if let Some((own, others)) = self.machines.iter().find(|(own, _)| Some(*own) == machine) {
            filter.set_architectures(Some([*own].into_iter().chain(others.iter().copied()).collect()));
        }
        let rules = self.rules.iter().filter(|rule| rule.is_for(subject));
        filter.set_syscalls(Some(rules.map(|rule| rule.call.clone()).collect()));
        filter
    }
}

impl Rule {
    fn read(field: &str, call: Call) -> Result<Self, Fault> {
        let names = match (call.names, call.name) {
            (Some(names), Some(_)) if !names.is_empty() => {
                return Err(Fault::Both { one: format!("{field}.name"), other: format!("{field}.names") });
            }
            (_, Some(name)) => vec![name],
            (names, None) => names.unwrap_or_default(),
        };
        let mut args = Vec::new();
        for (at, compared) in call.args.unwrap_or_default().iter().enumerate() {
            let operator: LinuxSeccompOperator = word(
                &format!("{field}.args[{at}].op"),
                &compared.op,
                "a comparison like SCMP_CMP_EQ or SCMP_CMP_MASKED_EQ",
            )?;
            let arg = LinuxSeccompArgBuilder::default().index(compared.index).value(compared.value);
            let arg = compared.value_two.into_iter().fold(arg, LinuxSeccompArgBuilder::value_two);
            let form =
                |error: OciSpecError| Fault::Form { at: format!("{field}: "), problem: error.to_string() };
            args.push(arg.op(operator).build().map_err(form)?);
        }
        let mut rule = LinuxSyscall::default();
        rule.set_names(names);
        rule.set_action(action(&format!("{field}.action"), &call.action)?);
        rule.set_errno_ret(call.errno_ret);
        rule.set_args((!args.is_empty()).then_some(args));
        let conditions = |asked: Option<Asked>, key| {
            asked.map_or_else(|| Ok(Conditions::default()), |asked| Conditions::read(field, key, asked))
        };
        Ok(Self {
            call: rule,
            includes: conditions(call.includes, "includes")?,
            excludes: conditions(call.excludes, "excludes")?,
        })
    }

    /// All that it includes must be so, and nothing that it excludes.
    fn is_for(&self, subject: &Subject<'_>) -> bool {
        let architecture = names(subject.architecture).map_or(subject.architecture, |(docker, _)| docker);
        let (includes, excludes) = (&self.includes, &self.excludes);
        let is_on = |list: &[String]| list.iter().any(|one| one == architecture);
        let has = |capability: &Capability| subject.capabilities.contains(capability);
        (includes.architectures.is_empty() || is_on(&includes.architectures))
            && includes.capabilities.iter().all(has)
            && includes.kernel.is_none_or(|kernel| subject.kernel >= kernel)
            && !is_on(&excludes.architectures)
            && !excludes.capabilities.iter().any(has)
            && excludes.kernel.is_none_or(|kernel| subject.kernel < kernel)
    }
}

impl Conditions {
    fn read(rule: &str, key: &str, asked: Asked) -> Result<Self, Fault> {
        let capability = |field: &str, name: &str| {
            let known = name.strip_prefix("CAP_").and_then(|name| name.parse().ok());
            known.ok_or_else(|| fault(field, name, "the name of a Linux capability, like CAP_SYS_ADMIN"))
        };
        let field = |last: &str| format!("{rule}.{key}.{last}");
        let kernel = match asked.min_kernel.as_deref() {
            None | Some("") => None,
            Some(text) => {
                let version = text
                    .split_once('.')
                    .and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
                let expected = "the first two numbers of a kernel's version, like 4.8";
                Some(version.ok_or_else(|| fault(&field("minKernel"), text, expected))?)
            }
        };
        Ok(Self {
            capabilities: words(&field("caps"), &asked.caps.unwrap_or_default(), capability)?,
            architectures: asked.arches.unwrap_or_default(),
            kernel,
        })
    }
}

/// What Docker and libseccomp call a machine that Rust calls so.
fn names(machine: &str) -> Option<(&'static str, Arch)> {
    Some(match machine {
        "x86_64" => ("amd64", Arch::ScmpArchX86_64),
        "aarch64" => ("arm64", Arch::ScmpArchAarch64),
        "x86" => ("x86", Arch::ScmpArchX86),
        "arm" => ("arm", Arch::ScmpArchArm),
        "riscv64" => ("riscv64", Arch::ScmpArchRiscv64),
        "s390x" => ("s390x", Arch::ScmpArchS390x),
        "loongarch64" => ("loongarch64", Arch::ScmpArchLoongarch64),
        "powerpc64" if cfg!(target_endian = "little") => ("ppc64le", Arch::ScmpArchPpc64le),
        "powerpc64" => ("ppc64", Arch::ScmpArchPpc64),
        _ => return None,
    })
}

fn fault(field: &str, got: &str, expected: &'static str) -> Fault {
    Fault::Value { field: field.to_owned(), got: got.to_owned(), expected }
}

/// A word of the runtime's specification.
fn word<T: DeserializeOwned>(field: &str, got: &str, expected: &'static str) -> Result<T, Fault> {
    serde_json::from_value(Value::from(got)).map_err(|_| fault(field, got, expected))
}

fn words<T>(
    field: &str,
    all: &[String],
    one: impl Fn(&str, &str) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    all.iter().enumerate().map(|(at, text)| one(&format!("{field}[{at}]"), text)).collect()
}

fn action(field: &str, got: &str) -> Result<LinuxSeccompAction, Fault> {
    word(field, got, "an action like SCMP_ACT_ALLOW or SCMP_ACT_ERRNO")
}

fn architecture(field: &str, got: &str) -> Result<Arch, Fault> {
    word(field, got, "an architecture like SCMP_ARCH_X86_64")
}

fn flag(field: &str, got: &str) -> Result<LinuxSeccompFilterFlag, Fault> {
    word(field, got, "a flag like SECCOMP_FILTER_FLAG_LOG")
}
