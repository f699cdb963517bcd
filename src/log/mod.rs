//! The log, as lines on standard error, and the ready line on standard output. Neither blocks the
//! event loop.
//!
//! `simple_logger` prints with `println!`, which blocks while a pipe is full and panics when its
//! reader has gone. So descriptor 1 is a file in memory, where there is always room: the buffer.
//! Before each wait, the event loop flushes the buffer to standard error, as far as that takes
//! bytes without blocking. No other module knows of this.
//!
//! The invariant: a log macro neither blocks nor fails. While the buffer is full, lines are dropped
//! and counted.
//!
//! ```text
//!   info! ──► simple_logger ──► println! ──► buffer ──── flush ────► standard error
//!                                 fd 1       memfd                   as it was
//! ```

pub mod writer;

use std::fs::File;
use std::io::{self, ErrorKind, Seek};
use std::mem;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::process;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use humantime::format_rfc3339_millis;
use log::{Level, LevelFilter, Log, Metadata, Record};
use rustix::process::{Resource, getrlimit};
use rustix::stdio::dup2_stdout;
use simple_logger::SimpleLogger;

use crate::limits::{
    LOG_BUFFER_MAX, LOG_EXIT_TIMEOUT, LOG_EXIT_WRITES_MAX, LOG_LINE_MAX, PIPE_WRITE,
};
use crate::log::writer::Writer;
use crate::platform::memory_file;

/// Standard output, as it was when the process started, and the log.
pub struct Output {
    stdout: Writer,
    logger: &'static Logger,
}

impl Output {
    /// Starts the log with lines of `level` and above. Times are in UTC, which needs no time zone
    /// files and no thread-unsafe read of the environment. From here on, descriptor 1 belongs to
    /// the log.
    ///
    /// # Errors
    /// Those of `memfd_create(2)` and dup(2), above all a lack of descriptors.
    pub fn open(level: LevelFilter) -> io::Result<Output> {
        let stdout = Writer::duplicate(io::stdout().as_fd())?;
        let stderr = Writer::duplicate(io::stderr().as_fd())?;
        if level != LevelFilter::Off && stderr.ends_within_line() {
            let _ = stderr.write(b"\n");
        }
        if buffer_max() == 0 {
            let complaint =
                b"onepoll: no log is kept: the limit on file sizes (ulimit -f) is too low\n";
            let _ = stderr.write(complaint);
        }
        let buffer = Buffer::new(stderr)?;
        dup2_stdout(&buffer.file)?;
        // mio traces every system call; `--log trace` is about what this program does.
        let printer =
            SimpleLogger::new().with_level(level).with_module_level("mio", LevelFilter::Off);
        let logger = Box::leak(Box::new(Logger { printer, buffer: Mutex::new(buffer) }));
        if log::set_logger(logger).is_ok() {
            log::set_max_level(level);
        }
        Ok(Output { stdout, logger })
    }

    /// Prints the ready line, the only one on standard output: a JSON object with the process
    /// id, the version and both addresses. A failure to print it is logged, and the server runs
    /// all the same.
    pub fn print_ready_line(&self, version: &str, listen: SocketAddr, diag: SocketAddr) {
        let pid = process::id();
        let start = format!("{{\"pid\":{pid},\"version\":\"{version}\"");
        let line = format!("{start},\"listen\":\"{listen}\",\"diag\":\"{diag}\"}}\n");
        let why = match self.stdout.write(line.as_bytes()) {
            Ok(written) if written == line.len() => return,
            Ok(_) => "standard output is full".to_owned(),
            Err(error) => error.to_string(),
        };
        log::warn!(target: "onepoll", "The ready line could not be printed: {why}");
    }

    /// Flushes the rest of the log. Standard error has [`LOG_EXIT_TIMEOUT`] for each write, at most
    /// [`LOG_EXIT_WRITES_MAX`] times.
    pub fn flush_before_exit(&self) {
        for _ in 0..LOG_EXIT_WRITES_MAX {
            self.logger.flush();
            let buffer = self.logger.lock();
            let is_writable = || buffer.stderr.is_writable_within(LOG_EXIT_TIMEOUT);
            if buffer.len == 0 || !is_writable().unwrap_or(false) {
                return;
            }
        }
    }
}

/// Writes to standard error what it takes of the buffer without blocking.
pub fn flush() {
    if has_unflushed_lines() {
        log::logger().flush();
    }
}

/// Whether the buffer holds lines. This is a flag of its own, without the lock of the buffer,
/// because the event loop reads it twice in every tick.
pub fn has_unflushed_lines() -> bool {
    UNFLUSHED.load(Ordering::Relaxed)
}

