//! Words of `o` that are flags of mount(2), as in fstab; every other word is data for the file system. Pure.
//!
//! The table is moby's (`moby/sys/mount`), with one oddity of it: `defaults` is a flag of no bits, and so is data.

use nix::mount::MsFlags;

/// A recursive form of a flag.
const fn recursive(flag: MsFlags) -> MsFlags {
    flag.union(MsFlags::MS_REC)
}

/// What a word sets.
const SETS: [(&str, MsFlags); 22] = [
    ("ro", MsFlags::MS_RDONLY),
    ("nosuid", MsFlags::MS_NOSUID),
    ("nodev", MsFlags::MS_NODEV),
    ("noexec", MsFlags::MS_NOEXEC),
    ("sync", MsFlags::MS_SYNCHRONOUS),
    ("dirsync", MsFlags::MS_DIRSYNC),
    ("remount", MsFlags::MS_REMOUNT),
    ("mand", MsFlags::MS_MANDLOCK),
    ("noatime", MsFlags::MS_NOATIME),
    ("nodiratime", MsFlags::MS_NODIRATIME),
    ("relatime", MsFlags::MS_RELATIME),
    ("strictatime", MsFlags::MS_STRICTATIME),
    ("bind", MsFlags::MS_BIND),
    ("rbind", recursive(MsFlags::MS_BIND)),
    ("unbindable", MsFlags::MS_UNBINDABLE),
    ("runbindable", recursive(MsFlags::MS_UNBINDABLE)),
    ("private", MsFlags::MS_PRIVATE),
    ("rprivate", recursive(MsFlags::MS_PRIVATE)),
    ("shared", MsFlags::MS_SHARED),
    ("rshared", recursive(MsFlags::MS_SHARED)),
    ("slave", MsFlags::MS_SLAVE),
    ("rslave", recursive(MsFlags::MS_SLAVE)),
];
/// What a word takes away again.
const CLEARS: [(&str, MsFlags); 10] = [
    ("rw", MsFlags::MS_RDONLY),
    ("suid", MsFlags::MS_NOSUID),
    ("dev", MsFlags::MS_NODEV),
    ("exec", MsFlags::MS_NOEXEC),
    ("async", MsFlags::MS_SYNCHRONOUS),
    ("nomand", MsFlags::MS_MANDLOCK),
    ("atime", MsFlags::MS_NOATIME),
    ("diratime", MsFlags::MS_NODIRATIME),
    ("norelatime", MsFlags::MS_RELATIME),
    ("nostrictatime", MsFlags::MS_STRICTATIME),
];

/// Who hears of mounts below this one: told to the kernel in a call of its own.
pub(super) const PROPAGATION: MsFlags =
    MsFlags::MS_SHARED.union(MsFlags::MS_PRIVATE).union(MsFlags::MS_SLAVE).union(MsFlags::MS_UNBINDABLE);
/// A bind that must not be written to, which takes a second call too.
pub(super) const READ_ONLY_BIND: MsFlags = MsFlags::MS_BIND.union(MsFlags::MS_RDONLY);

/// The flags of `o`, and the words that are data, in their order. A later word wins over an earlier one.
pub(super) fn split(options: &str) -> (MsFlags, Vec<&str>) {
    let of = |table: &[(&str, MsFlags)], word: &str| {
        table.iter().find(|(known, _)| *known == word).map(|(_, flags)| *flags)
    };
    let (mut flags, mut data) = (MsFlags::empty(), Vec::new());
    for word in options.split(',') {
        match (of(&SETS, word), of(&CLEARS, word)) {
            (Some(set), _) => flags.insert(set),
            (None, Some(cleared)) => flags.remove(cleared),
            (None, None) => data.push(word),
        }
    }
    (flags, data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_flags_or_data() {
        let table: [(&str, u64, &str); 12] = [
            ("", 0, ""),
            ("size=100m,uid=1000", 0, "size=100m,uid=1000"),
            ("bind", 0x1000, ""),
            ("rbind", 0x5000, ""),
            ("bind,ro", 0x1001, ""),
            ("ro,rw", 0, ""),
            ("rw,ro,nosuid,nodev,noexec", 0xf, ""),
            ("noatime,size=1m,sync,async,mode=700", 0x400, "size=1m,mode=700"),
            ("rshared,rslave", 0x18_4000, ""),
            ("defaults", 0, "defaults"),
            ("RO,ro=1, ro", 0, "RO,ro=1, ro"),
            ("relatime,norelatime,strictatime,dirsync,mand,nomand", 0x100_0080, ""),
        ];
        for (options, bits, data) in table {
            let (flags, words) = split(options);
            assert_eq!((flags.bits(), words.join(",").as_str()), (bits, data), "{options}");
        }
    }
}
