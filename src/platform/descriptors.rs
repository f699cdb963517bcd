//! The open descriptors of the process: how many there may be, how many there are, and how to open
//! the file of one again.
//!
//! The invariant: a descriptor that is opened again has a mode of its own (open(2)).

use std::fs::{File, OpenOptions};
use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The most descriptors that the process asks for, whatever its limits say: macOS has another limit
/// for each process (`kern.maxfilesperproc`), which is never below this (`OPEN_MAX`).
const MAX: Option<u64> = if cfg!(target_os = "macos") { Some(10_240) } else { None };

/// Raises the soft limit on descriptors to the hard one (`RLIMIT_NOFILE`, getrlimit(2)). The soft
/// limit is for programs that use select(2): 1,024 on Linux and 256 on macOS.
pub fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    // If this fails, the soft limit stays in force.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: raised(limit, MAX), ..limit });
}

/// The soft limit that the process asks for. `None` is no limit, here and for the others.
fn raised(limit: Rlimit, max: Option<u64>) -> Option<u64> {
    let hard = limit.maximum.map_or(max, |hard| Some(max.map_or(hard, |max| max.min(hard))));
    // A limit above the maximum is one that the user has chosen.
    hard.map(|hard| limit.current.map_or(hard, |soft| soft.max(hard)))
}

/// The number of open descriptors, or `None` without `/proc` (proc(5)). Since Linux 6.2, it is the
/// size of the directory. On older kernels, the entries are counted, and one of them is the
/// directory itself.
#[cfg(target_os = "linux")]
pub fn count() -> Option<u64> {
    match std::fs::metadata("/proc/self/fd").ok()?.len() {
        0 => entries("/proc/self/fd"),
        count => Some(count),
    }
}

/// The number of open descriptors.
#[cfg(target_os = "macos")]
pub fn count() -> Option<u64> {
    entries("/dev/fd")
}

/// Not here: on FreeBSD, `/dev/fd` has three descriptors unless fdescfs(5) is mounted.
#[cfg(not(any(target_os = "linux", target_os = "macos")))]
pub fn count() -> Option<u64> {
    None
}

/// The entries of a directory of descriptors, without that of the directory itself.
#[cfg(any(target_os = "linux", target_os = "macos"))]
fn entries(directory: &str) -> Option<u64> {
    Some(std::fs::read_dir(directory).ok()?.count() as u64 - 1)
}

/// Opens the file of a descriptor again (`/proc/self/fd`, proc(5)).
///
/// # Errors
/// Those of open(2): no permission, a socket, or no `/proc`.
#[cfg(target_os = "linux")]
pub fn open_again(file: &File, options: &OpenOptions) -> io::Result<File> {
    use std::os::fd::AsRawFd;
    options.open(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Only a terminal can be opened again: it has a name (ttyname(3)). To open an entry of `/dev/fd`
/// is to duplicate the descriptor, with the mode that other processes share.
///
/// # Errors
/// `ENOTTY` for everything else.
#[cfg(not(target_os = "linux"))]
pub fn open_again(file: &File, options: &OpenOptions) -> io::Result<File> {
    open_terminal_again(file, options)
}

#[cfg(any(test, not(target_os = "linux")))]
fn open_terminal_again(file: &File, options: &OpenOptions) -> io::Result<File> {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let name = rustix::termios::ttyname(file, Vec::new())?;
    options.open(OsStr::from_bytes(name.as_bytes()))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

    use super::*;

    #[test]
    fn a_soft_limit_is_raised_as_far_as_the_system_lets_it() {
        for (current, maximum, max, expected) in [
            (Some(1024), Some(4096), None, Some(4096)),
            (Some(1024), None, None, None),
            (Some(256), None, Some(10_240), Some(10_240)),
            (Some(256), Some(4096), Some(10_240), Some(4096)),
            (Some(65_536), None, Some(10_240), Some(65_536)),
            (None, None, Some(10_240), Some(10_240)),
        ] {
            let raised = raised(Rlimit { current, maximum }, max);
            assert_eq!(raised, expected, "{current:?} {maximum:?} {max:?}");
        }
    }

    #[test]
    fn a_terminal_that_is_opened_again_is_the_same_terminal() {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&master).expect("ours");
        unlockpt(&master).expect("ours");
        let path = ptsname(&master, Vec::new()).expect("a path").into_string().expect("text");
        let shared = File::options().read(true).write(true).open(path).expect("ours");
        let mut master = File::from(master);
        for open in [open_again, open_terminal_again] {
            let mut own = open(&shared, File::options().write(true)).expect("a terminal");
            own.write_all(b"x").expect("there is room");
            assert_eq!(io::Read::read(&mut master, &mut [0; 9]).expect("it has come"), 1);
        }
        let memory = crate::platform::memory_file::create().expect("a file");
        open_terminal_again(&memory, File::options().write(true)).expect_err("no terminal");
    }
}
