//! The memory of the process: how much it takes, and in which pages.
//!
//! The invariant: what a system does not tell is left out, and not told as nothing.

use std::fs;

use rustix::param::page_size;

/// The address space and the memory that the process takes, in bytes, or `None` without `/proc`
/// (proc(5)): in an empty root, on FreeBSD and on macOS.
pub fn in_use() -> Option<(u64, u64)> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let mut pages = statm.split(' ').map(|pages| pages.parse::<u64>().ok());
    let bytes = |pages: u64| pages * page_size() as u64;
    Some((bytes(pages.next()??), bytes(pages.next()??)))
}

/// Disables huge pages for the process (`PR_SET_THP_DISABLE`, prctl(2)). In a large mapping, the
/// kernel puts one of 2 MiB in the place of small pages of which only one is in use (`khugepaged`),
/// or clears one at the first use, which takes milliseconds.
#[cfg(target_os = "linux")]
pub fn disable_huge_pages() -> bool {
    rustix::thread::disable_transparent_huge_pages(true).is_ok()
}

/// Nothing to disable: FreeBSD makes a huge page of small ones that are all in use, and macOS makes
/// none unless a program asks for it.
#[cfg(not(target_os = "linux"))]
pub fn disable_huge_pages() -> bool {
    true
}
