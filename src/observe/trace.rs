//! `/trace`: what is recorded. By itself, the connections that changed last; with `?conn=N`, the
//! trace of one; with `?slot=N`, that of the connection in a slot; with `?map`, a letter for each
//! slot, from which a browser draws thousands; and with `?recording`, all that is recorded.
//!
//! The invariant: however many connections there are, a page is no longer than `PAGE_MAX`.

use std::fmt::Write;

use super::{Observe, found, nothing};
use crate::event_loop::listeners::Service;
use crate::event_loop::state::StateName;
use crate::http::{Page, Status, TEXT};
use crate::limits::{MAP_SLOTS_MAX, RECORDS_MAX, TRACE_LATEST_MAX, TRACE_LINES_MAX};
use crate::observe::recorder::Number;
use crate::observe::units::{Count, Span};

/// What a query may be.
const QUERIES: &str =
    "the pages are /trace, /trace?conn=N, /trace?slot=N, /trace?map and /trace?recording";
/// The last column of the list.
const LAST: &str = "what happened last";
/// Slots in a line of the map.
const ACROSS: usize = 64;

impl Observe {
    pub(super) fn trace(&self, query: &str) -> Page {
        let number = |text: &str| text.parse::<u32>().ok().filter(|_| !text.starts_with('+'));
        // Parameters that are not known are ignored: some clients add one to get past caches.
        let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        for (key, value) in pairs {
            match (key, value, number(value)) {
                ("map", "", _) => return found(TEXT, self.map()),
                ("recording", "", _) => return found(TEXT, self.recording()),
                ("conn", _, Some(number)) => return self.trace_of(number),
                ("slot", _, Some(slot)) => return self.trace_in(slot),
                ("map" | "recording" | "conn" | "slot", ..) => {
                    let what = "is not understood";
                    return nothing(
                        Status::BAD_REQUEST,
                        format_args!("{query:?} {what}: {QUERIES}, where N is a number"),
                    );
                }
                _ => {}
            }
        }
        found(TEXT, self.latest())
    }

    /// The connections that changed last, with the last change of each.
    fn latest(&self) -> String {
        let recorder = &self.recorder;
        let mut page = String::new();
        let count = recorder.written();
        let _ = write!(page, "{} changes so far", Count(count as u64));
        if let Some(oldest) = recorder.latest_first().last() {
            let (kept, span) = (count.min(RECORDS_MAX), Span(self.now - oldest.at));
            let _ = write!(page, ", the last {} recorded, {span} back", Count(kept as u64));
        }
        let _ = writeln!(
            page,
            "; one of them: /trace?conn=N\n\n{:>10}  {:<8} {:<11} {:>10} {:>10}  {LAST}",
            "connection", "listener", "state", "ago", "tick"
        );
        let mut seen = Vec::with_capacity(TRACE_LATEST_MAX);
        for record in recorder.latest_first() {
            if seen.len() == TRACE_LATEST_MAX || seen.contains(&record.number) {
                continue;
            }
            seen.push(record.number);
            let _ = writeln!(
                page,
                "{:>10}  {:<8} {:<11} {:>10} {:>10}  {}",
                record.number,
                record.service.name(),
                record.name_since(),
                Span(self.now - record.at),
                record.tick,
                record.explain()
            );
        }
        page
    }

    /// The trace of a connection.
    fn trace_of(&self, number: Number) -> Page {
        let slot = self.slots.find(number);
        let mut page = format!("Connection {number}");
        if let Some((slot, state)) = slot {
            let (listener, state, peer) = (slot.service.name(), state.name(), slot.peer());
            let time = Span(self.now - slot.since);
            let _ = write!(page, " on {listener}, {state} for {time}, from {peer}");
        }
        page.push('\n');
        match self.recorder.trace(number, TRACE_LINES_MAX) {
            Some(trace) => found(TEXT, page + &trace),
            None if slot.is_some() => {
                let back = "none of the changes that are recorded is one of it";
                found(TEXT, format!("{page}{back}\n"))
            }
            None => nothing(
                Status::NOT_FOUND,
                format_args!("connection {number} is not open, and nothing is recorded of it"),
            ),
        }
    }

    /// The trace of the connection in a slot.
    fn trace_in(&self, slot: u32) -> Page {
        match self.slots.iter().nth(slot as usize).flatten() {
            Some((slot, _)) => self.trace_of(slot.number),
            // Not an error: the connection that was on the map may have closed since.
            None => found(TEXT, format!("slot {slot} is free\n")),
        }
    }

    /// A letter for each of the first slots.
    fn map(&self) -> String {
        let mut page = "# one letter for each slot".to_owned();
        for state in StateName::ALL {
            let _ = write!(page, ", {} {}", letter(state), state.name());
        }
        page.push_str("; capitals on diag, . free");
        for (at, slot) in self.slots.iter().take(MAP_SLOTS_MAX).enumerate() {
            if at % ACROSS == 0 {
                page.push('\n');
            }
            page.push(match slot {
                None => '.',
                Some((slot, state)) if slot.service == Service::Main => letter(state),
                Some((_, state)) => letter(state).to_ascii_uppercase(),
            });
        }
        page.push('\n');
        page
    }
}

/// What stands for a state on the map: the first letter of its name that no state above has.
pub(super) fn letter(state: StateName) -> char {
    match state {
        StateName::Idle => 'i',
        StateName::Head => 'h',
        StateName::Body => 'b',
        StateName::Delayed => 'd',
        StateName::Deferred => 'e',
        StateName::Writing => 'w',
        StateName::HalfClosed => 'a',
        StateName::IdleClosed => 'l',
    }
}