/// How many lines have been dropped since the start.
pub fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

static UNFLUSHED: AtomicBool = AtomicBool::new(false);
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// The logger of the `log` macros.
struct Logger {
    printer: SimpleLogger,
    buffer: Mutex<Buffer>,
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata) -> bool {
        self.printer.enabled(metadata)
    }

    fn log(&self, record: &Record) {
        if self.enabled(record.metadata()) {
            let mut buffer = self.lock();
            if buffer.is_full() {
                self.flush_and_report(&mut buffer);
            }
            if buffer.is_full() {
                buffer.count_dropped(1);
            } else {
                self.print(&mut buffer, record);
            }
        }
    }

    fn flush(&self) {
        let mut buffer = self.lock();
        if has_unflushed_lines() {
            self.flush_and_report(&mut buffer);
        }
    }
}

impl Logger {
    /// Locks the buffer, which is valid even after a panic in the middle of a line.
    fn lock(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Prints a line to descriptor 1, and so into the buffer.
    fn print(&self, buffer: &mut Buffer, record: &Record) {
        // `print!` keeps the start of a line until its end comes. The time stamps of simple_logger
        // itself need time zones, and another crate for them.
        print!("{} ", format_rfc3339_millis(SystemTime::now()));
        self.printer.log(record);
        buffer.lines += 1;
        buffer.unmeasured += 1;
        UNFLUSHED.store(true, Ordering::Relaxed);
    }

    /// Flushes the buffer. If that empties it, logs how many lines were dropped before.
    fn flush_and_report(&self, buffer: &mut Buffer) {
        buffer.max = None;
        if buffer.flush() && buffer.dropped > 0 && buffer_max() > 0 {
            let dropped = mem::take(&mut buffer.dropped);
            let reason = mem::take(&mut buffer.reason);
            let mut record = Record::builder();
            record.level(Level::Warn).target("onepoll");
            let message = format_args!("{dropped} log lines were dropped: {reason}");
            self.print(buffer, &record.args(message).build());
            buffer.flush();
        }
        UNFLUSHED.store(buffer.len > 0, Ordering::Relaxed);
    }
}

/// The lines that standard error has not taken yet.
struct Buffer {
    /// A file in memory. Descriptor 1 shares its offset, which is at the end of the last line.
    file: File,
    /// The offset when it was last read, and the lines printed since.
    len: u64,
    unmeasured: usize,
    /// Bytes already written to standard error.
    flushed: u64,
    /// Lines that end in the bytes not yet written.
    lines: usize,
    stderr: Writer,
    /// What [`buffer_max`] returned at the first line since the last flush. The limit on file sizes
    /// may change at any time (prlimit(2)).
    max: Option<u64>,
    /// Lines dropped since the log last reported a number.
    dropped: usize,
    /// Why standard error last took no more.
    reason: String,
}

impl Buffer {
    fn new(stderr: Writer) -> io::Result<Buffer> {
        Ok(Buffer {
            file: memory_file::create()?,
            len: 0,
            unmeasured: 0,
            flushed: 0,
            lines: 0,
            stderr,
            max: None,
            dropped: 0,
            reason: String::new(),
        })
    }

    /// Whether there is no room for another line. The system call that reads the offset takes as
    /// long as printing a line, so it is made only when lines of [`LOG_LINE_MAX`] would not fit.
    fn is_full(&mut self) -> bool {
        let max = *self.max.get_or_insert_with(buffer_max);
        if self.len + (self.unmeasured * LOG_LINE_MAX) as u64 >= max {
            self.measure();
        }
        self.len >= max
    }

    fn measure(&mut self) {
        self.len = self.file.stream_position().unwrap_or(self.len);
        self.unmeasured = 0;
    }

    fn count_dropped(&mut self, lines: usize) {
        if self.max == Some(0) {
            "the limit on file sizes leaves no room for them".clone_into(&mut self.reason);
        }
        self.dropped += lines;
        DROPPED.fetch_add(lines as u64, Ordering::Relaxed);
    }

