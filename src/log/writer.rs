//! A non-blocking writer to a descriptor that other processes share, as they do standard output and
//! standard error. It knows no lines and no log.
//!
//! The invariant: the mode of the shared descriptor stays as it is. `O_NONBLOCK` belongs to the
//! open file and not to the descriptor (fcntl(2)): the writer would set it for the shell on the
//! same terminal, too. So the writer opens the file again, or else asks poll(2) before each write.

use std::fs::File;
use std::io::ErrorKind::{Interrupted, WouldBlock};
use std::io::{self, IsTerminal, Seek, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::retry_on_intr;

use crate::limits::{PIPE_WRITE, TERMINAL_WRITE};
use crate::platform::descriptors::open_again;

/// A non-blocking writer to a shared descriptor.
#[derive(Debug)]
pub struct Writer {
    file: File,
    /// Most bytes of one write: a writable descriptor takes so many without blocking.
    write_max: usize,
    /// Whether a write needs no poll(2) before it: this is a regular file, or opened again.
    never_blocks: bool,
}

impl Writer {
    /// A writer to the file that `descriptor` refers to. The descriptor may be closed afterwards.
    ///
    /// # Errors
    /// Those of dup(2) and fstat(2), above all a lack of descriptors.
    pub fn duplicate(descriptor: BorrowedFd) -> io::Result<Writer> {
        let shared = File::from(descriptor.try_clone_to_owned()?);
        let kind = shared.metadata()?.file_type();
        let may_block = kind.is_fifo() || kind.is_char_device();
        let own = may_block.then(|| reopen(&shared)).and_then(Result::ok);
        Ok(Writer {
            write_max: match &own {
                None if shared.is_terminal() => TERMINAL_WRITE,
                // Here, a writable pipe may have room for no more than this.
                None if kind.is_fifo() => PIPE_WRITE.min(libc::PIPE_BUF),
                _ => PIPE_WRITE,
            },
            never_blocks: kind.is_file() || own.is_some(),
            file: own.unwrap_or(shared),
        })
    }

    /// Whether this is a regular file whose last byte does not end a line, as another process
    /// leaves it when the disk is full. False for a file that cannot be read.
    pub fn ends_within_line(&self) -> bool {
        let is_file = self.file.metadata().is_ok_and(|metadata| metadata.is_file());
        let reader = || open_again(&self.file, File::options().read(true)).ok();
        let Some(file) = is_file.then(reader).flatten() else {
            return false;
        };
        let mut last = [b'\n'];
        let len = file.metadata().map_or(0, |metadata| metadata.len());
        let appends = fcntl_getfl(&self.file).is_ok_and(|mode| mode.contains(OFlags::APPEND));
        let is_at_end = appends || (&self.file).stream_position().is_ok_and(|at| at == len);
        len > 0 && is_at_end && file.read_exact_at(&mut last, len - 1).is_ok() && last != [b'\n']
    }

    /// Writes the start of `bytes`, as far as there is room, and returns its length: at most
    /// [`PIPE_WRITE`], or [`TERMINAL_WRITE`], and 0 if a write would block.
    ///
    /// # Errors
    /// Those of write(2), above all `BrokenPipe` if the reader has gone.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        if self.never_blocks || self.is_writable_within(Duration::ZERO)? {
            self.write_now(bytes)
        } else {
            Ok(0)
        }
    }

    fn write_now(&self, bytes: &[u8]) -> io::Result<usize> {
        let bytes = &bytes[..bytes.len().min(self.write_max)];
        match (&self.file).write(bytes) {
            // Another process may have filled the pipe since poll(2).
            Err(error) if matches!(error.kind(), WouldBlock | Interrupted) => Ok(0),
            written => written,
        }
    }

    /// Whether the descriptor becomes writable within `timeout`. A pipe whose reader has gone is
    /// writable: the write returns the error.
    ///
    /// # Errors
    /// Those of poll(2), none of which is expected.
    pub fn is_writable_within(&self, timeout: Duration) -> io::Result<bool> {
        let mut polled = [PollFd::new(&self.file, PollFlags::OUT)];
        let timeout = Timespec::try_from(timeout).map_err(io::Error::other)?;
        Ok(retry_on_intr(|| poll(&mut polled, Some(&timeout)))? > 0)
    }
}

