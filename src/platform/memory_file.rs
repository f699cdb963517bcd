//! A file without a name, for the log's buffer.
//!
//! The invariant: no other process can open the file, and it is gone with the last descriptor.

use std::fs::File;
use std::io;

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

/// A file that is removed from its directory as soon as it is open. A process that was killed in
/// between has left one, so there are a hundred names.
#[cfg(any(test, not(any(target_os = "linux", target_os = "freebsd"))))]
fn on_disk(directory: &std::path::Path) -> io::Result<File> {
    use std::io::{Seek, Write};
    use std::os::unix::fs::OpenOptionsExt;
    const ROOM: usize = LOG_BUFFER_MAX + 2 * LOG_LINE_MAX;
    let create = |path: &std::path::Path| {
        let mut options = File::options();
        let mut file = options.read(true).write(true).create_new(true).mode(0o600).open(path)?;
        std::fs::remove_file(path)?;
        file.write_all(&vec![0; ROOM])?;
        file.rewind()?;
        Ok(file)
    };
    let mut left = (0..100).map(|number| {
        let path = directory.join(format!("onepoll-{}-{number}.log", std::process::id()));
        create(&path).map_err(|error: io::Error| {
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        })
    });
    let is_taken = |error: &io::Error| error.kind() == io::ErrorKind::AlreadyExists;
    left.find(|created| !created.as_ref().is_err_and(is_taken))
        .unwrap_or_else(|| Err(io::ErrorKind::AlreadyExists.into()))
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
        let missing = on_disk(&directory.join("missing")).expect_err("no directory");
        assert!(missing.to_string().contains("/missing/onepoll-"), "{missing}");
    }
}
