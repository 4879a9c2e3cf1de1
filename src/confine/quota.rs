//! Project quotas: how much of a file system everything of one project may take together.
//!
//! A project is a number that files carry. A directory hands its own on to what is made in it, so that it stands for a
//! tree. The kernel counts the blocks and the files of each project, and stops writers at its limits; of those that
//! have `CAP_SYS_RESOURCE`, not every file system does. XFS has such quotas when it is mounted with `pquota`, ext4 with
//! `prjquota`.
//!
//! Files are asked through their descriptors, and so are quotas: `quotactl_fd` (Linux 5.14) needs no name of a device.
//! Nothing here knows what a project is for. Facts: `quotactl(2)`, `ioctl_xfs_fsgetxattr(2)`, `linux/dqblk_xfs.h`.

use std::fmt;
use std::mem::size_of;
use std::num::NonZeroU32;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr::from_mut;
use std::str::FromStr;

use nix::errno::Errno;
use nix::libc;
use nix::sys::stat::{SFlag, fstat};

/// A project. 0 is that of files that are in none, and the highest number stands for no number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProjectId(NonZeroU32);

impl ProjectId {
    /// The lowest one.
    pub const FIRST: Self = Self(NonZeroU32::MIN);

    /// The next one; after the last, the first.
    #[must_use]
    pub fn after(self) -> Self {
        self.0.checked_add(1).and_then(|next| Self::new(next.get())).unwrap_or(Self::FIRST)
    }

    /// `None` for the two numbers that are no project.
    fn new(number: u32) -> Option<Self> {
        NonZeroU32::new(number).filter(|number| *number < NonZeroU32::MAX).map(Self)
    }
}

impl fmt::Display for ProjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The text is no number of a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no number of a project, expected 1 to 4294967294")]
pub struct NoProject;

impl FromStr for ProjectId {
    type Err = NoProject;

    fn from_str(text: &str) -> Result<Self, NoProject> {
        text.parse().ok().and_then(Self::new).ok_or(NoProject)
    }
}

/// What a file system has written down of a project.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Account {
    /// Whether it has any limit, on blocks or on files.
    pub is_limited: bool,
    /// How many files carry its number, directories included.
    pub files: u64,
    /// How many bytes they take.
    pub bytes: u64,
}

impl Account {
    /// Whether the number is nobody's: neither has anything, nor is anything laid down for it.
    pub fn is_free(&self) -> bool {
        *self == Self::default()
    }
}

/// The unit of blocks in [`DiskQuota`], whatever the file system's own is.
const BLOCK_BYTES: u64 = 512;

