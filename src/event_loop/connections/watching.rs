//! What the table has for those who watch: who is here, what has happened to whom, and the pages
//! that some of them wait for.
//!
//! The invariant: whoever waits for a page is in the queue of readers. Somebody who is in it need
//! not wait any more.

use std::mem;
use std::time::Duration;

use super::Table;
use crate::event_loop::clock::Moment;
use crate::event_loop::guest::Guest;
use crate::event_loop::stream::Socket;
use crate::event_loop::timers::Lane;
use crate::http::{Site, Text};
use crate::observe::recorder::{Number, Recorder};
use crate::services::Service;

impl<S: Socket> Table<S> {
    /// What has happened to whom.
    pub fn recorder(&self) -> &Recorder {
        &self.house.recorder
    }

    /// What a service serves, and has given.
    pub fn site(&self, service: Service) -> &Site {
        &self.house.sites[service as usize]
    }

    /// What is in each slot, those included that nobody has been in yet.
    pub fn slots(&self) -> impl Iterator<Item = Option<&Guest<S>>> {
        (0..self.guests.capacity()).map(|key| self.guests.get(key))
    }

    /// Who is due first in a lane, and when.
    pub fn first_due(&self, lane: Lane) -> Option<(Number, Moment)> {
        let (key, due) = self.deadlines.earliest(lane)?;
        Some((self.guests.get(key)?.number, due))
    }

    /// How many turns have ended for want of steps since the last call.
    pub fn take_unfinished(&mut self) -> u64 {
        mem::take(&mut self.house.counters.unfinished)
    }

    /// How many answers were given after a delay since the last call, and how long all of these
    /// delays were together.
    pub fn take_delayed(&mut self) -> (u64, Duration) {
        mem::take(&mut self.house.counters.delayed)
    }

    /// The next connection that waits for a page, the path of that, and the query.
    pub fn next_reader(&mut self) -> Option<(usize, String, String)> {
        loop {
            let key = self.readers.pop_front()?;
            // It may have gone since, and somebody else may be in its place.
            let page = self.guests.get_mut(key).and_then(|guest| {
                guest.reads = false;
                let site = &self.house.sites[guest.service as usize];
                guest.connection.awaits_page(site)
            });
            if let Some((path, query)) = page {
                return Some((key, path.to_owned(), query));
            }
        }
    }

    /// Whether there is another one.
    pub fn has_readers(&self) -> bool {
        !self.readers.is_empty()
    }

    /// Answers the connection that waits for a page.
    pub fn hand_over(&mut self, key: usize, text: Text, now: Moment) {
        let guest = &mut self.guests[key];
        let service = guest.service as usize;
        self.house.sites[service].put(text);
        let turn = guest.advance(&mut self.house, now);
        self.house.sites[service].withdraw();
        self.settle(key, &turn, now);
    }
}
