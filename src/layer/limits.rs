//! What an archive may ask of us at most.

/// Limits of one archive. [`Limits::default`] is what the daemon uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Entries, of whatever type, whiteouts and global headers included.
    pub entries_max: u64,
    /// Bytes of the uncompressed tar stream, headers and trailing zeros included: no bomb unpacks to more.
    pub unpacked_max_bytes: u64,
    /// Bytes of one extended header (PAX records, GNU long name): Go reads no longer one either.
    pub extended_header_max_bytes: u64,
    /// Bytes of config.json in the context of a new plugin.
    pub config_max_bytes: u64,
}

/// A root file system with a million files is larger than any plugin known.
const ENTRIES_MAX: u64 = 1_000_000;
const UNPACKED_MAX_BYTES: u64 = 16 * 1024 * 1024 * 1024;
const EXTENDED_HEADER_MAX_BYTES: u64 = 1024 * 1024;
const CONFIG_MAX_BYTES: u64 = 4 * 1024 * 1024;

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries_max: ENTRIES_MAX,
            unpacked_max_bytes: UNPACKED_MAX_BYTES,
            extended_header_max_bytes: EXTENDED_HEADER_MAX_BYTES,
            config_max_bytes: CONFIG_MAX_BYTES,
        }
    }
}
