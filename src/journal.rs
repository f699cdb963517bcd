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

use std::fs::File;
use std::io::{self, Seek};
use std::mem;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::process;
use std::sync::{Mutex, MutexGuard, PoisonError};

use log::{Level, LevelFilter, Log, Metadata, Record};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Resource, getrlimit};
use rustix::stdio::dup2_stdout;
use simple_logger::SimpleLogger;

use crate::limits::{LAST_WORDS_MAX, LAST_WORDS_PATIENCE, LINE_MAX, PAGE_MAX, PIPE_WRITE};
use crate::outlet::Outlet;

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
    /// What is printed goes here. Both descriptors share one offset, so that is its length.
    memory: File,
    lines: u64,
    /// Bytes of it that have been handed on.
    sent: u64,
    stderr: Outlet,
    /// Lines lost since that was last told.
    dropped: u64,
}

impl Journal {
    /// Begins to log: lines of `level` and above, with the time in UTC, which needs no time
    /// zone files and no thread-unsafe look at the environment. From here on, descriptor 1
    /// belongs to the log.
    ///
    /// # Errors
    /// Those of `memfd_create(2)` and dup(2), above all a lack of descriptors; and a limit on
    /// file sizes that holds for the page, too, as exceeding it would end the process.
    pub fn open(level: LevelFilter) -> io::Result<Journal> {
        let limit = getrlimit(Resource::Fsize).current;
        if limit.is_some_and(|limit| limit < (PAGE_MAX + LINE_MAX) as u64) {
            let what = "the limit on file sizes (ulimit -f, RLIMIT_FSIZE) leaves no room for it";
            return Err(io::Error::other(what));
        }
        let stdout = Outlet::beside(io::stdout().as_fd())?;
        let stderr = Outlet::beside(io::stderr().as_fd())?;
        let memory = File::from(memfd_create("log", MemfdFlags::CLOEXEC)?);
        dup2_stdout(&memory)?;
        // mio traces every call to the kernel; `--log trace` is about what this program does.
        let printer = SimpleLogger::new()
            .with_level(level)
            .with_module_level("mio", LevelFilter::Off)
            .with_utc_timestamps();
        let logger = Box::leak(Box::new(Logger {
            printer,
            page: Mutex::new(Page {
                memory,
                lines: 0,
                sent: 0,
                stderr,
                dropped: 0,
            }),
        }));
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

    /// Hands on the last lines, and gives standard error a little time to take them.
    pub fn close(&self) {
        for _ in 0..LAST_WORDS_MAX {
            self.logger.flush();
            let page = self.logger.page();
            let room = || page.stderr.has_room_within(LAST_WORDS_PATIENCE);
            if page.lines == 0 || !room().unwrap_or(false) {
                return;
            }
        }
    }
}

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
            if !page.is_full() {
                self.printer.log(record);
                page.lines += 1;
            } else {
                page.dropped += 1;
            }
        }
    }

    fn flush(&self) {
        let mut page = self.page();
        if page.lines > 0 {
            self.hand_on(&mut page);
        }
    }
}

impl Logger {
    /// The page. It is in order even if somebody has panicked in the middle of a line.
    fn page(&self) -> MutexGuard<'_, Page> {
        self.page.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands on the page, and then tells of the lines that were lost.
    fn hand_on(&self, page: &mut Page) {
        if page.hand_on() && page.dropped > 0 {
            let dropped = mem::take(&mut page.dropped);
            let words = format_args!("Standard error was stuck: {dropped} log lines were dropped");
            let mut record = Record::builder();
            record.level(Level::Warn).target("onepoll");
            self.printer.log(&record.args(words).build());
            page.lines = 1;
            page.hand_on();
        }
    }
}

impl Page {
    fn len(&self) -> u64 {
        (&self.memory).stream_position().unwrap_or_default()
    }

    fn is_full(&self) -> bool {
        self.len() >= PAGE_MAX as u64
    }

    /// Hands on as much as standard error takes, and says whether that was all. If its reader
    /// has gone, nobody will ever take what is left.
    fn hand_on(&mut self) -> bool {
        let len = self.len();
        let mut chunk = [0; PIPE_WRITE];
        let mut flows = true;
        while self.sent < len {
            let left =
                usize::try_from(len - self.sent).map_or(PIPE_WRITE, |left| left.min(PIPE_WRITE));
            let read = self.memory.read_at(&mut chunk[..left], self.sent);
            match read.and_then(|read| self.stderr.write(whole_lines(&chunk[..read]))) {
                Ok(0) => return false,
                Ok(taken) => self.sent += taken as u64,
                Err(_) => {
                    self.dropped += self.lines;
                    flows = false;
                    break;
                }
            }
        }
        // The memory itself is kept for the lines to come.
        if self.memory.rewind().is_ok() {
            (self.lines, self.sent) = (0, 0);
        }
        flows
    }
}

/// As many lines as are whole, so that those of several processes on one pipe stay whole,
/// too; or else the beginning of a line that is too long for that.
fn whole_lines(text: &[u8]) -> &[u8] {
    match text.iter().rposition(|&byte| byte == b'\n') {
        Some(end) => &text[..=end],
        None => text,
    }
}
