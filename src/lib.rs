//! A tiny HTTP/1.1 server: one process, one thread, one poll loop, a clean stop.
//!
//! # The idea in one breath
//!
//! The protocol is a pure function from bytes to bytes. A connection is a phase, a memory of
//! edges and what it could not finish. The loop is one tick of seven steps. Buffers belong
//! to the loop and are lent; timers are lists that are already sorted; the stop is a machine
//! that the loop asks.
//!
//! # The map
//!
//! ```text
//!    main ──► command ──► options, probe, address     what the user wants
//!     │  ├──► journal ──► outlet                      what the program says
//!     │  └──► supervisor                              who has started it
//!     │
//!     └──► server ──► doors ──► bound, listener       who is let in, and when
//!             │  ├──► signals                         the pipe that they come by
//!             │  ├──► stop                            when to drain, to close and to leave
//!             │  ├──► meter ──► histogram, minute     how the loop is doing
//!             │  └──► view                            what there is to be seen of all this
//!             │         │
//!             └──► table ──► deadlines      who is here, and for how long
//!                     │  ├──► turn          what the end of a turn asks for
//!                     │  └──► recorder ──► timeline    what has happened to whom
//!                     │
//!                     └──► guest ──► connection ──► wire    generic over a socket
//!                                        │  └──► desk, counters    what is lent for a turn
//!                                        │
//!                                        └──────► http    pure bytes: head, target, fields,
//!                                                         body, site, refusal, grammar, date
//! ```
//!
//! Arrows lead from those who know to those who are known, never back. [`limits`], the
//! numbers, and [`service`], the names of the two services, may be used by all who need
//! them. A test holds every file to its list of imports.
//!
//! # Reading order
//!
//! From the outside in, each module on its own page, which begins with what it owns and the one
//! invariant that it keeps:
//!
//! 1. [`server`]: the loop. Its tick names every other part once.
//! 2. [`table`] and [`guest`]: the connections, and what happens between their turns.
//! 3. [`phase`] and [`connection`]: one peer, where its conversation stands and how it goes
//!    on; [`turn`]: what it tells the table.
//! 4. [`wire`]: its socket, and the memory of edges. [`desk`]: what it borrows for a turn;
//!    [`outgoing`]: what it could not send.
//! 5. [`http`]: what the bytes mean and what they are answered with.
//! 6. [`moment`] and [`deadlines`]: how everyone's patience is kept in order for nothing.
//! 7. [`stop`]: from the signal to the exit.
//! 8. [`doors`], [`bound`], [`listener`] and [`signals`]: how the outside gets in;
//!    [`descriptors`]: how many connections there may be.
//! 9. [`counters`], [`meter`] with [`histogram`], [`minute`] and [`budget`], and [`recorder`] with
//!    [`timeline`]: what is remembered of all this. [`view`], [`figures`] and [`live`]: how it is
//!    shown.
//! 10. [`journal`] and [`outlet`]: how a log is kept that cannot hold up anybody.
//! 11. [`command`], [`options`] and [`address`]: what the user wants; [`supervisor`] and
//!     [`probe`]: what those want who look after the process.
//! 12. [`service`] and [`limits`]: names and numbers.
//!
//! # Try it
//!
//! Some pages have a box of commands, and say what to look for in what they print. They want this
//! first, and curl, strace and wrk, which Debian has:
//!
//! ```text
//! cargo build --release && PATH=$PWD/target/release:$PATH
//! ```
//!
//! A test runs every box. For a beginning, look at everything at once: open
//! `http://localhost:8081/` in a browser while wrk runs, as [`live`] says.
//!
//! # A request's way
//!
//! 1. The kernel reports an edge; the server tells the table, which reminds the connection
//!    and gives it a turn.
//! 2. The connection borrows the desk's inbox, reads once, and hands the bytes to
//!    [`http::serve`].
//! 3. That takes one request after the other off the front and copies finished replies into
//!    the desk's outbox.
//! 4. The connection sends the outbox once. It keeps what could not be finished: half a
//!    request, or answers that the kernel has no room for. Usually that is nothing.
//! 5. The table gives it the patience of the phase that it is in now.

pub mod address;
pub mod bound;
pub mod budget;
pub mod command;
pub mod connection;
pub mod counters;
pub mod deadlines;
pub mod descriptors;
pub mod desk;
pub mod doors;
pub mod figures;
pub mod guest;
pub mod histogram;
pub mod http;
pub mod journal;
pub mod limits;
pub mod listener;
pub mod live;
pub mod meter;
pub mod minute;
pub mod moment;
pub mod options;
pub mod outgoing;
pub mod outlet;
pub mod phase;
pub mod probe;
pub mod recorder;
#[cfg(test)]
mod script;
pub mod server;
pub mod service;
pub mod signals;
pub mod stop;
pub mod supervisor;
pub mod table;
pub mod timeline;
pub mod turn;
pub mod view;
pub mod wire;
