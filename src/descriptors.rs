//! How many descriptors the process may open, and how many of them connections to main may take.
//!
//! The invariant: main leaves some free, so that diagnostics answers while main has used up the
//! rest.

use std::io;
use std::os::fd::AsRawFd;

use log::warn;
use rustix::io::fcntl_dupfd_cloexec;
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
/// Those of `fcntl(2)`, above all a lack of descriptors.
pub fn connections_max(asked: Option<usize>) -> io::Result<usize> {
    // The kernel gives out the lowest number that is free, so this is how many are in use.
    let used = fcntl_dupfd_cloexec(stderr(), 0)?;
    let used = usize::try_from(used.as_raw_fd()).unwrap_or_default();
    let limit = getrlimit(Resource::Nofile).current;
    let limit = limit.map_or(usize::MAX, |limit| {
        usize::try_from(limit).unwrap_or(usize::MAX)
    });
    let most = most(limit, used);
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
fn most(limit: usize, used: usize) -> usize {
    let left = limit.saturating_sub(used).min(CONNECTIONS_MAX);
    let reserved = DESCRIPTORS_RESERVED.min(left / 2);
    (left - reserved).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn main_leaves_some_descriptors_free() {
        for (limit, used, expected) in [
            (1024, 13, 1024 - 13 - DESCRIPTORS_RESERVED),
            (64, 13, 64 - 13 - DESCRIPTORS_RESERVED),
            (20, 13, 4),
            (14, 13, 1),
            (13, 13, 1),
            (usize::MAX, 13, CONNECTIONS_MAX - DESCRIPTORS_RESERVED),
        ] {
            assert_eq!(most(limit, used), expected, "{limit} {used}");
        }
    }
}
