//! A file without a name, for the log's buffer.
//!
//! The invariant: no other process can open the file, and it is gone with the last descriptor.

use std::fs::File;
use std::io;
#[cfg(any(test, not(any(target_os = "linux", target_os = "freebsd"))))]
use std::{io::ErrorKind, path::Path};

#[cfg(any(test, not(any(target_os = "linux", target_os = "freebsd"))))]
use crate::limits::{LOG_BUFFER_MAX, LOG_LINE_MAX};

/// A file in memory (`memfd_create(2)`).
///
/// # Errors
/// Those of `memfd_create(2)`, above all a lack of descriptors.
#[cfg(any(target_os = "linux", target_os = "freebsd"))]
pub fn create() -> io::Result<File> {
    use rustix::fs::{MemfdFlags, memfd_create};
    Ok(File::from(memfd_create("log", MemfdFlags::CLOEXEC)?))
}

/// A file on disk, in the directory for temporary files (`TMPDIR`). It takes all its room at once,
/// because a write of a log line that fails would end the process.
///
/// # Errors
/// Those of open(2) and write(2), with the path: the directory is missing, full, or may not be
/// written to.
#[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
pub fn create() -> io::Result<File> {
    on_disk(&std::env::temp_dir())
}

/// A process that was killed between the two calls on its file has left it, so there are a hundred
/// names.
#[cfg(any(test, not(any(target_os = "linux", target_os = "freebsd"))))]
fn on_disk(directory: &Path) -> io::Result<File> {
    let mut number = 0;
    loop {
        let path = directory.join(format!("onepoll-{}-{number}.log", std::process::id()));
        match at(&path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists && number < 99 => number += 1,
            Err(error) => {
                let what = format!("{}: {error}", path.display());
                return Err(io::Error::new(error.kind(), what));
            }
            Ok(file) => return Ok(file),
        }
    }
}

/// A file that is removed from its directory as soon as it is open.
#[cfg(any(test, not(any(target_os = "linux", target_os = "freebsd"))))]
fn at(path: &Path) -> io::Result<File> {
    use std::io::{Seek, Write};
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = File::options();
    let mut file = options.read(true).write(true).create_new(true).mode(0o600).open(path)?;
    std::fs::remove_file(path)?;
    file.write_all(&vec![0; LOG_BUFFER_MAX + 2 * LOG_LINE_MAX])?;
    file.rewind()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn a_file_without_a_name_keeps_what_is_written() {
        let directory = std::env::temp_dir();
        for file in [create(), on_disk(&directory), on_disk(&directory)] {
            let mut file = file.expect("a file");
            file.write_all(b"a line\n").expect("there is room");
            let mut text = [0; 7];
            file.read_exact_at(&mut text, 0).expect("it is there");
            assert_eq!(&text, b"a line\n");
        }
        let taken = directory.join(format!("onepoll-{}-0.log", std::process::id()));
        File::create(&taken).expect("a name that is free again");
        on_disk(&directory).expect("another name");
        std::fs::remove_file(taken).expect("it is still there");
        let missing = on_disk(&directory.join("missing")).expect_err("no directory");
        assert!(missing.to_string().contains("/missing/onepoll-"), "{missing}");
    }
}
