//! What the program says. Standard output carries one line, for whoever has started it and
//! wants to know where it listens; everything else is a log line on standard error.
//!
//! The invariant: to say something takes no time and cannot fail. `simple_logger` prints with
//! a standard macro, which waits when a pipe is full and panics when its reader has gone. So
//! its standard output is a page of memory, where there is always room. Whenever the loop is
//! about to wait, the page is handed on, or as much of it as standard error takes just then.
//! While that is nothing, lines are dropped and counted.
//!
//! ```text
//!   info! ──► simple_logger ──► println! ──► page ──── flush ────► standard error
//!                                 fd 1      memfd                    as it was
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
use std::time::UNIX_EPOCH;

use humantime::format_rfc3339_millis;
use log::{Level, LevelFilter, Log, Metadata, Record};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Resource, getrlimit};
use rustix::stdio::dup2_stdout;
use simple_logger::SimpleLogger;

use crate::event_loop::clock;
use crate::limits::{
    LOG_BUFFER_MAX, LOG_EXIT_TIMEOUT, LOG_EXIT_WRITES_MAX, LOG_LINE_MAX, PIPE_WRITE,
};
use crate::log::writer::Outlet;

/// Both ways in which the program speaks.
pub struct Journal {
    stdout: Outlet,
    logger: &'static Logger,
}

/// What the `log` macros speak to.
struct Logger {
    printer: SimpleLogger,
    page: Mutex<Page>,
}

/// The lines that standard error has not taken yet.
struct Page {
    /// What is printed goes here. Descriptor 1 shares its offset, which is where it ends.
    memory: File,
    /// Where it ended when that was last asked, and lines that were printed since.
    len: u64,
    unmeasured: usize,
    /// Bytes of it that have been handed on.
    sent: u64,
    /// Lines that end in the rest of it.
    lines: usize,
    stderr: Outlet,
    /// How long it may become: [`LOG_BUFFER_MAX`], unless files have to be shorter. The limit
    /// may change at any time (prlimit(2)), so it is asked for ahead of the first line of a tick.
    most: Option<u64>,
    /// Lines lost since that was last told.
    dropped: usize,
    /// Why standard error took no more when that was last so.
    reason: String,
}

impl Journal {
    /// Begins to log: lines of `level` and above, with the time in UTC, which needs no time
    /// zone files and no thread-unsafe look at the environment. From here on, descriptor 1
    /// belongs to the log.
    ///
    /// # Errors
    /// Those of `memfd_create(2)` and dup(2), above all a lack of descriptors.
    pub fn open(level: LevelFilter) -> io::Result<Journal> {
        let stdout = Outlet::beside(io::stdout().as_fd())?;
        let stderr = Outlet::beside(io::stderr().as_fd())?;
        if level != LevelFilter::Off && stderr.ends_within_line() {
            let _ = stderr.write(b"\n");
        }
        let memory = File::from(memfd_create("log", MemfdFlags::CLOEXEC)?);
        dup2_stdout(&memory)?;
        // mio traces every call to the kernel; `--log trace` is about what this program does.
        let printer = SimpleLogger::new()
            .with_level(level)
            .with_module_level("mio", LevelFilter::Off);
        let logger = Box::leak(Box::new(Logger {
            printer,
            page: Mutex::new(Page {
                memory,
                len: 0,
                unmeasured: 0,
                sent: 0,
                lines: 0,
                stderr,
                most: None,
                dropped: 0,
                reason: String::new(),
            }),
        }));
        if page_max() == 0 {
            let complaint =
                b"onepoll: no log is kept: the limit on file sizes (ulimit -f) is too low\n";
            let _ = logger.page().stderr.write(complaint);
        }
        if log::set_logger(logger).is_ok() {
            log::set_max_level(level);
        }
        Ok(Journal { stdout, logger })
    }

    /// Prints the ready line, the only one on standard output: a JSON object with the process
    /// id, the version and both addresses. Nobody has to read it: that it cannot be printed
    /// is logged and no reason not to serve.
    pub fn announce(&self, version: &str, listen: SocketAddr, diag: SocketAddr) {
        let pid = process::id();
        let start = format!("{{\"pid\":{pid},\"version\":\"{version}\"");
        let line = format!("{start},\"listen\":\"{listen}\",\"diag\":\"{diag}\"}}\n");
        let why = match self.stdout.write(line.as_bytes()) {
            Ok(written) if written == line.len() => return,
            Ok(_) => "nobody reads".to_owned(),
            Err(error) => error.to_string(),
        };
        log::warn!(target: "onepoll", "The ready line could not be printed: {why}");
    }

