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

/// The signals that stop the server, with the names that the log gives them.
const SIGNALS: [(i32, &str); 2] = [(SIGINT, "interrupt"), (SIGTERM, "terminated")];

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
        let pipe = signal_hook_mio::v1_0::Signals::new(SIGNALS.map(|(signal, _)| signal))?;
        // Actions run in the order of their registration: the one that ends the process has
        // to look at the flag before the same signal sets it.
        let met = Arc::new(AtomicBool::new(false));
        for (signal, _) in SIGNALS {
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&met))?;
        }
        for (signal, _) in SIGNALS {
            flag::register(signal, Arc::clone(&met))?;
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

    /// The name of a signal that has arrived since the last call.
    pub fn take(&mut self) -> Option<&'static str> {
        let signal = self.pipe.pending().next()?;
        SIGNALS
            .iter()
            .find(|(number, _)| *number == signal)
            .map(|(_, name)| *name)
    }
}

impl fmt::Debug for Signals {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.debug_struct("Signals").finish_non_exhaustive()
    }
}
