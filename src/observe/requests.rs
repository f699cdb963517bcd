//! The log's line for each response, at `--log debug` alone: the peer, the connection, the request,
//! the status, the bytes, the time, and why it is an error.
//!
//! The invariant: a request that has not got its response is remembered for as long as its
//! connection is open.

use log::debug;

use super::slots::Slot;
use crate::event_loop::clock::Instant;
use crate::event_loop::state::StateName;
use crate::http::{Head, Shown, Status};
use crate::limits::LOGGED_INPUT_MAX;

/// The requests that have not got their responses, at the index of their slot. Each has its method
/// and target, and the time from which on its response counts.
#[derive(Debug, Default)]
pub(super) struct RequestLog {
    pending: Vec<Option<(String, Instant)>>,
}

impl RequestLog {
    /// A connection runs. What it reads belongs to its request, whose time counts from its last
    /// byte on, and so with its delay.
    pub(super) fn run_begins(&mut self, slot: usize, state: Option<StateName>, now: Instant) {
        if state != Some(StateName::Delayed)
            && let Some(Some((_, since))) = self.pending.get_mut(slot)
        {
            *since = now;
        }
    }

    /// The head of a request has been parsed.
    pub(super) fn begin(&mut self, slot: usize, head: &Head, now: Instant) {
        let request = format!("{} '{}'", Shown(head.method), Shown(head.target));
        if self.pending.len() <= slot {
            self.pending.resize(slot + 1, None);
        }
        self.pending[slot] = Some((request, now));
    }

    /// Logs the response to the request.
    pub(super) fn log(&mut self, slot: usize, facts: &Slot, status: Status, bytes: usize) {
        if let Some((request, since)) = self.take(slot) {
            write(facts, &request, (status, bytes), since, "");
        }
    }

    /// Logs an error response. The `input` begins with the request, if its head was not parsed.
    pub(super) fn log_error(
        &mut self,
        slot: usize,
        facts: &Slot,
        response: (Status, usize),
        input: &[u8],
        why: &str,
        now: Instant,
    ) {
        let pending = self.take(slot);
        let (request, since) = pending.unwrap_or_else(|| (beginning(input), now));
        write(facts, &request, response, since, &format!(": {why}"));
    }

    /// The connection has been closed.
    pub(super) fn forget(&mut self, slot: usize) {
        self.take(slot);
    }

    fn take(&mut self, slot: usize) -> Option<(String, Instant)> {
        self.pending.get_mut(slot)?.take()
    }
}

fn write(facts: &Slot, request: &str, response: (Status, usize), since: Instant, why: &str) {
    let micros = (Instant::now() - since).as_micros();
    let ((status, bytes), number, peer) = (response, facts.number, facts.peer());
    let code = status.code();
    debug!(
        target: facts.service.name(),
        "{peer}, connection {number}: {request} {code}, {bytes} bytes, {micros} us{why}"
    );
}

/// Method and target of a head that may be anything, as far as they can be told.
fn beginning(head: &[u8]) -> String {
    let head = &head[..head.len().min(LOGGED_INPUT_MAX)];
    let line = head.trim_ascii_start().split(|&byte| byte == b'\r' || byte == b'\n');
    let mut words = line.take(1).flat_map(|line| line.splitn(3, |&byte| byte == b' '));
    let mut word = || Shown(words.next().unwrap_or_default());
    let (method, target) = (word(), word());
    format!("{method} '{target}'")
}
