//! Signals. Those that concern the server reach the loop through a pipe, as something to read among
//! others. Those that would harm it are ignored, and what a parent has blocked is unblocked.
//!
//! The invariant: a SIGINT ends the process even if the loop is stuck. One that comes while an
//! earlier signal has waited in the pipe for [`SIGNAL_REPEAT`] ends it from within the handler.

use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use mio::event::Source;
use mio::{Interest, Registry, Token};
use rustix::process::{WaitOptions, waitpid};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGTTOU, SIGUSR1, SIGUSR2, SIGXFSZ};
use signal_hook::low_level;

use crate::event_loop::clock::{Moment, nanos};
use crate::limits::SIGNAL_REPEAT;

/// A signal that the loop takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGHUP: the terminal has gone, or a supervisor wants the server to end.
    Hangup,
    /// SIGINT: a person at a terminal wants it to end.
    Interrupt,
    /// SIGTERM: a supervisor wants it to end.
    Terminate,
    /// SIGUSR1, which means nothing here.
    User1,
    /// SIGUSR2, which means nothing here.
    User2,
}

impl Signal {
    const ALL: [Signal; 5] = [
        Signal::Hangup,
        Signal::Interrupt,
        Signal::Terminate,
        Signal::User1,
        Signal::User2,
    ];

    /// The name that the log gives it.
    pub fn name(self) -> &'static str {
        match self {
            Signal::Hangup => "hangup",
            Signal::Interrupt => "interrupt",
            Signal::Terminate => "terminated",
            Signal::User1 => "user defined signal 1",
            Signal::User2 => "user defined signal 2",
        }
    }

    /// Its number. That of SIGINT is part of an exit status (128 + 2).
    pub fn number(self) -> i32 {
        match self {
            Signal::Hangup => SIGHUP,
            Signal::Interrupt => SIGINT,
            Signal::Terminate => SIGTERM,
            Signal::User1 => SIGUSR1,
            Signal::User2 => SIGUSR2,
        }
    }

    /// Whether it begins a stop.
    fn stops(self) -> bool {
        !matches!(self, Signal::User1 | Signal::User2)
    }

    /// Whether a parent that has it ignored means that. nohup(1) does so with SIGHUP, and a shell
    /// with the SIGINT of a background job. SIGTERM is how a server is stopped.
    fn may_be_ignored(self) -> bool {
        matches!(self, Signal::Hangup | Signal::Interrupt)
    }
}

/// Since when a signal that begins a stop has waited in the pipe, in nanoseconds; 0 for none.
static WAITING_SINCE: AtomicU64 = AtomicU64::new(0);

/// The reading end of the pipe that the handlers write to.
pub struct Signals {
    pipe: signal_hook_mio::v1_0::Signals,
}

impl Signals {
    /// Installs the handlers, once for the life of the process, and then unblocks all signals:
    /// a parent may have blocked them (`signal(7)`), and one that is pending is not lost. Signals
    /// that arrive before [`take`](Signals::take) is called wait in the pipe.
    ///
    /// # Errors
    /// Those of socketpair(2) and sigaction(2).
    pub fn install() -> io::Result<Signals> {
        let taken = |signal: &Signal| !signal.may_be_ignored() || !is_ignored(signal.number());
        let taken: Vec<Signal> = Signal::ALL.into_iter().filter(taken).collect();
        let pipe = signal_hook_mio::v1_0::Signals::new(taken.iter().map(|it| it.number()))?;
        for &signal in taken.iter().filter(|signal| signal.stops()) {
            watch(signal)?;
        }
        unblock_all();
        Ok(Signals { pipe })
    }

    /// Registers for readable edges under `token`.
    ///
    /// # Errors
    /// Those of `epoll_ctl(2)`.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.pipe.register(registry, token, Interest::READABLE)
    }

    /// A signal that has arrived since the last call.
    pub fn take(&mut self) -> Option<Signal> {
        WAITING_SINCE.store(0, Ordering::Relaxed);
        let number = self.pipe.pending().next()?;
        Signal::ALL
            .into_iter()
            .find(|signal| signal.number() == number)
    }
}

impl fmt::Debug for Signals {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.debug_struct("Signals").finish_non_exhaustive()
    }
}

/// Ignores the signals whose default would end or stop the process for something that concerns its
/// log or its children alone: a file at its size limit (SIGXFSZ), a terminal that background jobs
/// may not write to (SIGTTOU, stty(1) `tostop`), and a child that has ended. There are children
/// for a process that is PID 1, or that a shell has become; while SIGCHLD is ignored, the kernel
/// leaves no zombie of them (wait(2)).
pub fn ignore_harmful() {
    for number in [SIGXFSZ, SIGTTOU, SIGCHLD] {
        ignore(number);
    }
    while let Ok(Some(_)) = waitpid(None, WaitOptions::NOHANG) {}
}

#[allow(unsafe_code)] // Neither std nor signal-hook ignores a signal.
fn ignore(number: i32) {
    // SAFETY: no handler is involved.
    unsafe { libc::signal(number, libc::SIG_IGN) };
}

/// Whether a signal is ignored, as it was when the process was started.
#[allow(unsafe_code)] // Nor do they say whether one is.
fn is_ignored(number: i32) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: without a new action this only reads the present one into `action`, of which zeros
    // are a value, too.
    unsafe {
        libc::sigaction(number, ptr::null(), action.as_mut_ptr()) == 0
            && action.assume_init().sa_sigaction == libc::SIG_IGN
    }
}

#[allow(unsafe_code)] // Nor do they unblock any.
fn unblock_all() {
    let mut none = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: the set is written before it is read, and the old one is not asked for.
    unsafe {
        libc::sigemptyset(none.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut());
    }
}

/// Adds to the handler of a signal what has to be done even if the loop is stuck.
#[allow(unsafe_code)] // What runs in a signal handler cannot be checked by the compiler.
fn watch(signal: Signal) -> io::Result<()> {
    let number = signal.number();
    let handle = move || {
        let now = Moment::now().nanos_since(Moment::FIRST);
        let since = WAITING_SINCE.load(Ordering::Relaxed);
        if since == 0 {
            WAITING_SINCE.store(now, Ordering::Relaxed);
        } else if signal == Signal::Interrupt && now - since > nanos(SIGNAL_REPEAT) {
            low_level::exit(128 + number);
        }
    };
    // SAFETY: reading a clock, using an atomic and _exit(2) are async-signal-safe
    // (signal-safety(7)), and nothing panics.
    unsafe { low_level::register(number, handle) }.map(drop)
}
