//! A descriptor that is shared with others, as standard output and standard error are: what
//! is written to it must not wait for a reader that has stopped reading.
//!
//! The invariant: the mode of the descriptor stays as it is. `O_NONBLOCK` belongs to the open
//! file and not to the descriptor (fcntl(2)), so setting it would set it for the shell that
//! shares our terminal, too.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind::{Interrupted, WouldBlock};
use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::retry_on_intr;

use crate::limits::{PIPE_WRITE, TERMINAL_WRITE};

/// A descriptor to write to without waiting.
#[derive(Debug)]
pub struct Outlet {
    file: File,
    /// Bytes that it takes without waiting whenever it has room.
    most: usize,
    /// It is a file, or in a mode of its own, so that one need not look for room.
    never_waits: bool,
}

impl Outlet {
    /// Another way to where `descriptor` leads.
    ///
    /// # Errors
    /// Those of dup(2) and fstat(2), above all a lack of descriptors.
    pub fn beside(descriptor: BorrowedFd) -> io::Result<Outlet> {
        let shared = File::from(descriptor.try_clone_to_owned()?);
        let kind = shared.metadata()?.file_type();
        let may_wait = kind.is_fifo() || kind.is_char_device();
        let own = may_wait.then(|| reopen(&shared)).and_then(Result::ok);
        Ok(Outlet {
            most: if kind.is_char_device() && own.is_none() {
                TERMINAL_WRITE
            } else {
                PIPE_WRITE
            },
            never_waits: kind.is_file() || own.is_some(),
            file: own.unwrap_or(shared),
        })
    }

    /// Whether it is a file that ends within a line, as the last process to write there has left it
    /// when the disk was full. One that cannot be read does not say so.
    pub fn ends_within_line(&self) -> bool {
        let path = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        let is_file = self
            .file
            .metadata()
            .is_ok_and(|metadata| metadata.is_file());
        let Some(file) = is_file.then(|| File::open(path).ok()).flatten() else {
            return false;
        };
        let mut last = [b'\n'];
        let len = file.metadata().map_or(0, |metadata| metadata.len());
        let appends = fcntl_getfl(&self.file).is_ok_and(|mode| mode.contains(OFlags::APPEND));
        let is_at_end = appends || (&self.file).stream_position().is_ok_and(|at| at == len);
        len > 0 && is_at_end && file.read_exact_at(&mut last, len - 1).is_ok() && last != [b'\n']
    }

    /// Writes as much of `bytes` as there is room for, and at most [`PIPE_WRITE`] of them, or
    /// [`TERMINAL_WRITE`]; says how many these were.
    ///
    /// # Errors
    /// Those of write(2), above all `BrokenPipe` if the reader has gone.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        if self.never_waits || self.has_room_within(Duration::ZERO)? {
            self.attempt(bytes)
        } else {
            Ok(0)
        }
    }

    /// A write, after a look: others may have taken the room since.
    fn attempt(&self, bytes: &[u8]) -> io::Result<usize> {
        let bytes = &bytes[..bytes.len().min(self.most)];
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
/// look has shown. Not everybody may do it, and `/proc` may be missing: then the look has to
/// do, and so much at once as it promises room for.
fn reopen(shared: &File) -> io::Result<File> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let path = format!("/proc/self/fd/{}", shared.as_fd().as_raw_fd());
    OpenOptions::new()
        .write(true)
        .custom_flags(flags)
        .open(path)
}

#[cfg(test)]
mod tests {
    use std::io::{PipeWriter, Read, pipe};
    use std::os::fd::OwnedFd;
    use std::sync::mpsc::channel;
    use std::thread;

    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

    use super::*;

    /// Does something that must not wait, and says what came of it.
    fn at_once<T: Send + 'static>(does: impl FnOnce() -> T + Send + 'static) -> T {
        let (sender, receiver) = channel();
        thread::spawn(move || sender.send(does()));
        let patience = Duration::from_secs(30);
        receiver.recv_timeout(patience).expect("it does not wait")
    }

    /// An outlet without an open file of its own, as it is where that is forbidden.
    fn only_shared(file: impl Into<OwnedFd>, most: usize) -> Outlet {
        Outlet {
            file: File::from(file.into()),
            most,
            never_waits: false,
        }
    }

    /// Writes until there is no room, and says how much that was.
    fn fill(outlet: &Outlet) -> usize {
        let write = || {
            outlet
                .write(&[b'\n'; 4 * PIPE_WRITE])
                .expect("somebody may read")
        };
        std::iter::repeat_with(write)
            .take_while(|&len| len > 0)
            .sum()
    }

    fn has_own_mode(outlet: &Outlet) -> bool {
        let mode = fcntl_getfl(&outlet.file).expect("it is open");
        mode.contains(OFlags::NONBLOCK)
    }

    #[test]
    fn a_pipe_takes_what_it_has_room_for_and_then_nothing() {
        let (mut reader, writer) = pipe().expect("a pipe");
        let size = rustix::pipe::fcntl_getpipe_size(&writer).expect("a pipe");
        let shared = writer.try_clone().expect("a descriptor");
        let own = Outlet::beside(writer.as_fd()).expect("a pipe");
        assert!(has_own_mode(&own), "it is ours");
        let shared = only_shared(shared, PIPE_WRITE);
        assert!(!has_own_mode(&shared));
        for outlet in [own, shared] {
            let (outlet, filled) = at_once(move || {
                let filled = fill(&outlet);
                (outlet, filled)
            });
            assert_eq!(filled, size, "to the last byte");
            assert!(!outlet.has_room_within(Duration::ZERO).expect("a pipe"));
            // Room for one write, and for no more.
            reader
                .read_exact(&mut vec![0; PIPE_WRITE])
                .expect("it is there");
            let written = at_once(move || outlet.write(&[b'\n'; 2 * PIPE_WRITE]));
            assert_eq!(written.expect("a pipe"), PIPE_WRITE);
            reader
                .read_exact(&mut vec![0; filled])
                .expect("it is there");
        }
    }

    #[test]
    fn room_that_others_take_is_not_waited_for() {
        let (_reader, writer) = pipe().expect("a pipe");
        let outlet = Outlet::beside(writer.as_fd()).expect("a pipe");
        fill(&outlet);
        let written = at_once(move || outlet.attempt(b"x"));
        assert_eq!(written.expect("it is only full"), 0);
    }

    #[test]
    fn a_reader_that_has_gone_is_an_error_and_no_signal() {
        let (reader, writer): (_, PipeWriter) = pipe().expect("a pipe");
        let outlet = Outlet::beside(writer.as_fd()).expect("a pipe");
        drop(reader);
        let error = outlet.write(b"x").expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_terminal_that_nobody_looks_at_is_not_waited_for() {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&master).expect("ours");
        unlockpt(&master).expect("ours");
        let path = ptsname(&master, Vec::new()).expect("a path");
        let path = path.into_string().expect("text");
        let terminal = || {
            File::options()
                .read(true)
                .write(true)
                .open(&path)
                .expect("ours")
        };
        let own = Outlet::beside(terminal().as_fd()).expect("a terminal");
        assert!(has_own_mode(&own), "it is ours");
        for outlet in [only_shared(terminal(), TERMINAL_WRITE), own] {
            at_once(move || fill(&outlet));
        }
    }
}
