//! What all connections share. It knows none of them.
//!
//! The invariant: between runs the buffers hold nothing that a connection still needs.

use super::clock::Instant;
use super::listeners::Service;
use super::observer::Traffic;
use crate::http::{Output, Routes};
use crate::limits::{INPUT, OUTPUT};

/// What all connections share: there is one thread, so one set of buffers is enough. A connection
/// borrows them for a run.
#[derive(Debug)]
pub struct Shared<O> {
    /// The routes of each service, at its index.
    pub routes: [Routes; Service::ALL.len()],
    /// Whether the last response to each client of a service announces the close, by service.
    pub announces_close: [bool; Service::ALL.len()],
    /// Whether the connection that runs is closed once all whole requests have their responses.
    pub force_close: bool,
    /// The read buffer.
    pub input: Box<[u8]>,
    /// The responses of the present run.
    pub output: Output,
    /// What the present run has moved.
    pub traffic: Traffic,
    /// When the present tick began.
    pub now: Instant,
    /// What is told of all that happens.
    pub observer: O,
}

impl<O> Shared<O> {
    /// Buffers take address space at once, and memory as they are used.
    pub fn new(routes: [Routes; Service::ALL.len()], observer: O) -> Shared<O> {
        Shared {
            routes,
            announces_close: [false; Service::ALL.len()],
            force_close: false,
            input: vec![0; INPUT].into_boxed_slice(),
            output: Output { bytes: Vec::with_capacity(OUTPUT), pages: 0 },
            traffic: Traffic::default(),
            now: Instant::FIRST,
            observer,
        }
    }
}
