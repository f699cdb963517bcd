//! SIGINT and SIGTERM. The first of them reaches the loop through a pipe, as something to
//! read among others; a second one ends the process from within the signal handler, which
//! works even if the loop does not.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use mio::event::Source;
use mio::{Interest, Registry, Token};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// A signal that stops the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT: somebody at a terminal wants it to end.
    Interrupt,
    /// SIGTERM: a supervisor does.
    Terminate,
}

impl Signal {
    const ALL: [Signal; 2] = [Signal::Interrupt, Signal::Terminate];

    /// The name that the log gives it.
    pub fn name(self) -> &'static str {
        match self {
            Signal::Interrupt => "interrupt",
            Signal::Terminate => "terminated",
        }
    }

    fn number(self) -> i32 {
        match self {
            Signal::Interrupt => SIGINT,
            Signal::Terminate => SIGTERM,
        }
    }
}

/// The reading end of the pipe that the handlers write to.
pub struct Signals {
    pipe: signal_hook_mio::v1_0::Signals,
}

impl Signals {
    /// Installs the handlers, once for the life of the process. Signals that arrive before
    /// [`take`](Signals::take) is called wait in the pipe.
    ///
    /// # Errors
    /// Those of socketpair(2) and sigaction(2).
    pub fn install() -> io::Result<Signals> {
        let numbers = Signal::ALL.map(Signal::number);
        let pipe = signal_hook_mio::v1_0::Signals::new(numbers)?;
        // Actions run in the order of their registration: the one that ends the process has
        // to look at the flag before the same signal sets it.
        let met = Arc::new(AtomicBool::new(false));
        for number in numbers {
            flag::register_conditional_shutdown(number, 128 + number, Arc::clone(&met))?;
        }
        for number in numbers {
            flag::register(number, Arc::clone(&met))?;
        }
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