    /// Hands on all that is held, and gives standard error a little time to take it.
    pub fn catch_up(&self) {
        for _ in 0..LOG_EXIT_WRITES_MAX {
            self.logger.flush();
            let page = self.logger.page();
            let room = || page.stderr.has_room_within(LOG_EXIT_TIMEOUT);
            if page.len == 0 || !room().unwrap_or(false) {
                return;
            }
        }
    }
}

/// Whether there are lines that standard error has not taken. A flag of its own, as the loop
/// asks this twice in every tick.
pub fn is_held() -> bool {
    HELD.load(Ordering::Relaxed)
}

/// Hands on to standard error what it takes of the lines, if there are any.
pub fn hand_on() {
    if is_held() {
        log::logger().flush();
    }
}

/// How many lines have been dropped since the start.
pub fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

static HELD: AtomicBool = AtomicBool::new(false);
static DROPPED: AtomicU64 = AtomicU64::new(0);

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata) -> bool {
        self.printer.enabled(metadata)
    }

    fn log(&self, record: &Record) {
        if self.enabled(record.metadata()) {
            let mut page = self.page();
            if page.is_full() {
                self.hand_on(&mut page);
            }
            if page.is_full() {
                page.lose(1);
            } else {
                self.print(&mut page, record);
            }
        }
    }

    fn flush(&self) {
        let mut page = self.page();
        if is_held() {
            self.hand_on(&mut page);
        }
    }
}

impl Logger {
    /// The page. It is in order even if somebody has panicked in the middle of a line.
    fn page(&self) -> MutexGuard<'_, Page> {
        self.page.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn print(&self, page: &mut Page, record: &Record) {
        // Standard output keeps the beginning of a line until the rest of it comes. With time
        // stamps of its own, the printer would know time zones, and bring along the files.
        print!(
            "{} ",
            format_rfc3339_millis(UNIX_EPOCH + clock::since_1970())
        );
        self.printer.log(record);
        page.lines += 1;
        page.unmeasured += 1;
        HELD.store(true, Ordering::Relaxed);
    }

    /// Hands on the page, and then tells of the lines that were lost.
    fn hand_on(&self, page: &mut Page) {
        page.most = None;
        if page.hand_on() && page.dropped > 0 && page_max() > 0 {
            let dropped = mem::take(&mut page.dropped);
            let reason = mem::take(&mut page.reason);
            let mut record = Record::builder();
            record.level(Level::Warn).target("onepoll");
            let words = format_args!("{dropped} log lines were dropped: {reason}");
            self.print(page, &record.args(words).build());
            page.hand_on();
        }
        HELD.store(page.len > 0, Ordering::Relaxed);
    }
}

impl Page {
    /// Whether there is no room for another line. To ask the kernel costs as much as to print
    /// one, and need not be as long as there is room for any.
    fn is_full(&mut self) -> bool {
        let most = *self.most.get_or_insert_with(page_max);
        if self.len + (self.unmeasured * LOG_LINE_MAX) as u64 >= most {
            self.measure();
        }
        self.len >= most
    }

    /// Counts lines that nobody will read.
    fn lose(&mut self, lines: usize) {
        if self.most == Some(0) {
            "the limit on file sizes leaves no room for them".clone_into(&mut self.reason);
        }
        self.dropped += lines;
        DROPPED.fetch_add(lines as u64, Ordering::Relaxed);
    }

    /// Finds out how long it is.
    fn measure(&mut self) {
        self.len = self.memory.stream_position().unwrap_or(self.len);
        self.unmeasured = 0;
    }