    /// Writes to standard error what it takes without blocking, and returns whether that was all.
    /// The rest stays, from the first byte that was not taken, so that lines stay whole when a disk
    /// is full. A pipe whose reader has gone takes no byte ever again: then the rest is dropped.
    fn flush(&mut self) -> bool {
        let mut chunk = [0; PIPE_WRITE];
        let mut is_written = true;
        self.measure();
        while self.flushed < self.len {
            let left = usize::try_from(self.len - self.flushed).unwrap_or(PIPE_WRITE);
            let chunk = &mut chunk[..left.min(PIPE_WRITE)];
            let read = self.file.read_at(chunk, self.flushed);
            match read.and_then(|read| self.stderr.write(whole_lines(&chunk[..read]))) {
                Ok(0) => {
                    "standard error was not read".clone_into(&mut self.reason);
                    return false;
                }
                Ok(written) => {
                    self.flushed += written as u64;
                    let line_ends = chunk[..written].iter().filter(|&&byte| byte == b'\n');
                    self.lines -= line_ends.count();
                }
                Err(error) => {
                    self.reason = format!("standard error took no more ({error})");
                    if error.kind() != ErrorKind::BrokenPipe {
                        return false;
                    }
                    self.count_dropped(self.lines);
                    is_written = false;
                    break;
                }
            }
        }
        // The file is not truncated: the next lines reuse its memory.
        if self.file.rewind().is_ok() {
            (self.len, self.flushed, self.lines) = (0, 0, 0);
        }
        is_written
    }
}

/// Most bytes in the buffer: [`LOG_BUFFER_MAX`], or less under a limit on file sizes, which holds
/// for files in memory, too (`RLIMIT_FSIZE`, getrlimit(2)). Zero if no line would fit.
fn buffer_max() -> u64 {
    let limit = getrlimit(Resource::Fsize).current.unwrap_or(u64::MAX);
    let room = limit.saturating_sub(LOG_LINE_MAX as u64);
    if room < LOG_LINE_MAX as u64 {
        return 0;
    }
    room.min(LOG_BUFFER_MAX as u64)
}

/// The whole lines in `text`, so that the lines of several processes on one pipe stay whole. If
/// there is none, all of `text`: the start of a line that is too long for one write.
fn whole_lines(text: &[u8]) -> &[u8] {
    match text.iter().rposition(|&byte| byte == b'\n') {
        Some(end) => &text[..=end],
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{PipeReader, PipeWriter, Read, Write, pipe};

    use super::*;

    const LINE: &str = "A line of some length, so that not many of them fit into a pipe.\n";

    /// An empty buffer that is flushed to a pipe.
    fn buffer() -> (Buffer, PipeReader, PipeWriter) {
        let (reader, writer) = pipe().expect("a pipe");
        let stderr = Writer::duplicate(writer.as_fd()).expect("a pipe");
        (Buffer::new(stderr).expect("memory"), reader, writer)
    }

    fn print(buffer: &mut Buffer, lines: usize) {
        for _ in 0..lines {
            buffer.file.write_all(LINE.as_bytes()).expect("memory");
            buffer.lines += 1;
            buffer.unmeasured += 1;
        }
    }

    #[test]
    fn a_buffer_is_empty_after_a_flush_and_used_again() {
        let (mut buffer, mut reader, _writer) = buffer();
        for lines in [3, 1, 2] {
            print(&mut buffer, lines);
            assert!(buffer.flush());
            assert_eq!((buffer.len, buffer.flushed, buffer.lines), (0, 0, 0));
            let mut text = vec![0; lines * LINE.len()];
            reader.read_exact(&mut text).expect("it is there");
            assert_eq!(text, LINE.repeat(lines).as_bytes());
        }
    }

    #[test]
    fn whole_lines_are_written_and_only_the_rest_is_dropped() {
        let (mut buffer, mut reader, _writer) = buffer();
        let all = 4 * LOG_BUFFER_MAX / LINE.len();
        print(&mut buffer, all);
        assert!(!buffer.flush(), "a pipe is smaller than that");
        let written = rustix::io::ioctl_fionread(&reader).expect("a pipe");
        let mut text = vec![0; usize::try_from(written).expect("a length")];
        reader.read_exact(&mut text).expect("it is there");
        assert_eq!(text.len() % LINE.len(), 0, "no line is cut");
        let written = text.len() / LINE.len();
        assert_eq!(buffer.lines, all - written);

        assert!(!buffer.flush(), "it goes on where it had stopped");
        let more = all - written - buffer.lines;
        assert!(more > 0);
        drop(reader);
        assert!(!buffer.flush());
        assert_eq!(buffer.dropped, all - written - more, "these have no reader");
        assert_eq!((buffer.len, buffer.lines), (0, 0));
    }

    #[test]
    fn a_line_that_is_too_long_for_one_write_is_written_in_parts() {
        assert_eq!(whole_lines(b"a\nbc\nd"), b"a\nbc\n");
        assert_eq!(whole_lines(b"abcd"), b"abcd");
    }
}
