//! The buffers: one set for all connections, as there is one thread. A connection borrows
//! the desk for a turn and leaves it empty; what it cannot finish it takes along.
//!
//! The invariant: nothing outgrows the desk. Answers are given for as long as there is room in
//! the outbox, which in general is for all that fits into the inbox; so answering never
//! allocates.
//!
//! # Try it
//!
//! A client that sends sixteen requests at once is read and answered sixteen at a time, so as many
//! ticks answer many times as many requests. Compare what wrk reports, and the stories.
//!
//! ```sh
//! onepoll --log warn & server=$!
//! cat > depth.lua <<'END'
//! function request()
//!     batch = batch or string.rep(wrk.format(), 16)
//!     return batch
//! end
//! END
//! for script in /dev/null depth.lua; do
//!     wrk -t1 -c64 -d2s -s $script http://localhost:8080/hello & sleep 1
//!     curl -s "http://localhost:8081/trace?slot=3" | tail -1 # look for: it sends a batch
//!     wait %%
//! done
//! kill $server
//! ```

use crate::limits::{INBOX, OUTBOX};
use crate::observe::counters::Moved;

/// What a connection borrows for a turn.
#[derive(Debug)]
pub struct Desk {
    /// Where input is read to, behind what the connection has carried along.
    pub inbox: Box<[u8]>,
    /// The answers of the present turn that have not been sent.
    pub outbox: Vec<u8>,
    /// What the present turn has moved.
    pub moved: Moved,
}

impl Desk {
    /// An empty desk. It takes address space at once and memory when it is used.
    pub fn new() -> Desk {
        let inbox = vec![0; INBOX].into_boxed_slice();
        Desk {
            inbox,
            outbox: Vec::with_capacity(OUTBOX),
            moved: Moved::default(),
        }
    }
}

impl Default for Desk {
    fn default() -> Desk {
        Desk::new()
    }
}
