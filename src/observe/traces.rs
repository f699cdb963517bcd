//! `/trace`: what the recorder remembers. By itself, the connections that something happened to
//! last; with `?conn=N`, the story of one; with `?slot=N`, that of the connection in a slot of the
//! table; and with `?map`, a letter for each slot, which is how a browser draws thousands.
//!
//! The invariant: however many connections there are, a page is no longer than `TEXT_MAX`.

use std::fmt::Write;

use super::{View, found, nothing};
use crate::event_loop::stream::Socket;
use crate::event_loop::timers::Lane;
use crate::http::{Status, TEXT, Text};
use crate::limits::{LATEST_MAX, MAP_SLOTS_MAX, RECORDS_MAX, ROWS_MAX};
use crate::observe::recorder::Number;
use crate::observe::timeline::{story, timeline};
use crate::observe::units::{Count, Span};
use crate::services::Service;

/// What a query may be.
const QUERIES: &str = "/trace, /trace?conn=N, /trace?slot=N and /trace?map are to be had";
/// Slots in a line of the map.
const ACROSS: usize = 64;

impl<S: Socket> View<'_, S> {
    pub(super) fn trace(&self, query: &str) -> Text {
        let number = |text: &str| text.parse::<u32>().ok().filter(|_| !text.starts_with('+'));
        // Parameters that are not known are passed over: some clients add one to get past caches.
        let pairs = query
            .split('&')
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        for (key, value) in pairs {
            match (key, value, number(value)) {
                ("map", "", _) => return found(TEXT, self.map()),
                ("conn", _, Some(number)) => return self.story_of(number),
                ("slot", _, Some(slot)) => return self.story_in(slot),
                ("map" | "conn" | "slot", ..) => {
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

    /// The connections of which the latest changes are, and what is remembered of each.
    fn latest(&self) -> String {
        let recorder = self.table.recorder();
        let mut page = String::new();
        let count = recorder.written();
        let _ = write!(page, "{} changes so far", Count(count as u64));
        if let Some(oldest) = recorder.latest_first().last() {
            let (kept, span) = (count.min(RECORDS_MAX), Span(self.now - oldest.at));
            let _ = write!(
                page,
                ", the last {} remembered, {span} back",
                Count(kept as u64)
            );
        }
        let _ = writeln!(
            page,
            "; one of them: /trace?conn=N\n\n{:>10}  {:<8} {:<9} {:>10} {:>10}  what happened last",
            "connection", "listener", "phase", "ago", "tick"
        );
        let mut seen = Vec::with_capacity(LATEST_MAX);
        for record in recorder.latest_first() {
            if seen.len() == LATEST_MAX || seen.contains(&record.number) {
                continue;
            }
            seen.push(record.number);
            let _ = writeln!(
                page,
                "{:>10}  {:<8} {:<9} {:>10} {:>10}  {}",
                record.number,
                record.service.name(),
                record.to.name(),
                Span(self.now - record.at),
                record.tick,
                story(record)
            );
        }
        page
    }

    /// What is remembered of a connection.
    fn story_of(&self, number: Number) -> Text {
        let recorder = self.table.recorder();
        let guest = self
            .table
            .slots()
            .flatten()
            .find(|guest| guest.number == number);
        let mut page = format!("Connection {number}");
        if let Some(guest) = guest {
            let (listener, lane) = (guest.service.name(), guest.connection.lane().name());
            let time = Span(self.now - guest.entered);
            let _ = write!(page, " on {listener}, {lane} for {time}");
            if let Some(peer) = guest.connection.peer() {
                let _ = write!(page, ", from {peer}");
            }
        }
        page.push('\n');
        match timeline(recorder, number, ROWS_MAX) {
            Some(story) => found(TEXT, page + &story),
            None if guest.is_some() => {
                let back = "none of the changes that are remembered is one of it";
                found(TEXT, format!("{page}{back}\n"))
            }
            None => nothing(
                Status::NOT_FOUND,
                format_args!("connection {number} is not open, and nothing is remembered of it"),
            ),
        }
    }

    /// The same for whoever is in a slot.
    fn story_in(&self, slot: u32) -> Text {
        match self.table.slots().nth(slot as usize).flatten() {
            Some(guest) => self.story_of(guest.number),
            // Not an error: whoever saw it taken on the map has only asked too late.
            None => found(TEXT, format!("nobody is in slot {slot}\n")),
        }
    }

    /// A letter for each of the first slots.
    fn map(&self) -> String {
        let mut page = "# one letter for each slot".to_owned();
        for lane in Lane::ALL {
            let _ = write!(page, ", {} {}", letter(lane), lane.name());
        }
        page.push_str("; capitals on diag, . nobody");
        for (slot, guest) in self.table.slots().take(MAP_SLOTS_MAX).enumerate() {
            if slot % ACROSS == 0 {
                page.push('\n');
            }
            page.push(guest.map_or('.', |guest| {
                let letter = letter(guest.connection.lane());
                match guest.service {
                    Service::Main => letter,
                    Service::Diag => letter.to_ascii_uppercase(),
                }
            }));
        }
        page.push('\n');
        page
    }
}

/// What stands for a lane on the map.
fn letter(lane: Lane) -> char {
    match lane {
        Lane::Idle => 'i',
        Lane::Head => 'h',
        Lane::Body => 'b',
        Lane::Delayed => 'd',
        Lane::Held => 'o',
        Lane::Writing => 'w',
        Lane::Lingering => 'l',
        Lane::Farewell => 'f',
    }
}