/// Whether the file system that a file is on counts projects, and stops who goes over a limit.
///
/// # Errors
/// `EPERM` where a sandbox forbids to ask. A kernel or a file system that knows no quotas is no error.
pub fn are_enforced(file: impl AsFd) -> nix::Result<bool> {
    let mut state = State::default();
    match control(file.as_fd(), 0, Request::State(&mut state)) {
        Ok(()) => Ok(state.flags & PROJECTS == PROJECTS),
        Err(Errno::ENOSYS | Errno::ESRCH | Errno::EOPNOTSUPP | Errno::EINVAL | Errno::ENODEV) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// The project of a file; `None` when it is in none, or its file system knows none.
///
/// # Errors
/// What the kernel says: `EIO`.
pub fn project(file: impl AsFd) -> nix::Result<Option<ProjectId>> {
    match attributes(file.as_fd()) {
        Ok(attributes) => Ok(ProjectId::new(attributes.project)),
        Err(Errno::ENOTTY | Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINVAL) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Puts a file into a project, and a directory so that it hands the project on.
///
/// # Errors
/// `EOPNOTSUPP` where there are no projects, `EDQUOT` if the project is full.
pub fn assign(file: impl AsFd, project: ProjectId) -> nix::Result<()> {
    let file = file.as_fd();
    let mut attributes = attributes(file)?;
    let before = attributes;
    attributes.project = project.0.get();
    let mode = SFlag::from_bits_truncate(fstat(file)?.st_mode);
    if mode & SFlag::S_IFMT == SFlag::S_IFDIR {
        attributes.flags |= HANDED_ON;
    }
    if attributes == before { Ok(()) } else { set_attributes(file, &mut attributes) }
}

/// Sets how many bytes a project may take on the file system that a file is on: rounded up to whole blocks, 0 for no
/// limit.
///
/// # Errors
/// As [`are_enforced`], and `ESRCH` or `ENOSYS` where that is `false`.
pub fn limit(file: impl AsFd, project: ProjectId, bytes: u64) -> nix::Result<()> {
    let blocks = bytes.div_ceil(BLOCK_BYTES);
    let mut quota = DiskQuota {
        version: VERSION,
        kind: KIND_PROJECT,
        fields: SOFT_BLOCKS | HARD_BLOCKS,
        id: project.0.get(),
        blocks_hard: blocks,
        blocks_soft: blocks,
        ..DiskQuota::default()
    };
    control(file.as_fd(), project.0.get(), Request::Set(&mut quota))
}

/// What the file system that a file is on has written down of a project.
///
/// # Errors
/// As [`limit`].
pub fn account(file: impl AsFd, project: ProjectId) -> nix::Result<Account> {
    let mut quota = DiskQuota::default();
    match control(file.as_fd(), project.0.get(), Request::Look(&mut quota)) {
        Ok(()) => Ok(quota.account()),
        // XFS has nothing of it; others say that with zeros.
        Err(Errno::ENOENT) => Ok(Account::default()),
        Err(errno) => Err(errno),
    }
}

/// `struct fsxattr`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Attributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    copied_extent_size: u32,
    padding: [u8; 8],
}

/// `struct fs_quota_stat`; of what it tells, the flags are of interest.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct State {
    version: i8,
    flags: u16,
    padding: i8,
    files: [u64; 6],
    rest: [u32; 5],
}

/// `struct fs_disk_quota`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct DiskQuota {
    version: i8,
    kind: i8,
    fields: u16,
    id: u32,
    blocks_hard: u64,
    blocks_soft: u64,
    files_hard: u64,
    files_soft: u64,
    blocks: u64,
    files: u64,
    timers: [i32; 2],
    warnings: [u16; 2],
    timers_high: [i8; 4],
    realtime_hard: u64,
    realtime_soft: u64,
    realtime_blocks: u64,
    realtime_timer: i32,
    realtime_warnings: u16,
    padding: [i16; 5],
}

// What the kernel reads and writes is as long as what is given to it.
const _: () = assert!(size_of::<Attributes>() == 28);
const _: () = assert!(size_of::<State>() == 80);
const _: () = assert!(size_of::<DiskQuota>() == 112);

impl DiskQuota {
    fn account(&self) -> Account {
        let limits = [
            self.blocks_hard,
            self.blocks_soft,
            self.files_hard,
            self.files_soft,
            self.realtime_hard,
            self.realtime_soft,
        ];
        Account {
            is_limited: limits.iter().any(|limit| *limit > 0),
            files: self.files,
            bytes: self.blocks.saturating_add(self.realtime_blocks).saturating_mul(BLOCK_BYTES),
        }
    }
}

/// `FS_IOC_FSGETXATTR` and `FS_IOC_FSSETXATTR`.
const GET: libc::Ioctl = nix::request_code_read!(b'X', 31, size_of::<Attributes>());
const SET: libc::Ioctl = nix::request_code_write!(b'X', 32, size_of::<Attributes>());
/// `FS_XFLAG_PROJINHERIT`.
const HANDED_ON: u32 = 0x200;
/// `FS_DQUOT_VERSION`, `FS_PROJ_QUOTA`, `FS_DQ_BSOFT`, `FS_DQ_BHARD`.
const VERSION: i8 = 1;
const KIND_PROJECT: i8 = 2;
const SOFT_BLOCKS: u16 = 1 << 2;
const HARD_BLOCKS: u16 = 1 << 3;
/// `FS_QUOTA_PDQ_ACCT` and `FS_QUOTA_PDQ_ENFD`.
const PROJECTS: u16 = 1 << 4 | 1 << 5;
/// `PRJQUOTA`, in the lowest byte of a command.
const OF_PROJECTS: u32 = 2;

/// A command, with what the kernel reads or writes for it.
enum Request<'a> {
    /// `Q_XGETQSTAT`.
    State(&'a mut State),
    /// `Q_XGETQUOTA`.
    Look(&'a mut DiskQuota),
    /// `Q_XSETQLIM`.
    Set(&'a mut DiskQuota),
}

#[allow(
    unsafe_code,
    reason = "nix has no quotactl_fd; each command comes with the structure that the kernel has for it"
)]
fn control(file: BorrowedFd<'_>, id: u32, request: Request<'_>) -> nix::Result<()> {
    let (command, argument): (u32, *mut libc::c_void) = match request {
        Request::State(state) => (0x5805, from_mut(state).cast()),
        Request::Look(quota) => (0x5803, from_mut(quota).cast()),
        Request::Set(quota) => (0x5804, from_mut(quota).cast()),
    };
    let command = command << 8 | OF_PROJECTS;
    // SAFETY: the kernel reads or writes one structure of the command's, of a size checked above, that is borrowed until
    // the call is over.
    let done = unsafe { libc::syscall(libc::SYS_quotactl_fd, file.as_raw_fd(), command, id, argument) };
    Errno::result(done).map(drop)
}

#[allow(unsafe_code, reason = "nix has no call for it; the structure is the kernel's")]
fn attributes(file: BorrowedFd<'_>) -> nix::Result<Attributes> {
    let mut attributes = Attributes::default();
    // SAFETY: the kernel writes one such structure, of a size that is in the number of the call, and ours lives longer.
    let done = unsafe { libc::ioctl(file.as_raw_fd(), GET, from_mut(&mut attributes)) };
    Errno::result(done).map(|_| attributes)
}

#[allow(unsafe_code, reason = "nix has no call for it; the structure is the kernel's")]
fn set_attributes(file: BorrowedFd<'_>, attributes: &mut Attributes) -> nix::Result<()> {
    // SAFETY: as when they are read; the kernel only reads.
    let done = unsafe { libc::ioctl(file.as_raw_fd(), SET, from_mut(attributes)) };
    Errno::result(done).map(drop)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn a_project_is_a_number_that_means_one() {
        for text in ["0", "4294967295", "4294967296", "-1", "x", ""] {
            assert_eq!(text.parse::<ProjectId>(), Err(NoProject), "{text}");
        }
        let last: ProjectId = "4294967294".parse().unwrap();
        assert_eq!(last.to_string(), "4294967294");
        assert_eq!(last.after(), ProjectId::FIRST);
        assert_eq!(ProjectId::FIRST.after().to_string(), "2");
    }

    #[test]
    fn whatever_is_written_down_makes_a_project_somebodys() {
        assert!(DiskQuota { version: VERSION, id: 7, ..DiskQuota::default() }.account().is_free());
        for quota in [
            DiskQuota { blocks_soft: 1, ..DiskQuota::default() },
            DiskQuota { files_hard: 1, ..DiskQuota::default() },
            DiskQuota { realtime_hard: 1, ..DiskQuota::default() },
            DiskQuota { files: 1, ..DiskQuota::default() },
            DiskQuota { blocks: 1, ..DiskQuota::default() },
        ] {
            assert!(!quota.account().is_free(), "{quota:?}");
        }
        let used = DiskQuota { blocks: 3, realtime_blocks: 1, files: 2, ..DiskQuota::default() };
        assert_eq!(used.account(), Account { is_limited: false, files: 2, bytes: 2048 });
    }

    #[test]
    fn a_file_system_that_knows_no_projects_says_so() {
        let file = File::open("/proc/self/status").unwrap();
        assert_eq!(are_enforced(&file), Ok(false));
        assert_eq!(project(&file), Ok(None));
        assert!(assign(&file, ProjectId::FIRST).is_err());
        assert!(limit(&file, ProjectId::FIRST, 1).is_err());
        assert!(account(&file, ProjectId::FIRST).is_err());
    }
}