    /// Hands on as much as standard error takes, and says whether that was all. What is left is
    /// kept, and goes on with the byte behind the last one that was taken, so that lines stay
    /// whole when a disk is full. Only if the reader of a pipe has gone, no other will ever take
    /// it.
    fn hand_on(&mut self) -> bool {
        let mut chunk = [0; PIPE_WRITE];
        let mut flows = true;
        self.measure();
        while self.sent < self.len {
            let left = usize::try_from(self.len - self.sent).unwrap_or(PIPE_WRITE);
            let chunk = &mut chunk[..left.min(PIPE_WRITE)];
            let read = self.memory.read_at(chunk, self.sent);
            match read.and_then(|read| self.stderr.write(whole_lines(&chunk[..read]))) {
                Ok(0) => {
                    "standard error was not read".clone_into(&mut self.reason);
                    return false;
                }
                Ok(taken) => {
                    self.sent += taken as u64;
                    self.lines -= chunk[..taken].iter().filter(|&&byte| byte == b'\n').count();
                }
                Err(error) => {
                    self.reason = format!("standard error took no more ({error})");
                    if error.kind() != ErrorKind::BrokenPipe {
                        return false;
                    }
                    self.lose(self.lines);
                    flows = false;
                    break;
                }
            }
        }
        // The memory itself is kept for the lines to come.
        if self.memory.rewind().is_ok() {
            (self.len, self.sent, self.lines) = (0, 0, 0);
        }
        flows
    }
}

/// How long the page may become. A limit on file sizes holds for it, too, although it is memory;
/// zero if that leaves no room for a line.
fn page_max() -> u64 {
    let limit = getrlimit(Resource::Fsize).current.unwrap_or(u64::MAX);
    let room = limit.saturating_sub(LOG_LINE_MAX as u64);
    if room < LOG_LINE_MAX as u64 {
        return 0;
    }
    room.min(LOG_BUFFER_MAX as u64)
}

/// As many lines as are whole, so that those of several processes on one pipe stay whole,
/// too; or else the beginning of a line that is too long for that.
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

    /// An empty page before a pipe.
    fn page() -> (Page, PipeReader, PipeWriter) {
        let (reader, writer) = pipe().expect("a pipe");
        let page = Page {
            memory: File::from(memfd_create("page", MemfdFlags::CLOEXEC).expect("memory")),
            len: 0,
            unmeasured: 0,
            sent: 0,
            lines: 0,
            stderr: Outlet::beside(writer.as_fd()).expect("a pipe"),
            most: None,
            dropped: 0,
            reason: String::new(),
        };
        (page, reader, writer)
    }

    fn print(page: &mut Page, lines: usize) {
        for _ in 0..lines {
            page.memory.write_all(LINE.as_bytes()).expect("memory");
            page.lines += 1;
            page.unmeasured += 1;
        }
    }

    #[test]
    fn a_page_is_handed_on_and_begun_anew() {
        let (mut page, mut reader, _writer) = page();
        for lines in [3, 1, 2] {
            print(&mut page, lines);
            assert!(page.hand_on());
            assert_eq!((page.len, page.sent, page.lines), (0, 0, 0));
            let mut text = vec![0; lines * LINE.len()];
            reader.read_exact(&mut text).expect("it is there");
            assert_eq!(text, LINE.repeat(lines).as_bytes());
        }
    }

    #[test]
    fn what_is_taken_are_whole_lines_and_only_the_rest_can_be_lost() {
        let (mut page, mut reader, _writer) = page();
        let all = 4 * LOG_BUFFER_MAX / LINE.len();
        print(&mut page, all);
        assert!(!page.hand_on(), "a pipe is smaller than that");
        let taken = rustix::io::ioctl_fionread(&reader).expect("a pipe");
        let mut text = vec![0; usize::try_from(taken).expect("a length")];
        reader.read_exact(&mut text).expect("it is there");
        assert_eq!(text.len() % LINE.len(), 0, "no line is cut");
        let taken = text.len() / LINE.len();
        assert_eq!(page.lines, all - taken);

        assert!(!page.hand_on(), "it goes on where it had stopped");
        let more = all - taken - page.lines;
        assert!(more > 0);
        drop(reader);
        assert!(!page.hand_on());
        assert_eq!(page.dropped, all - taken - more, "nobody will take these");
        assert_eq!((page.len, page.lines), (0, 0));
    }

    #[test]
    fn a_line_that_is_too_long_to_stay_whole_is_told_all_the_same() {
        assert_eq!(whole_lines(b"a\nbc\nd"), b"a\nbc\n");
        assert_eq!(whole_lines(b"abcd"), b"abcd");
    }
}
