//! Signals. The event loop receives its signals through a pipe, as one more readable descriptor
//! (the self-pipe trick). Signals that would end or stop the process without need are ignored.
//!
//! The invariant: a second SIGINT ends the process even if the event loop is stuck. If an earlier
//! signal has waited in the pipe for [`SIGNAL_REPEAT`], the handler of SIGINT calls _exit(2).

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

use super::clock::{Instant, nanos};
use crate::limits::SIGNAL_REPEAT;

/// A signal that the event loop receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGHUP: the terminal is closed, or a supervisor stops the server.
    Hangup,
    /// SIGINT: a user stops the server from a terminal.
    Interrupt,
    /// SIGTERM: a supervisor stops the server.
    Terminate,
    /// SIGUSR1: it is only logged.
    User1,
    /// SIGUSR2: it is only logged.
    User2,
}

impl Signal {
    const ALL: [Signal; 5] =
        [Signal::Hangup, Signal::Interrupt, Signal::Terminate, Signal::User1, Signal::User2];

    /// The name in the log: what strsignal(3) returns, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Signal::Hangup => "hangup",
            Signal::Interrupt => "interrupt",
            Signal::Terminate => "terminated",
            Signal::User1 => "user defined signal 1",
            Signal::User2 => "user defined signal 2",
        }
    }

    /// The number, signal(7). The exit status after a SIGINT is 128 plus its number.
    pub fn number(self) -> i32 {
        match self {
            Signal::Hangup => SIGHUP,
            Signal::Interrupt => SIGINT,
            Signal::Terminate => SIGTERM,
            Signal::User1 => SIGUSR1,
            Signal::User2 => SIGUSR2,
        }
    }

    /// Whether the signal starts a shutdown.
    pub fn starts_shutdown(self) -> bool {
        !matches!(self, Signal::User1 | Signal::User2)
    }

    /// Whether the signal stays ignored if the parent process ignores it: nohup(1) ignores SIGHUP,
    /// and a shell ignores SIGINT for a background job. SIGTERM has to stop a server in any case.
    fn may_stay_ignored(self) -> bool {
        matches!(self, Signal::Hangup | Signal::Interrupt)
    }
}

/// When the first signal in the pipe that starts a shutdown arrived, in nanoseconds; 0 for none.
static PENDING_SINCE: AtomicU64 = AtomicU64::new(0);

/// The read end of the pipe that the signal handlers write to.
pub struct Signals {
    pipe: signal_hook_mio::v1_0::Signals,
}

impl Signals {
    /// Installs the handlers for the life of the process. Then unblocks all signals, as the parent
    /// process may have blocked them (`signal(7)`). Until the event loop calls
    /// [`take`](Signals::take), signals wait in the pipe.
    ///
    /// # Errors
    /// Those of socketpair(2) and sigaction(2).
    pub fn install() -> io::Result<Signals> {
        let handled = |signal: &Signal| !signal.may_stay_ignored() || !is_ignored(signal.number());
        let handled: Vec<Signal> = Signal::ALL.into_iter().filter(handled).collect();
        let pipe = signal_hook_mio::v1_0::Signals::new(handled.iter().map(|it| it.number()))?;
        for &signal in handled.iter().filter(|signal| signal.starts_shutdown()) {
            exit_if_stuck(signal)?;
        }
        unblock_all();
        Ok(Signals { pipe })
    }

    /// No signals, for a test that must not take over those of its process.
    #[cfg(test)]
    pub(crate) fn none() -> io::Result<Signals> {
        Ok(Signals { pipe: signal_hook_mio::v1_0::Signals::new([0; 0])? })
    }

    /// Registers the pipe for readability under `token`.
    ///
    /// # Errors
    /// Those of `epoll_ctl(2)`.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.pipe.register(registry, token, Interest::READABLE)
    }

    /// The next signal in the pipe, if there is one.
    pub fn take(&mut self) -> Option<Signal> {
        PENDING_SINCE.store(0, Ordering::Relaxed);
        let number = self.pipe.pending().next()?;
        Signal::ALL.into_iter().find(|signal| signal.number() == number)
    }
}

impl fmt::Debug for Signals {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.debug_struct("Signals").finish_non_exhaustive()
    }
}

/// Ignores SIGXFSZ, SIGTTOU and SIGCHLD. By default, a write to a log file at its size limit
/// (SIGXFSZ) ends the process, and a write to a terminal with `stty tostop` (SIGTTOU) stops it. The
/// process has children if it is PID 1, or if a shell has started some and called execve(2): while
/// SIGCHLD is ignored, none of them becomes a zombie (wait(2)). Those that have ended already are
/// reaped here.
pub fn ignore_harmful() {
    for number in [SIGXFSZ, SIGTTOU, SIGCHLD] {
        ignore(number);
    }
    while let Ok(Some(_)) = waitpid(None, WaitOptions::NOHANG) {}
}

#[allow(unsafe_code)] // Neither std nor signal-hook can ignore a signal.
fn ignore(number: i32) {
    // SAFETY: SIG_IGN is no handler, so no code of ours runs in a signal context.
    unsafe { libc::signal(number, libc::SIG_IGN) };
}

/// Whether a signal is ignored. Before [`install`](Signals::install), it is if the parent process
/// ignores it (execve(2)).
#[allow(unsafe_code)] // Nor can they tell whether one is ignored.
fn is_ignored(number: i32) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: without a new action, the call only writes the current one to `action`. Zeros are a
    // valid value of it, too.
    unsafe {
        libc::sigaction(number, ptr::null(), action.as_mut_ptr()) == 0
            && action.assume_init().sa_sigaction == libc::SIG_IGN
    }
}

#[allow(unsafe_code)] // Nor can they unblock signals.
fn unblock_all() {
    let mut empty = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: the set is written before it is read, and a null pointer for the old set is allowed.
    unsafe {
        libc::sigemptyset(empty.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, empty.as_ptr(), ptr::null_mut());
    }
}

/// Adds a second handler, which ends the process if the event loop does not take the signal.
#[allow(unsafe_code)] // The compiler cannot check what runs in a signal handler.
fn exit_if_stuck(signal: Signal) -> io::Result<()> {
    let number = signal.number();
    let handle = move || {
        let now = Instant::now().nanos_since(Instant::FIRST);
        let since = PENDING_SINCE.load(Ordering::Relaxed);
        if since == 0 {
            PENDING_SINCE.store(now, Ordering::Relaxed);
        } else if signal == Signal::Interrupt && now - since > nanos(SIGNAL_REPEAT) {
            low_level::exit(128 + number);
        }
    };
    // SAFETY: clock_gettime(2), atomics and _exit(2) are async-signal-safe (signal-safety(7)), and
    // nothing here panics.
    unsafe { low_level::register(number, handle) }.map(drop)
}
