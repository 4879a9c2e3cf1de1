//! What the options of a local volume ask for: dockerd's rules for them, and what is to be mounted at its first use.
//!
//! Pure: names of hosts are looked up by whoever is given. Options may be secrets; nothing here shows one.

use std::net::{IpAddr, Ipv4Addr};

use nix::mount::MsFlags;

use super::{Error, Limit, Texts, flags, secret, unc};

/// The options that dockerd's local driver knows, and which others each of them needs.
const OPTIONS: [(&str, &[&str]); 4] =
    [("type", &["device"]), ("o", &["device", "type"]), ("device", &["type"]), ("size", &[])];
/// How many bytes of data mount(2) takes: a page, with a zero at its end. It cuts off what is longer without a word.
const DATA_MAX_BYTES: usize = 4095;
/// What the name of a host stands behind.
const ADDRESS: &str = "addr=";

/// Checks options by dockerd's rules, at create; says what limit they ask for. They are kept, and tell what is mounted
/// at the first use.
pub(in crate::volumes) fn check(options: Option<&Texts>) -> Result<Option<Limit>, Error> {
    let Some(options) = options else { return Ok(None) };
    if let Some(unknown) = options.keys().find(|option| !OPTIONS.iter().any(|(known, _)| known == option)) {
        return Err(Error::UnknownOption { option: unknown.clone() });
    }
    for (_, needed) in OPTIONS.iter().filter(|(option, _)| options.contains_key(*option)) {
        if let Some(missing) = needed.iter().find(|needed| !options.contains_key(**needed)) {
            return Err(Error::MissingOption { option: missing });
        }
    }
    if let Some((option, _)) = options.iter().find(|(_, value)| value.contains('\0')) {
        return Err(Error::NulInOption { option: option.clone() });
    }
    let wanted = Wanted::of(Some(options));
    if let Some(wanted) = &wanted {
        if wanted.kind == "cifs" {
            unc::check(&wanted.device)?;
        }
        check_data(&wanted.data.join(","))?;
    }
    let limit = options.get("size").map(|size| Limit::parse(size)).transpose()?.flatten();
    if wanted.is_some() && limit.is_some() {
        return Err(Error::SizeOfMount);
    }
    Ok(limit)
}

/// What is to be mounted in a volume. No `Debug`: it may hold secrets.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::volumes) struct Wanted {
    kind: String,
    device: String,
    flags: MsFlags,
    data: Vec<String>,
}

/// The same, ready for the kernel: hosts are addresses.
pub(super) struct Mount {
    /// The type of the file system; may be empty.
    pub(super) kind: String,
    /// What is mounted; never empty.
    pub(super) device: String,
    /// Flags, with those of the propagation.
    pub(super) flags: MsFlags,
    /// For the file system; may be empty.
    pub(super) data: String,
}

impl Wanted {
    /// What options ask to be mounted; `None` when the volume is a plain directory.
    pub(in crate::volumes) fn of(options: Option<&Texts>) -> Option<Self> {
        let option = |name| options?.get(name).map(String::as_str);
        let (kind, device) = (option("type").unwrap_or_default(), option("device").unwrap_or_default());
        let (flags, data) = flags::split(option("o").unwrap_or_default());
        let data: Vec<_> = data.into_iter().map(str::to_owned).collect();
        let is_nothing = match (kind, device) {
            ("", "") => true,
            // dockerd takes it for a change of a mount that there is, and mounts nothing.
            ("" | "none", "none") => flags.is_empty() && data.iter().all(String::is_empty),
            _ => false,
        };
        (!is_nothing).then(|| Self { kind: kind.to_owned(), device: device.to_owned(), flags, data })
    }

    /// Whether it is a directory of the host, as opposed to a file system of its own.
    pub(super) fn is_bind(&self) -> bool {
        self.flags.contains(MsFlags::MS_BIND)
    }

    /// Whether it is one that must not be written to.
    pub(super) fn is_read_only_bind(&self) -> bool {
        self.flags.contains(flags::READ_ONLY_BIND)
    }

    /// With addresses for names of hosts. `lookup` may wait for a name server; it says why a name has none.
    pub(super) fn resolved(&self, lookup: impl Fn(&str) -> Result<IpAddr, String>) -> Result<Mount, Error> {
        if self.device.is_empty() {
            return Err(Error::MissingDevice);
        }
        let (mut device, mut data) = (self.device.clone(), self.data.clone());
        let is_cifs = self.kind == "cifs";
        if is_cifs || self.kind == "nfs" {
            let address =
                data.iter_mut().find(|word| word.starts_with(ADDRESS) && word.len() > ADDRESS.len());
            match address.map(|word| (word[ADDRESS.len()..].to_owned(), word)) {
                Some((host, word)) if host.parse::<Ipv4Addr>().is_err() => {
                    *word = format!("{ADDRESS}{}", lookup(&host).map_err(Error::Address)?);
                }
                Some(_) | None if is_cifs => device = unc::resolved(&device, lookup)?,
                Some(_) | None => {}
            }
        }
        let data = data.join(",");
        check_data(&data)?;
        Ok(Mount { kind: self.kind.clone(), device, flags: self.flags, data })
    }
}

impl Mount {
    /// What was tried, in dockerd's words, without secrets: `mount dev:/path, flags: 0x1, data: a=b`.
    pub(super) fn attempt(&self, step: Step, target: &str) -> String {
        let flags = self.flags_of(step);
        let (verb, device, data) = match step {
            Step::Mount => ("mount", format!("{}:", secret::device(&self.device)), secret::data(&self.data)),
            Step::Propagation => ("remount", String::new(), String::new()),
            Step::ReadOnly => ("remount-ro", String::new(), String::new()),
        };
        let flags = if flags.is_empty() { String::new() } else { format!(", flags: 0x{:x}", flags.bits()) };
        let data = if data.is_empty() { data } else { format!(", data: {data}") };
        format!("{verb} {device}{target}{flags}{data}")
    }

    /// The flags of one step.
    pub(super) fn flags_of(&self, step: Step) -> MsFlags {
        let others = self.flags.difference(flags::PROPAGATION);
        match step {
            Step::Mount => others,
            Step::Propagation => self.flags.intersection(flags::PROPAGATION.union(MsFlags::MS_REC)),
            Step::ReadOnly => others.union(MsFlags::MS_REMOUNT),
        }
    }

    /// The calls of the kernel that make this mount, in their order.
    pub(super) fn steps(&self) -> Vec<Step> {
        let propagation = self.flags.intersects(flags::PROPAGATION).then_some(Step::Propagation);
        let read_only = self.flags.contains(flags::READ_ONLY_BIND).then_some(Step::ReadOnly);
        [Some(Step::Mount), propagation, read_only].into_iter().flatten().collect()
    }
}

/// One call of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The mount itself.
    Mount,
    /// Who hears of mounts below it.
    Propagation,
    /// That a bind is not written to: the first call does not tell the kernel that.
    ReadOnly,
}

fn check_data(data: &str) -> Result<(), Error> {
    match data.len() {
        ..=DATA_MAX_BYTES => Ok(()),
        bytes => Err(Error::LongData { bytes, bytes_max: DATA_MAX_BYTES }),
    }
}

#[cfg(test)]
mod tests;
