//! A tiny HTTP/1.1 server: one process, one thread, one poll loop, a clean stop.
//!
//! # Contents
//!
//! The chapters are in the order of reading. Each file begins with what it owns, what it does not
//! know, and the invariant that it keeps.
//!
//! 1. [`book`]: from a server that blocks to this one, in steps that run.
//! 2. [`event_loop`]: the tick, the connections and the shutdown.
//! 3. [`http`]: the protocol, a function from bytes to bytes.
//! 4. [`observe`]: what the loop tells, counted, recorded and shown on pages.
//! 5. [`log`]: a log that never blocks the loop.
//! 6. [`services`]: what the two listeners serve.
//! 7. [`cli`]: the command line, the environment and the probe.
//! 8. [`systemd`]: inherited sockets, and word of readiness.
//! 9. [`platform`]: what the systems do differently.
//! 10. [`readiness`]: one loop on epoll and on kqueue, event by event.
//! 11. [`simulation`]: lives of the loop from a seed, and how to make a loop simulatable.
//! 12. [`limits`]: every number, with its reason.
//! 13. [`operations`]: containers, Kubernetes, systemd, load balancers, all cores.
//! 14. [`comparison`]: what differs from the Go program that this one was ported from.
//!
//! # Try it
//!
//! Some pages have a box of commands, and say what to look for in what they print. They need this
//! first, and curl, strace and wrk, which Debian has:
//!
//! ```text
//! cargo build --release && PATH=$PWD/target/release:$PATH
//! ```
//!
//! A test runs every box.

#[cfg(doc)] // It has sources of other folders in it, which a build does not need.
pub mod book;
pub mod cli;
#[doc = include_str!("comparison.md")]
pub mod comparison {}
pub mod event_loop;
pub mod http;
pub mod limits;
pub mod log;
pub mod observe;
#[allow(clippy::doc_markdown)] // It names products.
#[doc = include_str!("operations.md")]
pub mod operations {}
pub mod platform;
#[doc = include_str!("readiness.md")]
pub mod readiness {}
pub mod services;
#[doc = include_str!("simulation.md")]
pub mod simulation {}
pub mod systemd;
