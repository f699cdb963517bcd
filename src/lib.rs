//! A tiny HTTP/1.1 server: one process, one thread, one poll loop, a clean stop.
//!
//! # Contents
//!
//! The chapters are in the order of reading. Each file begins with what it owns, what it does not
//! know, and the invariant that it keeps.
//!
//! 1. [`event_loop`]: the tick, the connections and the shutdown.
//! 2. [`http`]: the protocol, a function from bytes to bytes.
//! 3. [`observe`]: what the loop tells, counted, recorded and shown on pages.
//! 4. [`log`]: a log that never blocks the loop.
//! 5. [`services`]: what the two listeners serve.
//! 6. [`cli`]: the command line, the environment and the probe.
//! 7. [`systemd`]: inherited sockets, and word of readiness.
//! 8. [`platform`]: what the systems do differently.
//! 9. [`readiness`]: one loop on epoll and on kqueue, event by event.
//! 10. [`simulation`]: lives of the loop from a seed, and how to make a loop simulatable.
//! 11. [`limits`]: every number, with its reason.
//! 12. [`operations`]: containers, Kubernetes, systemd, load balancers, all cores.
//! 13. [`comparison`]: what differs from the Go program that this one was ported from.
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