/// Opens a pipe or a terminal again. That makes an open file of our own, which can be non-blocking.
/// On the shared one, another process could fill the room between poll(2) and write(2).
fn reopen(shared: &File) -> io::Result<File> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    open_again(shared, File::options().write(true).custom_flags(flags))
}

#[cfg(test)]
mod tests {
    use std::io::{PipeWriter, pipe};
    use std::os::fd::{AsFd, OwnedFd};
    use std::sync::mpsc::channel;
    use std::thread;

    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

    use super::*;

    /// Runs something that must not block, and returns its result.
    fn at_once<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
        let (sender, receiver) = channel();
        thread::spawn(move || sender.send(run()));
        let timeout = Duration::from_secs(30);
        receiver.recv_timeout(timeout).expect("it does not block")
    }

    /// A writer that could not open the file again.
    fn only_shared(file: impl Into<OwnedFd>, write_max: usize) -> Writer {
        Writer { file: File::from(file.into()), write_max, never_blocks: false }
    }

    /// Writes until there is no room, and returns how many bytes were written.
    fn fill(writer: &Writer) -> usize {
        let write = || writer.write(&[b'\n'; 4 * PIPE_WRITE]).expect("there is a reader");
        std::iter::repeat_with(write).take_while(|&len| len > 0).sum()
    }

    fn has_own_mode(writer: &Writer) -> bool {
        let mode = fcntl_getfl(&writer.file).expect("it is open");
        mode.contains(OFlags::NONBLOCK)
    }

    #[cfg(target_os = "linux")] // Only Linux tells how much a pipe holds.
    #[test]
    fn a_pipe_takes_what_it_has_room_for_and_then_nothing() {
        use std::io::Read;
        let (mut reader, writer) = pipe().expect("a pipe");
        let size = rustix::pipe::fcntl_getpipe_size(&writer).expect("a pipe");
        let shared = writer.try_clone().expect("a descriptor");
        let own = Writer::duplicate(writer.as_fd()).expect("a pipe");
        assert!(has_own_mode(&own), "it is ours");
        let shared = only_shared(shared, PIPE_WRITE);
        assert!(!has_own_mode(&shared));
        for writer in [own, shared] {
            let (writer, filled) = at_once(move || {
                let filled = fill(&writer);
                (writer, filled)
            });
            assert_eq!(filled, size, "to the last byte");
            assert!(!writer.is_writable_within(Duration::ZERO).expect("a pipe"));
            // Room for one write, and for no more.
            reader.read_exact(&mut vec![0; PIPE_WRITE]).expect("it is there");
            let written = at_once(move || writer.write(&[b'\n'; 2 * PIPE_WRITE]));
            assert_eq!(written.expect("a pipe"), PIPE_WRITE);
            reader.read_exact(&mut vec![0; filled]).expect("it is there");
        }
    }

    #[cfg(target_os = "linux")] // Only there can a pipe be opened again.
    #[test]
    fn room_that_another_process_has_taken_is_not_waited_for() {
        let (_reader, writer) = pipe().expect("a pipe");
        let writer = Writer::duplicate(writer.as_fd()).expect("a pipe");
        fill(&writer);
        let written = at_once(move || writer.write_now(b"x"));
        assert_eq!(written.expect("it is only full"), 0);
    }

    #[test]
    fn a_reader_that_has_gone_is_an_error_and_no_signal() {
        let (reader, writer): (_, PipeWriter) = pipe().expect("a pipe");
        let writer = Writer::duplicate(writer.as_fd()).expect("a pipe");
        drop(reader);
        let error = writer.write(b"x").expect_err("there is no reader");
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_terminal_that_is_not_read_is_not_waited_for() {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&master).expect("ours");
        unlockpt(&master).expect("ours");
        let path = ptsname(&master, Vec::new()).expect("a path");
        let path = path.into_string().expect("text");
        let terminal = || File::options().read(true).write(true).open(&path).expect("ours");
        let own = Writer::duplicate(terminal().as_fd()).expect("a terminal");
        assert!(has_own_mode(&own), "it is ours");
        for writer in [only_shared(terminal(), TERMINAL_WRITE), own] {
            at_once(move || fill(&writer));
        }
    }
}
