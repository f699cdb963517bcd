//! A file without a name, for the log's buffer.
//!
//! The invariant: no other process can open the file, and it is gone with the last descriptor.

use std::fs::File;
use std::io;

/// A file in memory (`memfd_create(2)`).
///
/// # Errors
/// Those of `memfd_create(2)`, above all a lack of descriptors.
#[cfg(any(target_os = "linux", target_os = "freebsd"))]
pub fn create() -> io::Result<File> {
    use rustix::fs::{MemfdFlags, memfd_create};
    Ok(File::from(memfd_create("log", MemfdFlags::CLOEXEC)?))
}

/// A file on disk, in the directory for temporary files (`TMPDIR`). If that disk is full, a line of
/// the log ends the process.
///
/// # Errors
/// Those of open(2): the directory is missing, or may not be written to.
#[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
pub fn create() -> io::Result<File> {
    on_disk(&std::env::temp_dir())
}

/// A file that is removed from its directory as soon as it is open.
#[cfg(any(test, not(any(target_os = "linux", target_os = "freebsd"))))]
fn on_disk(directory: &std::path::Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let path = directory.join(format!("onepoll-{}.log", std::process::id()));
    let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    std::fs::remove_file(path)?;
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
        let left = directory.join(format!("onepoll-{}.log", std::process::id()));
        assert!(!left.exists(), "it has no name");
    }
}
