//! A descriptor that is shared with others, as standard output and standard error are: what
//! is written to it must not wait for a reader that has stopped reading.
//!
//! The invariant: the mode of the descriptor stays as it is. `O_NONBLOCK` belongs to the open
//! file and not to the descriptor (fcntl(2)), so setting it would set it for the shell that
//! shares our terminal, too.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind::{Interrupted, WouldBlock};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::retry_on_intr;

use crate::limits::PIPE_WRITE;

/// A descriptor to write to without waiting.
#[derive(Debug)]
pub struct Outlet {
    file: File,
}

impl Outlet {
    /// Another way to where `descriptor` leads.
    ///
    /// # Errors
    /// Those of dup(2) and fstat(2), above all a lack of descriptors.
    pub fn beside(descriptor: BorrowedFd) -> io::Result<Outlet> {
        let shared = File::from(descriptor.try_clone_to_owned()?);
        let kind = shared.metadata()?.file_type();
        let own = (kind.is_fifo() || kind.is_char_device()).then(|| reopen(&shared));
        Ok(Outlet {
            file: own.and_then(Result::ok).unwrap_or(shared),
        })
    }

    /// Writes as much of `bytes` as there is room for, and at most [`PIPE_WRITE`] of them;
    /// says how many these were.
    ///
    /// # Errors
    /// Those of write(2), above all `BrokenPipe` if the reader has gone.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        if !self.has_room_within(Duration::ZERO)? {
            return Ok(0);
        }
        let bytes = &bytes[..bytes.len().min(PIPE_WRITE)];
        match (&self.file).write(bytes) {
            Err(error) if matches!(error.kind(), WouldBlock | Interrupted) => Ok(0),
            written => written,
        }
    }

    /// Whether there is room for something, or will be before `patience` ends. A reader that
    /// has gone counts as room: it is the write that meets the error.
    ///
    /// # Errors
    /// Those of poll(2), none of which is expected.
    pub fn has_room_within(&self, patience: Duration) -> io::Result<bool> {
        let mut outlet = [PollFd::new(&self.file, PollFlags::OUT)];
        let patience = Timespec::try_from(patience).map_err(io::Error::other)?;
        Ok(retry_on_intr(|| poll(&mut outlet, Some(&patience)))? > 0)
    }
}

/// Opens a pipe or a terminal once more, which makes an open file of our own and lets that be
/// non-blocking. Without it, others who write to the same place could take the room that a
/// look has shown. Not everybody may do it, and `/proc` may be missing: then the look is all.
fn reopen(shared: &File) -> io::Result<File> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let path = format!("/proc/self/fd/{}", shared.as_fd().as_raw_fd());
    OpenOptions::new()
        .write(true)
        .custom_flags(flags)
        .open(path)
}
