//! Every bound of this room, with its unit, and the two sets of durations that tests shorten.
//!
//! Deadlines are on the first byte and on idleness, never on a whole transfer: a slow registry is fine, a silent one
//! is not. Where dockerd has a figure (manifest size, dial time), it is dockerd's.

use std::time::Duration;

/// How much of a refusal's body is read to find the registry's words.
pub(super) const REFUSAL_LIMIT_BYTES: usize = 64 * 1024;
/// How much of the registry's words goes into one of our errors.
pub(super) const WORDS_LIMIT_CHARS: usize = 1024;
/// How much a token server may answer; tokens with many groups reach 20 KiB.
pub(super) const TOKEN_LIMIT_BYTES: usize = 256 * 1024;
/// An `X-Registry-Auth` header beyond this counts as undecodable.
pub(super) const ACCOUNT_LIMIT_BYTES: usize = 64 * 1024;
/// A certificate or key file in `certs.d` may be this long.
pub(super) const CERTIFICATE_FILE_LIMIT_BYTES: u64 = 1024 * 1024;
/// How many redirects one request follows.
pub(super) const REDIRECTS_MAX: usize = 5;
/// How often one request is sent before a passing failure counts as lasting.
pub(super) const ATTEMPTS_MAX: u32 = 5;
/// A connection that went silent counts for so many that broke: waiting for it has cost more.
pub(super) const STALL_WEIGHT: u32 = 2;
/// A download that broke and has brought this much since is as good as one that never broke.
pub(super) const PROGRESS_FORGIVES_BYTES: u64 = 1024 * 1024;
/// A `Retry-After` beyond this is not waited for: the refusal is told at once.
pub(super) const RETRY_AFTER_LONGEST: Duration = Duration::from_mins(1);
/// A token without a lifetime lives this long (the token specification's default).
pub(super) const TOKEN_LIFETIME: Duration = Duration::from_mins(1);
/// A token is renewed when less than this is left of it, so that it does not expire on the way.
pub(super) const TOKEN_MARGIN: Duration = Duration::from_secs(5);
/// How long finding the addresses of a name may take before it counts as having none.
pub(super) const LOOKUP_LONGEST: Duration = Duration::from_secs(5);

/// How long to wait for what, and how to come back after a failure.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// For the connection, with its TLS handshake.
    pub(super) connect: Duration,
    /// From a request that is sent to the head of its answer.
    pub(super) first_byte: Duration,
    /// Between two pieces of a body, in either direction.
    pub(super) idle: Duration,
    /// From the last byte of an upload to its answer: the registry hashes and stores meanwhile.
    pub(super) commit: Duration,
    /// The first pause before another attempt; each further one is twice as long.
    pub(super) pause: Duration,
    /// No pause of ours is longer.
    pub(super) pause_longest: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(30),
            first_byte: Duration::from_mins(1),
            idle: Duration::from_mins(1),
            commit: Duration::from_mins(5),
            pause: Duration::from_millis(500),
            pause_longest: Duration::from_secs(10),
        }
    }
}
