//! What the process may use: the share of its descriptors that connections to main may have, the
//! memory that it needs at least, and the address space for all connections.
//!
//! The invariant: main leaves descriptors free, so that diagnostics still accepts connections when
//! main has reached its maximum.

use std::hint;
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;

use log::warn;
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::process::{Resource, getrlimit};
use rustix::stdio::stderr;

use crate::limits::{
    ADDRESS_SPACE_LEFT, CONNECTION_BYTES, CONNECTIONS_MAX, DESCRIPTORS_RESERVED, START_MEMORY,
};
use crate::platform::{descriptors, memory};

/// The maximum of connections to main: `requested`, or less if there are not enough descriptors,
/// which is logged. Every other descriptor that stays open has to be open already.
///
/// # Errors
/// `EMFILE` if fewer than two descriptors are left: one connection for each listener.
pub fn connections_max(requested: Option<usize>) -> io::Result<usize> {
    // Where they cannot be counted, the lowest free number stands for the count: dup(2) returns
    // that one.
    let lowest = fcntl_dupfd_cloexec(stderr(), 0)?.as_raw_fd();
    let used = descriptors::count().unwrap_or(lowest.unsigned_abs().into());
    let used = usize::try_from(used).unwrap_or(usize::MAX);
    let limit = getrlimit(Resource::Nofile).current;
    let limit = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let max = main_max(limit, used).ok_or_else(|| io::Error::from(Errno::MFILE))?;
    if let Some(requested) = requested.filter(|&requested| requested > max) {
        warn!(
            target: "onepoll",
            "Main takes {max} connections instead of {requested}: the limit of descriptors \
             (ulimit -n) is {limit}"
        );
    }
    Ok(requested.map_or(max, |requested| requested.min(max)))
}

/// The maximum of connections to main under a limit on descriptors of which `used` are open, or
/// `None` if fewer than two are left.
fn main_max(limit: usize, used: usize) -> Option<usize> {
    let left = limit.saturating_sub(used).min(CONNECTIONS_MAX);
    let reserved = DESCRIPTORS_RESERVED.min(left / 2);
    (reserved > 0).then_some(left - reserved)
}

/// Makes sure that there is [`START_MEMORY`], in pieces: once a large one has been freed, glibc
/// takes larger ones than before from its heap, which then has holes (mallopt(3),
/// `M_MMAP_THRESHOLD`).
///
/// # Errors
/// `OutOfMemory` if there is not as much.
pub fn require_memory() -> io::Result<()> {
    let mut pieces: [Vec<u8>; 16] = Default::default();
    let size = START_MEMORY / pieces.len();
    let reserved = pieces.iter_mut().try_for_each(|piece| piece.try_reserve_exact(size));
    reserved.map_err(|_| ErrorKind::OutOfMemory.into())
}

/// For how many connections the tables may reserve address space: for all that may be open, or for
/// none if the process may not have as much (`ulimit -v`, or `overcommit_memory` in proc(5)).
/// Without it, the tables grow as they need to. So large an allocation takes memory page by page as
/// it is used, if there are no huge pages.
pub fn connections_with_space(main_max: usize) -> usize {
    let connections = (main_max + DESCRIPTORS_RESERVED).min(CONNECTIONS_MAX);
    let is_there = has_address_space(connections * CONNECTION_BYTES + ADDRESS_SPACE_LEFT);
    if is_there && memory::disable_huge_pages() { connections } else { 0 }
}

/// Whether the process may have so many bytes of address space. They are freed again.
fn has_address_space(bytes: usize) -> bool {
    let mut space: Vec<u8> = Vec::new();
    let reserved = space.try_reserve_exact(bytes);
    // Without this, the compiler leaves out an allocation that is freed without a use.
    hint::black_box(&space);
    reserved.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_space_is_refused_where_there_is_none() {
        assert!(has_address_space(START_MEMORY));
        assert!(!has_address_space(isize::MAX as usize), "no process has as much");
    }

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
            assert_eq!(main_max(limit, used), expected, "{limit} {used}");
        }
    }
}
