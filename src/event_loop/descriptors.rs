//! How many descriptors the process may open, and how many of them connections to main may take.
//!
//! The invariant: main leaves some free, so that diagnostics answers while main has used up the
//! rest.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;

use log::warn;
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::stdio::stderr;

use crate::limits::{CONNECTIONS_MAX, DESCRIPTORS_RESERVED};

/// Raises the soft limit of descriptors to the hard one (getrlimit(2)). The soft limit is there for
/// programs that use select(2).
pub fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    // Where that is refused, the soft limit holds.
    let _ = setrlimit(Resource::Nofile, raised);
}

/// How many connections main may have at once, if so many were `asked` for. Everything else that
/// stays open has to be open already.
///
/// # Errors
/// A lack of descriptors: one for each listener is the least.
pub fn connections_max(asked: Option<usize>) -> io::Result<usize> {
    // Without /proc: the kernel gives out the lowest number that is free.
    let lowest = fcntl_dupfd_cloexec(stderr(), 0)?.as_raw_fd();
    let used = open().unwrap_or(lowest.unsigned_abs().into());
    let used = usize::try_from(used).unwrap_or(usize::MAX);
    let limit = getrlimit(Resource::Nofile).current;
    let limit = limit.map_or(usize::MAX, |limit| {
        usize::try_from(limit).unwrap_or(usize::MAX)
    });
    let most = most(limit, used).ok_or_else(|| io::Error::from(Errno::MFILE))?;
    if let Some(asked) = asked.filter(|&asked| asked > most) {
        warn!(
            target: "onepoll",
            "Main takes {most} connections instead of {asked}: the limit of descriptors \
             (ulimit -n) is {limit}"
        );
    }
    Ok(asked.map_or(most, |asked| asked.min(most)))
}

/// How many connections main may have under a limit of descriptors of which some are in use.
fn most(limit: usize, used: usize) -> Option<usize> {
    let left = limit.saturating_sub(used).min(CONNECTIONS_MAX);
    let reserved = DESCRIPTORS_RESERVED.min(left / 2);
    (reserved > 0).then_some(left - reserved)
}

/// How many descriptors are open, as far as the kernel tells (proc(5)). Since Linux 6.2 the size of
/// the folder is their number. Before, they have to be counted, and the folder itself is one of
/// them.
pub fn open() -> Option<u64> {
    let folder = "/proc/self/fd";
    match fs::metadata(folder).ok()?.len() {
        0 => Some(fs::read_dir(folder).ok()?.count() as u64 - 1),
        count => Some(count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn main_leaves_some_descriptors_free() {
        for (limit, used, expected) in [
            (1024, 13, Some(1024 - 13 - DESCRIPTORS_RESERVED)),
            (64, 13, Some(64 - 13 - DESCRIPTORS_RESERVED)),
            (20, 13, Some(4)),
            (15, 13, Some(1)),
            (14, 13, None),
            (13, 13, None),
            (usize::MAX, 13, Some(CONNECTIONS_MAX - DESCRIPTORS_RESERVED)),
        ] {
            assert_eq!(most(limit, used), expected, "{limit} {used}");
        }
    }
}
